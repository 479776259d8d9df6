"""What the columns of a table are, and its cells as numbers: codes for categories, days for dates, NaN for nothing."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.cells import Cells, Problem, cells_of
from keras_ae.errors import InputError

KINDS = ("numeric", "categorical", "boolean", "datetime")
MOST_LEVELS = 64
"""Of a category: the most frequent ones. A level beyond them, and one that is not known, is none of them."""
_FEWEST_OF_LEVEL = 2
_MOST_DISTINCT = 0.5
"""Share of different texts in a column from which on it names rows and does not describe them."""
_MOSTLY = 0.9
"""Share of cells that must be of a kind for the column to be so; the others are errors then, not categories."""
_TRUE = frozenset({"true", "yes", "t", "y", "1", "1.0"})
_FALSE = frozenset({"false", "no", "f", "n", "0", "0.0"})
_DAY = 86_400.0
_SHOWN = 5


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
        transform: of a numeric column, `quantile` for one with heavy tails; None for a linear scale.
        shift: what is zero to the network: median of numbers, mean of days.
        scale: what is one to it: deviation by quartiles, standard deviation of days.
        knots: of a quantile transform, numbers that rise and their normal quantiles.
        clock: of a datetime column, whether the time of day differs between rows.
        is_constant: whether a numeric column had but one value in training.
    """

    name: str
    kind: str
    nullable: bool = False
    levels: tuple[str, ...] = ()
    origin: str | None = None
    format: str | None = None
    transform: str | None = None
    shift: float = 0.0
    scale: float = 1.0
    knots: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    clock: bool = False
    is_constant: bool = False

    def describe(self) -> dict[str, Any]:
        """Ready for JSON, without what is as by default."""
        default = asdict(Column("", ""))
        return {key: value for key, value in asdict(self).items() if value != default[key]}


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
        return all(c.kind == "numeric" and not c.nullable and c.transform is None for c in self.columns)

    def of_kind(self, *kinds: str) -> list[int]:
        """Positions of the columns of some kinds."""
        return [i for i, column in enumerate(self.columns) if column.kind in kinds]

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; `Schema.of` reads it."""
        return {"columns": [column.describe() for column in self.columns], "dropped": list(self.dropped)}

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> "Schema":
        """From what `describe` gave."""
        columns = []
        for given in described["columns"]:
            of = {**given, "levels": tuple(given.get("levels", ()))}
            of["knots"] = tuple(tuple(part) for part in given.get("knots", ((), ())))
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
        self._check_names(cells, ignored)
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

    def _check_names(self, cells: Cells, ignored: Sequence[str]) -> None:
        known = {*self.names, *self.dropped, *ignored}
        for what, names in (
            ("misses", [name for name in self.names if name not in cells.columns]),
            ("has, beyond those trained on,", [name for name in cells.columns if name not in known]),
        ):
            if names:
                raise InputError(
                    f"{cells.source} {what} column {', '.join(names)}. The model takes: {', '.join(self.names)}."
                )


def check_problems(problems: Sequence[Problem]) -> None:
    """Raises InputError for the first, which tells how many there are."""
    if problems:
        rows = len({problem.row for problem in problems})
        more = f" ({rows} such rows; `--on-error skip` leaves them out.)" if rows > 1 else ""
        raise InputError(f"{problems[0].message}{more}")


def infer(cells: Cells, given: Mapping[str, Mapping[str, Any]] | None = None) -> Schema:
    """The kinds of a table's columns from their cells.

    Texts of dates are `datetime`, yes and no or true and false `boolean`, numbers `numeric`, other texts `categorical`.
    Where nearly all cells are of a kind, the others are errors. A column whose texts nearly all differ, which names
    rows and does not describe them, or that has no values, is left out, and noted.

    Args:
        cells: to look at.
        given: what is known better, by column: `kind`, `nullable`, `levels`, `format`, `transform`, or
            `{"kind": "drop"}`.

    Raises:
        InputError: for a column that is not there, a kind or key that is not known, or a table without columns left.
    """
    given = given or {}
    _check_given(cells, given)
    columns, dropped, notes = [], [], []
    rows = len(cells) - len({problem.row for problem in cells.problems})
    for name, column in cells.columns.items():
        of = dict(given.get(name, {}))
        if of.get("kind") == "drop":
            dropped.append(name)
            continue
        found = _column(name, column, of, rows)
        if isinstance(found, str):
            dropped.append(name)
            notes.append(f"column {name} is left out: {found}")
        else:
            columns.append(found)
    if not columns:
        raise InputError(f"{cells.source} must have a column to learn from. {'; '.join(notes)}.")
    return Schema(tuple(columns), tuple(dropped), tuple(notes))


def read_given(given: str) -> dict[str, dict[str, Any]]:
    """What JSON, or a file of it, says about columns: `{"column": "kind"}` or `{"column": {"kind": ..., ...}}`."""
    try:
        content = json.loads(given if given.lstrip().startswith("{") else Path(given).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{given} is not a readable JSON file: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{given} must hold an object of columns. Received: {type(content).__name__}.")
    return {name: {"kind": of} if isinstance(of, str) else of for name, of in content.items()}


def _check_given(cells: Cells, given: Mapping[str, Any]) -> None:
    keys = ("kind", "nullable", "levels", "format", "transform")
    for name, of in given.items():
        if name not in cells.columns:
            raise InputError(f"A schema must be of columns of {cells.source}. Received: {name!r}.")
        if not isinstance(of, Mapping) or set(of) - set(keys):
            raise InputError(f"The schema of column {name} must be of {', '.join(keys)}. Received: {of!r}.")
        if "kind" in of and of["kind"] not in (*KINDS, "drop"):
            raise InputError(f"The kind of column {name} must be one of {', '.join(KINDS)}, drop. Got: {of['kind']!r}.")
        if of.get("transform") not in (None, "quantile", "linear"):
            raise InputError(f"The transform of column {name} must be quantile or linear. Got: {of['transform']!r}.")


def _column(name: str, cells: Any, given: dict[str, Any], rows: int) -> Column | str:
    """A column, or why there is none."""
    known = _values(cells)
    if not known and "kind" not in given:
        return "it has no values"
    kind = given.pop("kind", None) or _kind(known)
    if kind is None:
        return f"{len(set(map(_level, known))):,} different texts in {len(known):,} cells name rows"
    nullable = bool(given.pop("nullable", len(known) < rows))
    levels = tuple(str(level) for level in given.pop("levels", ()))
    column = Column(name, kind, nullable, levels, **given)
    if kind == "categorical" and not column.levels:
        counts = Counter(map(_level, known))
        frequent = [level for level, count in counts.most_common(MOST_LEVELS) if count >= _FEWEST_OF_LEVEL]
        column = replace(column, levels=tuple(frequent or [level for level, _ in counts.most_common(MOST_LEVELS)]))
    if kind == "boolean" and not column.levels:
        words = {word.lower() in _TRUE: word for word in known if isinstance(word, str)}
        column = replace(column, levels=(words[False], words[True]) if len(words) == 2 else ())
    if kind == "datetime" and column.origin is None:
        dates = [moment for cell in known if (moment := _moment(cell, column.format)) is not None]
        first = min(dates, default=datetime(2000, 1, 3))
        column = replace(column, origin=(first.date() - timedelta(days=first.weekday())).isoformat())
    return column


def _values(cells: Any) -> list[Any]:
    """The cells that are not missing."""
    return [cell for cell in _listed(cells) if cell is not None]


def _listed(cells: Any) -> list[Any]:
    """Cells of a column, None for one that is missing."""
    if not isinstance(cells, np.ndarray):
        return list(cells)
    plain = cells.astype("datetime64[us]") if cells.dtype.kind == "M" else cells
    return [None if cell != cell else cell for cell in plain.tolist()]


def _kind(known: list[Any]) -> str | None:
    """Of the cells that are not missing; None for texts that nearly all differ."""
    tests: dict[str, Callable[[Any], bool]] = {
        "boolean": lambda cell: isinstance(cell, bool) or (isinstance(cell, str) and _is_word(cell)),
        "numeric": lambda cell: _number(cell) is not None,
        "datetime": lambda cell: _moment(cell, None) is not None,
    }
    for kind, test in tests.items():
        share = sum(map(test, known)) / len(known)
        if share == 1.0 or (share >= _MOSTLY and kind != "boolean"):
            return kind
    distinct = len(set(map(_level, known)))
    return None if distinct > max(MOST_LEVELS / 4, _MOST_DISTINCT * len(known)) else "categorical"


def _is_word(cell: str) -> bool:
    return cell.lower() in _TRUE | _FALSE and not cell[0].isdigit()


def _number(cell: Any) -> float | None:
    if isinstance(cell, str):
        try:
            number = float(cell)
        except ValueError:
            return None
        return number if cell.isascii() and "_" not in cell else None
    return float(cell) if isinstance(cell, int | float | np.number) or type(cell).__name__ == "Decimal" else None


def _level(cell: Any) -> str:
    """A category's name: a whole number has no decimals, whatever it was stored as."""
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell)).lower()
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def _moment(cell: Any, form: str | None) -> datetime | None:
    """A date and time without zone, of UTC where the cell has one."""
    if isinstance(cell, str):
        try:
            moment = datetime.strptime(cell, form) if form else datetime.fromisoformat(cell)
        except ValueError:
            return None
        if form is None and cell.isdigit():
            return None  # 20240131 is a number
    elif isinstance(cell, datetime):
        moment = cell
    elif isinstance(cell, date):
        moment = datetime(cell.year, cell.month, cell.day)
    else:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def seconds_of(cells: Cells, name: str) -> np.ndarray:
    """Times of rows, a column, as seconds since the first; numbers as they are.

    Raises:
        InputError: for a cell that is neither.
    """
    stamps = _listed(cells.columns[name])
    moments = [_moment(cell, None) for cell in stamps]
    if all(moment is not None for moment in moments):
        return np.array([(moment - moments[0]).total_seconds() for moment in moments])  # type: ignore[operator]
    numbers = [_number(cell) for cell in stamps]
    for row, number in enumerate(numbers):
        if number is None or not math.isfinite(number):
            raise InputError(f"{cells.where(row, name)}: {_RULES['datetime']}, or a number. Received: {stamps[row]!r}.")
    return np.array(numbers, "float64")


