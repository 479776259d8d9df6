"""Loss layers on z: sparse codes, and codes whose distribution over the rows is pulled towards N(0, I)."""

import math
from typing import Any

import keras
from keras import ops

from keras_ae.layers.draws import normal
from keras_ae.layers.latents import bound_log_var, flat, log_normal
from keras_ae.layers.losses import LossLayer

_IMQ_SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_NORM_FLOOR = 1e-6


@keras.saving.register_keras_serializable(package="keras_ae")
class ActivityLoss(LossLayer):
    """Size of z: the sum of |z| ("l1") or of z^2 / 2 ("l2") over latents, mean over the batch.

    Called on z (batch, ...); returns z. "l1" makes codes sparse; "l2" is the regularized autoencoder's (Ghosh et al.
    2020, "From variational to deterministic autoencoders", equation 6).

    Args:
        weight: factor of the term.
        norm: "l1" or "l2".

    Raises:
        ValueError: for an unknown norm.
    """

    reads = ("z",)

    def __init__(self, weight: float = 1.0, norm: str = "l2", name: str | None = None, **kwargs: Any) -> None:
        if norm not in ("l1", "l2"):
            raise ValueError(f'`norm` must be "l1" or "l2". Received: {norm!r}.')
        super().__init__(weight, name=name or norm, **kwargs)
        self.norm = norm

    def call(self, z: Any) -> Any:
        rows = flat(z)
        size = ops.abs(rows) if self.norm == "l1" else 0.5 * ops.square(rows)
        self.add_term(ops.mean(ops.sum(size, axis=-1)), z)
        return z

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "norm": self.norm}


@keras.saving.register_keras_serializable(package="keras_ae")
class KLSparsityLoss(LossLayer):
    """KL(Bernoulli(rate) || Bernoulli(r)) in nats, summed over latents; r is the mean of sigmoid(z) over the batch.

    Called on z (batch, ...); returns z (Lee, Ekanadham and Ng 2008, "Sparse deep belief net model for visual area V2";
    Ng 2011, "Sparse autoencoder", section 3).

    Args:
        weight: factor of the term.
        rate: share of the rows for which a latent should be active, in (0, 1).

    Raises:
        ValueError: for a rate outside (0, 1).
    """

    reads = ("z",)
    term = "kl_sparsity"

    def __init__(self, weight: float = 1.0, rate: float = 0.05, **kwargs: Any) -> None:
        if not 0 < rate < 1:
            raise ValueError(f"`rate` must be in (0, 1). Received: {rate}.")
        super().__init__(weight, **kwargs)
        self.rate = float(rate)

    def call(self, z: Any) -> Any:
        active = ops.clip(ops.mean(ops.sigmoid(flat(z)), axis=0), 1e-6, 1 - 1e-6)
        entropy = self.rate * math.log(self.rate) + (1 - self.rate) * math.log(1 - self.rate)
        cross = self.rate * ops.log(active) + (1 - self.rate) * ops.log(1 - active)
        self.add_term(ops.sum(entropy - cross), z)
        return z

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate}


def squared_mmd(a: Any, b: Any) -> Any:
    """Unbiased estimate of the squared maximum mean discrepancy of two samples (n, d), float32.

    The kernel is the sum of inverse multiquadratics C / (C + |a - b|^2) with C = 2 d s for s from 0.1 to 10
    (Tolstikhin et al. 2018, "Wasserstein auto-encoders", section 4; Gretton et al. 2012, equation 3).
    """

    def kernel(u: Any, v: Any) -> Any:
        products = ops.matmul(u, ops.transpose(v))
        squares = ops.sum(ops.square(u), axis=-1)[:, None] + ops.sum(ops.square(v), axis=-1)[None, :]
        distance = ops.maximum(squares - 2.0 * products, 0.0)
        scales = [2.0 * a.shape[-1] * s for s in _IMQ_SCALES]
        return sum(c / (c + distance) for c in scales)

    index = ops.arange(ops.shape(a)[0])
    n = ops.cast(ops.shape(a)[0], "float32")
    others = ops.cast(index[:, None] != index[None, :], "float32")
    within = ops.sum(others * (kernel(a, a) + kernel(b, b))) / (n * ops.maximum(n - 1.0, 1.0))
    return within - 2.0 * ops.mean(kernel(a, b))


