"""Labels of any kind as indices of named classes; labels may be missing."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ae.errors import InputError

UNKNOWN = -1
"""The index of a label that is missing."""
_FEWEST_ROWS = 2
_MOST_CLASSES = 1_000


@dataclass(frozen=True)
class Classes:
    """What labels there are.

    Attributes:
        names: of the classes, as text, in the order of their indices.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, y: Any) -> "Classes":
        """The classes of labels (rows,): numbers in their order, text in the alphabet's. NaN, None, -1 and "" are
        labels that are missing.

        Raises:
            InputError: for fewer than two classes, more than 1,000, a class of one row, or labels that are neither
                whole numbers nor text.
        """
        known = [label for label in _plain(y) if label is not None]
        counted = Counter(known)
        values = sorted(counted)
        if len(values) < 2:
            what = f"only {values[0]!r}" if len(values) else "none that is known"
            raise InputError(f"Labels must be of two classes or more. Received: {what}.")
        if len(values) > _MOST_CLASSES:
            raise InputError(
                f"Labels must be of at most {_MOST_CLASSES:,} classes. Received: {len(values):,} different values."
            )
        alone = [value for value in values if counted[value] < _FEWEST_ROWS]
        if alone:
            raise InputError(f"Each class must have two labelled rows or more. Received: one row of {str(alone[0])!r}.")
        return cls(tuple(str(value) for value in values))

    def index(self, y: Any) -> np.ndarray:
        """Labels (rows,) as int32 indices, -1 where one is missing.

        Raises:
            InputError: for a label that is not one of the classes.
        """
        known = {name: i for i, name in enumerate(self.names)}
        indices = np.full(len(y), UNKNOWN, "int32")
        for row, label in enumerate(_plain(y)):
            if label is not None:
                if str(label) not in known:
                    raise InputError(
                        f"Labels must be of the classes {_listed(self.names)}. Received: {str(label)!r} in row {row}."
                    )
                indices[row] = known[str(label)]
        return indices


def _plain(y: Any) -> list[Any]:
    """Labels as Python's own int or str; None where one is missing."""
    y = np.asarray(y)
    if y.ndim != 1:
        raise InputError(f"Labels must have shape (rows,). Received: {y.shape}.")
    labels = [_one(label) for label in y.tolist()]
    if len({type(label) for label in labels if label is not None}) > 1:
        return [None if label is None else str(label) for label in labels]
    return labels


def _one(label: Any) -> Any:
    if isinstance(label, np.generic) and label.dtype.kind not in "mM":  # a cell of a DataFrame's column
        label = label.item()
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    if isinstance(label, str):
        return label.strip() or None
    if label is None or label != label or label == UNKNOWN:  # NaN is not itself
        return None
    if isinstance(label, bool):
        return str(label)
    if isinstance(label, int | float) and float(label).is_integer():
        return int(label)
    raise InputError(f"Labels must be whole numbers or text. Received: {label!r}.")


def _listed(names: tuple[str, ...], most: int = 10) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def label_index(y: Any, n: int, names: tuple[str, ...]) -> np.ndarray:
    """What a caller asks for as int32 indices (n,): None is -1, one class is repeated, n of them are taken one by one;
    each is the name or the index of a class.

    Raises:
        InputError: where there are no classes, for one that is not known, or for another number of them than n.
    """
    if y is None:
        return np.full(n, UNKNOWN, "int32")
    if not names:
        raise InputError("`y` needs a model that was trained with labels. Received a model without classes.")
    asked = [y] * n if np.ndim(y) == 0 else list(y)
    if len(asked) != n:
        raise InputError(f"`y` must be one class, or one a row: {n}. Received: {len(asked)}.")
    return np.array([_asked_index(label, names) for label in asked], "int32")


def _asked_index(label: Any, names: tuple[str, ...]) -> int:
    if isinstance(label, str | np.str_):
        if str(label) in names:
            return names.index(str(label))
    elif isinstance(label, int | np.integer) and not isinstance(label, bool) and UNKNOWN <= label < len(names):
        return int(label)
    raise InputError(
        f"`y` must be a class, {_listed(names)}, or its index, 0 to {len(names) - 1}. Received: {label!r}."
    )
