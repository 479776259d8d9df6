"""Rows of a table as the features of a network, and back: one formula for NumPy and for Keras.

A row (columns,) of numbers, codes and days becomes features: numbers in units of their deviation, or by a quantile
transform as normal quantiles; days since the middle of training, sine and cosine of the time of day and of the day of
the week; 0 or 1 for a boolean; one of n for a category; and for each column whose cells may be missing whether this one
is. Features of a cell that is missing are NaN.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_ae.data.schema import Column, Schema

KNOTS = 33
_HEAVY = 10.0
"""Deviations by quartiles: where the outermost hundredth of the numbers lies farther out, tails are heavy."""
_MOST_VALUES = 16
"""Different numbers of a column that are all that it can have, where each was met twice or more."""
_OFTEN = 0.05
"""Share of the cells of a column from which on a number is met again and again: fewer than 20 are."""
_NORMAL_QUARTILE = 0.6744898
_WEEK = 7.0


@dataclass(frozen=True)
class Layout:
    """Where each feature is, by what it is: positions in a row of features, in this order.

    Attributes:
        gaussian: features that are numbers.
        bernoulli: features that are 0 or 1.
        blocks: (first, end) of the features of each categorical column.
        column: position of the column that each feature belongs to.
        names: of the features.
        hides: of each column that may be missing, positions of its features, and last of its flag.
    """

    gaussian: int
    bernoulli: int
    blocks: tuple[tuple[int, int], ...]
    column: tuple[int, ...]
    names: tuple[str, ...]
    hides: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        return len(self.column)

    @property
    def numbers(self) -> int:
        """That it takes to tell a row whose cells are all there: features, and of one of n the bits."""
        bits = sum(math.ceil(math.log2(end - first)) for first, end in self.blocks)
        return self.gaussian + self.bernoulli - len(self.hides) + bits


@dataclass(frozen=True)
class ColumnStatistics:
    """What `Statistics` is for rows of numbers, of a table.

    Attributes:
        schema: with the statistics of training rows.
    """

    schema: Schema
    shared: bool = False

    @property
    def constant(self) -> tuple[int, ...]:
        """Positions of the numeric columns that never change."""
        return tuple(i for i in _linear(self.schema) if self.schema.columns[i].is_constant)

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """Rows (rows, columns) as features (rows, size), 0 where a cell is missing."""
        return np.nan_to_num(features(self.schema, x.astype("float32")), copy=False, nan=0.0).astype("float32")


def layout(schema: Schema) -> Layout:
    """Features in order: linear numbers, transformed ones, days, clocks, booleans, flags of missing cells, levels."""
    columns = schema.columns
    named: list[tuple[int, str]] = [(i, columns[i].name) for i in (*_linear(schema), *_curved(schema))]
    dates = schema.of_kind("datetime")
    named += [(i, columns[i].name) for i in dates]
    for i in dates:
        named += [(i, f"{columns[i].name}: {part}") for part in ("sin week", "cos week")]
        named += [(i, f"{columns[i].name}: {part}") for part in ("sin day", "cos day") if columns[i].clock]
    gaussian = len(named)
    named += [(i, columns[i].name) for i in schema.of_kind("boolean")]
    named += [(i, f"{columns[i].name} missing") for i in _nullable(schema)]
    bernoulli = len(named) - gaussian
    blocks = []
    for i in schema.of_kind("categorical"):
        blocks.append((len(named), len(named) + len(columns[i].levels)))
        named += [(i, f"{columns[i].name}={level}") for level in columns[i].levels]
    of = [i for i, _ in named]
    flags = {i: gaussian + len(schema.of_kind("boolean")) + k for k, i in enumerate(_nullable(schema))}
    hides = [(*(f for f, i in enumerate(of) if i == column and f != flag), flag) for column, flag in flags.items()]
    return Layout(gaussian, bernoulli, tuple(blocks), tuple(of), tuple(name for _, name in named), tuple(hides))


def features(schema: Schema, x: Any, xp: Any = np) -> Any:
    """Rows (rows, columns) as features (rows, size), NaN where a cell is missing; `xp` is numpy or keras.ops."""
    parts = []

    def take(positions: Sequence[int]) -> Any:
        return xp.take(x, np.array(positions, "int32"), axis=-1)

    if linear := _linear(schema):
        parts.append((take(linear) - _row(schema, linear, "shift")) / _row(schema, linear, "scale"))
    if curved := _curved(schema):
        raw, normal = _knots(schema, curved)
        parts.append(piecewise(take(curved), raw, normal, xp))
    if dates := schema.of_kind("datetime"):
        elapsed = (take(dates) - _row(schema, dates, "shift")) / _row(schema, dates, "scale")
        # What comes after the rows of training is no anomaly for that.
        parts.append(xp.clip(elapsed, -_LATEST, _LATEST))
        for i in dates:
            days = take([i])
            periods = (_WEEK, 1.0) if schema.columns[i].clock else (_WEEK,)
            for period in periods:
                angle = (days / period - xp.floor(days / period)) * np.float32(2 * math.pi)
                parts += [xp.sin(angle), xp.cos(angle)]
    if booleans := schema.of_kind("boolean"):
        parts.append(take(booleans))
    if nullable := _nullable(schema):
        parts.append(xp.where(xp.isnan(take(nullable)), np.float32(1), np.float32(0)))
    if categorical := schema.of_kind("categorical"):
        codes = take([i for i in categorical for _ in schema.columns[i].levels])
        levels = np.array([k for i in categorical for k in range(len(schema.columns[i].levels))], "float32")
        parts.append(xp.where(xp.isnan(codes), codes, xp.where(xp.equal(codes, levels), np.float32(1), np.float32(0))))
    return xp.concatenate(parts, axis=-1)


def rows(schema: Schema, f: Any, xp: Any = np) -> Any:
    """Features (rows, size) as rows (rows, columns): of a category the level of the largest feature."""
    where = layout(schema)
    parts: list[Any] = []
    order: list[int] = []
    at = 0

    def of(positions: Sequence[int]) -> Any:
        nonlocal at
        order.extend(positions)
        at += len(positions)
        return f[:, at - len(positions) : at]

    if linear := _linear(schema):
        parts.append(of(linear) * _row(schema, linear, "scale") + _row(schema, linear, "shift"))
    if curved := _curved(schema):
        raw, normal = _knots(schema, curved)
        parts.append(piecewise(of(curved), normal, raw, xp))
    if dates := schema.of_kind("datetime"):
        parts.append(of(dates) * _row(schema, dates, "scale") + _row(schema, dates, "shift"))
    at = where.gaussian
    if booleans := schema.of_kind("boolean"):
        parts.append(xp.where(of(booleans) >= 0.5, np.float32(1), np.float32(0)))
    for i, (first, end) in zip(schema.of_kind("categorical"), where.blocks, strict=True):
        order.append(i)
        parts.append(_largest(f[:, first:end], xp))
    return xp.take(xp.concatenate(parts, axis=-1), np.argsort(order).astype("int32"), axis=-1)


def _largest(f: Any, xp: Any) -> Any:
    """Position (rows, 1) of the first largest; ONNX has no op for what Keras's argmax does about the sign of 0."""
    positions = np.arange(f.shape[-1], dtype="float32")
    held = xp.where(f >= xp.max(f, axis=-1, keepdims=True), positions, np.float32(f.shape[-1]))
    return xp.min(held, axis=-1, keepdims=True)


