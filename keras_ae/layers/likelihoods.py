"""What the decoder says about x is a distribution: its negative log-likelihood is the reconstruction loss.

`RMSELoss(calibrated=True)` is the Gaussian one at its best noise level. A value of x that is NaN is missing: it adds
nothing (Mattei and Frellsen 2019, "MIWAE", equation 4).
"""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import keras
import tensorflow as tf
from keras import ops

from keras_ae.layers.latents import bound_log_var, log_normal
from keras_ae.layers.losses import LossLayer, check_same_shape, over_known


class Likelihood(LossLayer, ABC):
    """-log p(x | z) of features that are independent given z, in nats: summed over them, mean over the batch.

    Called on `(x, params)`: x (batch, ...), and of that shape what the decoder says about it, with a last axis of
    `parameters` where a feature has several; returns the params.

    Args:
        weight: factor of the term.

    Raises:
        ValueError: for shapes that don't fit.
    """

    reads = ("x", "x_hat")
    term = "nll"
    parameters: ClassVar[int] = 1

    def build(self, x_shape: Any, params_shape: Any) -> None:
        """Makes what the likelihood itself learns: nothing, as a rule."""

    @abstractmethod
    def mean(self, params: Any) -> Any:
        """The expected x, of the shape of x, float32."""

    @abstractmethod
    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        """log p of each feature of float32 x: (batch, ...), nats."""

    def log_prob(self, x: Any, params: Any) -> Any:
        """log p(x) of each row: (batch,), nats."""
        return over_known(x, lambda x: self.log_prob_of_features(x, ops.cast(params, "float32")))

    def log_prob_at_mean(self, x: Any, params: Any) -> Any:
        """What tells whether a model is better than another, where z is the posterior's mean: (batch,), nats."""
        return self.log_prob(x, params)

    def call(self, x: Any, params: Any, training: bool = False) -> Any:
        check_same_shape(type(self).__name__, ("x", "params"), x, params if self.parameters == 1 else params[..., 0])
        log_p = self.log_prob(x, params) if training else self.log_prob_at_mean(x, params)
        self.add_term(-ops.mean(log_p), x)
        return params


@keras.saving.register_keras_serializable(package="keras_ae")
class BernoulliLoss(Likelihood):
    """Bernoulli, params are logits. x is 0 or 1: of values between, the term is a cross-entropy and no likelihood
    (Loaiza-Ganem and Cunningham 2019, "The continuous Bernoulli").
    """

    def mean(self, params: Any) -> Any:
        """Probability of 1 of each feature."""
        return ops.sigmoid(ops.cast(params, "float32"))

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        return x * params - ops.softplus(params)


@keras.saving.register_keras_serializable(package="keras_ae")
class CategoricalLoss(Likelihood):
    """Categorical variables along the last axis: x in one-hot coding, params are logits."""

    def mean(self, params: Any) -> Any:
        """Probability of each level."""
        return ops.softmax(ops.cast(params, "float32"), axis=-1)

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        return x * ops.log_softmax(params, axis=-1)


@keras.saving.register_keras_serializable(package="keras_ae")
class GaussianLoss(Likelihood):
    """Gaussian of one learned variance for all features; params are means. RMSELoss(calibrated=True) is the same where
    the variance is at its optimum for each batch.
    """

    def build(self, x_shape: Any, params_shape: Any) -> None:
        self.log_var = self.add_weight(shape=(), initializer="zeros", dtype="float32", name="log_var")

    def mean(self, params: Any) -> Any:
        return ops.cast(params, "float32")

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        log_var = bound_log_var(ops.convert_to_tensor(self.log_var))
        return log_normal(x, params, log_var)


_LEAST_SCALE = 1e-2
"""Of a feature, in network units: a density is unbounded where a feature is constant."""


def _log_expm1(value: float) -> float:
    """The inverse of softplus."""
    return math.log(math.expm1(value))


