"""Tighter bounds on log p(x): importance weights, and priors p(z) that are learned with the rest.

GaussianKLLoss has N(0, I) for a prior, in closed form. Each layer here draws z instead.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_ae.layers.draws import normal
from keras_ae.layers.flows import HIDDEN, AutoregressiveFlow
from keras_ae.layers.latents import bounded, gaussian_kl, halves, log_normal, log_normal_of_rows
from keras_ae.layers.likelihoods import Likelihood
from keras_ae.layers.losses import LossLayer
from keras_ae.layers.perceptron import Perceptron
from keras_ae.layers.ramp import Ramp


@keras.saving.register_keras_serializable(package="keras_ae")
class ImportanceWeightedLoss(LossLayer):
    """-L_k in nats, mean over the batch: L_k = log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x), p(z) = N(0, I)
    (Burda et al. 2016, "Importance weighted autoencoders", equation 8). At evaluation, where z is the mean, it is
    -log p(x | z).

    Reports -log p(x | z), the mean over draws, under the name of the likelihood besides. Called on
    `(x, (mean, log_var), z, params)`: of a Sampling with k samples, so that z and params have k rows for each
    row of x, one after the other; returns params. What is known of a row of x with NaN counts (MIWAE).

    Args:
        weight: factor of the term.
        likelihood: p(x | z).

    Raises:
        ValueError: where `likelihood` is no Likelihood.
    """

    reads = ("x", "posterior", "z", "x_hat")
    term = "bound"

    def __init__(self, likelihood: Any, weight: float = 1.0, **kwargs: Any) -> None:
        if not isinstance(likelihood, Likelihood):
            raise ValueError(f"`likelihood` must be a Likelihood. Received: {type(likelihood).__name__}.")
        super().__init__(weight, **kwargs)
        self.likelihood = likelihood
        self.parameters = likelihood.parameters

    def build(self, x_shape: Any, posterior_shape: Any, z_shape: Any, params_shape: Any) -> None:
        if not self.likelihood.built:
            self.likelihood.build(x_shape, params_shape)
            self.likelihood.built = True

    def mean(self, params: Any) -> Any:
        """The expected x."""
        return self.likelihood.mean(params)

    def log_prob(self, x: Any, params: Any) -> Any:
        """log p(x | z) of each row: (batch,), nats."""
        return self.likelihood.log_prob(x, params)

    def call(self, x: Any, posterior: Any, z: Any, params: Any, training: bool = False) -> Any:
        rows = ops.shape(x)[0]
        if not training:
            nll = -ops.mean(self.likelihood.log_prob_at_mean(x, params))
            self.likelihood.tracker.update_state(nll, sample_weight=ops.cast(rows, "float32"))
            self.add_term(nll, x)
            return params
        mean, log_var = bounded(*posterior)
        k = ops.shape(z)[0] // rows
        z = ops.cast(z, "float32")
        mean, log_var, x_all = (ops.repeat(part, k, axis=0) for part in (mean, log_var, x))
        log_p = self.log_prob(x_all, params)
        self.likelihood.tracker.update_state(-ops.mean(log_p), sample_weight=ops.cast(rows, "float32"))
        log_w = log_p + log_normal_of_rows(z) - log_normal_of_rows(z, mean, log_var)
        bound = ops.logsumexp(ops.reshape(log_w, (rows, k)), axis=1) - ops.log(ops.cast(k, "float32"))
        self.add_term(-ops.mean(bound), x)
        return params

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "likelihood": keras.saving.serialize_keras_object(self.likelihood)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "ImportanceWeightedLoss":
        return cls(**{**config, "likelihood": keras.saving.deserialize_keras_object(config["likelihood"])})


WARM_UP = 2_000
"""Steps over which the KL from a learned prior comes in."""


class WarmedUpLoss(LossLayer):
    """A KL that comes in over the first steps of training (Sonderby et al. 2016, "Ladder variational autoencoders",
    section 2.4): a prior that moves at once meets posteriors that say nothing yet, all are one, and x is never heard of
    again.

    Args:
        weight: factor of the term.
        warm_up: steps over which it comes in.
    """

    term = "kl"

    def __init__(self, weight: float = 1.0, warm_up: int = WARM_UP, **kwargs: Any) -> None:
        if warm_up < 0:
            raise ValueError(f"`warm_up` must be at least 0. Received: {warm_up}.")
        super().__init__(weight, **kwargs)
        self.warm_up = int(warm_up)
        self.ramp = Ramp(self, self.warm_up, evaluated=True)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "warm_up": self.warm_up}


class _LearnedPrior(WarmedUpLoss, ABC):
    """log q(z | x) - log p(z) at a draw z, in nats, mean over the batch: in expectation the KL from a learned p(z)."""

    reads = ("posterior", "z")

    @abstractmethod
    def log_prob(self, z: Any) -> Any:
        """log p(z) of float32 z (batch, n): (batch,), nats; or a bound on it."""

    def log_estimate(self, z: Any) -> Any:
        """The logarithm of p(z), or of a draw whose mean is p(z): what an importance weight takes."""
        return self.log_prob(z)

    def call(self, posterior: Any, z: Any, training: bool = False) -> Any:
        mean, log_var = bounded(*posterior)
        z32 = ops.cast(z, "float32")
        kl = ops.mean(log_normal_of_rows(z32, mean, log_var) - self.log_prob(z32))
        self.add_term(kl, z, self.ramp(training))
        return z


@keras.saving.register_keras_serializable(package="keras_ae")
class VampPriorLoss(_LearnedPrior):
    """KL from a mixture of the posteriors of learned pseudo-inputs (Tomczak and Welling 2018, "VAE with a VampPrior",
    equation 9).

    Called on `((mean, log_var), z)`, each (batch, n); returns z.

    Args:
        input_shape: of one observation, as the encoder takes it.
        weight: factor of the term.
        components: pseudo-inputs, at least 1.
        seed: of where they start, N(0, 1); None takes one from `keras.utils.set_random_seed`.
        warm_up: steps over which the term comes in.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        weight: float = 1.0,
        components: int = 64,
        seed: int | None = None,
        warm_up: int = WARM_UP,
        **kwargs: Any,
    ) -> None:
        if components < 1:
            raise ValueError(f"`components` must be at least 1. Received: {components}.")
        super().__init__(weight, warm_up, **kwargs)
        self.observation, self.components, self.seed = tuple(input_shape), int(components), seed
        self.inputs = self.add_weight(
            shape=(self.components, *self.observation),
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=self.seed),
            dtype="float32",
            name="inputs",
        )

    def bind(self, encoder: Any, decoder: Any, latent: Any) -> None:
        """Takes the encoder, which the model keeps."""
        self.borrow("_encoder", encoder)

    def log_prob(self, z: Any) -> Any:
        mean, log_var = bounded(*self._encoder(ops.convert_to_tensor(self.inputs), training=False))
        each = ops.sum(log_normal(ops.expand_dims(z, 1), mean[None], log_var[None]), axis=-1)
        return ops.logsumexp(each, axis=1) - math.log(self.components)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_shape": self.observation,
            "components": self.components,
            "seed": self.seed,
        }


