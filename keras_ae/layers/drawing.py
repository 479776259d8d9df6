"""Rows of a table drawn from what a decoder says of its features, missing cells among them."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.data.columns import layout, rows
from keras_ae.data.schema import Schema
from keras_ae.layers.columns import take, with_zero
from keras_ae.layers.draws import normal_cdf
from keras_ae.layers.float32 import Float32Layer

_LEAST = 1e-7
"""Of a share: the logarithm of less is of no use in float32."""
_NEVER = -30.0
"""Logit of what does not happen."""
_FIT_ROWS = 20_000


@keras.saving.register_keras_serializable(package="keras_ae")
class ColumnDraws(Float32Layer):
    """Draws from p(x | z) as a table has them, by standard normal noise: a number about its mean; yes or no, and one of
    n (Gumbel-max), by their probabilities; and whether a cell is missing. `Marginals` come after.

    Called on (mean, params, deviation, noise): what the decoder says of features, their expectations and as it came,
    each (batch, size); deviations of the numbers (gaussian,), or None where the decoder says no probabilities, and all
    but missing cells is as likely as can be; and noise (batch, `numbers`). Returns raw rows (batch, columns), NaN where
    a cell is missing, never all of a row.

    In training cells are hidden that are there (`Filled`), and look as if they were missing: what the decoder says of
    them is too small a probability then, and `fit` corrects it.

    Args:
        schema: what `Schema.describe` gave, with the statistics of training rows.
        draws: whether the decoder says probabilities.
    """

    def __init__(self, schema: dict[str, Any], draws: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.schema = Schema.of(schema)
        self.layout = layout(self.schema)
        self.draws = bool(draws)
        self._flags = [hidden[-1] for hidden in self.layout.hides]
        self._others = [i for i in range(self.layout.size) if i not in self._flags]
        self._nullable = [self.layout.column[flag] for flag in self._flags]

    @property
    def numbers(self) -> int:
        """Of noise that a row takes; the last ones, one for each column that may be missing, say whether it is."""
        return len(self._flags) + (len(self._others) if self.draws else 0)

    def build(self, *shapes: Any) -> None:
        count = (len(self._flags),)
        self.slope = self.add_weight(shape=count, initializer="ones", trainable=False, name="slope")
        self.offset = self.add_weight(shape=count, initializer="zeros", trainable=False, name="offset")

    def fit(self, params: np.ndarray, x: np.ndarray) -> None:
        """Sets the logits of missing cells so that they are right for rows like these: a logistic regression each.

        Args:
            params: what the decoder says of features, for z of these rows, (rows, size).
            x: raw rows (rows, columns), NaN where a cell is missing.
        """
        from sklearn.linear_model import LogisticRegression

        if not self._flags:
            return
        slope, offset = np.zeros(len(self._flags)), np.full(len(self._flags), _NEVER)
        for k, (flag, column) in enumerate(zip(self._flags, self._nullable, strict=True)):
            said, missing = params[:_FIT_ROWS, [flag]], np.isnan(x[:_FIT_ROWS, column])
            if missing.all():
                offset[k] = -_NEVER
            elif missing.any():
                found = LogisticRegression(C=100.0).fit(said, missing)
                slope[k], offset[k] = found.coef_[0, 0], found.intercept_[0]
        self.slope.assign(slope)
        self.offset.assign(offset)

    def call(self, mean: Any, params: Any, deviation: Any, noise: Any) -> Any:
        features = ops.cast(mean, "float32")
        if deviation is not None:
            features = self._drawn(features, deviation, take(noise, range(len(self._others))))
        x = rows(self.schema, features, ops)
        if not self._flags:
            return x
        logits = take(params, self._flags) * self.slope + self.offset
        chance = _uniform(take(noise, range(self.numbers - len(self._flags), self.numbers)))
        drawn = ops.cast(chance < ops.minimum(ops.sigmoid(logits), 1.0 - _LEAST), "float32")
        of_column = {column: k for k, column in enumerate(self._nullable)}
        flags = [of_column.get(i, len(of_column)) for i in range(len(self.schema.columns))]
        missing = take(with_zero(drawn), flags)
        some = ops.sum(missing, axis=-1, keepdims=True) < len(self.schema.columns) - 0.5
        return ops.where(ops.logical_and(missing > 0.5, some), np.float32(np.nan), x)

    def _drawn(self, mean: Any, deviation: Any, noise: Any) -> Any:
        """Features (batch, size), of which `rows` takes the largest of each category."""
        gaussian, booleans = self.layout.gaussian, len(self.schema.of_kind("boolean"))
        levels = self.layout.gaussian + self.layout.bernoulli
        parts = [mean[:, :gaussian] + deviation * noise[:, :gaussian]]
        share = _uniform(noise[:, gaussian:])
        yes = share[:, :booleans] < mean[:, gaussian : gaussian + booleans]
        parts += [ops.cast(yes, "float32"), mean[:, gaussian + booleans : levels]]
        if self.layout.blocks:
            gumbel = -ops.log(-ops.log(share[:, booleans:]))
            parts.append(ops.log(ops.maximum(mean[:, levels:], _LEAST)) + gumbel)
        return ops.concatenate(parts, axis=-1)

    def compute_output_spec(self, mean: Any, params: Any, deviation: Any, noise: Any) -> Any:
        return keras.KerasTensor((mean.shape[0], len(self.schema.columns)), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "schema": self.schema.describe(), "draws": self.draws}


def _uniform(noise: Any) -> Any:
    """Standard normal numbers as shares in (0, 1)."""
    return ops.clip(normal_cdf(noise), _LEAST, 1.0 - _LEAST)
