"""What z is drawn from after training: a function of standard normal noise, so that samples follow from their seed.

A Gaussian, a mixture and one mixture per class are one layer, `MixturePrior`; `fit_prior` chooses between them by the
likelihood of latents that none was fitted to.
"""

import math
import time
import warnings
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

_COMPONENTS = (1, 4, 16, 48, 128)
"""Of a mixture over all rows, and, divided among them, of the mixtures of classes."""
_MOST_ROWS = 20_000
"""Latents that a mixture is fitted to, at most."""
_ROWS_A_DIMENSION = 5
"""Rows that a full covariance needs for each of its dimensions."""
_FLOOR = 1e-4
"""Least variance of a component along any direction, as a share of the mean variance of z."""


@keras.saving.register_keras_serializable(package="keras_ae")
class MixturePrior(keras.layers.Layer):
    """A mixture of K Gaussians with full covariances, shared by all classes or with weights for each.

    Called on epsilon (batch, epsilon_dim), standard normal, and with classes on label (batch,), -1 for any. Returns z
    (batch, n), and with classes the pair of z and the label that was drawn or given. Until it is fitted it is N(0, I).

    z = mean_k + factor_k e, where e is the last n columns of epsilon. Where there is something to choose, epsilon has
    one column more, the first: the share u = Phi(epsilon_0) of the normal distribution below it is uniform, and picks
    the class by frequency and the component by its weight.

    Args:
        latent_dim: n.
        components: K.
        classes: number of classes; 0 for none.
    """

    def __init__(self, latent_dim: int, components: int = 1, classes: int = 0, **kwargs: Any) -> None:
        if min(latent_dim, components) < 1 or classes < 0:
            raise ValueError(
                "`latent_dim` and `components` must be at least 1, `classes` at least 0. "
                f"Received: {latent_dim}, {components}, {classes}."
            )
        super().__init__(**kwargs)
        self.latent_dim, self.components, self.classes = int(latent_dim), int(components), int(classes)
        self.has_choice = self.components > 1 or self.classes > 0
        self.epsilon_dim = self.latent_dim + self.has_choice

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

        eye = np.broadcast_to(np.eye(n, dtype="float32"), (k, n, n))
        self.mean = weight("mean", np.zeros((k, n), "float32"))
        self.factor = weight("factor", eye)
        self.whitening = weight("whitening", eye)  # the inverse of the factor: no graph can solve for it
        self.log_det = weight("log_det", np.zeros(k, "float32"))
        self.share = weight("share", np.full((c, k), 1.0 / (c * k), "float32"))

    def set(self, means: np.ndarray, covariances: np.ndarray, share: np.ndarray) -> None:
        """Sets the components.

        Args:
            means: (K, n).
            covariances: (K, n, n), positive semidefinite.
            share: (classes or 1, K), joint probabilities of class and component, up to a factor.
        """
        values, vectors = np.linalg.eigh(covariances.astype("float64"))
        values = np.maximum(values, 1e-12 * max(float(values.max(initial=0.0)), 1e-30))
        # The symmetric root exists where the covariance is singular (a dead latent), and a Cholesky factor does not.
        turned = np.swapaxes(vectors, 1, 2)
        self.mean.assign(means)
        self.factor.assign(vectors * np.sqrt(values)[:, None, :] @ turned)
        self.whitening.assign(vectors / np.sqrt(values)[:, None, :] @ turned)
        self.log_det.assign(0.5 * np.log(values).sum(axis=1))
        self.share.assign(share / share.sum())

    def call(self, epsilon: Any, label: Any = None) -> Any:
        epsilon = ops.cast(epsilon, "float32")
        if not self.has_choice:
            return ops.matmul(epsilon, ops.transpose(self.factor[0])) + self.mean[0]
        u = 0.5 * (1.0 + ops.erf(epsilon[:, :1] / np.float32(math.sqrt(2.0))))
        flat = ops.reshape(self.share, (1, -1))  # all pairs of class and component, one after the other
        if self.classes:
            of_class = ops.repeat(ops.arange(self.classes, dtype="int32"), self.components)[None, :]
            asked = ops.expand_dims(label, -1)
            flat = flat * ops.cast(ops.logical_or(asked < 0, ops.equal(asked, of_class)), "float32")
        pairs = max(self.classes, 1) * self.components
        total = ops.matmul(flat, np.triu(np.ones((pairs, pairs), "float32")))  # the cumulative sum, as a product
        # Pairs whose sum ends at or below u come before the one drawn; empty ones share their sum with the one before.
        # A `u` of 1 is rounded: nothing comes before more than all.
        below = total <= ops.minimum(u, np.float32(1.0 - 1e-6)) * total[:, -1:]
        pair = ops.sum(ops.cast(below, "int32"), axis=-1)
        component = ops.mod(pair, self.components)
        factor = ops.take(self.factor, component, axis=0)
        z = ops.sum(factor * ops.expand_dims(epsilon[:, 1:], 1), axis=-1) + ops.take(self.mean, component, axis=0)
        return (z, ops.floor_divide(pair, self.components)) if self.classes else z

    def log_prob(self, z: Any) -> Any:
        """log p(z) of z (batch, n): (batch,), nats."""
        log_share = ops.log(ops.maximum(ops.sum(self.share, axis=0), 1e-30))
        return ops.logsumexp(self._log_components(z) + log_share, axis=-1)

    def class_log_prob(self, z: Any) -> Any:
        """log p(z | y) of z (batch, n) for each class y: (batch, classes), nats."""
        log_share = ops.log(ops.maximum(self.share, 1e-30)) - ops.expand_dims(self.class_log_frequency(), -1)
        return ops.logsumexp(ops.expand_dims(self._log_components(z), 1) + log_share[None], axis=-1)

    def class_log_frequency(self) -> Any:
        """log p(y): (classes,), nats."""
        return ops.log(ops.maximum(ops.sum(self.share, axis=1), 1e-30))

    def _log_components(self, z: Any) -> Any:
        """log N(z; mean_k, covariance_k): (batch, K)."""
        n, k = self.latent_dim, self.components
        z = ops.cast(z, "float32")
        # One product for all components, of z and of their means.
        rows = ops.reshape(ops.transpose(self.whitening, (2, 0, 1)), (n, k * n))
        at_mean = ops.sum(self.whitening * ops.expand_dims(self.mean, 1), axis=-1)
        white = ops.reshape(ops.matmul(z, rows), (-1, k, n)) - at_mean
        return -0.5 * ops.sum(ops.square(white), axis=-1) - self.log_det - n / 2 * math.log(2 * math.pi)

    def compute_output_spec(self, epsilon: Any, label: Any = None) -> Any:
        z = keras.KerasTensor((epsilon.shape[0], self.latent_dim), dtype="float32")
        return (z, keras.KerasTensor((epsilon.shape[0],), dtype="int32")) if self.classes else z

    def get_config(self) -> dict[str, Any]:
        sizes = {"latent_dim": self.latent_dim, "components": self.components, "classes": self.classes}
        return {**super().get_config(), **sizes}


