"""DataFrames as the rows of a model, and rows as DataFrames of the same columns and dtypes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Self

import numpy as np

from keras_ae.data.cells import Cells, categories_of, cells_of, is_table
from keras_ae.data.kinds import infer
from keras_ae.data.schema import Schema, check_problems
from keras_ae.data.values import level_of, listed
from keras_ae.errors import InputError


def is_frame(x: Any) -> bool:
    """Whether x is a DataFrame (pandas, polars)."""
    return is_table(x) and not isinstance(x, Mapping)


@dataclass(frozen=True)
class Frames:
    """What is known of tables like the one that was learned from.

    Attributes:
        schema: of the columns that are learned.
        names: of all columns, in order.
        of_array: whether they came as an array, and go back as one.
        kind: the class of DataFrame; None for an array.
        dtypes: of a pandas DataFrame, by column.
        values: by column of categories or dates, a cell as it came of each level, and under "" of any.
    """

    schema: Schema
    names: tuple[str, ...]
    of_array: bool = False
    kind: Any = None
    dtypes: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def learned(cls, x: Any, given: Mapping[str, Mapping[str, Any]] | None = None) -> tuple[Self, np.ndarray]:
        """From a DataFrame or an array (rows, columns) of numbers, NaN where one is missing; and its rows, float32.

        Args:
            x: the table.
            given: what is known of its columns, as for `keras_ae.data.infer`.

        Raises:
            InputError: for a cell that can't be used, by row and column.
        """
        of_array = isinstance(x, np.ndarray)
        names = _numbered(x.shape[1]) if of_array else tuple(map(str, x.columns))
        if len(set(names)) < len(names):
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise InputError(f"Each column of `X` must have a name of its own. Received: {twice!r} more than once.")
        cells = _cells(x, names)
        schema = infer(cells, {**categories_of(x), **(given or {})})
        frames = cls(schema, names, of_array)
        if not of_array:
            dtypes = getattr(x, "dtypes", None)
            by_column = hasattr(dtypes, "to_dict")  # of pandas
            frames = replace(
                frames,
                kind=type(x),
                dtypes=dict(zip(names, dtypes, strict=True)) if by_column and dtypes is not None else {},
                values={
                    column.name: _values(column.kind, cells.columns[column.name])
                    for column in schema.columns
                    if column.kind in ("categorical", "datetime")
                },
            )
        return frames, frames._encoded(cells)

    @classmethod
    def of_model(cls, schema: Schema) -> Self:
        """Of a model, without the table that it was trained on."""
        return cls(schema, schema.names, schema.names == _numbered(len(schema.names)))

    @classmethod
    def of_numbers(cls, features: int) -> Self:
        """Of arrays (rows, features) of finite numbers."""
        return cls.of_model(Schema.of_numbers(_numbered(features)))

    def rows(self, x: Any) -> np.ndarray:
        """A DataFrame, or an array of cells, with these columns in this order as rows (rows, columns), float32.

        Raises:
            InputError: for a cell that can't be used, by row and column.
        """
        if isinstance(x, np.ndarray) and x.dtype.kind == "f" and self.of_array and len(self.names) == x.shape[1]:
            learned = x[:, [self.names.index(name) for name in self.schema.names]]
            self.schema.check(learned)
            return learned
        return self._encoded(_cells(x, self.names))

    def table(self, x: np.ndarray, index: Any = None) -> Any:
        """Rows (rows, columns) as a DataFrame of the columns that were learned, with their dtypes; or as an array of
        all of them, NaN in those that were not.
        """
        if self.of_array:
            out = np.full((len(x), len(self.names)), np.nan, "float32")
            out[:, [self.names.index(name) for name in self.schema.names]] = x
            return out
        columns = self.schema.table(x)
        for name, of in self.values.items():
            columns[name] = _as_they_came(columns[name], of)
        return self.frame(columns, index, self.dtypes)

    def frame(self, columns: Mapping[str, Any], index: Any = None, dtypes: Mapping[str, Any] | None = None) -> Any:
        """Columns as a DataFrame of the kind that was learned from, pandas where that is not known."""
        if self.kind is not None and not self.dtypes:
            return self.kind({name: listed(np.asarray(column)) for name, column in columns.items()})
        import pandas as pd

        dtypes = dtypes or {}
        series = {name: _series(pd, column, dtypes.get(name)) for name, column in columns.items()}
        made = pd.DataFrame(series)
        return made if index is None else made.set_axis(index, axis=0)

    def _encoded(self, cells: Cells) -> np.ndarray:
        left_out = [name for name in self.names if name not in self.schema.names]
        x, problems = self.schema.encode(cells, left_out)
        check_problems(problems, "")
        return x


def _numbered(columns: int) -> tuple[str, ...]:
    return tuple(f"x{i}" for i in range(columns))


def _cells(x: Any, names: Sequence[str]) -> Cells:
    columns = x.T if isinstance(x, np.ndarray) else [x[name] for name in x.columns]
    return cells_of(dict(zip(names, columns, strict=True)), "`X`")


def _values(kind: str, cells: Any) -> dict[str, Any]:
    known = [cell for cell in listed(cells) if cell is not None]
    return {level_of(cell): cell for cell in known} if kind == "categorical" else {"": known[0]} if known else {}


def _as_they_came(column: np.ndarray, values: Mapping[str, Any]) -> np.ndarray:
    """Words as the cells that they were made of: numbers, dates."""
    out = np.empty(len(column), object)
    example = values.get("")
    for i, cell in enumerate(column):
        if cell is None or isinstance(example, str):
            out[i] = cell
        elif isinstance(example, datetime):
            out[i] = datetime.fromisoformat(cell)
        elif hasattr(example, "isoformat"):
            out[i] = datetime.fromisoformat(cell).date()
        else:
            out[i] = values.get(cell, cell)
    return out


def _series(pd: Any, column: np.ndarray, dtype: Any) -> Any:
    """A column in a dtype of pandas, or as it is where there is none for it."""
    if getattr(dtype, "kind", "V") in "OV" and isinstance(dtype, np.dtype | None):
        return pd.Series(column)
    if getattr(dtype, "kind", "O") in "iu" and column.dtype.kind == "f":
        column = np.rint(column)
    if getattr(dtype, "tz", None) is not None:
        return pd.Series(pd.to_datetime(pd.Series(column), utc=True)).astype(dtype)
    missing = pd.isna(column)
    if missing.any() and isinstance(dtype, np.dtype) and dtype.kind not in "fmM":
        return pd.Series(column)  # a cell that is missing has no place in it
    if not isinstance(dtype, np.dtype) and column.dtype.kind == "f":
        column = np.array([None if gone else cell for cell, gone in zip(column.tolist(), missing, strict=True)], object)
    return pd.Series(column).astype(dtype)