@keras.saving.register_keras_serializable(package="keras_ae")
class HierarchicalPriorLoss(_LearnedPrior):
    """KL from a prior with a second stochastic layer above z: p(z) = integral p(z | u) N(u; 0, I) du, bounded by a
    draw of u from q(u | z) (Burda et al. 2016, section 4.2, the two-layer model; Sonderby et al. 2016).

    Called on `((mean, log_var), z)`, each (batch, n); returns z.

    Args:
        weight: factor of the term.
        top_dim: numbers in u; by default half of n.
        hidden: width of the hidden layer of p(z | u) and of q(u | z).
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
        warm_up: steps over which the term comes in.
    """

    def __init__(
        self,
        weight: float = 1.0,
        top_dim: int | None = None,
        hidden: int = 64,
        seed: int | None = None,
        warm_up: int = WARM_UP,
        **kwargs: Any,
    ) -> None:
        if hidden < 1 or (top_dim is not None and top_dim < 1):
            raise ValueError(f"`top_dim` and `hidden` must be at least 1. Received: {top_dim} and {hidden}.")
        super().__init__(weight, warm_up, **kwargs)
        self.top_dim, self.hidden, self.seed = top_dim, int(hidden), seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, posterior_shape: Any, z_shape: Any) -> None:
        n = int(z_shape[-1])
        top = self.top_dim if self.top_dim is not None else max(1, n // 2)
        self.up = Perceptron(self, "up", (n, self.hidden, 2 * top))
        self.down = Perceptron(self, "down", (top, self.hidden, 2 * n))

    def _draw(self, z: Any) -> tuple[Any, Any, Any]:
        """u of q(u | z), and the mean and log variance of that."""
        mean, log_var = halves(self.up(z))
        return mean + ops.exp(0.5 * log_var) * normal(ops.shape(mean), self.seed_generator), mean, log_var

    def log_prob(self, z: Any) -> Any:
        u, mean, log_var = self._draw(z)
        kl = ops.sum(gaussian_kl(mean, log_var), axis=-1)
        return log_normal_of_rows(z, *halves(self.down(u))) - kl

    def log_estimate(self, z: Any) -> Any:
        """log p(z | u) p(u) / q(u | z) at a draw u."""
        u, mean, log_var = self._draw(z)
        log_ratio = log_normal_of_rows(u) - log_normal_of_rows(u, mean, log_var)
        return log_normal_of_rows(z, *halves(self.down(u))) + log_ratio

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "top_dim": self.top_dim, "hidden": self.hidden, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class FlowPriorLoss(_LearnedPrior):
    """KL from a prior that an autoregressive flow f maps to N(0, I): log p(z) = log N(f(z); 0, I) + log |df/dz|.

    Where the decoder starts with the flow, and so reads u = f(z), the same term is the KL of an inverse autoregressive
    posterior of u, f(mean + deviation * epsilon), from N(0, I) (Kingma et al. 2016, "Improved variational inference
    with inverse autoregressive flow"; Chen et al. 2017, "Variational lossy autoencoder", section 3.2).

    Called on `((mean, log_var), z)`, each (batch, n); returns z.

    Args:
        weight: factor of the term.
        steps: of the flow.
        hidden: width of its hidden layers.
        warm_up: steps of training over which the term comes in.
        of_decoder: the flow is the decoder's layer of that class.

    Raises:
        ValueError: where the decoder is to have the flow and has none.
    """

    def __init__(
        self,
        weight: float = 1.0,
        steps: int = 4,
        hidden: int = HIDDEN,
        warm_up: int = WARM_UP,
        of_decoder: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, warm_up, **kwargs)
        self.steps, self.hidden, self.of_decoder = int(steps), int(hidden), of_decoder
        if not of_decoder:
            self.flow = AutoregressiveFlow(steps, hidden, name="flow")

    def bind(self, encoder: Any, decoder: Any, latent: Any) -> None:
        """Takes the decoder's flow, which the model keeps."""
        if not self.of_decoder:
            return
        found = [layer for layer in decoder.layers if isinstance(layer, AutoregressiveFlow)]
        if not found:
            raise ValueError(
                "A flow `of_decoder` must be a layer of the decoder, an AutoregressiveFlow. "
                f"Received: a decoder of {', '.join(type(layer).__name__ for layer in decoder.layers)}."
            )
        self.borrow("flow", found[0])

    def build(self, posterior_shape: Any, z_shape: Any) -> None:
        if not self.of_decoder:
            self.flow.build(z_shape)

    def log_prob(self, z: Any) -> Any:
        u, log_det = self.flow.transform(z)
        return log_normal_of_rows(u) + log_det

    def get_config(self) -> dict[str, Any]:
        config = {"steps": self.steps, "hidden": self.hidden, "of_decoder": self.of_decoder}
        return {**super().get_config(), **config}
