"""A file of rows through a function of an artifact, into another file: reading, computing and writing at once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keras_ae.data.batches import ahead, read_batches
from keras_ae.data.output import check_output, write_batches
from keras_ae.data.tables import Rows
from keras_ae.errors import InputError
from keras_ae.runtime import Model

OnRows = Callable[[int, int | None], None]
_KEYS = {"x_hat": "x"}  # in a file there is but one x


def run_file(model: Model, function: str, source: Path, out: Path, on_rows: OnRows = lambda done, total: None) -> None:
    """Runs `encode`, `decode`, `reconstruct`, `score`, `explain` or `classify` on every row of a file, in batches.

    One thread reads, one computes, and this one writes, a few batches apart; memory does not grow with the file,
    unless one of the two is an .npz. A table's columns are matched by name with those trained on; the one that held the
    labels may be there, and is not looked at.

    Args:
        model: from `keras_ae.runtime.load`.
        function: by name.
        source: .npy, .npz, .csv or .parquet.
        out: likewise; written whole or not at all.
        on_rows: is told the rows written, and those of the file where it tells.

    Raises:
        InputError: for rows that the function can't take, by their number in the file; for files that can't be read
            or written.
    """
    check_output(out)
    model.check(function)
    labels = model.manifest.get("labels_column")
    total, batches = read_batches(source, without=() if labels is None else (labels,))
    taken = model.columns if function != "decode" else None
    results = ahead(model.stream(function, (_arranged(rows, taken, source) for rows in batches)))
    columns = model.columns if function in ("decode", "reconstruct", "explain") else None
    columns = model.classes if function == "classify" else columns
    write_batches(out, _counted(results, total, on_rows), columns)


def _arranged(rows: Rows, columns: tuple[str, ...] | None, source: Path) -> np.ndarray:
    if columns is None or rows.columns is None or rows.columns == columns:
        return rows.x
    for kind, names in (
        ("misses", [name for name in columns if name not in rows.columns]),
        ("has, beyond those trained on,", [name for name in rows.columns if name not in columns]),
    ):
        if names:
            raise InputError(f"{source} {kind} column {', '.join(names)}. The model takes: {', '.join(columns)}.")
    return rows.x[:, [rows.columns.index(name) for name in columns]]


def _counted(
    results: Iterator[dict[str, np.ndarray]], total: int | None, on_rows: OnRows
) -> Iterator[dict[str, np.ndarray]]:
    done = 0
    for arrays in results:
        yield {_KEYS.get(name, name): array for name, array in arrays.items()}
        done += len(next(iter(arrays.values())))
        on_rows(done, total)
