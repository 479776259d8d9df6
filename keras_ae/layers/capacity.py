"""A KL that is held at a capacity, which rises while a model trains."""

from typing import Any

import keras
from keras import ops

from keras_ae.layers.losses import GaussianKLLoss
from keras_ae.layers.ramp import Ramp


@keras.saving.register_keras_serializable(package="keras_ae")
class CapacityKLLoss(GaussianKLLoss):
    """|KL - C| in nats, for a C that rises from 0 to `capacity` over the first steps of training and stays there
    (Burgess et al. 2018, "Understanding disentangling in beta-VAE", equation 8). Reported as `kl_gap`.

    Called on the pair `(mean, log_var)`, each of shape (batch, ...); returns it as it came.

    Args:
        weight: of the distance, the paper's gamma.
        capacity: nats at the end, more than 0.
        steps: of the optimizer until then, at least 1.

    Raises:
        ValueError: for options that make no sense.
    """

    term = "kl_gap"

    def __init__(self, weight: float = 10.0, capacity: float = 25.0, steps: int = 2000, **kwargs: Any) -> None:
        if not capacity > 0 or steps < 1:
            raise ValueError(f"`capacity` must be positive and `steps` at least 1. Received: {capacity} and {steps}.")
        super().__init__(weight, 0.0, **kwargs)
        self.capacity, self.steps = float(capacity), int(steps)
        self.ramp = Ramp(self, self.steps)

    def call(self, posterior: Any, training: bool = False) -> Any:
        mean, log_var = posterior
        allowed = self.capacity * self.ramp(training)
        self.add_term(ops.abs(ops.sum(self.per_latent(mean, log_var)) - allowed), mean)
        return mean, log_var

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("free_bits")
        return {**config, "capacity": self.capacity, "steps": self.steps}
