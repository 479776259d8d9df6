"""Tables with categories, dates and missing cells: between their rows and the network's features, and their likelihood.

The formulas are those of `keras_ae.data.columns`, as part of every exported graph.
"""

import math
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.data.columns import features, layout, log_volume, rows
from keras_ae.data.schema import Schema
from keras_ae.layers.draws import uniform
from keras_ae.layers.latents import bound_log_var, log_normal
from keras_ae.layers.likelihoods import Likelihood
from keras_ae.layers.losses import over_known

_LOGIT = 30.0
_LEAST_LOG_VAR = math.log(1e-3)
"""Of a number, in units of its deviation: one that others tell exactly must not outweigh all else."""
RARE = 0.02
"""Least probability that the start of training tells apart."""


class Incomplete(keras.layers.Layer):
    """Scaling of rows that may lack values, which are NaN in scaled units too: it says what is `comparable` for scores,
    what features add `by_raw` values, and which rows are hard ones to compare runtimes on.
    """


@keras.saving.register_keras_serializable(package="keras_ae")
class ColumnScaling(Incomplete):
    """Raw rows (batch, columns), NaN where a cell is missing, as features (batch, size); and with `inverse=True` back.

    Features of a missing cell are NaN: where a network or a distance needs a number, 0 is usual.

    Args:
        schema: what `Schema.describe` gave, with the statistics of training rows.
    """

    def __init__(self, schema: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.schema = Schema.of(schema)
        self.layout = layout(self.schema)
        self.raw_shape = (len(self.schema.columns),)

    @property
    def units(self) -> np.ndarray:
        """Of each column (columns,): what counts as a difference of one."""
        return np.array([column.scale for column in self.schema.columns], "float32")

    def log_volume(self, x: np.ndarray) -> np.ndarray:
        """Of raw rows (batch, columns): the logarithm of what a raw unit of volume of their numbers is in features,
        (batch,).
        """
        return log_volume(self.schema, x)

    def by_raw(self, of_features: Any, scaled: Any) -> Any:
        """Sums over the features of each column: (batch, columns).

        No matrix of features by columns: of thousands it would be most of the artifact.
        """
        where = self.layout
        levels = where.gaussian + where.bernoulli
        parts = [of_features[:, :levels]] if levels else []
        columns = list(where.column[:levels])
        if where.blocks:
            of_level = np.array(where.column[levels:])
            of_block = [where.column[first] for first, _ in where.blocks]
            parts.append(ops.matmul(of_features[:, levels:], np.equal.outer(of_level, of_block).astype("float32")))
            columns += of_block
        summands: list[list[int]] = [[] for _ in range(self.raw_shape[0])]
        for i, column in enumerate(columns):
            summands[column].append(i)
        told = with_zero(ops.concatenate(parts, axis=-1))
        return sum(take(told, positions) for positions in zip_longest(*summands, fillvalue=len(columns)))

    def comparable(self, scaled: Any, x_hat: Any) -> tuple[Any, Any]:
        """x and x_hat, for scores: what is missing is as expected."""
        return ops.where(ops.isnan(scaled), ops.cast(x_hat, "float32"), scaled), x_hat

    def hard_rows(self, x: np.ndarray) -> np.ndarray:
        """Raw rows of which some cells are missing, where they may be, and some categories unknown."""
        x = np.array(x, "float32")
        for i, column in enumerate(self.schema.columns):
            if column.kind == "categorical":
                x[(i + 1) % len(x), i] = -1.0
            if column.nullable:
                x[i % len(x), i] = np.nan
        empty = np.isnan(x).all(axis=1)
        x[empty, 0] = 0.0
        return x

    def call(self, x: Any, inverse: bool = False, like: Any = None) -> Any:
        x = ops.cast(x, "float32")
        return rows(self.schema, x, ops) if inverse else features(self.schema, x, ops)

    def compute_output_spec(self, x: Any, inverse: bool = False, like: Any = None) -> Any:
        return keras.KerasTensor((x.shape[0], *(self.raw_shape if inverse else (self.layout.size,))), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "schema": self.schema.describe()}


def with_zero(x: Any) -> Any:
    """Features (batch, n) and behind them one that is 0."""
    return ops.pad(x, [[0, 0], [0, 1]])


def take(x: Any, positions: Sequence[int] | np.ndarray) -> Any:
    """Features (batch, n) at these positions: (batch, positions)."""
    return ops.take(x, np.array(positions, "int32"), axis=-1)


def _filled(x: Any) -> Any:
    return ops.where(ops.isnan(x), ops.zeros_like(x), x)


@keras.saving.register_keras_serializable(package="keras_ae")
class Filled(keras.layers.Layer):
    """What an encoder takes of features (batch, size): 0 in place of NaN.

    In training some cells more are hidden, of those that may be missing, with their flags set: from what is left the
    decoder must tell them too, or it would learn to copy and have nothing to say about a cell that is missing (Mattei
    and Frellsen 2019, "MIWAE"; He et al. 2022, "Masked autoencoders are scalable vision learners").

    Args:
        hides: for each column that may be missing, positions of its features and, last, of its flag.
        rate: probability that a cell is hidden in training.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    def __init__(
        self, hides: Sequence[Sequence[int]] = (), rate: float = 0.2, seed: int | None = None, **kwargs: Any
    ) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: {rate}.")
        super().__init__(autocast=False, **kwargs)
        self.hides = [[int(i) for i in positions] for positions in hides]
        self.rate = float(rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool = False) -> Any:
        x = _filled(x)
        if not training or not self.hides or not self.rate:
            return x
        by_cell, by_flag = (np.full(x.shape[-1], len(self.hides)) for _ in range(2))
        for i, (*positions, flag) in enumerate(self.hides):
            by_cell[positions], by_flag[flag] = i, i
        drawn = uniform((ops.shape(x)[0], len(self.hides)), self.seed_generator)
        hidden = with_zero(ops.cast(drawn < self.rate, "float32"))
        flagged = take(hidden, by_flag)
        return x * (1.0 - take(hidden, by_cell)) * (1.0 - flagged) + flagged

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hides": self.hides, "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class ColumnLoss(Likelihood):
    """A likelihood of each kind of feature: Gaussian for numbers, each with a variance of its own that is learned, so
    that one which nothing tells does not drown the others; Bernoulli for those that are 0 or 1, categorical for one of
    n (Nazabal et al. 2020, "Handling incomplete heterogeneous data using VAEs", section 2.2). What is missing adds
    nothing. At evaluation, where z is the mean, the variances are those that are best for the batch: what is learned
    holds what draws of z and hidden cells add, and by it a model that has learned nothing yet would look better.

    Params are means, logits, and logits of each level.

    Args:
        gaussian: features, which come first.
        bernoulli: features, which come next.
        levels: features of each category, which come last.
        weight: factor of the term.
    """

    def __init__(
        self, gaussian: int, bernoulli: int, levels: tuple[int, ...] = (), weight: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(weight, **kwargs)
        self.gaussian, self.bernoulli, self.levels = int(gaussian), int(bernoulli), tuple(int(n) for n in levels)
        # One product sums over the levels of every category at once.
        block = np.repeat(np.arange(len(self.levels)), self.levels)
        self._sums = np.equal.outer(block, np.arange(len(self.levels))).astype("float32")

    def build(self, x_shape: Any, params_shape: Any) -> None:
        self.log_var = self.add_weight(shape=(self.gaussian,), initializer="zeros", dtype="float32", name="log_var")

    def _parts(self, params: Any) -> tuple[Any, Any, Any]:
        middle = self.gaussian + self.bernoulli
        return params[:, : self.gaussian], params[:, self.gaussian : middle], params[:, middle:]

    def _log_softmax(self, logits: Any) -> Any:
        logits = ops.clip(logits, -_LOGIT, _LOGIT)
        total = ops.log(ops.matmul(ops.exp(logits), self._sums) + np.float32(1e-30))
        return logits - ops.matmul(total, self._sums.T)

    def mean(self, params: Any) -> Any:
        """Expected features: numbers, and the probability of each 1."""
        numbers, flags, levels = self._parts(ops.cast(params, "float32"))
        parts = [numbers, ops.sigmoid(flags)]
        if self.levels:
            parts.append(ops.exp(self._log_softmax(levels)))
        return ops.concatenate(parts, axis=-1)

    @property
    def log_variances(self) -> Any:
        """Of the numbers (gaussian,), as the likelihood takes them."""
        return learned_log_var(self.log_var)

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        return self._log_prob(x, params, self.log_variances)

    def log_prob_at_mean(self, x: Any, params: Any) -> Any:
        numbers, expected = self._parts(ops.cast(x, "float32"))[0], self._parts(ops.cast(params, "float32"))[0]
        known = ops.equal(numbers, numbers)
        squares = ops.where(known, ops.square(ops.where(known, numbers, expected) - expected), 0.0)
        count = ops.maximum(ops.sum(ops.cast(known, "float32"), axis=0), 1.0)
        log_var = ops.maximum(ops.log(ops.sum(squares, axis=0) / count + np.float32(1e-30)), _LEAST_LOG_VAR)
        return over_known(x, lambda x: self._log_prob(x, ops.cast(params, "float32"), log_var))

    def _log_prob(self, x: Any, params: Any, log_variances: Any) -> Any:
        (x_numbers, x_flags, x_levels), (numbers, flags, levels) = self._parts(x), self._parts(params)
        parts = [log_normal(x_numbers, numbers, log_variances), x_flags * flags - ops.softplus(flags)]
        if self.levels:
            parts.append(x_levels * self._log_softmax(levels))
        return ops.concatenate(parts, axis=-1)

    def link(self, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of features with these means (size,): params that give them, and by how much a param changes with its mean,
        to first order.
        """
        middle = self.gaussian + self.bernoulli
        p = np.clip(mean, RARE, 1.0 - RARE)
        params, slope = mean.copy(), np.ones_like(mean)
        flags = slice(self.gaussian, middle)
        params[flags], slope[flags] = np.log(p[flags] / (1 - p[flags])), 1.0 / (p[flags] * (1 - p[flags]))
        params[middle:], slope[middle:] = np.log(p[middle:]), 1.0 / p[middle:]
        return params, slope

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "gaussian": self.gaussian,
            "bernoulli": self.bernoulli,
            "levels": list(self.levels),
        }


def learned_log_var(log_var: Any) -> Any:
    """Log variances as a likelihood takes them, of a weight that is learned."""
    return ops.maximum(bound_log_var(ops.convert_to_tensor(log_var)), _LEAST_LOG_VAR)


def log_var_of(error: np.ndarray) -> np.ndarray:
    """Where such a weight starts, of mean squared errors."""
    return np.maximum(np.log(np.maximum(error, 1e-30)), _LEAST_LOG_VAR)
