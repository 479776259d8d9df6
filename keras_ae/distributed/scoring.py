"""Files of rows through an artifact on Ray Data: one ONNX Runtime session a worker process, parquet in and out."""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_ae import runtime
from keras_ae.artifact import check_new, replacing
from keras_ae.data.cells import cells_of_arrow
from keras_ae.data.output import arrow_table
from keras_ae.data.shards import shards
from keras_ae.data.tables import open_parquet
from keras_ae.distributed.cluster import cause, cluster, quiet, ray_of
from keras_ae.errors import InputError, KerasAEError
from keras_ae.files import check_alarms, names_of, run_cells
from keras_ae.sessions import Provider

BATCH_ROWS = 4096
_ENDING = ".parquet"
_PARTS = 4  # of the rows, for each worker at least: one that is slow, or new, takes fewer of them


def run_files(
    path: str | Path,
    function: str,
    source: str | Path,
    out: str | Path,
    workers: int | None = None,
    keys: Sequence[str] = (),
    precision: str = "float32",
    providers: Sequence[Provider] | str | None = None,
    alpha: float | None = None,
    skip: bool = False,
    batch_rows: int = BATCH_ROWS,
) -> int:
    """Runs a function of an artifact on every row of many parquet files, by the worker processes of a Ray cluster.

    Each part of the rows, some row groups of a file, has a file of results, which is named by its place and written by
    the worker that computed it. What a worker was computing when it died is computed again by another, and is the same
    file: the order of results does not depend on who computed them when. They are written beside `out` and get its name
    when there is one for each row, so that an interrupted run leaves nothing there.

    Args:
        path: the artifact, where every machine of the cluster sees it.
        function: `encode`, `decode`, `reconstruct`, `score`, `explain` or `classify`.
        source: a .parquet file, a folder of them, or a glob; the files are read in the order of their paths.
        out: new or empty folder, where every machine sees it. The files in it, in the order of their names, hold the
            rows in the order of the input.
        workers: processes; by default one a processor of the cluster but one, which reads and writes.
        keys: columns of the input that are written before the results.
        precision: of the ONNX graphs.
        providers: as of `keras_ae.runtime.load`, in each worker.
        alpha: of `score`: adds a column `anomaly`, 1 where the p-value is at most this.
        skip: a row of a table that can't be used has NaN as its results, instead of ending the run.
        batch_rows: that are computed at once.

    Returns:
        The rows.

    Raises:
        InputError: for rows that the function can't take, by file; for a model of windows of a series, whose rows can't
            be divided.
        MissingExtra: where `keras-ae[ray]` is not installed.
    """
    model = runtime.load(path, precision)
    model.check(function)
    check_alarms(model, function, alpha=alpha)
    if model.windowing is not None and function != "decode":
        raise InputError("Rows of a time series hang together, and are not divided. Received: a model of windows.")
    if model.sequences is not None and function != "decode":
        raise InputError("Ray scores rows of cells that are single values. Received: a model of series.")
    for name, number in (("workers", workers), ("batch_rows", batch_rows)):
        if number is not None and number < 1:
            raise InputError(f"`{name}` must be at least 1. Received: {number}.")
    out = Path(out).resolve()
    check_new(out)
    if not out.parent.is_dir():
        raise InputError(f"No such folder to write to: {out.parent}.")
    files = [file.resolve() for file in shards(source, (_ENDING,))]
    others = [file for file in files if file.suffix != _ENDING]
    if others:
        raise InputError(f"Rows for Ray must be in {_ENDING} files. Received: {others[0]}.")
    rows = sum(_rows_of(file, keys) for file in files)
    worker: dict[str, Any] = {
        "path": os.path.realpath(path),
        "function": function,
        "precision": precision,
        "keys": tuple(keys),
    }
    worker |= {"providers": providers, "alpha": alpha, "skip": skip, "batch_rows": batch_rows}
    with replacing(out) as partial, cluster() as ray:
        data = ray_of("data")
        context = data.DataContext.get_current().copy()
        context.enable_progress_bars = False
        processors = ray.cluster_resources().get("CPU", 1)
        size = workers or max(1, int(processors) - 1)
        parts = list(_parts(files, max(batch_rows, rows // (_PARTS * size))))
        with data.DataContext.current(context), quiet("ray.data"):
            results = data.from_items(parts, override_num_blocks=len(parts)).map(
                _Worker,
                fn_constructor_kwargs={**worker, "out": str(partial)},
                compute=data.ActorPoolStrategy(size=size),
                # Workers hold theirs to the end: without one that is left, nothing would be read or written.
                num_cpus=min(1.0, max(processors - 1, 0.5) / size),
            )
            try:
                results.materialize()
            except ray.exceptions.RayError as error:
                raise cause(error) from error
        written = sum(_rows_of(file) for file in partial.glob(f"*{_ENDING}"))
        if written != rows:
            raise KerasAEError(f"{rows:,} rows must give as many results. Received: {written:,}; nothing was written.")
        for left in partial.iterdir():
            if left.suffix != _ENDING:  # of a worker that died
                left.unlink()
    return rows


@dataclass
class _Worker:
    """What one process of the cluster holds: the artifact's sessions, one thread each; otherwise as of `run_files`."""

    path: str
    function: str
    precision: str
    keys: tuple[str, ...]
    providers: Any
    alpha: float | None
    skip: bool
    batch_rows: int
    out: str

    def __post_init__(self) -> None:
        self.model = runtime.load(self.path, self.precision, self.providers, threads=1)

    def __call__(self, part: dict[str, Any]) -> dict[str, Any]:
        """Computes a part of the rows and writes its results, whole or not at all."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        target = Path(self.out, part["name"])
        unfinished = target.with_suffix(f".{os.getpid()}")
        with open_parquet(Path(part["file"]), numeric=False) as (file, _):
            batches = file.iter_batches(self.batch_rows, row_groups=json.loads(part["groups"]))
            tables = (self._results(pa.Table.from_batches([batch]), part["file"]) for batch in batches)
            first = next(tables)
            with pq.ParquetWriter(unfinished, first.schema) as writer:
                writer.write_table(first)
                for table in tables:
                    writer.write_table(table)
        unfinished.replace(target)
        return {"name": part["name"]}

    def _results(self, table: Any, file: str) -> Any:
        import pyarrow as pa

        taken = self.model.columns or ()
        left = {*self.model.ignored, *(key for key in self.keys if key not in taken)}
        cells = cells_of_arrow(table.select([name for name in table.column_names if name not in left]), file)
        results = arrow_table(
            run_cells(self.model, self.function, cells, self.alpha, self.skip), names_of(self.model, self.function)
        ).replace_schema_metadata(None)
        columns = dict(zip(results.column_names, results.columns, strict=True))
        return pa.table({key: table.column(key) for key in self.keys} | columns)


def _parts(files: Sequence[Path], rows: int) -> Iterator[dict[str, str]]:
    """Row groups of one file that follow one another, of about so many rows, and the name of their results."""
    for i, file in enumerate(files):
        with open_parquet(file, numeric=False) as (opened, _):
            sizes = [opened.metadata.row_group(j).num_rows for j in range(opened.num_row_groups)]
        groups: list[int] = []
        for j, size in enumerate(sizes):
            groups += [j] if size else []
            if groups and (j + 1 == len(sizes) or sum(sizes[k] for k in groups) >= rows):
                yield {"file": str(file), "groups": json.dumps(groups), "name": f"{i:06d}-{groups[0]:06d}{_ENDING}"}
                groups = []


def _rows_of(file: Path, keys: Sequence[str] = ()) -> int:
    with open_parquet(file, numeric=False) as (opened, names):
        for name in keys:
            if name not in names:
                raise InputError(f"{file} must have a column {name!r}. Received: {', '.join(names)}.")
        return opened.metadata.num_rows
