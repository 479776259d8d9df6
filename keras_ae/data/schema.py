"""What the columns of a table are, and its cells as numbers: codes for categories, days for dates, NaN for nothing."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.cells import Cells, Coded, Problem
from keras_ae.data.tables import UNNAMED
from keras_ae.data.values import FALSE, TRUE, level_of, listed, moment_of, number_of
from keras_ae.errors import InputError, reading

KINDS = ("numeric", "categorical", "boolean", "datetime")
_DAY = 86_400.0


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes:
        name: in the file.
        kind: `numeric`, `categorical`, `boolean` or `datetime`.
        nullable: whether a cell may be missing.
        levels: of a categorical column, most frequent first; of a boolean one its words for no and yes, if it has any.
        origin: of a datetime column, the Monday, in ISO format, that days are counted from.
        format: of its cells, as for `datetime.strptime`; ISO 8601 by default.
        decimal: of a numeric column whose texts are amounts such as $1,234.50, the decimal sign, `.` or `,`
            (`keras_ae.data.values.number_of`).
        transform: of a numeric column, `quantile` for one with heavy tails; None for a linear scale.
        shift: what is zero to the network: median of numbers, mean of days.
        scale: what is one to it: deviation by quartiles, standard deviation of days.
        knots: of a quantile transform, numbers that rise and their normal quantiles.
        clock: of a datetime column, whether the time of day differs between rows.
        is_constant: whether a numeric column had but one value in training.
        bounds: least and largest number or day of training.
        whole: whether a numeric column had whole numbers alone, of which its cells are then.
        values: of a numeric column the numbers that it had again and again, rising.
        is_discrete: whether it had no others.
    """

    name: str
    kind: str
    nullable: bool = False
    levels: tuple[str, ...] = ()
    origin: str | None = None
    format: str | None = None
    decimal: str | None = None
    transform: str | None = None
    shift: float = 0.0
    scale: float = 1.0
    knots: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    clock: bool = False
    is_constant: bool = False
    bounds: tuple[float, float] = (-math.inf, math.inf)
    whole: bool = False
    values: tuple[float, ...] = ()
    is_discrete: bool = False

    def describe(self) -> dict[str, Any]:
        """Ready for JSON, without what is as by default."""
        default = asdict(Column(self.name, self.kind))
        changed = {key: value for key, value in asdict(self).items() if value != default[key]}
        return {"name": self.name, "kind": self.kind, **changed}


