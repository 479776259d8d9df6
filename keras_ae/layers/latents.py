"""Latent layers: from what the encoder says (the posterior) to the latent variable z."""

import math
from typing import Any

import keras
from keras import ops

from keras_ae.layers.draws import normal

_LOG_VAR_BOUND = 20.0


def bound_log_var(log_var: Any) -> Any:
    """Clips log variances to [-20, 20], where exp and its gradient are finite in float32.

    The gradient passes through the clip as if it were not there: a hard clip would have gradient zero outside, and a
    posterior that left the range could never come back.
    """
    # In this order: log_var + (clipped - log_var) would lose the bound to rounding where log_var is huge.
    return ops.stop_gradient(ops.clip(log_var, -_LOG_VAR_BOUND, _LOG_VAR_BOUND)) + (
        log_var - ops.stop_gradient(log_var)
    )


def flat(x: Any) -> Any:
    """(batch, ...) as float32 (batch, n)."""
    return ops.reshape(ops.cast(x, "float32"), (-1, math.prod(x.shape[1:])))


def log_normal(z: Any, mean: Any, log_var: Any) -> Any:
    """log N(z; mean, exp(log_var)) of each number, nats."""
    return -0.5 * (ops.square(z - mean) * ops.exp(-log_var) + log_var + math.log(2 * math.pi))


def log_normal_of_rows(z: Any, mean: Any = 0.0, log_var: Any = 0.0) -> Any:
    """The same of each row, summed over all axes but the first, by default of N(0, I): (batch,)."""
    return ops.sum(log_normal(z, mean, log_var), axis=tuple(range(1, len(z.shape))))


def bounded(mean: Any, log_var: Any) -> tuple[Any, Any]:
    """Both in float32, and the log variance within its bounds."""
    return ops.cast(mean, "float32"), bound_log_var(ops.cast(log_var, "float32"))


def halves(both: Any) -> tuple[Any, Any]:
    """(batch, 2 n) as a mean and a log variance, each (batch, n), this within its bounds."""
    return bounded(*ops.split(both, 2, axis=-1))


def gaussian_kl(mean: Any, log_var: Any) -> Any:
    """KL(N(mean, exp(log_var)) || N(0, 1)) of each number, nats (Kingma and Welling 2014, appendix B)."""
    return 0.5 * (ops.exp(log_var) + ops.square(mean) - 1.0 - log_var)


@keras.saving.register_keras_serializable(package="keras_ae")
class Sampling(keras.layers.Layer):
    """Reparametrized draw z = mean + exp(log_var / 2) * epsilon in training; the mean at inference.

    Called on `(mean, log_var)`, each of shape (batch, ...); returns z of that shape. log_var is bounded to [-20, 20]
    (Kingma and Welling 2014, "Auto-encoding variational Bayes", section 2.4).

    Args:
        samples: draws in training for each row; they follow one another along the batch axis (batch * samples, ...),
            for ImportanceWeightedLoss.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.

    Raises:
        ValueError: when it is not called on a pair of tensors, or for fewer than one sample.
    """

    def __init__(self, samples: int = 1, seed: int | None = None, **kwargs: Any) -> None:
        if samples < 1:
            raise ValueError(f"`samples` must be at least 1. Received: {samples}.")
        super().__init__(**kwargs)
        self.samples = int(samples)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, posterior: Any, training: bool = False) -> Any:
        if not isinstance(posterior, list | tuple) or len(posterior) != 2:
            raise ValueError(
                "Sampling must be called on the pair (mean, log_var): give the encoder two outputs, for instance with "
                f"`keras_ae.networks.gaussian_head`. Received: {posterior!r}."
            )
        mean, log_var = posterior
        if not training:
            return ops.cast(self.moments(mean, log_var)[0], mean.dtype)
        if self.samples > 1:
            mean, log_var = (ops.repeat(part, self.samples, axis=0) for part in (mean, log_var))
        noise = normal((*ops.shape(mean)[:-1], self.noise_dim(mean.shape[-1])), self.seed_generator)
        return ops.cast(self.draw(mean, log_var, noise)[0], self.compute_dtype)

    def noise_dim(self, latent_dim: int) -> int:
        """Standard normal numbers, along the last axis, that a draw of z (batch, ..., latent_dim) takes."""
        return latent_dim

    def moments(self, mean: Any, log_var: Any) -> tuple[Any, Any]:
        """Mean and log variance of q(z | x), of what the encoder gives; each (batch, ...), float32."""
        return bounded(mean, log_var)

    def draw(self, mean: Any, log_var: Any, noise: Any) -> tuple[Any, Any, Any]:
        """A draw z (batch, ...) of q(z | x) by noise, log q(z | x), and log p(z) where p(z) is N(0, I): (batch,) each,
        nats.
        """
        mean, log_var = self.moments(mean, log_var)
        z = mean + ops.exp(0.5 * log_var) * noise
        return z, log_normal_of_rows(z, mean, log_var), log_normal_of_rows(z)

    def compute_output_shape(self, posterior_shape: Any) -> Any:
        return posterior_shape[0]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "samples": self.samples, "seed": self.seed}
