"""Time series as observations: windows of consecutive rows, and what was found in them mapped back to the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.cells import Cells, cells_of, is_table, read_cells
from keras_ae.data.kinds import infer
from keras_ae.data.schema import Column, Schema, check_problems, seconds_of
from keras_ae.data.tables import kind_of, read_rows
from keras_ae.errors import InputError

_GAP = 1.5
"""Usual steps of time: rows farther apart than this are not consecutive."""
_WINDOWS = 2_000
_BLOCKS = 30
_LEAST_BLOCK = 2
"""Lengths of a window that a block has at least."""


@dataclass(frozen=True)
class Windowing:
    """How windows are cut from a series.

    Attributes:
        length: rows of a window.
        stride: rows from the start of one to the next; 0 before the rows are known.
        channels: columns that a window holds, in order; of an array `channel 0`, ...
        time: column of the time of each row, or None where rows follow each other evenly.
        step: usual time between rows, seconds or units of the column, where there is one.
        dropped: columns that are not looked at.
        format: of the time's dates, as for `datetime.strptime`; None for ISO 8601 and numbers.
    """

    length: int
    stride: int
    channels: tuple[str, ...] = ()
    time: str | None = None
    step: float | None = None
    dropped: tuple[str, ...] = ()
    format: str | None = None

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; `Windowing.of` reads it."""
        return asdict(self)

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> "Windowing":
        """From what `describe` gave."""
        return cls(**{**described, "channels": tuple(described["channels"]), "dropped": tuple(described["dropped"])})

    @classmethod
    def asked(cls, length: int, stride: int | None = None, time: str | None = None) -> "Windowing":
        """What a user asks for; a stride of None follows from the rows.

        Raises:
            InputError: for a length below 2, or a stride below 1.
        """
        if length < 2 or (stride is not None and stride < 1):
            raise InputError(f"A window must have at least 2 rows, a stride 1. Received: {length} and {stride}.")
        return cls(length, stride or 0, time=time)

    def for_rows(self, rows: int) -> "Windowing":
        """With a stride that gives some 2,000 windows of so many rows, each at most a quarter of a window on."""
        return self if self.stride else replace(self, stride=max(1, min(rows // _WINDOWS, self.length // 4)))


@dataclass(frozen=True)
class Series:
    """Rows in their order.

    Attributes:
        x: (rows, channels) float32, NaN where a cell is missing.
        stamps: the time of each row as it was stored, or None.
        seconds: the same as numbers that rise, (rows,).
        name: of the source.
    """

    x: np.ndarray
    stamps: list[Any] | None
    seconds: np.ndarray | None
    name: str


def read_series(source: Any, windowing: Windowing, drop: Sequence[str] = ()) -> tuple[Series, Windowing, list[str]]:
    """The rows of a table or an array (rows, channels), the windowing with what was found out about them, and notes.

    Channels are the numeric and boolean columns; one of dates is the time. A windowing that has channels already, of
    an artifact, takes just these.

    Raises:
        InputError: for a source that is no series, a time that does not rise, a cell that is no number.
    """
    if isinstance(source, np.ndarray) or (isinstance(source, str | Path) and kind_of(Path(source)) in (".npy", ".npz")):
        x = source if isinstance(source, np.ndarray) else read_rows(Path(source)).x
        if x.ndim != 2 or x.dtype.kind not in "biuf":
            raise InputError(f"A series must be numbers (rows, channels). Received: {x.dtype} of shape {x.shape}.")
        channels = tuple(f"channel {i}" for i in range(x.shape[1]))
        if windowing.channels and channels != windowing.channels:
            raise InputError(f"The series must have {len(windowing.channels)} channels. Received: {len(channels)}.")
        windowing = replace(windowing, channels=channels).for_rows(len(x))
        return Series(x.astype("float32"), None, None, "array"), windowing, []
    cells = cells_of(source) if is_table(source) else read_cells(Path(source))
    notes: list[str] = []
    if not windowing.channels:
        windowing, notes = _found(cells, windowing.for_rows(len(cells)), drop)
    numbers = Schema(tuple(Column(name, "numeric", nullable=True) for name in windowing.channels), windowing.dropped)
    x, problems = numbers.encode(cells, () if windowing.time is None else (windowing.time,))
    # A row without any value is a gap like another.
    check_problems([problem for problem in problems if "a value in some column" not in problem.message], "")
    if windowing.time is None:
        return Series(x, None, None, cells.source), windowing, notes
    stamps = list(cells.columns[windowing.time])
    seconds = seconds_of(cells, windowing.time, windowing.format)
    steps = np.diff(seconds)
    if len(steps) and steps.min() <= 0:
        row = int(np.argmin(steps > 0)) + 1
        raise InputError(
            f"{cells.where(row, windowing.time)}: must be later than in the row before. Received: {stamps[row]}."
        )
    if windowing.step is None and len(steps):
        windowing = replace(windowing, step=float(np.median(steps)))
    return Series(x, stamps, seconds, cells.source), windowing, notes


def _found(cells: Cells, windowing: Windowing, drop: Sequence[str]) -> tuple[Windowing, list[str]]:
    time = windowing.time
    if time is not None and time not in cells.columns:
        raise InputError(f"{cells.source} must have a column {time!r}. Received: {', '.join(cells.columns)}.")
    schema = infer(cells, {name: {"kind": "drop"} for name in drop})
    dates = {column.name: column.format for column in schema.columns if column.kind == "datetime"}
    days = [name for name, form in dates.items() if not str(form).startswith("%H")]  # times of day come again
    if time is None and len(days) == 1:
        (time,) = days
    numbers = (c.name for c in schema.columns if c.kind in ("numeric", "boolean") and c.decimal is None)
    channels = tuple(name for name in numbers if name != time)
    if not channels:
        raise InputError(f"{cells.source} must have a column of numbers. Received: {', '.join(cells.columns)}.")
    dropped = tuple(name for name in cells.columns if name not in (*channels, time))
    texts = [name for name in dropped if name not in (*drop, *schema.dropped)]
    told = [note for note in schema.notes if not note.startswith(f"column {time} is left out: ")]
    notes = [*told, *(f"column {name} is no number, and left out of the windows" for name in texts)]
    return replace(windowing, channels=channels, time=time, dropped=dropped, format=dates.get(time or "")), notes


def starts_of(series: Series, windowing: Windowing) -> list[np.ndarray]:
    """First rows of the windows in each run of consecutive, complete rows; the last window of a run ends where it does.

    Raises:
        InputError: where no run is as long as a window.
    """
    whole = np.isfinite(series.x).all(axis=1)
    breaks = ~(whole[1:] & whole[:-1])
    if series.seconds is not None and windowing.step is not None:
        breaks |= np.diff(series.seconds) > _GAP * windowing.step
    edges = np.flatnonzero(breaks) + 1
    found = []
    for run in np.split(np.arange(len(series.x)), edges):
        if len(run) >= windowing.length and whole[run[0]]:
            last = len(run) - windowing.length
            found.append(run[0] + np.unique([*range(0, last + 1, windowing.stride), last]))
    if not found:
        longest = max(map(len, np.split(np.arange(len(series.x)), edges)))
        raise InputError(
            f"{series.name} must have {windowing.length} rows in a row, without a gap or a missing cell. "
            f"Received: at most {longest}."
        )
    return found


def windows(series: Series, starts: np.ndarray, length: int) -> np.ndarray:
    """(windows, length, channels)."""
    view = np.lib.stride_tricks.sliding_window_view(series.x, length, axis=0)
    return np.ascontiguousarray(view[starts].transpose(0, 2, 1))


def blocks_of(series: Series, windowing: Windowing) -> tuple[np.ndarray, np.ndarray]:
    """Windows to train on, and the number of the block of time that each lies in, (windows,): no window overlaps one of
    another block, so that blocks can be held out.
    """
    rows = max(len(series.x) // _BLOCKS, _LEAST_BLOCK * windowing.length)
    starts = np.concatenate(starts_of(series, replace(windowing, stride=1)))
    first, last = starts // rows, (starts + windowing.length - 1) // rows
    starts = starts[first == last] if np.any(first == last) else starts
    # Starts at even steps would show but some phases of what is periodic.
    some = np.random.default_rng(0).permutation(len(starts))[: -(-len(starts) // windowing.stride)]
    starts = np.sort(starts[some])
    return windows(series, starts, windowing.length), starts // rows


def spread(values: np.ndarray, starts: np.ndarray, length: int, rows: int) -> np.ndarray:
    """Values of windows (windows, length, ...) as those of rows (rows, ...): the mean of all windows that hold a row,
    NaN where none does.
    """
    total = np.zeros((rows, *values.shape[2:]))
    count = np.zeros(rows)
    for offset in range(length):
        np.add.at(total, starts + offset, values[:, offset])
        np.add.at(count, starts + offset, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / count.reshape(-1, *[1] * (total.ndim - 1))).astype("float32")


def worst(
    values: Mapping[str, np.ndarray], by: str, starts: np.ndarray, length: int, rows: int
) -> dict[str, np.ndarray]:
    """Values of windows (windows,) as those of rows: of the window with the highest `by` among those that hold a row,
    NaN where none does.
    """
    best = np.full(rows, -1)
    for window in np.argsort(values[by], kind="stable"):
        best[starts[window] : starts[window] + length] = window
    return {name: np.where(best >= 0, column[best], np.nan).astype("float32") for name, column in values.items()}