@dataclass(frozen=True)
class Schema:
    """The columns that a model takes, in order, and those of the source that it does not look at.

    Attributes:
        columns: each of them.
        dropped: names of the others.
        notes: what was found out about them, for people.
    """

    columns: tuple[Column, ...]
    dropped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def is_plain(self) -> bool:
        """Whether an array of finite numbers says as much."""
        return all(c.kind == "numeric" and not c.nullable and c.transform is c.decimal is None for c in self.columns)

    def of_kind(self, *kinds: str) -> list[int]:
        """Positions of the columns of some kinds."""
        return [i for i, column in enumerate(self.columns) if column.kind in kinds]

    def counts(self) -> str:
        """How many columns are of which kind, for people."""
        held = {kind: len(self.of_kind(kind)) for kind in KINDS}
        of_each = ", ".join(f"{count:,} {kind}" for kind, count in held.items() if count)
        return f"{len(self.columns):,} column{'s' if len(self.columns) > 1 else ''}: {of_each}"

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; `Schema.of` reads it."""
        return {"columns": [column.describe() for column in self.columns], "dropped": list(self.dropped)}

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> "Schema":
        """From what `describe` gave."""
        columns = []
        for given in described["columns"]:
            of = {**given, "levels": tuple(given.get("levels", ())), "values": tuple(given.get("values", ()))}
            of["knots"] = tuple(tuple(part) for part in given.get("knots", ((), ())))
            of["bounds"] = tuple(given.get("bounds", (-math.inf, math.inf)))
            columns.append(Column(**of))
        return cls(tuple(columns), tuple(described.get("dropped", ())))

    @classmethod
    def of_numbers(cls, names: Sequence[str]) -> "Schema":
        """A table of finite numbers."""
        return cls(tuple(Column(name, "numeric") for name in names))

    def encode(self, cells: Cells, ignored: Sequence[str] = ()) -> tuple[np.ndarray, list[Problem]]:
        """Cells as float32 (rows, columns), and what can't be used; a row with a problem is all NaN.

        Args:
            cells: of a table with these columns, in any order.
            ignored: further columns that may be there.

        Raises:
            InputError: for a column that is missing, or one that is new.
        """
        check_taken(cells.source, tuple(cells.columns), self.names, (*self.dropped, *ignored, *UNNAMED))
        x = np.full((len(cells), len(self.columns)), np.nan, "float32")
        problems = list(cells.problems)
        bad = {problem.row for problem in problems}
        for i, column in enumerate(self.columns):
            given = cells.columns[column.name]
            numbers, wrong = _encoded(column, given)
            x[:, i] = numbers
            missing = np.isnan(x[:, i])
            for row in map(int, np.flatnonzero(missing) if not column.nullable else wrong):
                if row not in bad:
                    came = repr(wrong[row]) if row in wrong else "none"
                    where = cells.where(row, column.name)
                    problems.append(Problem(row, f"{where}: {_RULES[column.kind]}. Received: {came}."))
        empty = np.flatnonzero(np.isnan(x).all(axis=1))
        told = {problem.row for problem in problems}
        for row in (int(i) for i in empty if int(i) not in told):
            where = f"{cells.source}, {cells.unit} {cells.at[row]}"
            problems.append(Problem(row, f"{where}: must have a value in some column. Received: none."))
        x[[problem.row for problem in problems]] = np.nan
        return x, sorted(problems, key=lambda problem: problem.row)

    def table(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Rows (rows, columns) as columns again: float32 numbers, text, booleans, ISO dates; None for NaN."""
        return {column.name: _decoded(column, x[:, i]) for i, column in enumerate(self.columns)}

    def check(self, x: np.ndarray, start: int | None = None) -> None:
        """Raises InputError for rows of numbers that can't be a table like this: infinite, missing where that can't be,
        or without any value.
        """
        bad = np.isinf(x) | (np.isnan(x) & ~np.array([column.nullable for column in self.columns]))
        bad |= np.isnan(x).all(axis=1, keepdims=True)
        if not bad.any():
            return
        row, i = (int(n) for n in np.argwhere(bad)[0])
        rule = "must have a value in some column" if np.isnan(x[row]).all() else _RULES[self.columns[i].kind]
        name = self.columns[i].name
        raise InputError(f"`x`, row {row + (start or 0)}, column {name}: {rule}. Received: {x[row, i]}.")


def check_taken(source: object, columns: Sequence[str], taken: Sequence[str], ignored: Sequence[str] = ()) -> None:
    """Raises InputError for a source without a column that a model takes, or with one that is new to it."""
    for what, names in (
        ("misses", [name for name in taken if name not in columns]),
        ("has, beyond those trained on,", [name for name in columns if name not in {*taken, *ignored}]),
    ):
        if names:
            raise InputError(f"{source} {what} column {', '.join(names)}. The model takes: {', '.join(taken)}.")


_SKIPPED = "`--on-error skip` leaves such rows out"
OF_ANOTHER_KIND = f"{_SKIPPED}, `--schema` gives the column another kind"


def check_problems(problems: Sequence[Problem], advice: str = _SKIPPED) -> None:
    """Raises InputError for the first, which tells how many rows have one, and what helps."""
    if problems:
        rows = len({problem.row for problem in problems})
        told = [*([f"{rows} such rows"] if rows > 1 else []), *([advice] if advice else [])]
        more = f" ({'; '.join(told)}.)" if told else ""
        raise InputError(f"{problems[0].message}{more}")


