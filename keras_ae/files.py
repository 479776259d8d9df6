"""A file of rows through a function of an artifact, into another file: reading, computing and writing at once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from keras_ae.alarms import alarms, alarms_of_batch, check_level
from keras_ae.data.batches import ahead, read_batches
from keras_ae.data.output import check_output, write_batches
from keras_ae.data.tables import Rows
from keras_ae.errors import InputError
from keras_ae.runtime import Model

OnRows = Callable[[int, int | None], None]
_KEYS = {"x_hat": "x"}  # in a file there is but one x


def run_file(
    model: Model,
    function: str,
    source: Path,
    out: Path,
    on_rows: OnRows = lambda done, total: None,
    alpha: float | None = None,
    rate: float | None = None,
) -> None:
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
        alpha: of `score`: adds a column `anomaly`, 1 where the p-value is at most this.
        rate: likewise, by `keras_ae.alarms.alarms_of_batch` over all rows, whose scores are then held in memory.

    Raises:
        InputError: for rows that the function can't take, by their number in the file; for files that can't be read
            or written.
    """
    check_output(out)
    model.check(function)
    for name, level in (("alpha", alpha), ("rate", rate)):
        if level is not None:
            check_level(name, level)
            if "p_value" not in model.signatures[function]["outputs"]:
                raise InputError("Alarms need p-values, which this artifact's model was not calibrated for.")
    labels = model.manifest.get("labels_column")
    total, batches = read_batches(source, without=() if labels is None else (labels,))
    taken = model.columns if function != "decode" else None
    results = ahead(model.stream(function, (arranged(rows, taken, source) for rows in batches)))
    if alpha is not None:
        results = ({**arrays, "anomaly": alarms(arrays["p_value"], alpha).astype("float32")} for arrays in results)
    elif rate is not None:
        results = _judged_together(results, rate)
    columns = model.columns if function in ("decode", "reconstruct", "explain") else None
    columns = model.classes if function == "classify" else columns
    write_batches(out, _counted(results, total, on_rows), columns)


def arranged(rows: Rows, columns: tuple[str, ...] | None, source: Path) -> np.ndarray:
    """The rows with their columns by name, in the order of those trained on."""
    if columns is None or rows.columns is None or rows.columns == columns:
        return rows.x
    for kind, names in (
        ("misses", [name for name in columns if name not in rows.columns]),
        ("has, beyond those trained on,", [name for name in rows.columns if name not in columns]),
    ):
        if names:
            raise InputError(f"{source} {kind} column {', '.join(names)}. The model takes: {', '.join(columns)}.")
    return rows.x[:, [rows.columns.index(name) for name in columns]]


def _judged_together(results: Iterator[dict[str, np.ndarray]], rate: float) -> Iterator[dict[str, np.ndarray]]:
    parts = list(results)
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    if parts:
        yield {**whole, "anomaly": alarms_of_batch(whole["p_value"], rate).astype("float32")}


def _counted(
    results: Iterator[dict[str, np.ndarray]], total: int | None, on_rows: OnRows
) -> Iterator[dict[str, np.ndarray]]:
    done = 0
    for arrays in results:
        yield {_KEYS.get(name, name): array for name, array in arrays.items()}
        done += len(next(iter(arrays.values())))
        on_rows(done, total)
