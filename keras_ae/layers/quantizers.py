"""Latent layers whose z is one of finitely many codes."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ae")
class FiniteScalarQuantizer(keras.layers.Layer):
    """Rounds each latent to one of `levels` values in [-1, 1]; the gradient passes through the rounding.

    Called on what the encoder gives, (batch, ...); returns z of that shape, in steps of 1 / (levels // 2). There is no
    codebook to learn or to collapse (Mentzer et al. 2024, "Finite scalar quantization: VQ-VAE made simple",
    section 3.1).

    Args:
        levels: values that a latent may take, at least 2.

    Raises:
        ValueError: for fewer levels.
    """

    def __init__(self, levels: int = 8, **kwargs: Any) -> None:
        if levels < 2:
            raise ValueError(f"`levels` must be at least 2. Received: {levels}.")
        super().__init__(autocast=False, **kwargs)
        self.levels = int(levels)
        self.steps = self.levels // 2

    def call(self, x: Any) -> Any:
        # An even number of levels lies around -1/2. The paper shifts x too, so that x = 0 falls on a level; for two
        # levels that would put it where tanh is flat.
        offset = 0.0 if self.levels % 2 else 0.5
        bounded = ops.tanh(ops.cast(x, "float32")) * (self.levels - 1) / 2 - offset
        rounded = bounded + ops.stop_gradient(ops.round(bounded) - bounded)
        return ops.cast(rounded / self.steps, self.compute_dtype)

    def nearest_code(self, z: Any) -> Any:
        """The code nearest to any z (batch, ...)."""
        highest = self.levels - 1 - self.steps
        return ops.clip(ops.round(ops.cast(z, "float32") * self.steps), -self.steps, highest) / self.steps

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "levels": self.levels}
