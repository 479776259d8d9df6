"""A normalizing flow over a mixture: a density that bends, whose draws are a function of noise too."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers.float32 import Float32Layer
from keras_ae.layers.perceptron import Perceptron
from keras_ae.priors.mixture import MixturePrior, log_prob_with

FEWEST_ROWS = 200
"""Rows for each dimension below which a flow is not tried: at 90 it fell behind mixtures on all data seen."""
_MOST_ROWS = 20_000
_LEARNING_RATE = 1e-2
_BATCH = 256
_ROUNDS, _STEPS = 24, 25
"""Rounds at most, and steps in each."""
_PATIENCE = 6
"""Rounds without a better one."""
_STOPPING = 0.1
"""Share of the rows that says when to stop."""

Settle = Callable[[np.ndarray, np.ndarray | None], None]


@keras.saving.register_keras_serializable(package="keras_ae")
class FlowPrior(Float32Layer):
    """z = f^-1(u) with u of a mixture and f a chain of affine couplings (Dinh, Sohl-Dickstein and Bengio 2017, "Density
    estimation using Real NVP", equations 4 to 8): each moves and scales half of the numbers by what a perceptron says
    of the others. log p(z) = log p_u(f(z)) + log |det df/dz| is exact.

    The mixture knows the classes, and so does the flow: p(z | y) is that of y's components, bent by the one f of all
    classes (Izmailov et al. 2020, "Semi-supervised learning with normalizing flows", equation 2).

    Called and drawn from as MixturePrior is. f starts as the identity, so that the flow starts as its mixture.

    Args:
        base: the mixture, of at least 2 dimensions.
        couplings: of the chain.
        hidden: width of a coupling's hidden layer.
        seed: of the perceptrons; None takes one from `keras.utils.set_random_seed`.
    """

    def __init__(
        self, base: MixturePrior, couplings: int = 4, hidden: int = 64, seed: int | None = None, **kwargs: Any
    ) -> None:
        if base.latent_dim < 2 or min(couplings, hidden) < 1:
            raise ValueError(
                "A coupling needs 2 dimensions or more, `couplings` and `hidden` must be at least 1. "
                f"Received: {base.latent_dim}, {couplings}, {hidden}."
            )
        super().__init__(**{"trainable": False, **kwargs})  # it is fitted once, not trained with the model
        self.base, self.couplings, self.hidden, self.seed = base, int(couplings), int(hidden), seed
        self.latent_dim, self.classes, self.epsilon_dim = base.latent_dim, base.classes, base.epsilon_dim

    @property
    def numbers(self) -> int:
        """Held for each z by `log_prob`."""
        return max(self.base.numbers, self.hidden)

    def build(self, input_shape: Any = None) -> None:
        n = self.latent_dim
        if not self.base.built:
            self.base.build()
        self.shift = self.add_weight(shape=(n,), initializer="zeros", dtype="float32", trainable=False, name="shift")
        self.scale = self.add_weight(shape=(n,), initializer="ones", dtype="float32", trainable=False, name="scale")
        index = np.arange(n)
        halves = [index % 2 == 0, index % 2 == 1, index < n // 2, index >= n // 2]
        self.given = [halves[i % len(halves)].astype("float32") for i in range(self.couplings)]
        self.perceptrons = [
            Perceptron(
                self, f"coupling_{i}", (n, self.hidden, 2 * n), seed=None if self.seed is None else self.seed + i
            )
            for i in range(self.couplings)
        ]

    def fit(self, z: np.ndarray, y: np.ndarray | None, settle: Settle, seed: int = 0) -> None:
        """Maximizes the likelihood of z (rows, n), and of indices of classes y (rows,) with them: f by Adam, and after
        each round of steps the mixture in closed form. Stops where rows set aside say so, with what was best on them.

        Args:
            z: latents.
            y: of z; None for one mixture for all of them.
            settle: sets the mixture to the likeliest one for u (rows, n), y.
            seed: of the rows' order.
        """
        import tensorflow as tf

        rng = np.random.default_rng(seed)
        order = rng.permutation(len(z))[:_MOST_ROWS]
        z, y = z[order].astype("float32"), None if y is None else y[order].astype("int32")
        aside = max(1, round(_STOPPING * len(z)))
        self.shift.assign(z.mean(axis=0))
        deviation = z.std(axis=0)
        self.scale.assign(np.maximum(deviation, 1e-3 * max(float(deviation.max()), 1e-30)))
        learned = [weight for perceptron in self.perceptrons for pair in perceptron.pairs for weight in pair]
        optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(_LEARNING_RATE, _ROUNDS * _STEPS))
        optimizer.build(learned)
        rows, labels = tf.constant(z), None if y is None else tf.constant(y)

        @tf.function(autograph=False)
        def step(at: Any) -> None:
            with tf.GradientTape() as tape:
                given = None if labels is None else tf.gather(labels, at)
                loss = -tf.reduce_mean(log_prob_with(self, tf.gather(rows, at), given))
            optimizer.apply(tape.gradient(loss, learned), learned)

        best, kept, waited = -np.inf, self.get_weights(), 0
        for i in range(1 + _ROUNDS):
            for _ in range(_STEPS if i else 0):  # at first it is the mixture alone
                step(tf.constant(rng.integers(aside, len(z), size=_BATCH)))
            u, log_det = self.transform(rows)
            settle(np.asarray(u[aside:], "float64"), None if y is None else y[aside:])
            judged = log_prob_with(self.base, u[:aside], None if y is None else y[:aside]) + log_det[:aside]
            found = float(np.mean(judged))
            waited += 1
            if found > best:
                best, kept, waited = found, self.get_weights(), 0
            if waited >= _PATIENCE:
                break
        self.set_weights(kept)

    def call(self, epsilon: Any, label: Any = None) -> Any:
        if not self.classes:
            return self._inverse(self.base(epsilon))
        u, label = self.base(epsilon, label)
        return self._inverse(u), label

    def transform(self, z: Any) -> tuple[Any, Any]:
        """f(z) (batch, n) of z (batch, n), and log |det df/dz| (batch,)."""
        h = (ops.cast(z, "float32") - self.shift) / self.scale
        log_det = ops.zeros_like(h[:, 0])
        for i in range(self.couplings):
            move, log_scale = self._coupling(i, h)
            h = (h - move) * ops.exp(-log_scale)
            log_det -= ops.sum(log_scale, axis=-1)
        return h * self.scale + self.shift, log_det

    def _inverse(self, u: Any) -> Any:
        h = (u - self.shift) / self.scale
        for i in reversed(range(self.couplings)):
            move, log_scale = self._coupling(i, h)
            h = h * ops.exp(log_scale) + move
        return h * self.scale + self.shift

    def _coupling(self, i: int, h: Any) -> tuple[Any, Any]:
        """What the i-th coupling moves and scales by, 0 for the numbers that it leaves."""
        move, log_scale = ops.split(self.perceptrons[i](h * self.given[i]), 2, axis=-1)
        moved = 1.0 - self.given[i]
        return move * moved, 2.0 * ops.tanh(log_scale / 2.0) * moved

    def log_prob(self, z: Any) -> Any:
        """log p(z) of z (batch, n): (batch,), nats."""
        u, log_det = self.transform(z)
        return self.base.log_prob(u) + log_det

    def class_log_prob(self, z: Any) -> Any:
        """log p(z | y) of z (batch, n) for each class y: (batch, classes), nats."""
        u, log_det = self.transform(z)
        return self.base.class_log_prob(u) + ops.expand_dims(log_det, -1)

    def class_log_frequency(self) -> Any:
        """log p(y): (classes,), nats."""
        return self.base.class_log_frequency()

    def compute_output_spec(self, epsilon: Any, label: Any = None) -> Any:
        return self.base.compute_output_spec(epsilon, label)

    def get_config(self) -> dict[str, Any]:
        config = {"couplings": self.couplings, "hidden": self.hidden, "seed": self.seed}
        return {**super().get_config(), "base": keras.saving.serialize_keras_object(self.base), **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FlowPrior":
        return cls(**{**config, "base": keras.saving.deserialize_keras_object(config["base"])})
