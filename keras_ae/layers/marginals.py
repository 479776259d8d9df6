"""Cells of samples with the distributions that the columns of training had."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.data.columns import (
    KNOTS,
    deviation_by_quartiles,
    normal_quantiles,
    padded,
    piecewise,
    within_support,
)
from keras_ae.data.schema import Schema
from keras_ae.layers.columns import take
from keras_ae.layers.float32 import Float32Layer

_FEWEST_KNOTS = 5
_MOST_KNOTS = 8_192
"""Of all columns: rows of many are bent at fewer places each, since each is as many numbers of a row that is drawn."""
_NARROW = 0.02
"""Deviations by quartiles: the least distance of knots in what the decoder says, as a last digit must decide little."""
_TAIL = 0.05
"""Of the standard deviation, what that by quartiles is taken for at least."""
_TOLD = 0.95
"""Correlation from which on what is said tells the cell."""


@keras.saving.register_keras_serializable(package="keras_ae")
class Marginals(Float32Layer):
    """The cells of samples, of what the decoder says of them: raw rows (batch, columns), NaN where a cell is missing.

    A number or day becomes the one that has its rank in training: what the decoder says has less spread than rows, and
    other tails. With x its quantile function there and F the distribution function of what the decoder says of samples,

        u = r Phi^-1(F(said)) + sqrt(1 - r^2) e,    cell = x(Phi(u)),

    where e is standard normal noise: a Gaussian copula (Sklar 1959; Nelsen 2006, "An introduction to copulas", section
    2.3) of the cell and what is said of it. Its correlation r is that of the normal scores of reconstructions and cells
    of training rows, in parts of the highest that ties allow and of 0.95: noise so small that it hardly changes a cell
    would take rows away from where they lie together. Without noise r is 1, and this is a quantile mapping.

    A number that training had again and again, such as the 0 of an amount or a code, stands for the interval of u that
    gives it as often. Then numbers are within the bounds of training, and whole where training had whole ones alone.
    Before `fit` a cell is the nearest number to what is said that is so.

    Called on (said, noise): raw rows, and noise (batch, `numbers`), or None without noise.

    Args:
        schema: what `Schema.describe` gave, with the bounds of training rows (`keras_ae.data.fit_support`).
        noisy: whether cells are drawn about what the decoder says, which is so where it says no probabilities.
    """

    def __init__(self, schema: dict[str, Any], noisy: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schema = Schema.of(schema)
        self.noisy = bool(noisy)
        columns = self.schema.columns
        self._bent = [i for i in self.schema.of_kind("numeric", "datetime") if np.ptp(columns[i].bounds) > 0]
        self._knots = min(KNOTS, max(_FEWEST_KNOTS, _MOST_KNOTS // max(len(self._bent), 1)))
        self._stepped = [k for k, i in enumerate(self._bent) if columns[i].values]
        stepped = [columns[self._bent[k]] for k in self._stepped]
        self._values = np.zeros((len(stepped), max((len(column.values) for column in stepped), default=0)), "float32")
        self._start = np.full((2, *self._values.shape), np.inf, "float32")
        for k, column in enumerate(stepped):
            values = np.array(column.values, "float32")
            self._values[k, : len(values)] = values
            if column.is_discrete:
                between = (values[1:] + values[:-1]) / 2
                self._start[:, k, : len(values)] = np.append(-np.inf, between), np.append(between, np.inf)

    @property
    def numbers(self) -> int:
        """Of noise that a row takes."""
        return len(self._bent) if self.noisy else 0

    def build(self, *shapes: Any) -> None:
        def start(shape: Any, dtype: Any = None) -> Any:
            return ops.convert_to_tensor(self._start)

        def hold(name: str, shape: tuple[int, ...], initializer: Any = "zeros") -> Any:
            return self.add_weight(shape=shape, initializer=initializer, trainable=False, name=name)

        bent = len(self._bent)
        self.is_bent = hold("is_bent", (bent,))
        self.said = hold("said", (2, bent, self._knots))
        self.seen = hold("seen", (2, bent, self._knots))
        self.correlation = hold("correlation", (bent,), "ones")
        self.steps = hold("steps", self._start.shape, start)

    def fit(self, drawn: np.ndarray, x: np.ndarray, said: np.ndarray | None = None, seed: int = 0) -> None:
        """Learns the distributions, and how much what is said tells of a cell.

        Args:
            drawn: what the decoder says of samples, raw (rows, columns).
            x: training rows, raw (n, columns).
            said: their reconstructions; with noise.
            seed: of the noise by which frequent numbers get their intervals.
        """
        shape = (len(self._bent), self._knots)
        is_bent, correlation = np.zeros(shape[0]), np.ones(shape[0])
        of_said, of_seen = (np.tile(np.arange(shape[1], dtype="float64"), (2, shape[0], 1)) for _ in range(2))
        for k, i in enumerate(self._bent):
            samples = drawn[:, i][~np.isnan(drawn[:, i])].astype("float64")
            known = ~np.isnan(x[:, i])
            seen = x[known, i].astype("float64")
            before = self._quantiles(samples, _least_step(samples)) if len(samples) else None
            after = self._quantiles(seen, 0.0) if len(seen) else None
            if after is None or (before is None and not self.noisy):
                continue
            is_bent[k], of_seen[:, k] = 1.0, after[::-1]
            if before is not None:
                of_said[:, k] = before
            if said is not None:  # what never changes tells nothing of a cell
                correlation[k] = 0.0 if before is None else _correlation(said[known, i], seen)
        self.said.assign(of_said)
        self.seen.assign(of_seen)
        self.is_bent.assign(is_bent)
        self.correlation.assign(correlation)
        noise = np.random.default_rng(seed).standard_normal((len(drawn), self.numbers), dtype="float32")
        self._fit_steps(np.asarray(self._places(drawn[:, self._bent], noise)), x)

    def _fit_steps(self, places: np.ndarray, x: np.ndarray) -> None:
        steps = self._start.copy()
        for row, k in enumerate(self._stepped):
            seen = x[:, self._bent[k]]
            seen, of = seen[~np.isnan(seen)], places[:, k][~np.isnan(places[:, k])]
            if not len(of):
                continue
            for j, value in enumerate(np.array(self.schema.columns[self._bent[k]].values, "float32")):
                shares = np.mean(seen < value), np.mean(seen <= value)
                low, high = np.quantile(of, shares)
                steps[:, row, j] = low if shares[0] > 0 else -np.inf, high if shares[1] < 1 else np.inf
        self.steps.assign(steps)

    def _quantiles(self, values: np.ndarray, least: float) -> np.ndarray | None:
        """Numbers that rise and their normal quantiles, (2, knots); None where they don't differ."""
        ends = 0.5 / len(values)
        found = normal_quantiles(values, np.clip(np.linspace(0.0, 1.0, self._knots), ends, 1.0 - ends), least)
        return None if found is None else np.stack([padded(part, self._knots) for part in found])

    def _places(self, said: Any, noise: Any) -> Any:
        """u (batch, bent columns); what is said itself of those that aren't bent."""
        at = piecewise(said, self.said[0], self.said[1], ops)
        if self.noisy:
            at = self.correlation * at + ops.sqrt(1.0 - ops.square(self.correlation)) * noise
        return ops.where(self.is_bent > 0.5, at, said)

    def call(self, said: Any, noise: Any = None) -> Any:
        said, noise = (None if part is None else ops.cast(part, "float32") for part in (said, noise))
        if not self._bent:
            return within_support(self.schema, said, ops)
        at = self._places(take(said, self._bent), noise)
        cells = ops.where(self.is_bent > 0.5, piecewise(at, self.seen[0], self.seen[1], ops), at)
        if self._stepped:
            some = ops.expand_dims(take(at, self._stepped), -1)
            inside = ops.cast(ops.logical_and(some > self.steps[0], some <= self.steps[1]), "float32")
            others = 1.0 - ops.sum(inside, axis=-1)
            # NaN is in no interval, and stays.
            often = ops.where(others > 0.5, take(cells, self._stepped), ops.sum(inside * self._values, axis=-1))
            cells = _replaced(cells, self._stepped, often)
        return within_support(self.schema, _replaced(said, self._bent, cells), ops)

    def compute_output_spec(self, said: Any, noise: Any = None) -> Any:
        return keras.KerasTensor(said.shape, dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "schema": self.schema.describe(), "noisy": self.noisy}


def _replaced(x: Any, positions: Sequence[int], part: Any) -> Any:
    """x (batch, n) with other columns at some positions."""
    order = np.arange(x.shape[-1])
    order[positions] = len(order) + np.arange(len(positions))
    return take(ops.concatenate([x, part], axis=-1), order)


def _least_step(values: np.ndarray) -> float:
    return float(_NARROW * max(deviation_by_quartiles(values), _TAIL * values.std()))


def _correlation(said: np.ndarray, seen: np.ndarray) -> float:
    """Of the normal scores of two columns (rows,), in parts of a high one where both rise together; in [0, 1]."""
    from scipy.stats import norm, rankdata

    a, b = (norm.ppf((rankdata(part) - 0.5) / len(part)) for part in (said, seen))
    highest = _TOLD * np.mean(np.sort(a) * np.sort(b))
    return float(np.clip(np.mean(a * b) / highest, 0.0, 1.0)) if highest > 0 else 0.0
