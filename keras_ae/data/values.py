"""One cell as a number, a level or a moment."""

import re
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

TRUE = frozenset({"true", "yes", "t", "y", "1", "1.0"})
FALSE = frozenset({"false", "no", "f", "n", "0", "0.0"})


_DATE_FORMATS = {
    r"\d{4}/\d{1,2}/\d{1,2}": ("%Y/%m/%d",),
    r"\d{1,2}\.\d{1,2}\.\d{4}": ("%d.%m.%Y",),
    r"\d{1,2}/\d{1,2}/\d{4}": ("%m/%d/%Y", "%d/%m/%Y"),
    r"\d{1,2}-\d{1,2}-\d{4}": ("%m-%d-%Y", "%d-%m-%Y"),
    r"\d{1,2}-[A-Za-z]{3}-\d{4}": ("%d-%b-%Y",),
    r"\d{1,2} [A-Za-z]{3} \d{4}": ("%d %b %Y",),
    r"[A-Za-z]{3} \d{1,2} \d{4}": ("%b %d %Y",),
    r"[A-Za-z]{3} \d{1,2}, \d{4}": ("%b %d, %Y",),
}
_TIME_FORMATS = {"": "", r" \d{1,2}:\d{2}": " %H:%M", r" \d{1,2}:\d{2}:\d{2}": " %H:%M:%S"}
_FORMATS = [
    (re.compile(date + time), tuple(form + _TIME_FORMATS[time] for form in forms))
    for date, forms in _DATE_FORMATS.items()
    for time in _TIME_FORMATS
]


def listed(cells: Any) -> list[Any]:
    """Cells of a column, None for one that is missing."""
    if not isinstance(cells, np.ndarray):
        return list(cells)
    plain = cells.astype("datetime64[us]") if cells.dtype.kind == "M" else cells
    return [None if cell != cell else cell for cell in plain.tolist()]


def number_of(cell: Any) -> float | None:
    """A cell's number, infinite or NaN too; None for what is none."""
    if isinstance(cell, str):
        try:
            number = float(cell)
        except ValueError:
            return None
        return number if cell.isascii() and "_" not in cell else None
    return float(cell) if isinstance(cell, int | float | np.number) or type(cell).__name__ == "Decimal" else None


def level_of(cell: Any) -> str:
    """A category's name: a whole number has no decimals, whatever it was stored as."""
    if isinstance(cell, bool | np.bool_):
        return str(bool(cell)).lower()
    if isinstance(cell, float | np.floating) and float(cell).is_integer():
        return str(int(cell))
    return str(cell)


def moment_of(cell: Any, form: str | None) -> datetime | None:
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


def formats_of(cell: Any) -> tuple[str, ...]:
    """How a text that is no ISO 8601 may be read as a date with a year of four digits, as for `datetime.strptime`."""
    if not isinstance(cell, str):
        return ()
    known = (forms for pattern, forms in _FORMATS if pattern.fullmatch(cell))
    return tuple(form for form in next(known, ()) if moment_of(cell, form) is not None)
