"""One cell as a number, a level or a moment."""

from datetime import UTC, date, datetime
from typing import Any

import numpy as np

TRUE = frozenset({"true", "yes", "t", "y", "1", "1.0"})
FALSE = frozenset({"false", "no", "f", "n", "0", "0.0"})


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