def piecewise(x: Any, before: Any, after: Any, xp: Any = np) -> Any:
    """The line through rising knots (columns, k), of x (rows, columns); beyond the outer ones it goes on straight."""
    left, right = before[:, :-1], before[:, 1:]
    rise = after[:, 1:] - after[:, :-1]
    share = xp.clip((x[:, :, None] - left) / (right - left), 0.0, 1.0)
    inside = xp.sum(share * rise, axis=-1) + after[:, 0]
    slopes = rise / (right - left)
    below = xp.minimum(x - before[:, 0], 0.0) * slopes[:, 0]
    above = xp.maximum(x - before[:, -1], 0.0) * slopes[:, -1]
    return inside + below + above


def log_volume(schema: Schema, x: np.ndarray) -> np.ndarray:
    """Of rows x (rows, columns): the logarithm of what a raw unit of volume of their numbers is in features, (rows,). A
    cell that is missing has none.
    """
    slopes = np.zeros(x.shape)
    slopes[:, _linear(schema)] = -np.log(_row(schema, _linear(schema), "scale").astype("float64"))
    for i in _curved(schema):
        raw, normal = (np.array(part, "float32") for part in schema.columns[i].knots)
        piece = np.clip(np.searchsorted(raw, x[:, i], side="right") - 1, 0, len(raw) - 2)
        slopes[:, i] = np.log(np.diff(normal) / np.diff(raw), dtype="float64")[piece]
    return np.where(np.isnan(x), 0.0, slopes).sum(axis=1)


