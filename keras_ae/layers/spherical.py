"""Latents on the unit sphere: von Mises-Fisher posteriors, and the uniform distribution for a prior."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers.draws import normal, uniform
from keras_ae.layers.losses import LossLayer
from keras_ae.layers.neighbours import limited

_ANGLES = 512
"""Intervals of the angle to the mean direction, over which its density is summed and inverted."""
_LARGEST = 1000.0
"""Of a concentration: beyond it the density is narrower than some intervals."""


def _direction_and_concentration(natural: Any) -> tuple[Any, Any]:
    """The mean direction (batch, n) and the concentration (batch, 1) of natural parameters kappa mu (batch, n)."""
    natural = limited(ops.cast(natural, "float32"))
    kappa = ops.sqrt(ops.sum(ops.square(natural), axis=-1, keepdims=True) + 1e-12)
    # Cut with a gradient, so that one that has gone too far can come back.
    cut = kappa + ops.stop_gradient(ops.minimum(kappa, _LARGEST) - kappa)
    return natural / kappa, cut


def _log_masses(kappa: Any, n: int) -> tuple[Any, Any, np.ndarray]:
    """Of the angle to the mean direction, whose density is as exp(kappa cos) sin^(n - 2): logarithms of the mass of
    each interval (batch, angles), of their sum relative to kappa = 0 less kappa (batch,), and the cosines in the
    middle of each.
    """
    middle = (np.arange(_ANGLES) + 0.5) * np.pi / _ANGLES
    cosine = np.cos(middle).astype("float32")
    uniform_log = (n - 2) * np.log(np.sin(middle))
    uniform_log -= np.log(np.exp(uniform_log - uniform_log.max()).sum()) + uniform_log.max()
    unscaled = kappa * (cosine - 1.0) + uniform_log.astype("float32")
    total = ops.logsumexp(unscaled, axis=-1)
    return unscaled - total[:, None], total, cosine


def _check_sphere(layer: str, shape: Any) -> None:
    if len(shape) != 2 or shape[-1] < 2:
        raise ValueError(f"{layer} needs z (batch, n) of n >= 2, a direction in space. Received: {tuple(shape)}.")


@keras.saving.register_keras_serializable(package="keras_ae")
class VonMisesFisher(keras.layers.Layer):
    """A draw from a von Mises-Fisher distribution on the unit sphere in training; its mean direction at inference
    (Davidson et al. 2018, "Hyperspherical variational auto-encoders").

    Called on natural parameters kappa mu (batch, n), what an encoder gives: their direction is the mean's, their length
    the concentration. Returns z (batch, n) of length 1. The angle to the mean is drawn by inverting its distribution
    function, and the rest is a uniform direction at right angles to it (Ulrich 1984), so that the gradient is that of
    the draw itself and no proposal is rejected.

    Args:
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.

    Raises:
        ValueError: for fewer than two numbers in z.
    """

    def __init__(self, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, natural_shape: Any) -> None:
        _check_sphere("VonMisesFisher", natural_shape)

    def call(self, natural: Any, training: bool = False) -> Any:
        mean, kappa = _direction_and_concentration(natural)
        if not training:
            return ops.cast(mean, self.compute_dtype)
        angle = self._angle(kappa, mean.shape[-1])
        direction = normal(ops.shape(mean), self.seed_generator)
        direction = direction - mean * ops.sum(direction * mean, axis=-1, keepdims=True)
        direction = self.nearest_code(direction)
        return ops.cast(ops.cos(angle) * mean + ops.sin(angle) * direction, self.compute_dtype)

    def _angle(self, kappa: Any, n: int) -> Any:
        """Draws (batch, 1) of the angle to the mean direction."""
        log_masses, _, _ = _log_masses(kappa, n)
        masses = ops.exp(log_masses)
        below = ops.cumsum(masses, axis=-1)
        # Short of 1, which rounding may keep the sum of all masses from.
        u = uniform(ops.shape(kappa), self.seed_generator) * 0.999999
        place = ops.minimum(ops.sum(ops.cast(below < u, "int32"), axis=-1, keepdims=True), _ANGLES - 1)
        end, mass = (ops.take_along_axis(part, place, axis=-1) for part in (below, masses))
        part = ops.clip(1.0 - (end - u) / ops.maximum(mass, 1e-12), 0.0, 1.0)
        return (ops.cast(place, "float32") + part) * (math.pi / _ANGLES)

    def nearest_code(self, z: Any) -> Any:
        """The point of the sphere in the direction of z."""
        return z / ops.sqrt(ops.sum(ops.square(z), axis=-1, keepdims=True) + 1e-12)

    def compute_output_shape(self, natural_shape: Any) -> Any:
        return natural_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class VonMisesFisherKLLoss(LossLayer):
    """KL(vMF(mu, kappa) || uniform on the sphere), nats, mean over the batch (Davidson et al. 2018, equation 6): the
    Bessel functions there are sums over the angle here.

    Called on the natural parameters kappa mu (batch, n) of the posterior; returns them.

    Args:
        weight: factor of the term.
    """

    reads = ("posterior",)
    term = "kl"

    def build(self, natural_shape: Any) -> None:
        _check_sphere("VonMisesFisherKLLoss", natural_shape)

    def kl_of_rows(self, natural: Any) -> Any:
        """The KL of each row, (batch,) nats."""
        _, kappa = _direction_and_concentration(natural)
        log_masses, total, cosine = _log_masses(kappa, natural.shape[-1])
        return kappa[:, 0] * ops.sum(ops.exp(log_masses) * (cosine - 1.0), axis=-1) - total

    def call(self, natural: Any) -> Any:
        self.add_term(ops.mean(self.kl_of_rows(natural)), natural)
        return natural
