"""Adversaries in one optimizer step.

The objective is the critic's loss on tensors without gradient, plus the network's loss on the critic with its weights
held: each term moves its own weights alone, as alternating optimizers would (a gradient reversal layer, Ganin and
Lempitsky 2015, is the special case where the second is the first with its sign turned).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
from keras import ops

from keras_ae.layers.draws import normal, uniform
from keras_ae.layers.latents import flat
from keras_ae.layers.losses import LossLayer

HIDDEN = (128, 128)


class Critic(keras.layers.Layer):
    """Perceptron from rows (batch, n) to a logit (batch,), and its last hidden layer; float32.

    Args:
        hidden: widths of the hidden layers.
    """

    def __init__(self, hidden: Sequence[int] = HIDDEN, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.hidden = tuple(int(width) for width in hidden)

    def build(self, input_shape: Any) -> None:
        def add(shape: tuple[int, ...], initializer: str, name: str) -> Any:
            return self.add_weight(shape=shape, initializer=initializer, dtype="float32", name=name)

        self.layers_ = [
            (add((m, n), "glorot_uniform", f"kernel_{i}"), add((n,), "zeros", f"bias_{i}"))
            for i, (m, n) in enumerate(pairwise((int(input_shape[-1]), *self.hidden, 1)))
        ]

    def call(self, rows: Any, held: bool = False) -> Any:
        """The logits and the last hidden layer; with `held` no gradient reaches the weights."""
        h = features = ops.cast(rows, "float32")
        for i, pair in enumerate(self.layers_):
            kernel, bias = (ops.stop_gradient(ops.convert_to_tensor(w)) if held else w for w in pair)
            features, h = h, ops.matmul(h, kernel) + bias
            if i + 1 < len(self.layers_):
                h = ops.leaky_relu(h, 0.2)
        return h[:, 0], features


class _Adversary(LossLayer):
    """A critic that tells rows of one kind from another, and a term that it gives the network."""

    term = "adversarial"

    def __init__(
        self,
        weight: float = 1.0,
        hidden: Sequence[int] = HIDDEN,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, **kwargs)
        self.hidden, self.seed = tuple(hidden), seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.critic = Critic(self.hidden, name="critic")
        self.critic_tracker = keras.metrics.Mean(name=f"{self.name}_critic")

    def build(self, rows_shape: Any) -> None:
        self.critic.build((None, math.prod(rows_shape[1:])))

    def train_critic(self, real: Any, fake: Any) -> None:
        """Adds the critic's cross-entropy, nats, on rows that keep their gradient."""
        real, fake = self.critic(ops.stop_gradient(real))[0], self.critic(ops.stop_gradient(fake))[0]
        loss = 0.5 * (ops.mean(ops.softplus(-real)) + ops.mean(ops.softplus(fake)))
        self.add_loss(loss)
        self.critic_tracker.update_state(loss, sample_weight=ops.cast(ops.shape(real)[0], "float32"))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "hidden": self.hidden, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class AdversarialPriorLoss(_Adversary):
    """A critic tells z from draws of N(0, I), and the encoder learns that it can't: -log D(z), nats, mean over the
    batch (Makhzani et al. 2016, "Adversarial autoencoders", section 2).

    Called on z (batch, ...); returns z. The critic's own loss is reported as `adversarial_critic`: log 2 where it
    can't tell.

    Args:
        weight: of the encoder's term; the critic's has weight 1.
        hidden: widths of the critic's hidden layers.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    reads = ("z",)

    def call(self, z: Any) -> Any:
        rows = flat(z)
        self.train_critic(normal(ops.shape(rows), self.seed_generator), rows)
        self.add_term(ops.mean(ops.softplus(-self.critic(rows, held=True)[0])), z)
        return z


@keras.saving.register_keras_serializable(package="keras_ae")
class DensityRatioTCLoss(_Adversary):
    """Total correlation of z in nats, by a critic that tells z from z whose latents are shuffled over the batch, each
    by itself: the mean of its logit (Kim and Mnih 2018, "Disentangling by factorising", equation 3).

    Called on z (batch, ...); returns z.

    Args:
        weight: of the term, the paper's gamma; the critic's own has weight 1.
        hidden: widths of the critic's hidden layers.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    reads = ("z",)
    term = "total_correlation"

    def call(self, z: Any) -> Any:
        rows = flat(z)
        order = ops.argsort(uniform(ops.shape(rows), self.seed_generator), axis=0)
        self.train_critic(rows, ops.take_along_axis(rows, order, axis=0))
        self.add_term(ops.mean(self.critic(rows, held=True)[0]), z)
        return z


@keras.saving.register_keras_serializable(package="keras_ae")
class AdversarialReconstructionLoss(_Adversary):
    """A critic tells x from x_hat, and the decoder learns that it can't: -log D(x_hat), nats, plus the mean squared
    difference of the critic's features of both (Larsen et al. 2016, "Autoencoding beyond pixels using a learned
    similarity metric", equations 6 to 8).

    Called on `(x, x_hat)`, each of shape (batch, ...); returns x_hat.

    Args:
        weight: of the decoder's term; the critic's has weight 1.
        hidden: widths of the critic's hidden layers.
        seed: not needed, as nothing is drawn.
    """

    reads = ("x", "x_hat")

    def call(self, x: Any, x_hat: Any) -> Any:
        real, fake = flat(x), flat(x_hat)
        self.train_critic(real, fake)
        logit, features = self.critic(fake, held=True)
        wanted = ops.stop_gradient(self.critic(real, held=True)[1])
        self.add_term(ops.mean(ops.softplus(-logit)) + ops.mean(ops.square(features - wanted)), x)
        return x_hat
