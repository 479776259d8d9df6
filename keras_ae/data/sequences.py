"""Series of different lengths: one array, padded with NaN behind the end of each, and its features.

A row (steps, channels) becomes features (steps, channels + 1): numbers in units of their channel's deviation, NaN where
one is missing, and last whether the step is there. A step is there where it, or one after it, has a value. The formulas
are those of NumPy and of Keras.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from keras_ae.data.preprocessing import scales
from keras_ae.errors import InputError


@dataclass(frozen=True)
class Sequences:
    """What is known of series that were trained on.

    Attributes:
        steps: of the longest.
        channels: names.
        shift: mean of each channel.
        scale: positive, of each channel: one for all where they share a unit, as in `fit_scaling`.
        shared: whether they do.
        constant: positions of the channels that never change.
    """

    steps: int
    channels: tuple[str, ...]
    shift: tuple[float, ...]
    scale: tuple[float, ...]
    shared: bool = False
    constant: tuple[int, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Ready for JSON; `Sequences.of` reads it."""
        return asdict(self)

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> "Sequences":
        """From what `describe` gave."""
        of: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in described.items()}
        return cls(**of)

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """Raw rows (rows, steps, channels) as features, 0 where a value is missing."""
        shift, scale = (np.array(part, "float32") for part in (self.shift, self.scale))
        return np.nan_to_num(features(x.astype("float32"), shift, scale), copy=False, nan=0.0)

    def flat(self, x: np.ndarray) -> np.ndarray:
        """Raw rows as numbers that have distances, (rows, features): values as they are, the channel's mean where one
        is missing, and in the channels' mean deviation whether a step is there.
        """
        values = np.where(np.isnan(x), np.array(self.shift, "float32"), x)
        there = present(x)[..., None] * np.float32(np.mean(self.scale))
        return np.concatenate([values, there], axis=-1).reshape(len(x), -1).astype("float32")

    def known(self, x: np.ndarray) -> np.ndarray:
        """Which of the numbers that `flat` gives are values, (rows, features)."""
        known = ~np.isnan(x)
        return np.concatenate([known, np.zeros_like(known[..., :1])], axis=-1).reshape(len(x), -1)

    def nearest(self, flat: np.ndarray) -> np.ndarray:
        """Numbers such as `flat` gives as those of the nearest series that there can be."""
        f = flat.reshape(len(flat), self.steps, -1)
        length = np.maximum((f[..., -1] > 0.5 * np.mean(self.scale)).sum(axis=1), 1)
        there = np.arange(self.steps) < length[:, None]
        return self.flat(np.where(there[..., None], f[..., :-1], np.float32(np.nan)))

    def lists(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Padded rows as columns by channel, whose cells (steps,) are each of its own length."""
        series = unpadded(x)
        columns = {name: np.empty(len(x), object) for name in self.channels}
        for i, column in enumerate(columns.values()):
            for row, of in enumerate(series):
                column[row] = of[:, i]
        return columns

    def padded(self, x: Any, name: str = "x") -> np.ndarray:
        """Series of these channels, such as `padded` takes, as rows of the steps trained on.

        Raises:
            InputError: for one that is longer, has other channels, or no value at all.
        """
        rows = padded(x, name)
        if rows.shape[2] != len(self.channels):
            raise InputError(f"`{name}` must have {len(self.channels)} channels. Received: {rows.shape[2]}.")
        longest = lengths(rows)
        if longest.max() > self.steps:
            row = int(np.argmax(longest))
            raise InputError(
                f"`{name}` must have at most {self.steps} steps, as the longest series trained on. "
                f"Received: {longest[row]} in row {row}."
            )
        return of_steps(rows, self.steps)


def are_padded(x: np.ndarray) -> bool:
    """Whether an array is of series that end before it does: some of (rows, steps, channels) have no last step."""
    return x.ndim == 3 and x.dtype.kind == "f" and bool(np.isnan(x[:, -1]).all(axis=-1).any())


def is_ragged(x: Any) -> bool:
    """Whether x is a list of arrays, or of lists of lists, as series of different lengths are."""
    if isinstance(x, np.ndarray):
        return x.dtype == object and x.ndim == 1 and len(x) > 0 and np.ndim(x[0]) in (1, 2)
    return isinstance(x, list | tuple) and len(x) > 0 and isinstance(x[0], np.ndarray | list | tuple)


def padded(x: Any, name: str = "x") -> np.ndarray:
    """Series as one float32 array (rows, steps, channels), NaN behind the end of each.

    Args:
        x: a list of (steps, channels) or, of one channel, (steps,) arrays; or an array that is padded already.
        name: of it, for messages.

    Raises:
        InputError: for what is none, other channels than the first, infinite numbers, a series without any value.
    """
    if isinstance(x, np.ndarray) and x.dtype != object:
        if x.ndim != 3 or not x.size or x.dtype.kind not in "biuf":
            raise InputError(
                f"`{name}` must be numbers (rows, steps, channels). Received: {x.dtype} of shape {x.shape}."
            )
        with np.errstate(over="ignore"):
            rows = x.astype("float32", copy=True)
    else:
        parts = [_one(part, name, i) for i, part in enumerate(x)]
        wrong = next((i for i, part in enumerate(parts) if part.shape[1] != parts[0].shape[1]), None)
        if not parts or wrong is not None:
            raise InputError(
                f"`{name}` must be series of as many channels each. Received: "
                + (f"{parts[wrong].shape[1]} in row {wrong}, {parts[0].shape[1]} before." if wrong else "none.")
            )
        rows = np.full((len(parts), max(map(len, parts)), parts[0].shape[1]), np.nan, "float32")
        for row, part in zip(rows, parts, strict=True):
            row[: len(part)] = part
    if np.isinf(rows).any():
        row, step, channel = (int(i) for i in np.argwhere(np.isinf(rows))[0])
        raise InputError(f"`{name}`, row {row}, step {step}, channel {channel}: must be finite in float32, or NaN.")
    if not lengths(rows).all():
        raise InputError(f"`{name}`, row {int(np.argmin(lengths(rows)))}: must have a value. Received: none.")
    rows[np.isnan(rows)] = np.nan  # of one sign and payload, so that hashes agree
    return np.ascontiguousarray(rows[:, : lengths(rows).max()])


def _one(part: Any, name: str, i: int) -> np.ndarray:
    rule = f"`{name}`, row {i}: must be numbers (steps, channels) or (steps,)."
    try:
        array = np.asarray(part, "float32")  # None is NaN
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{rule} Received: {error}.") from error
    if array.ndim not in (1, 2) or not array.size:
        raise InputError(f"{rule} Received: shape {array.shape}.")
    return array if array.ndim == 2 else array[:, None]


def of_steps(x: np.ndarray, steps: int) -> np.ndarray:
    """Rows (rows, steps, channels) with more NaN behind them, or less."""
    room = np.full((len(x), max(steps - x.shape[1], 0), x.shape[2]), np.nan, "float32")
    return np.ascontiguousarray(np.concatenate([x[:, :steps], room], axis=1))


def lengths(x: np.ndarray) -> np.ndarray:
    """Steps (rows,) of padded rows (rows, steps, channels): up to the last that has a value."""
    known = ~np.isnan(x).all(axis=-1)
    return np.max(known * np.arange(1, x.shape[1] + 1), axis=1)


def unpadded(x: np.ndarray) -> list[np.ndarray]:
    """The series (steps, channels) of padded rows (rows, steps, channels), each of its own length."""
    return [row[:length] for row, length in zip(x, lengths(x), strict=True)]


def present(x: Any, xp: Any = np) -> Any:
    """Which steps of raw rows (rows, steps, channels) are there: 0 or 1, (rows, steps)."""
    positions = np.arange(1, x.shape[1] + 1, dtype="float32")
    known = xp.min(xp.where(xp.isnan(x), np.float32(1), np.float32(0)), axis=-1) < np.float32(0.5)
    length = xp.max(xp.where(known, positions, np.float32(0)), axis=-1, keepdims=True)
    return xp.where(positions <= length, np.float32(1), np.float32(0))


def features(x: Any, shift: Any, scale: Any, xp: Any = np) -> Any:
    """Raw rows (rows, steps, channels) as features (rows, steps, channels + 1)."""
    return xp.concatenate([(x - shift) / scale, xp.expand_dims(present(x, xp), -1)], axis=-1)


def fit_sequences(x: np.ndarray, channels: tuple[str, ...]) -> Sequences:
    """Mean and scale of each channel, over the values of training rows x (rows, steps, channels) that are there."""
    values = x.reshape(-1, x.shape[2]).astype("float64")
    unknown = [i for i in range(x.shape[2]) if np.isnan(values[:, i]).all()]
    if unknown:
        raise InputError(f"Channel {channels[unknown[0]]} must have a value among the rows trained on. Received: none.")
    mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    scale, shared, constant = scales(mean, deviation)
    shift, units = (tuple(float(np.float32(v)) for v in part) for part in (mean, scale))
    return Sequences(x.shape[1], channels, shift, units, shared, constant)


def names_of(channels: int) -> tuple[str, ...]:
    """Of channels that have none."""
    return tuple(f"channel {i}" for i in range(channels))