def _location_and_scale(params: Any) -> tuple[Any, Any]:
    """Of two params: the scale is a softplus, 1 at 0, and not below the least."""
    params = ops.cast(params, "float32")
    return params[..., 0], ops.softplus(params[..., 1] + _log_expm1(1.0 - _LEAST_SCALE)) + _LEAST_SCALE


@keras.saving.register_keras_serializable(package="keras_ae")
class FeatureGaussianLoss(Likelihood):
    """Gaussian whose mean and standard deviation the decoder says for each feature (Kingma and Welling 2014, appendix
    C.2). The deviation is at least 0.01: softplus of the second param, 1 where that is 0.
    """

    parameters = 2

    def mean(self, params: Any) -> Any:
        return _location_and_scale(params)[0]

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        mean, deviation = _location_and_scale(params)
        return log_normal(x, mean, 2.0 * ops.log(deviation))


@keras.saving.register_keras_serializable(package="keras_ae")
class StudentTLoss(Likelihood):
    """Student's t, whose heavy tails bear outliers; the decoder says location and scale (0.01 or more) of each feature
    (Takahashi et al. 2018, "Student-t variational autoencoder for robust density estimation", equation 7).

    Args:
        weight: factor of the term.
        df: degrees of freedom, more than 1 so that there is a mean.
    """

    parameters = 2

    def __init__(self, weight: float = 1.0, df: float = 4.0, **kwargs: Any) -> None:
        if not df > 1:
            raise ValueError(f"`df` must be more than 1. Received: {df}.")
        super().__init__(weight, **kwargs)
        self.df = float(df)

    def mean(self, params: Any) -> Any:
        return _location_and_scale(params)[0]

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        mean, scale = _location_and_scale(params)
        constant = math.lgamma((self.df + 1) / 2) - math.lgamma(self.df / 2) - 0.5 * math.log(self.df * math.pi)
        distance = ops.square((x - mean) / scale) / self.df
        return constant - ops.log(scale) - (self.df + 1) / 2 * ops.log1p(distance)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "df": self.df}


_SERIES_BELOW = 1e-1
"""Logits at which the continuous Bernoulli's formulas divide by nearly 0."""


@keras.saving.register_keras_serializable(package="keras_ae")
class ContinuousBernoulliLoss(Likelihood):
    """Continuous Bernoulli, a density on [0, 1] that Bernoulli's formula is not; params are logits l, and the constant
    is l / tanh(l / 2) (Loaiza-Ganem and Cunningham 2019, equations 5 and 8).
    """

    def _safe(self, logits: Any) -> tuple[Any, Any]:
        small = ops.abs(logits) < _SERIES_BELOW
        return small, ops.where(small, ops.ones_like(logits), logits)

    def mean(self, params: Any) -> Any:
        logits = ops.cast(params, "float32")
        small, safe = self._safe(logits)
        exact = ops.sigmoid(safe) / ops.tanh(safe / 2) - 1.0 / safe
        return ops.where(small, 0.5 + logits / 12.0 - logits * ops.square(logits) / 720.0, exact)

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        small, safe = self._safe(params)
        exact = ops.log(safe / ops.tanh(safe / 2))
        square = ops.square(params)
        log_constant = ops.where(small, math.log(2.0) + square / 12.0 - 7.0 * square * square / 1440.0, exact)
        return x * params - ops.softplus(params) + log_constant