@dataclass(frozen=True)
class FittedPrior:
    """A prior and why it is this one.

    Attributes:
        layer: the prior.
        kind: the candidate that was chosen.
        nats: mean log-likelihood of the held-out latents, by candidate; with labels that of z and y.
        seconds: of fitting.
    """

    layer: MixturePrior
    kind: str
    nats: dict[str, float]
    seconds: float

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        nats = {kind: round(value, 4) for kind, value in self.nats.items()}
        return {"kind": self.kind, "components": self.layer.components, "nats": nats, "seconds": round(self.seconds, 2)}


def fit_prior(
    z: np.ndarray,
    held_out: np.ndarray,
    y: np.ndarray | None = None,
    y_held_out: np.ndarray | None = None,
    classes: int = 0,
    separate: bool = True,
    seed: int = 0,
) -> FittedPrior:
    """Fits the candidates to latents of training rows, and takes the likeliest on held-out ones; of two within a
    standard error of the difference, the simpler.

    Candidates: `standard`, N(0, I); `gaussian`; `mixture_4` and on; where there are classes `gaussian_per_class`,
    `mixture_4_per_class` and on, and no others where the label must tell where z lies.

    Args:
        z: latents (rows, n) of training rows; draws from the posterior where there is one.
        held_out: likewise, of rows that nothing was trained on.
        y: indices of the classes of z, -1 where one is not known.
        y_held_out: of held_out.
        classes: number of classes; 0 for none.
        separate: only candidates that draw p(z | y); False where the decoder is told the label too, so that z may be
            independent of it.
        seed: of the mixtures' starts.

    Raises:
        ValueError: for a class without rows.
    """
    started = time.perf_counter()
    z, held_out = (part.reshape(len(part), -1).astype("float64") for part in (z, held_out))
    frequency = np.ones(1)
    every = [np.arange(len(z))]
    groupings = [every]
    if classes:
        assert y is not None
        frequency = np.bincount(y[y >= 0], minlength=classes).astype("float64")
        if not frequency.all():
            raise ValueError(f"Each class needs a labelled row. Received: none of class {int(np.argmin(frequency))}.")
        frequency /= frequency.sum()
        of_class = [np.flatnonzero(y == i) for i in range(classes)]
        groupings = [of_class] if separate else [every, of_class]
    candidates = {} if classes and separate else {"standard": _standard(z.shape[1], frequency)}
    for groups in groupings:
        for components in _COMPONENTS:
            each = max(1, round(components / len(groups))) if components > 1 else 1
            kind = ("gaussian" if each == 1 else f"mixture_{each}") + ("_per_class" if len(groups) > 1 else "")
            if kind not in candidates and _enough(z, groups, each):
                candidates[kind] = _fitted(z, groups, each, frequency, seed)
    nats = {kind: _log_likelihood(layer, held_out, y_held_out) for kind, layer in candidates.items()}
    chosen = next(iter(candidates))
    for kind in candidates:
        gain = nats[kind] - nats[chosen]
        if gain.mean() > gain.std() / math.sqrt(max(len(gain), 1)):
            chosen = kind
    means = {kind: float(values.mean()) for kind, values in nats.items()}
    return FittedPrior(candidates[chosen], chosen, means, time.perf_counter() - started)