def read_given(given: str) -> dict[str, dict[str, Any]]:
    """What JSON, or a file of it, says about columns: `{"column": "kind"}` or `{"column": {"kind": ..., ...}}`."""
    with reading(given, "JSON file", OSError, ValueError):
        content = json.loads(given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise InputError(f"{given} must hold an object of columns. Received: {type(content).__name__}.")
    return as_given(content)


def as_given(columns: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What is known of columns, where the kind alone may stand for all: `{"column": "kind"}`."""
    return {name: {"kind": of} if isinstance(of, str) else of for name, of in columns.items()}


def seconds_of(cells: Cells, name: str, form: str | None = None) -> np.ndarray:
    """Times of rows, a column, as seconds since the first; numbers as they are. The form is that of its dates.

    Raises:
        InputError: for a cell that is neither.
    """
    stamps = listed(cells.columns[name])
    moments = [moment_of(cell, form) for cell in stamps]
    if all(moment is not None for moment in moments):
        return np.array([(moment - moments[0]).total_seconds() for moment in moments])  # type: ignore[operator]
    numbers = [number_of(cell) for cell in stamps]
    for row, number in enumerate(numbers):
        if number is None or not math.isfinite(number):
            raise InputError(f"{cells.where(row, name)}: {_RULES['datetime']}, or a number. Received: {stamps[row]!r}.")
    return np.array(numbers, "float64")


def _encoded(column: Column, cells: Any) -> tuple[np.ndarray, dict[int, Any]]:
    """Numbers (rows,), NaN where there is no value; and by row the cells that are of no use."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf" and column.kind == "numeric":
        with np.errstate(over="ignore"):
            numbers = cells.astype("float64").astype("float32")
        infinite = np.flatnonzero(np.isinf(numbers))
        numbers[infinite] = np.nan
        return numbers, {int(i): cells[i].item() for i in infinite}
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "M" and column.kind == "datetime":
        days = (cells - np.datetime64(str(column.origin))) / np.timedelta64(1, "D")
        return days.astype("float32"), {}
    if isinstance(cells, Coded):
        of_values, wrong_values = _encoded(column, cells.values)
        wrong_rows = np.flatnonzero(np.isin(cells.codes, list(wrong_values)))
        return of_values[cells.codes], {int(i): cells.values[cells.codes[i]] for i in wrong_rows}
    convert = _CONVERT[column.kind](column)
    wrong: dict[int, Any] = {}
    numbers = np.full(len(cells), np.nan)
    for row, cell in enumerate(listed(cells)):
        if cell is not None:
            number = convert(cell)
            if number is None or not abs(number) < _LARGEST:
                wrong[row] = cell
            else:
                numbers[row] = number
    return numbers.astype("float32"), wrong


_LARGEST = float(np.finfo("float32").max)


def _to_code(column: Column) -> Callable[[Any], float | None]:
    codes = {level: float(i) for i, level in enumerate(column.levels)}
    return lambda cell: codes.get(level_of(cell), -1.0)


def _to_boolean(column: Column) -> Callable[[Any], float | None]:
    def convert(cell: Any) -> float | None:
        word = level_of(cell).lower()
        return 1.0 if word in TRUE else 0.0 if word in FALSE else None

    return convert


def _to_days(column: Column) -> Callable[[Any], float | None]:
    origin = datetime.fromisoformat(str(column.origin))

    def convert(cell: Any) -> float | None:
        moment = moment_of(cell, column.format)
        return None if moment is None else (moment - origin).total_seconds() / _DAY

    return convert


_CONVERT: dict[str, Callable[[Column], Callable[[Any], float | None]]] = {
    "numeric": lambda column: partial(number_of, decimal=column.decimal),
    "categorical": _to_code,
    "boolean": _to_boolean,
    "datetime": _to_days,
}
_RULES = {
    "numeric": "must be a finite number",
    "categorical": "must have a value",
    "boolean": "must be true or false",
    "datetime": "must be a date or time (ISO 8601, or the schema's `format`)",
}


def _decoded(column: Column, x: np.ndarray) -> np.ndarray:
    if column.kind == "numeric":
        x = np.rint(x) if column.whole else x
        if column.decimal != ",":
            return x
    out = np.empty(len(x), object)
    for row, value in enumerate(x):
        out[row] = None if math.isnan(value) else _cell(column, float(value))
    return out


def _cell(column: Column, value: float) -> Any:
    if column.kind == "numeric":
        return np.format_float_positional(np.float32(value), trim="-").replace(".", ",")
    if column.kind == "boolean":
        return column.levels[int(value >= 0.5)] if column.levels else value >= 0.5
    if column.kind == "categorical":
        return column.levels[round(value)] if 0 <= round(value) < len(column.levels) else None
    moment = datetime.fromisoformat(str(column.origin)) + timedelta(seconds=round(value * _DAY) if column.clock else 0)
    moment = moment if column.clock else moment + timedelta(days=round(value))
    return moment.strftime(column.format) if column.format else (moment if column.clock else moment.date()).isoformat()