def with_flags(schema: Schema, f: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Features (rows, size) of which some say which cells of raw rows x (rows, columns) are missing."""
    f, where = f.copy(), layout(schema)
    for *_, flag in where.hides:
        f[:, flag] = np.isnan(x[:, where.column[flag]])
    return f


def flags_of(schema: Schema) -> list[int]:
    """Positions of the features that say whether a cell is missing."""
    return [hidden[-1] for hidden in layout(schema).hides]


def without_missing(schema: Schema, epsilon: np.ndarray) -> np.ndarray:
    """The noise of `generate` (rows, n) for rows of which no cell is missing (`keras_ae.layers.ColumnDraws`)."""
    epsilon = epsilon.copy()
    epsilon[:, epsilon.shape[1] - len(_nullable(schema)) :] = _FAR
    return epsilon


def fit_columns(schema: Schema, x: np.ndarray) -> Schema:
    """The schema with the statistics of training rows x (rows, columns), NaN where a cell is missing."""
    return _fitted(fit_support(schema, x), x, _FIT)


def fit_support(schema: Schema, x: np.ndarray) -> Schema:
    """The schema with the bounds of numbers and days in training rows x, which columns hold whole numbers alone, and
    which numbers they hold again and again.
    """
    return _fitted(schema, x, {"numeric": _support_of_numbers, "datetime": _support_of_days})


def within_support(schema: Schema, x: Any, xp: Any = np) -> Any:
    """Raw rows (rows, columns) with numbers and days within the bounds of training, and whole numbers where training
    had whole ones alone; NaN stays. `xp` is numpy or keras.ops.
    """
    low, high = (np.array([column.bounds[i] for column in schema.columns], "float32") for i in (0, 1))
    x = xp.where(x < low, low, xp.where(x > high, high, x))
    whole = np.array([column.whole for column in schema.columns])
    return xp.where(whole, xp.round(x), x) if whole.any() else x


def _fitted(schema: Schema, x: np.ndarray, fits: Mapping[str, Callable[[Column, np.ndarray], Column]]) -> Schema:
    """The schema with each column as the function for its kind makes it of its values that are not missing."""
    columns = list(schema.columns)
    for i, column in enumerate(columns):
        values = x[:, i].astype("float64")
        values = values[~np.isnan(values)]
        if column.kind in fits and len(values):
            columns[i] = fits[column.kind](column, values)
    return replace(schema, columns=tuple(columns))


def _support_of_days(column: Column, values: np.ndarray) -> Column:
    return replace(column, bounds=(float(values.min()), float(values.max())))


def _support_of_numbers(column: Column, values: np.ndarray) -> Column:
    found, counts = np.unique(values, return_counts=True)
    is_discrete = len(found) <= _MOST_VALUES and counts.min() > 1
    often = counts >= (0 if is_discrete else max(2.0, _OFTEN * len(values)))
    return replace(
        _support_of_days(column, values),
        whole=bool(np.all(values == np.rint(values))),
        values=tuple(float(value) for value in found[often]),
        is_discrete=bool(is_discrete),
    )


def _fit_numeric(column: Column, values: np.ndarray) -> Column:
    middle, deviation = np.median(values), deviation_by_quartiles(values)
    spread = values.std()
    extremes = np.quantile(values, (0.005, 0.995))
    is_heavy = deviation > 0 and np.abs(extremes - middle).max() > _HEAVY * deviation
    if column.transform == "quantile" or (column.transform is None and is_heavy):
        knots = normal_quantiles(values, (np.arange(KNOTS) + 0.5) / KNOTS)
        if knots is not None:
            return replace(column, transform="quantile", knots=knots)
    asked = None if column.transform is None else "linear"  # of a column that asked for one the table is no array
    # Few rows that differ from the rest, such as counts that are nearly always 0, have no quartiles to speak of.
    scale = deviation if deviation > 0.1 * spread else spread
    if scale <= 1e-6 * max(abs(middle), 1e-30):  # what float32 can't tell from a constant is one
        return replace(column, transform=asked, shift=float(middle), is_constant=True)
    return replace(column, transform=asked, shift=float(middle), scale=float(scale))


def deviation_by_quartiles(values: np.ndarray) -> float:
    """The standard deviation of a normal distribution whose quartiles are as far from each other."""
    low, high = np.quantile(values, (0.25, 0.75))
    return float((high - low) / (2 * _NORMAL_QUARTILE))


def normal_quantiles(
    values: np.ndarray, shares: np.ndarray, least: float = 0.0
) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Quantiles of the values that differ in float32, by more than `least`, and those of a normal distribution; None
    where all are one."""
    from statistics import NormalDist

    knots = np.quantile(values, shares).astype("float32")
    kept: list[int] = []
    for k, knot in enumerate(knots):
        if not kept or knot - knots[kept[-1]] > max(least, 1e-6 * abs(knot), 1e-36):
            kept.append(k)
    if len(kept) < 2:
        return None
    # Of equal quantiles the middle one stands for all.
    ends = np.append(kept[1:], len(knots)) - 1
    normal = [NormalDist().inv_cdf(float(shares[a] + shares[b]) / 2) for a, b in zip(kept, ends, strict=True)]
    return tuple(float(k) for k in knots[kept]), tuple(normal)


def _fit_days(column: Column, values: np.ndarray) -> Column:
    spread = values.std()
    return replace(
        column,
        shift=float(values.mean()),
        scale=float(spread) if spread > 0 else 1.0,
        clock=bool(np.any(np.abs(values - np.round(values)) > 1e-3)),
    )


_FIT = {"numeric": _fit_numeric, "datetime": _fit_days}
_FAR = 9.0
"""Deviations: a standard normal number is never there."""
_LATEST = 2.0
"""Standard deviations: evenly spread days end at 1.73."""


def _linear(schema: Schema) -> list[int]:
    return [i for i in schema.of_kind("numeric") if schema.columns[i].transform != "quantile"]


def _curved(schema: Schema) -> list[int]:
    return [i for i in schema.of_kind("numeric") if schema.columns[i].transform == "quantile"]


def _nullable(schema: Schema) -> list[int]:
    return [i for i, column in enumerate(schema.columns) if column.nullable]


def _row(schema: Schema, positions: Sequence[int], what: str) -> np.ndarray:
    return np.array([getattr(schema.columns[i], what) for i in positions], "float32")


def _knots(schema: Schema, positions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """(columns, k) each, float32."""
    most = max(len(schema.columns[i].knots[0]) for i in positions)
    both = zip(*(schema.columns[i].knots for i in positions), strict=True)
    raw, normal = (np.stack([padded(knots, most) for knots in part]).astype("float32") for part in both)
    return raw, normal


def padded(knots: ArrayLike, count: int) -> np.ndarray:
    """As many knots (count,): the last line goes on."""
    held = np.asarray(knots, "float64")
    step = held[-1] - held[-2]
    return np.concatenate([held, held[-1] + step * np.arange(1, count - len(held) + 1)])
