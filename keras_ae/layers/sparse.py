"""A latent of which only a few are not zero."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_ae")
class TopK(keras.layers.Layer):
    """Keeps the k latents of largest size and sets the others to 0 (Makhzani and Frey 2014, "k-sparse autoencoders",
    algorithm 1). Called on z (batch, n); returns z of that shape. Of equal sizes at the edge all are kept.

    Args:
        k: latents that are kept, at least 1 and at most n.

    Raises:
        ValueError: for another k.
    """

    def __init__(self, k: int, **kwargs: Any) -> None:
        if k < 1:
            raise ValueError(f"`k` must be at least 1. Received: {k}.")
        super().__init__(**kwargs)
        self.k = int(k)

    def build(self, input_shape: Any) -> None:
        if self.k > input_shape[-1]:
            raise ValueError(f"`k` must be at most the number of latents, {input_shape[-1]}. Received: {self.k}.")

    def call(self, z: Any) -> Any:
        return self.nearest_code(z)

    def nearest_code(self, z: Any) -> Any:
        """The nearest z (batch, n) with at most k latents that are not 0."""
        size = ops.abs(z)
        least = ops.top_k(size, self.k)[0][:, -1:]
        return ops.where(size >= least, z, ops.zeros_like(z))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "k": self.k}
