"""What the decoder says about x is a distribution: its negative log-likelihood is the reconstruction loss.

`RMSELoss(calibrated=True)` is the Gaussian one.
"""

from typing import Any

import keras
from keras import ops

from keras_ae.layers.losses import LossLayer, check_same_shape


@keras.saving.register_keras_serializable(package="keras_ae")
class BernoulliLoss(LossLayer):
    """-log p(x | z) of independent Bernoulli variables, in nats: summed over features, mean over the batch.

    Called on `(x, logits)`, each of shape (batch, ...); returns the logits. x is 0 or 1: of values between, the term is
    a cross-entropy and no likelihood (Loaiza-Ganem and Cunningham 2019, "The continuous Bernoulli").

    Args:
        weight: factor of the term.

    Raises:
        ValueError: for shapes that differ.
    """

    reads = ("x", "x_hat")

    def __init__(self, weight: float = 1.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(weight, name=name or "nll", **kwargs)

    def mean(self, logits: Any) -> Any:
        """Probability of 1 of each feature."""
        return ops.sigmoid(ops.cast(logits, "float32"))

    def log_prob(self, x: Any, logits: Any) -> Any:
        """log p(x) of each row: (batch,), nats."""
        x, logits = ops.cast(x, "float32"), ops.cast(logits, "float32")
        return ops.sum(x * logits - ops.softplus(logits), axis=tuple(range(1, len(x.shape))))

    def call(self, x: Any, logits: Any) -> Any:
        check_same_shape("BernoulliLoss", ("x", "logits"), x, logits)
        self.add_term(-ops.mean(self.log_prob(x, logits)), x)
        return logits


@keras.saving.register_keras_serializable(package="keras_ae")
class CategoricalLoss(LossLayer):
    """-log p(x | z) of independent categorical variables, in nats: summed over them, mean over the batch.

    Called on `(x, logits)`, each of shape (batch, ..., levels), x in one-hot coding; returns the logits.

    Args:
        weight: factor of the term.

    Raises:
        ValueError: for shapes that differ.
    """

    reads = ("x", "x_hat")

    def __init__(self, weight: float = 1.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(weight, name=name or "nll", **kwargs)

    def mean(self, logits: Any) -> Any:
        """Probability of each level."""
        return ops.softmax(ops.cast(logits, "float32"), axis=-1)

    def log_prob(self, x: Any, logits: Any) -> Any:
        """log p(x) of each row: (batch,), nats."""
        x, log_p = ops.cast(x, "float32"), ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        return ops.sum(x * log_p, axis=tuple(range(1, len(x.shape))))

    def call(self, x: Any, logits: Any) -> Any:
        check_same_shape("CategoricalLoss", ("x", "logits"), x, logits)
        self.add_term(-ops.mean(self.log_prob(x, logits)), x)
        return logits