@keras.saving.register_keras_serializable(package="keras_ae")
class DiscretizedLogisticLoss(Likelihood):
    """A mixture of logistic distributions, cut into the grey values 0, 1 / (levels - 1), ..., 1: a probability of each,
    where a density would be unbounded (Salimans et al. 2017, "PixelCNN++", equation 2). A feature has a weight, a mean
    and a scale for each component. `mean` is that before the cut, within [0, 1].

    Args:
        weight: factor of the term.
        levels: grey values, at least 2.
        components: of the mixture.
    """

    def __init__(
        self,
        weight: float = 1.0,
        levels: int = 256,
        components: int = 3,
        **kwargs: Any,
    ) -> None:
        if levels < 2 or components < 1:
            raise ValueError(
                f"`levels` must be at least 2 and `components` at least 1. Received: {levels} and {components}."
            )
        super().__init__(weight, **kwargs)
        self.levels, self.components = int(levels), int(components)
        self.parameters = 3 * self.components  # type: ignore[misc]

    def _split(self, params: Any) -> tuple[Any, Any, Any]:
        k = self.components
        params = ops.cast(params, "float32")
        # The components start apart, over the range of grey.
        start = [(i + 0.5) / k for i in range(k)]
        scale = ops.softplus(params[..., 2 * k :] + _log_expm1(0.1)) + 0.1 / self.levels
        return ops.log_softmax(params[..., :k], axis=-1), params[..., k : 2 * k] + ops.convert_to_tensor(start), scale

    def mean(self, params: Any) -> Any:
        log_share, mean, _ = self._split(params)
        return ops.clip(ops.sum(ops.exp(log_share) * mean, axis=-1), 0.0, 1.0)

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        log_share, mean, scale = self._split(params)
        half = 0.5 / (self.levels - 1)
        x = ops.expand_dims(x, -1)
        above, below = (x + half - mean) / scale, (x - half - mean) / scale
        # log(s(a) - s(b)) = log s(a) + log s(-b) + log(1 - exp(b - a)), for a > b without cancellation.
        inside = ops.log_sigmoid(above) + ops.log_sigmoid(-below) + ops.log(-ops.expm1(-2.0 * half / scale))
        lowest, highest = ops.log_sigmoid(above), ops.log_sigmoid(-below)
        log_p = ops.where(x < half, lowest, ops.where(x > 1.0 - half, highest, inside))
        return ops.logsumexp(log_share + log_p, axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "levels": self.levels, "components": self.components}


@keras.saving.register_keras_serializable(package="keras_ae")
class NegativeBinomialLoss(Likelihood):
    """Counts whose variance is above their mean m: m + m^2 / r. Params are log m and log r (Lopez et al. 2018, "Deep
    generative modeling for single-cell transcriptomics", methods). With `zero_inflated` a third is the logit of a zero
    from elsewhere.

    Args:
        weight: factor of the term.
        zero_inflated: mix with zeros.
    """

    def __init__(self, weight: float = 1.0, zero_inflated: bool = False, **kwargs: Any) -> None:
        super().__init__(weight, **kwargs)
        self.zero_inflated = bool(zero_inflated)
        self.parameters = 3 if zero_inflated else 2  # type: ignore[misc]

    def mean(self, params: Any) -> Any:
        params = ops.cast(params, "float32")
        mean = ops.exp(bound_log_var(params[..., 0]))
        return mean * ops.sigmoid(-(params[..., 2] - 2.0)) if self.zero_inflated else mean

    def log_prob_of_features(self, x: Any, params: Any) -> Any:
        # In float64: where r or x is large, float32 leaves no digit of these differences.
        log_m, log_r = (ops.cast(bound_log_var(params[..., i]), "float64") for i in (0, 1))
        n, r, log_total = ops.cast(x, "float64"), ops.exp(log_r), ops.logaddexp(log_m, log_r)
        log_p = tf.math.lgamma(n + r) - tf.math.lgamma(r) - tf.math.lgamma(n + 1.0)
        log_p += r * (log_r - log_total) + n * (log_m - log_total)
        log_p = ops.cast(log_p, "float32")
        if not self.zero_inflated:
            return log_p
        logit = params[..., 2] - 2.0  # starts at 12 % of zeros
        log_other = ops.log_sigmoid(-logit) + log_p
        return ops.where(x < 0.5, ops.logaddexp(ops.log_sigmoid(logit), log_other), log_other)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "zero_inflated": self.zero_inflated}