def _standard(n: int, frequency: np.ndarray) -> MixturePrior:
    layer = _new(n, 1, frequency)
    layer.set(np.zeros((1, n)), np.eye(n)[None], frequency[:, None])
    return layer


def _new(n: int, components: int, frequency: np.ndarray) -> MixturePrior:
    layer = MixturePrior(n, components, len(frequency) if len(frequency) > 1 else 0, name="prior")
    layer.build()
    return layer


def _enough(z: np.ndarray, groups: list[np.ndarray], components: int) -> bool:
    """A single Gaussian is always fitted; components need rows for their covariances."""
    return components == 1 or min(map(len, groups)) >= components * _ROWS_A_DIMENSION * z.shape[1]


def _fitted(z: np.ndarray, groups: list[np.ndarray], components: int, frequency: np.ndarray, seed: int) -> MixturePrior:
    means, covariances, weights = [], [], []
    pooled = np.atleast_2d(np.cov(z, rowvar=False))
    floor = _FLOOR * max(float(np.trace(pooled)) / len(pooled), 1e-30)
    rng = np.random.default_rng(seed)
    for rows in groups:
        if len(rows) > _MOST_ROWS:
            rows = rng.choice(rows, _MOST_ROWS, replace=False)
        mean, covariance, weight = _mixture(z[rows], components, floor, pooled, seed)
        means.append(mean)
        covariances.append(covariance)
        weights.append(weight)
    total = components * len(groups)
    layer = _new(z.shape[1], total, frequency)
    if len(groups) > 1:
        share = np.zeros((len(groups), total))
        for i, weight in enumerate(weights):
            share[i, i * components : (i + 1) * components] = frequency[i] * weight
    else:
        share = frequency[:, None] * weights[0]
    layer.set(np.concatenate(means), np.concatenate(covariances), share)
    return layer


def _mixture(
    z: np.ndarray, components: int, floor: float, pooled: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n = z.shape[1]
    if components > 1:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(components, reg_covar=floor, random_state=seed, max_iter=50, tol=1e-2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # held-out rows judge it, not its last step
            mixture.fit(z)
        return mixture.means_, mixture.covariances_, mixture.weights_
    # Few rows lean on the covariance of all, as if that had been seen in n + 1 rows more.
    scatter = np.square(z - z.mean(axis=0)).sum() if n == 1 else (z - z.mean(axis=0)).T @ (z - z.mean(axis=0))
    prior_rows = n + 1 if len(z) < _ROWS_A_DIMENSION * n else 0
    covariance = (np.reshape(scatter, (n, n)) + prior_rows * pooled) / max(len(z) - 1 + prior_rows, 1)
    return z.mean(axis=0)[None], (covariance + floor * np.eye(n))[None], np.ones(1)


def _log_likelihood(layer: MixturePrior, z: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """Nats of each row: of z, and where y is given and known, of z and y."""
    if y is None or not layer.classes or not (y >= 0).any():
        return np.asarray(layer.log_prob(z), "float64")
    known = y >= 0
    joint = np.asarray(layer.class_log_prob(z[known]) + layer.class_log_frequency(), "float64")
    return joint[np.arange(len(joint)), y[known]]
