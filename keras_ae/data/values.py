"""One cell as a number, a level or a moment."""

import re
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

TRUE = frozenset({"true", "yes", "t", "y", "1", "1.0"})
FALSE = frozenset({"false", "no", "f", "n", "0", "0.0"})
DECIMALS = (None, ".", ",")
"""How texts may be numbers: as Python's, or as amounts with a decimal point or a decimal comma."""
DAYS = "%Y%m%d"
"""The format of days that are whole numbers, such as 20240131."""

_AMOUNTS = {
    decimal: re.compile(
        rf"([-+]?[$€£¥₹]?\s?-?)(?=[0-9{decimal}])([1-9][0-9]{{0,2}}(?:[{groups}][0-9]{{3}})+|[0-9]*)"
        rf"(?:[{decimal}]([0-9]+))?\s?[$€£¥₹%]?"
    )
    for decimal, groups in ((".", ",'\xa0\u202f"), (",", ".'\xa0\u202f"))
}
_DAY = re.compile(r"(1[89]|2[01])\d{6}(\.0)?")
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
    (_DAY, (DAYS,)),
    *(
        (re.compile(date + time), tuple(form + _TIME_FORMATS[time] for form in forms))
        for date, forms in _DATE_FORMATS.items()
        for time in _TIME_FORMATS
    ),
    *((re.compile(time.strip()), (form.strip(),)) for time, form in _TIME_FORMATS.items() if time),
]


def listed(cells: Any) -> list[Any]:
    """Cells of a column, None for one that is missing."""
    if not isinstance(cells, np.ndarray):
        return list(cells)
    plain = cells.astype("datetime64[us]") if cells.dtype.kind == "M" else cells
    return [None if cell != cell else cell for cell in plain.tolist()]


def number_of(cell: Any, decimal: str | None = None) -> float | None:
    """A cell's number, infinite or NaN too; None for what is none.

    With a decimal sign, `.` or `,`, texts are amounts: the other sign, an apostrophe or a no-break space may stand
    between thousands, a currency's sign on either side, `%` behind, which does not change the number, and parentheses
    around what is negative. What is none of these is read as without a sign.
    """
    if isinstance(cell, str) and decimal is not None:
        is_negative = cell[:1] + cell[-1:] == "()"
        match = _AMOUNTS[decimal].fullmatch(cell[1:-1] if is_negative else cell)
        if match is not None:
            number = float(f"{re.sub('[^0-9]', '', match[2])}.{match[3] or 0}")
            return -number if is_negative or "-" in match[1] else number
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
    if form and isinstance(cell, int | float | np.number):
        cell = level_of(cell)
    if isinstance(cell, str):
        if form == DAYS:
            cell = cell.removesuffix(".0") if _DAY.fullmatch(cell) else ""
        try:
            moment = datetime.strptime(cell, form) if form else datetime.fromisoformat(cell)
        except ValueError:
            return None
        if form is None and cell.isdigit():
            return None  # without a format 20240131 is a number
    elif isinstance(cell, datetime):
        moment = cell
    elif isinstance(cell, date):
        moment = datetime(cell.year, cell.month, cell.day)
    else:
        return None
    try:
        return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    except OverflowError:  # in UTC it is before the year 1, or after 9999
        return None


def formats_of(cell: Any) -> tuple[str, ...]:
    """How what is no ISO 8601 may be read as a date with a year of four digits, or as a time of day, as for
    `datetime.strptime`.
    """
    text = level_of(cell)
    known = (forms for pattern, forms in _FORMATS if pattern.fullmatch(text))
    return tuple(form for form in next(known, ()) if moment_of(cell, form) is not None)


def may_be_days(numbers: np.ndarray) -> bool:
    """Whether all numbers (rows,) but NaN look like days YYYYMMDD of the years 1800 to 2199, in float32 too, which
    is off by one at most: what is certain, cells say.
    """
    known = numbers[~np.isnan(numbers)]
    if not known.size or known.min() < 1800_01_00 or known.max() > 2199_12_32:
        return False
    month, day = known // 100 % 100, known % 100
    return bool(np.all((known % 1 == 0) & (month >= 1) & (month <= 12) & (day <= 32)))
