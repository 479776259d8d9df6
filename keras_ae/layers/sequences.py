"""Series of different lengths: between their rows and the network's features, their likelihood, and what keeps networks
from looking behind their end.

A row of features (steps, channels + 1) has last whether each step is there (`keras_ae.data.sequences`). In its place a
decoder gives logits that a series, being there at the step before, goes on: of these follows p(length | z), a
distribution whatever the logits are, as in survival analysis in discrete time (Cox 1972, "Regression models and life
tables", section 8).
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.data.sequences import Sequences, features, names_of, present
from keras_ae.layers.columns import Incomplete, learned_log_var
from keras_ae.layers.draws import normal_cdf
from keras_ae.layers.latents import log_normal
from keras_ae.layers.likelihoods import Likelihood
from keras_ae.layers.losses import LossLayer, RMSELoss

_NAN = np.float32(np.nan)
"""A constant: of any other choice tf2onnx makes a sum of products, and 0 * NaN is NaN."""


@keras.saving.register_keras_serializable(package="keras_ae")
class SequenceScaling(Incomplete):
    """Raw rows (batch, steps, channels), NaN behind the end of each, as features (batch, steps, channels + 1).

    With `inverse=True` back, NaN where a step is not there: where the raw rows in `like` have none, or else behind as
    many as have a probability of more than `level` to be there, (batch, 1) or a half, which gives the median length.

    A value that is missing before the end is NaN in the features too. The last feature is 1 where a step is there.

    Args:
        steps: of the longest row.
        channels: names of what a step has, or how many.
    """

    epsilon_dim = 1
    """The length's."""

    def __init__(self, steps: int, channels: int | tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.names = names_of(channels) if isinstance(channels, int) else tuple(channels)
        self.steps, self.channels = int(steps), len(self.names)
        self.raw_shape = (self.steps, self.channels)
        shape = (self.channels,)
        self.shift = self.add_weight(shape=shape, initializer="zeros", dtype="float32", trainable=False, name="shift")
        self.scale = self.add_weight(shape=shape, initializer="ones", dtype="float32", trainable=False, name="scale")

    def set_statistics(self, sequences: Sequences) -> None:
        """Sets shift and scale of each channel."""
        self.shift.assign(sequences.shift)
        self.scale.assign(sequences.scale)

    @property
    def sequences(self) -> Sequences:
        """The statistics that were set."""
        shift, scale = (tuple(float(v) for v in np.asarray(of)) for of in (self.shift, self.scale))
        return Sequences(self.steps, self.names, shift, scale)

    def describe(self) -> dict[str, Any]:
        """What `Sequences.of` reads."""
        return self.sequences.describe()

    def padded(self, x: Any) -> np.ndarray:
        """Series as rows (rows, steps, channels): `keras_ae.data.sequences.Sequences.padded`."""
        return self.sequences.padded(x)

    @property
    def units(self) -> np.ndarray:
        """Of each channel (channels,): what counts as a difference of one."""
        return np.asarray(self.scale)

    def level(self, epsilon: Any) -> Any:
        """Of standard normal noise (batch, 1): a level that is uniform, so that the length is a draw."""
        return normal_cdf(epsilon)

    def log_volume(self, x: np.ndarray) -> np.ndarray:
        """Of raw rows: the logarithm of what a raw unit of volume is in scaled ones, (batch,)."""
        known = (~np.isnan(x)).sum(axis=1)
        return -(known * np.log(np.asarray(self.scale, "float64"))).sum(axis=1)

    def comparable(self, scaled: Any, x_hat: Any) -> tuple[Any, Any]:
        """x and x_hat, for scores; in x, NaN is what does not count: what is missing, and all behind the first step
        that is not there.
        """
        there = scaled[..., -1:]
        before = ops.concatenate([ops.ones_like(there[:, :1]), there[:, :-1]], axis=1)
        counted = ops.where(before > 0.5, there, _NAN)
        return ops.concatenate([scaled[..., :-1], counted], axis=-1), x_hat

    def by_raw(self, of_features: Any, scaled: Any) -> Any:
        """What features (batch, n) add, as (batch, steps, channels): what the length adds is at the last step, and so
        is what lies behind it, where neighbours go on.
        """
        parts = ops.reshape(of_features, (-1, self.steps, self.channels + 1))
        there = scaled[..., -1:]
        behind = ops.sum(parts[..., :-1] * (1.0 - there), axis=(1, 2), keepdims=True)
        of_length = (ops.sum(parts[..., -1:], axis=1, keepdims=True) + behind) / self.channels
        return parts[..., :-1] * there + of_length * last_step(there)

    def hard_rows(self, x: np.ndarray) -> np.ndarray:
        """Raw rows of different lengths, with gaps."""
        x = np.array(x, "float32")
        for i, row in enumerate(x):
            row[max(1, (i + 1) * self.steps // len(x)) :] = np.nan
            row[i % self.steps, i % self.channels] = np.nan
            row[0, np.isnan(row).all(axis=0)] = 0.0
        return x

    def call(self, x: Any, inverse: bool = False, like: Any = None, level: Any = 0.5) -> Any:
        x = ops.cast(x, "float32")
        if not inverse:
            return features(x, self.shift, self.scale, ops)
        values = x[..., :-1] * self.scale + self.shift
        if like is not None:
            there = present(ops.cast(like, "float32"), ops)
        else:
            longer = ops.cast(x[..., -1] > level, "float32")
            length = ops.maximum(ops.sum(longer, axis=1, keepdims=True), 1.0)
            there = ops.cast(np.arange(self.steps, dtype="float32") < length, "float32")
        return ops.where(ops.expand_dims(there, -1) > 0.5, values, _NAN)

    def compute_output_spec(self, x: Any, inverse: bool = False, like: Any = None, level: Any = 0.5) -> Any:
        channels = self.channels + (not inverse)
        return keras.KerasTensor((x.shape[0], self.steps, channels), dtype="float32")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "steps": self.steps, "channels": list(self.names)}


def last_step(there: Any) -> Any:
    """1 at the last step that is there (batch, steps, 1), and 0 at the others."""
    return there - ops.concatenate([there[:, 1:], ops.zeros_like(there[:, :1])], axis=1)


def log_prob_of_steps(there: Any, logits: Any) -> Any:
    """log p(length), nats, as what each step has of it (batch, steps), of steps that are there (batch, steps), 0 or 1,
    and logits to go on at each. The first is always there.
    """
    before, later, logits = there[:, :-1], there[:, 1:], logits[:, 1:]
    of_later = before * (later * logits - ops.softplus(logits))
    return ops.concatenate([ops.zeros_like(there[:, :1]), of_later], axis=1)


def log_prob_of_length(there: Any, logits: Any) -> Any:
    """The sum over steps: (batch,)."""
    return ops.sum(log_prob_of_steps(there, logits), axis=1)


def mean_of_features(params: Any) -> Any:
    """Expected values, and last the probability that each step is there: that all up to it went on."""
    params = ops.cast(params, "float32")
    going_on = ops.log_sigmoid(params[..., -1:])
    going_on = ops.concatenate([ops.zeros_like(going_on[:, :1]), going_on[:, 1:]], axis=1)
    return ops.concatenate([params[..., :-1], ops.exp(ops.cumsum(going_on, axis=1))], axis=-1)


@keras.saving.register_keras_serializable(package="keras_ae")
class SequenceLoss(Likelihood):
    """Likelihood of series of different lengths: of the values that are there Gaussian, each channel with a variance of
    its own that is learned, and p(length | z). Params are means, and last the logits that a series goes on.
    """

    def build(self, x_shape: Any, params_shape: Any) -> None:
        self.log_var = self.add_weight(shape=(x_shape[-1] - 1,), initializer="zeros", dtype="float32", name="log_var")

    def mean(self, params: Any) -> Any:
        return mean_of_features(params)

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        of_values = log_normal(x[..., :-1], params[..., :-1], learned_log_var(self.log_var))
        of_steps = log_prob_of_steps(x[..., -1], params[..., -1])
        return ops.concatenate([of_values, ops.expand_dims(of_steps, -1)], axis=-1)


@keras.saving.register_keras_serializable(package="keras_ae")
class SequenceRMSELoss(RMSELoss):
    """RMSELoss of the values that are there, equation 3 over them; of the length see LengthLoss."""

    def mean(self, params: Any) -> Any:
        """The expected features."""
        return mean_of_features(params)

    def log_prob(self, x: Any, params: Any) -> Any:
        """log p of the values that are there, and of the length: (batch,), nats."""
        return super().log_prob(x[..., :-1], params[..., :-1]) + log_prob_of_length(x[..., -1], params[..., -1])

    def call(self, x: Any, params: Any) -> Any:
        super().call(x[..., :-1], params[..., :-1])
        return params


@keras.saving.register_keras_serializable(package="keras_ae")
class LengthLoss(LossLayer):
    """-log p(length | z) in nats, mean over the batch. Called on `(x, params)` as SequenceLoss; returns params."""

    reads = ("x", "x_hat")
    term = "length"

    def call(self, x: Any, params: Any) -> Any:
        there, logits = ops.cast(x[..., -1], "float32"), ops.cast(params[..., -1], "float32")
        self.add_term(-ops.mean(log_prob_of_length(there, logits)), x)
        return params


@keras.saving.register_keras_serializable(package="keras_ae")
class ValuesOnly(keras.layers.Layer):
    """A layer such as noise on the values of features (batch, steps, channels + 1), where the steps are there.

    Args:
        layer: from the values to values.
    """

    def __init__(self, layer: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    def call(self, x: Any, training: bool = False) -> Any:
        there = x[..., -1:]
        return ops.concatenate([self.layer(x[..., :-1], training=training) * there, there], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "layer": keras.saving.serialize_keras_object(self.layer)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ValuesOnly":
        return cls(**{**config, "layer": keras.saving.deserialize_keras_object(config["layer"])})


@keras.saving.register_keras_serializable(package="keras_ae")
class StepMask(keras.layers.Layer):
    """Which steps of features (batch, steps, channels + 1) are there: 0 or 1, (batch, steps, 1)."""

    def call(self, x: Any) -> Any:
        return ops.cast(x[..., -1:] > 0.5, self.compute_dtype)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], 1)


@keras.saving.register_keras_serializable(package="keras_ae")
class LastStep(keras.layers.Layer):
    """Of states (batch, steps, width) and which steps are there (batch, steps, 1): those at the last, (batch, width).
    What is before does not see what comes after, so that nothing behind the end is in them.
    """

    def call(self, states: Any, there: Any) -> Any:
        return ops.sum(states * last_step(there), axis=1)

    def compute_output_shape(self, states_shape: Any, there_shape: Any) -> Any:
        return (states_shape[0], states_shape[2])
