"""Series in the cells of a table: a list of numbers in each, a column for each channel; or lists of steps in one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_ae.data.sequences import names_of, padded
from keras_ae.errors import InputError

Series = tuple[np.ndarray, tuple[str, ...]]
"""(rows, steps, channels), NaN behind the end of each, and the names of the channels."""


def lists_among(schema: Any, names: Sequence[str]) -> list[str]:
    """Which of these columns of an Arrow schema hold lists of numbers, or of lists of them."""
    import pyarrow as pa

    def is_list(kind: Any) -> bool:
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))

    def is_series(kind: Any) -> bool:
        inner = kind.value_type
        inner = inner.value_type if is_list(inner) else inner
        return bool(pa.types.is_integer(inner) or pa.types.is_floating(inner))

    fields = [field for field in schema if field.name in names]  # two may have one name, which is told elsewhere
    return [field.name for field in fields if is_list(field.type) and is_series(field.type)]


def series_of_arrow(table: Any, where: str) -> Series | None:
    """Series of a pyarrow table or record batch; None where no column is a list.

    Raises:
        InputError: for lists beside other columns, or channels of a row whose lists differ in length.
    """
    names = tuple(table.schema.names)
    lists = lists_among(table.schema, names)
    if not lists:
        return None
    _check_alone(where, names, lists)
    return _joined({name: _cells_of_arrow(table.column(i)) for i, name in enumerate(names)}, where)


def series_of_table(table: Mapping[str, Any], where: str) -> Series | None:
    """The same of columns by name."""
    columns = {name: list(cells) for name, cells in table.items()}
    lists = [name for name, cells in columns.items() if len(cells) and isinstance(cells[0], list | tuple | np.ndarray)]
    if not lists:
        return None
    _check_alone(where, tuple(columns), lists)
    return _joined(columns, where)


def in_order(series: Series, channels: tuple[str, ...], where: str) -> np.ndarray:
    """The rows with their channels by name, where they have some."""
    x, names = series
    if names == channels or names == names_of(x.shape[2]):
        return x
    if sorted(names) != sorted(channels):
        raise InputError(f"{where} must have the columns {', '.join(channels)}. Received: {', '.join(names)}.")
    return x[..., [names.index(name) for name in channels]]


def _check_alone(where: str, names: tuple[str, ...], lists: list[str]) -> None:
    others = [name for name in names if name not in lists]
    if others:
        raise InputError(
            f"{where}: columns beside those of lists ({', '.join(lists)}) must be the labels, or dropped. "
            f"Received: {', '.join(others)}."
        )


def _joined(columns: Mapping[str, Sequence[Any]], where: str) -> Series:
    if len(columns) == 1:
        ((name, cells),) = columns.items()
        x = padded(cells, f"{where}, column {name}")
        return x, (name,) if x.shape[2] == 1 else names_of(x.shape[2])
    rows = []
    for i, cells in enumerate(zip(*columns.values(), strict=True)):
        sizes = [np.shape(cell) for cell in cells]
        if any(len(size) != 1 or size != sizes[0] for size in sizes):
            described = ", ".join(f"{name} {size}" for name, size in zip(columns, sizes, strict=True))
            raise InputError(f"{where}, row {i}: channels must be lists of one length. Received: {described}.")
        rows.append(np.stack([np.asarray(cell, "float32") for cell in cells], axis=1))
    return padded(rows, where), tuple(columns)


def _cells_of_arrow(column: Any) -> list[np.ndarray]:
    """Of each cell (steps,) or (steps, channels)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    ends = np.cumsum(pc.list_value_length(array).fill_null(0).to_numpy(zero_copy_only=False))[:-1]
    steps = array.flatten()
    if not pa.types.is_nested(steps.type):
        return np.split(_numbers(steps), ends)
    widths = np.unique(pc.list_value_length(steps).fill_null(0).to_numpy(zero_copy_only=False))
    if len(widths) != 1:
        raise InputError(f"Steps must have as many channels each. Received: {widths.min()} to {widths.max()}.")
    return np.split(_numbers(steps.flatten()).reshape(-1, int(widths[0])), ends)


def _numbers(array: Any) -> np.ndarray:
    import pyarrow as pa

    numbers: np.ndarray = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return numbers
