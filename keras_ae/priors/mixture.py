"""Mixtures of Gaussians: a function of standard normal noise, and a density."""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers.float32 import Float32Layer


@keras.saving.register_keras_serializable(package="keras_ae")
class MixturePrior(Float32Layer):
    """A mixture of K Gaussians, shared by all classes or with weights for each.

    Called on epsilon (batch, epsilon_dim), standard normal, and with classes on label (batch,), -1 for any. Returns z
    (batch, n), and with classes the pair of z and the label that was drawn or given. Until it is fitted it is N(0, I).

    z = mean_k + factor_k e, where e is the last n columns of epsilon. Where there is something to choose, epsilon has
    one column more, the first: the share u = Phi(epsilon_0) of the normal distribution below it is uniform, and picks
    the class by frequency and the component by its weight.

    Args:
        latent_dim: n.
        components: K.
        classes: number of classes; 0 for none.
        diagonal: whether the covariances are; full ones otherwise.
    """

    def __init__(
        self, latent_dim: int, components: int = 1, classes: int = 0, diagonal: bool = False, **kwargs: Any
    ) -> None:
        if min(latent_dim, components) < 1 or classes < 0:
            raise ValueError(
                "`latent_dim` and `components` must be at least 1, `classes` at least 0. "
                f"Received: {latent_dim}, {components}, {classes}."
            )
        super().__init__(**kwargs)
        self.latent_dim, self.components, self.classes = int(latent_dim), int(components), int(classes)
        self.diagonal = bool(diagonal)
        self.has_choice = self.components > 1 or self.classes > 0
        self.epsilon_dim = self.latent_dim + self.has_choice

    @property
    def numbers(self) -> int:
        """Held for each z by `log_prob`."""
        return self.components * self.latent_dim

    def build(self, input_shape: Any = None) -> None:
        n, k, c = self.latent_dim, self.components, max(self.classes, 1)

        def weight(name: str, value: np.ndarray) -> Any:
            return self.add_weight(
                shape=value.shape,
                initializer=lambda shape, dtype=None: ops.convert_to_tensor(value, dtype=dtype),
                dtype="float32",
                trainable=False,
                name=name,
            )

        one = np.ones((k, n)) if self.diagonal else np.broadcast_to(np.eye(n), (k, n, n))
        self.mean = weight("mean", np.zeros((k, n)))
        self.factor = weight("factor", one)
        self.whitening = weight("whitening", one)  # the inverse of the factor: no graph can solve for it
        self.log_det = weight("log_det", np.zeros(k))
        self.share = weight("share", np.full((c, k), 1.0 / (c * k)))
        # Cumulative sums, kept: runtimes that add in another order would draw other components.
        self.class_end = weight("class_end", np.arange(1, c + 1) / c)
        self.component_end = weight("component_end", np.tile(np.arange(1, k + 1) / k, (c, 1)))

    def set(self, means: np.ndarray, covariances: np.ndarray, share: np.ndarray) -> None:
        """Sets the components.

        Args:
            means: (K, n).
            covariances: (K, n, n), positive semidefinite; of a diagonal mixture variances (K, n).
            share: (classes or 1, K), joint probabilities of class and component, up to a factor.
        """
        if self.diagonal:
            values, vectors = covariances.astype("float64"), None
        else:
            values, vectors = np.linalg.eigh(covariances.astype("float64"))
        values = np.maximum(values, 1e-12 * max(float(values.max(initial=0.0)), 1e-30))
        deviations = np.sqrt(values)
        self.mean.assign(means)
        if vectors is None:
            self.factor.assign(deviations)
            self.whitening.assign(1.0 / deviations)
        else:
            # The symmetric root exists where the covariance is singular (a dead latent); a Cholesky factor does not.
            turned = np.swapaxes(vectors, 1, 2)
            self.factor.assign(vectors * deviations[:, None, :] @ turned)
            self.whitening.assign(vectors / deviations[:, None, :] @ turned)
        self.log_det.assign(0.5 * np.log(values).sum(axis=1))
        share = np.asarray(share, "float64") / np.sum(share)
        of_class, within = share.sum(axis=1).cumsum(), share.cumsum(axis=1)
        self.share.assign(share)
        self.class_end.assign(of_class / of_class[-1])
        self.component_end.assign(within / np.maximum(within[:, -1:], 1e-300))

    def call(self, epsilon: Any, label: Any = None) -> Any:
        epsilon = ops.cast(epsilon, "float32")
        if not self.has_choice:
            return self._times(self.factor, epsilon) + self.mean[0]
        u = 0.5 * (1.0 + ops.erf(epsilon[:, 0] / np.float32(math.sqrt(2.0))))
        if self.classes:
            drawn = ops.sum(ops.cast(self.class_end[:-1] <= u[:, None], "int32"), axis=-1)
            frequency = ops.sum(self.share, axis=1)
            start = ops.take(self.class_end - frequency, drawn)
            rest = (u - start) / ops.maximum(ops.take(frequency, drawn), 1e-30)
            u = ops.where(label < 0, rest, u)
            label = ops.where(label < 0, drawn, label)
        # Components that end at or below u come before the one drawn; empty ones end where the one before does.
        # A `u` of 1 is rounded: nothing comes before more than all.
        ends = ops.take(self.component_end, label, axis=0) if self.classes else self.component_end
        below = ends <= ops.minimum(u, np.float32(1.0 - 1e-6))[:, None]
        component = ops.sum(ops.cast(below, "int32"), axis=-1)
        factor = ops.take(self.factor, component, axis=0)
        z = self._times(factor, epsilon[:, 1:]) + ops.take(self.mean, component, axis=0)
        return (z, label) if self.classes else z

    def log_prob(self, z: Any) -> Any:
        """log p(z) of z (batch, n): (batch,), nats."""
        log_share = ops.log(ops.maximum(ops.sum(self.share, axis=0), 1e-30))
        return ops.logsumexp(self.log_components(z) + log_share, axis=-1)

    def class_log_prob(self, z: Any) -> Any:
        """log p(z | y) of z (batch, n) for each class y: (batch, classes), nats."""
        log_share = ops.log(ops.maximum(self.share, 1e-30)) - ops.expand_dims(self.class_log_frequency(), -1)
        return ops.logsumexp(ops.expand_dims(self.log_components(z), 1) + log_share[None], axis=-1)

    def class_log_frequency(self) -> Any:
        """log p(y): (classes,), nats."""
        return ops.log(ops.maximum(ops.sum(self.share, axis=1), 1e-30))

    def _times(self, matrix: Any, vector: Any) -> Any:
        """Products of matrices, diagonal or full, with vectors (batch, n): (batch, n)."""
        return matrix * vector if self.diagonal else ops.sum(matrix * ops.expand_dims(vector, 1), axis=-1)

    def log_components(self, z: Any) -> Any:
        """log N(z; mean_k, covariance_k): (batch, K)."""
        n, k = self.latent_dim, self.components
        z = ops.cast(z, "float32")
        if self.diagonal:
            white = (ops.expand_dims(z, 1) - self.mean) * self.whitening
        else:  # one product for all components, of z and of their means
            rows = ops.reshape(ops.transpose(self.whitening, (2, 0, 1)), (n, k * n))
            white = ops.reshape(ops.matmul(z, rows), (-1, k, n)) - self._times(self.whitening, self.mean)
        return -0.5 * ops.sum(ops.square(white), axis=-1) - self.log_det - n / 2 * math.log(2 * math.pi)

    def compute_output_spec(self, epsilon: Any, label: Any = None) -> Any:
        z = keras.KerasTensor((epsilon.shape[0], self.latent_dim), dtype="float32")
        return (z, keras.KerasTensor((epsilon.shape[0],), dtype="int32")) if self.classes else z

    def get_config(self) -> dict[str, Any]:
        sizes = {"latent_dim": self.latent_dim, "components": self.components, "classes": self.classes}
        return {**super().get_config(), **sizes, "diagonal": self.diagonal}


def log_joint(prior: Any, z: Any) -> Any:
    """log p(z, y) of z (batch, n) for each class y: (batch, classes), nats."""
    return prior.class_log_prob(z) + prior.class_log_frequency()


def log_prob_with(prior: Any, z: Any, y: Any = None) -> Any:
    """log p(z, y) of z (batch, n) and indices of classes y (batch,), or without them log p(z): (batch,), nats."""
    if y is None:
        return prior.log_prob(z)
    return ops.squeeze(ops.take_along_axis(log_joint(prior, z), ops.expand_dims(y, -1), axis=-1), -1)
