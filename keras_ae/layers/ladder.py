"""A ladder of Gaussian layers: what the encoder says of each meets what the layer above expects of it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_ae.layers.bounds import WARM_UP, WarmedUpLoss
from keras_ae.layers.draws import normal
from keras_ae.layers.latents import Sampling, bounded, gaussian_kl, halves, log_normal_of_rows
from keras_ae.layers.perceptron import Perceptron


def merged(mean: Any, log_var: Any, prior_mean: Any, prior_log_var: Any) -> tuple[Any, Any]:
    """Mean and log variance of the posterior under N(prior_mean, exp(prior_log_var)), where under N(0, I) it is N(mean,
    exp(log_var)): both are a prior times what x says, so that natural parameters add and those of N(0, I) come off.

    A posterior wider than N(0, I) is no such product. There the log precision goes on falling at the rate that it has
    where they are as wide: with N(0, I) itself as the prior it is -log_var throughout.
    """
    prior_precision, within = ops.exp(-prior_log_var), ops.minimum(log_var, 0.0)
    variance = ops.exp(within)
    spread = within - ops.log(1.0 - variance + variance * prior_precision)  # 1 / (1 / variance + prior_precision - 1)
    spread += ops.minimum(ops.exp(prior_log_var), 1.0) * ops.relu(log_var)
    return ops.exp(spread) * (mean * ops.exp(-log_var) + prior_mean * prior_precision), spread


class Rung(NamedTuple):
    """A layer of the ladder: mean and log variance of its posterior and of its prior, given what is above, and a value.
    Each (batch, size), float32.
    """

    mean: Any
    log_var: Any
    prior_mean: Any
    prior_log_var: Any
    value: Any

    def kl(self) -> Any:
        """KL(posterior || prior), (batch,), nats."""
        shift = (self.mean - self.prior_mean) * ops.exp(-0.5 * self.prior_log_var)
        return ops.sum(gaussian_kl(shift, self.log_var - self.prior_log_var), axis=-1)


@keras.saving.register_keras_serializable(package="keras_ae")
class LadderSampling(Sampling):
    """Draws z below other stochastic layers u_1, ..., u_L (Sonderby et al. 2016, "Ladder variational autoencoders").

    Upwards nothing is drawn: perceptrons make of the encoder's N(m, v) of z one of u_1, of that one of u_2 and on.
    Downwards, by perceptrons too, come p(u_L) = N(0, I), p(u_i | u_(i+1)) and p(z | u_1), and each meets what was said
    upwards: precisions add. Here that is a posterior under N(0, I), so that a ladder which expects nothing draws z as
    Sampling does; the original takes it for a density by itself, which shrinks z towards a p(z | u) that says nothing.
    At inference each layer is at its mean.

    Called on `(mean, log_var)`, each (batch, n); returns z (batch, n). LadderKLLoss is its KL.

    Args:
        top_dims: numbers in u_1, u_2 and on; one number for a single layer; by default that, half as wide as z.
        hidden: width of the hidden layer of each perceptron.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.

    Raises:
        ValueError: for sizes below 1, and where it is not called on a pair of vectors.
    """

    def __init__(
        self, top_dims: Sequence[int] | int | None = None, hidden: int = 64, seed: int | None = None, **kwargs: Any
    ) -> None:
        tops = tuple(top_dims) if isinstance(top_dims, Sequence) else None if top_dims is None else (top_dims,)
        if hidden < 1 or (tops is not None and (not tops or min(tops) < 1)):
            raise ValueError(f"`top_dims` and `hidden` must be at least 1. Received: {top_dims} and {hidden}.")
        super().__init__(seed=seed, autocast=False, **kwargs)
        self.top_dims, self.hidden = tops, int(hidden)

    def build(self, posterior_shape: Any) -> None:
        if len(posterior_shape) != 2 or any(not isinstance(s, list | tuple) or len(s) != 2 for s in posterior_shape):
            raise ValueError(f"LadderSampling must be called on two tensors (batch, n). Received: {posterior_shape}.")
        n = int(posterior_shape[0][-1])
        self.sizes = (n, *(self.top_dims or (max(1, n // 2),)))
        pairs = list(enumerate(pairwise(self.sizes)))
        self.up = [Perceptron(self, f"up_{i}", (2 * low, self.hidden, 2 * high)) for i, (low, high) in pairs]
        self.down = [Perceptron(self, f"down_{i}", (high, self.hidden, 2 * low)) for i, (low, high) in pairs]

    def noise_dim(self, latent_dim: int) -> int:
        return sum(self.sizes)

    def rungs(self, mean: Any, log_var: Any, noise: Any = None) -> list[Rung]:
        """The layers from u_L down to z; the value of each is drawn with noise (batch, `noise_dim`), or the mean of its
        posterior.
        """
        said = [bounded(mean, log_var)]
        for up in self.up:
            said.append(halves(up(ops.concatenate(said[-1], axis=-1))))
        zeros = ops.zeros_like(said[-1][0])
        found: list[Rung] = []
        for i in reversed(range(len(said))):
            prior = halves(self.down[i](found[-1].value)) if found else (zeros, zeros)
            value, spread = merged(*said[i], *prior)
            drawn = value
            if noise is not None:
                first = sum(self.sizes[:i])
                drawn = value + ops.exp(0.5 * spread) * noise[:, first : first + self.sizes[i]]
            found.append(Rung(value, spread, *prior, drawn))
        return found

    def moments(self, mean: Any, log_var: Any) -> tuple[Any, Any]:
        z = self.rungs(mean, log_var)[-1]
        return z.mean, z.log_var

    def draw(self, mean: Any, log_var: Any, noise: Any) -> tuple[Any, Any, Any]:
        """As of Sampling: log q(z | x, u) of the u behind z, and log p(z | u) p(u) / q(u | x)."""
        *above, z = self.rungs(mean, log_var, noise)
        log_p = log_normal_of_rows(z.value, z.prior_mean, z.prior_log_var)
        for u in above:
            log_p += log_normal_of_rows(u.value, u.prior_mean, u.prior_log_var)
            log_p -= log_normal_of_rows(u.value, u.mean, u.log_var)
        return z.value, log_normal_of_rows(z.value, z.mean, z.log_var), log_p

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("samples")
        return {**config, "top_dims": self.top_dims, "hidden": self.hidden}


@keras.saving.register_keras_serializable(package="keras_ae")
class LadderKLLoss(WarmedUpLoss):
    """KL of a LadderSampling's posteriors from its priors, in nats, summed over layers and their numbers, mean over the
    batch: KL(q(u | x) || p(u)) + KL(q(z | x, u) || p(z | u)), each in closed form given a draw of what is above, at
    evaluation its mean (Sonderby et al. 2016, "Ladder variational autoencoders").

    The draws are its own: both terms of a bound are means over draws, and need not share them. Called on
    `((mean, log_var), z)`, each (batch, n), as the encoder and the ladder give them; returns z.

    Args:
        weight: factor of the term.
        warm_up: steps over which the term comes in.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    reads = ("posterior", "z")

    def __init__(
        self,
        weight: float = 1.0,
        warm_up: int = WARM_UP,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, warm_up, **kwargs)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def bind(self, encoder: Any, decoder: Any, latent: Any) -> None:
        """Takes the latent layer, which the model keeps."""
        if not isinstance(latent, LadderSampling):
            raise ValueError(
                f"LadderKLLoss needs a `latent` that is LadderSampling. Received: {type(latent).__name__}."
            )
        self.borrow("_ladder", latent)

    def call(self, posterior: Any, z: Any, training: bool = False) -> Any:
        mean, log_var = posterior
        noise = None
        if training:
            noise = normal((ops.shape(mean)[0], self._ladder.noise_dim(mean.shape[-1])), self.seed_generator)
        kl = sum(rung.kl() for rung in self._ladder.rungs(mean, log_var, noise))
        self.add_term(ops.mean(kl), z, self.ramp(training))
        return z

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "seed": self.seed}