def _encoded(column: Column, cells: Any) -> tuple[np.ndarray, dict[int, Any]]:
    """Numbers (rows,), NaN where there is no value; and by row the cells that are of no use."""
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "biuf" and column.kind == "numeric":
        with np.errstate(over="ignore"):
            numbers = cells.astype("float64").astype("float32")
        return numbers, {int(i): cells[i].item() for i in np.flatnonzero(np.isinf(numbers))}
    convert = _CONVERT[column.kind](column)
    wrong: dict[int, Any] = {}
    numbers = np.full(len(cells), np.nan)
    for row, cell in enumerate(_listed(cells)):
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
    return lambda cell: codes.get(_level(cell), -1.0)


def _to_boolean(column: Column) -> Callable[[Any], float | None]:
    def convert(cell: Any) -> float | None:
        word = _level(cell).lower()
        return 1.0 if word in _TRUE else 0.0 if word in _FALSE else None

    return convert


def _to_days(column: Column) -> Callable[[Any], float | None]:
    origin = datetime.fromisoformat(str(column.origin))

    def convert(cell: Any) -> float | None:
        moment = _moment(cell, column.format)
        return None if moment is None else (moment - origin).total_seconds() / _DAY

    return convert


_CONVERT: dict[str, Callable[[Column], Callable[[Any], float | None]]] = {
    "numeric": lambda column: _number,
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
        return x
    out = np.empty(len(x), object)
    for row, value in enumerate(x):
        out[row] = None if math.isnan(value) else _cell(column, float(value))
    return out


def _cell(column: Column, value: float) -> Any:
    if column.kind == "boolean":
        return column.levels[int(value >= 0.5)] if column.levels else value >= 0.5
    if column.kind == "categorical":
        return column.levels[round(value)] if 0 <= round(value) < len(column.levels) else None
    moment = datetime.fromisoformat(str(column.origin)) + timedelta(seconds=round(value * _DAY) if column.clock else 0)
    moment = moment if column.clock else moment + timedelta(days=round(value))
    return moment.strftime(column.format) if column.format else (moment if column.clock else moment.date()).isoformat()


def schema_of(table: Any) -> Schema:
    """The schema of a DataFrame or a dictionary of columns."""
    return infer(cells_of(table))