@keras.saving.register_keras_serializable(package="keras_ae")
class MMDLoss(LossLayer):
    """Squared maximum mean discrepancy between z and as many draws from N(0, I) (`squared_mmd`).

    Called on z (batch, ...); returns z. The estimate is unbiased, so it may be below 0.

    Args:
        weight: factor of the term.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    reads = ("z",)
    term = "mmd"

    def __init__(self, weight: float = 1.0, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(weight, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, z: Any) -> Any:
        rows = flat(z)
        self.add_term(squared_mmd(rows, normal(ops.shape(rows), self.seed_generator)), z)
        return z

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}


def sliced_wasserstein(a: Any, b: Any, directions: Any) -> Any:
    """Mean over directions (d, k) of the squared 2-Wasserstein distance between projections of samples (n, d)."""
    norm = ops.sqrt(ops.sum(ops.square(directions), axis=0, keepdims=True))
    directions = directions / ops.maximum(norm, _NORM_FLOOR)
    a, b = (ops.sort(ops.matmul(sample, directions), axis=0) for sample in (a, b))
    return ops.mean(ops.square(a - b))


@keras.saving.register_keras_serializable(package="keras_ae")
class SlicedWassersteinLoss(LossLayer):
    """Squared sliced 2-Wasserstein distance between z and as many draws from N(0, I).

    Called on z (batch, ...); returns z (Kolouri et al. 2018, "Sliced-Wasserstein autoencoder", equation 12).

    Args:
        weight: factor of the term.
        projections: random directions, drawn anew for each batch.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.

    Raises:
        ValueError: for fewer than one projection.
    """

    reads = ("z",)
    term = "sliced_wasserstein"

    def __init__(
        self,
        weight: float = 1.0,
        projections: int = 50,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if projections < 1:
            raise ValueError(f"`projections` must be at least 1. Received: {projections}.")
        super().__init__(weight, **kwargs)
        self.projections = int(projections)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, z: Any) -> Any:
        rows = flat(z)
        directions = normal((rows.shape[-1], self.projections), self.seed_generator)
        self.add_term(sliced_wasserstein(rows, normal(ops.shape(rows), self.seed_generator), directions), z)
        return z

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "projections": self.projections, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class TotalCorrelationLoss(LossLayer):
    """Total correlation KL(q(z) || prod_d q(z_d)) in nats, with q(z) the mixture of the batch's own posteriors.

    Called on `((mean, log_var), z)`, each of shape (batch, n); returns z. The minibatch-weighted estimate of Chen et
    al. 2018, "Isolating sources of disentanglement in VAEs", section 4.1, up to its constant (n - 1) log(rows), which
    has no gradient.
    """

    reads = ("posterior", "z")
    term = "total_correlation"

    def call(self, posterior: Any, z: Any) -> Any:
        mean, log_var = flat(posterior[0]), bound_log_var(flat(posterior[1]))
        log_density = log_normal(flat(z)[:, None], mean[None], log_var[None])  # (batch of z, posteriors, latents)
        log_rows = ops.log(ops.cast(ops.shape(mean)[0], "float32"))
        joint = ops.logsumexp(ops.sum(log_density, axis=-1), axis=1) - log_rows
        marginals = ops.sum(ops.logsumexp(log_density, axis=1) - log_rows, axis=-1)
        self.add_term(ops.mean(joint - marginals), z)
        return z


@keras.saving.register_keras_serializable(package="keras_ae")
class DIPLoss(LossLayer):
    """Squared distance of z's covariance over the batch from the identity: `sum_{i != j} c_ij^2 + diagonal *
    sum_i (c_ii - 1)^2`.

    Called on the pair `(mean, log_var)`, each of shape (batch, n); returns it (Kumar et al. 2018, "Variational
    inference of disentangled latent concepts from unlabeled observations", equations 6 and 7).

    Args:
        weight: factor of the term, the paper's lambda_od.
        diagonal: of the variances, as a multiple of `weight`; the paper's lambda_d / lambda_od.
        kind: 1 takes the covariance of the means (DIP-VAE-I), 2 that of z, which adds the mean variances (DIP-VAE-II).

    Raises:
        ValueError: for another kind.
    """

    reads = ("posterior",)
    term = "dip"

    def __init__(self, weight: float = 1.0, diagonal: float = 10.0, kind: int = 1, **kwargs: Any) -> None:
        if kind not in (1, 2):
            raise ValueError(f"`kind` must be 1 or 2. Received: {kind}.")
        super().__init__(weight, **kwargs)
        self.diagonal, self.kind = float(diagonal), int(kind)

    def call(self, posterior: Any) -> Any:
        mean, log_var = posterior
        m = flat(mean)
        centred = m - ops.mean(m, axis=0, keepdims=True)
        covariance = ops.matmul(ops.transpose(centred), centred) / ops.cast(ops.shape(m)[0], "float32")
        eye = ops.eye(m.shape[-1])
        if self.kind == 2:
            covariance += eye * ops.mean(ops.exp(bound_log_var(flat(log_var))), axis=0)
        off = ops.sum(ops.square(covariance * (1.0 - eye)))
        self.add_term(off + self.diagonal * ops.sum(ops.square((covariance - 1.0) * eye)), mean)
        return mean, log_var

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "diagonal": self.diagonal, "kind": self.kind}
