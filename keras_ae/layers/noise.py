"""Corruption of the input in training, for denoising autoencoders (Vincent et al. 2010, section 3.3)."""

from abc import ABC, abstractmethod
from typing import Any

import keras
from keras import ops

from keras_ae.layers.draws import uniform


class _Corruption(keras.layers.Layer, ABC):
    """Corrupts each feature with probability `rate` in training; the identity at inference.

    Args:
        rate: probability in [0, 1) that a feature is corrupted.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any) -> None:
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1). Received: {rate}.")
        super().__init__(**kwargs)
        self.rate = float(rate)
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x: Any, training: bool = False) -> Any:
        if not training:
            return x
        drawn = uniform(ops.shape(x), self.seed_generator)
        return ops.where(drawn < self.rate, self.corrupted(x, drawn), x)

    @abstractmethod
    def corrupted(self, x: Any, drawn: Any) -> Any:
        """What stands in the place of x where `drawn`, uniform and of the shape of x, is below the rate."""

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class MaskingNoise(_Corruption):
    """Sets each feature to 0 with probability `rate` in training; the identity at inference.

    Unlike dropout it does not scale what remains up: the input is corrupted, not regularized.

    Args:
        rate: probability in [0, 1) that a feature is masked.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    def corrupted(self, x: Any, drawn: Any) -> Any:
        return ops.zeros_like(x)


@keras.saving.register_keras_serializable(package="keras_ae")
class SaltAndPepperNoise(_Corruption):
    """Sets each feature to the batch's lowest or highest value, with probability `rate` in training (Vincent et al.
    2010, section 3.3); the identity at inference.

    Args:
        rate: probability in [0, 1) that a feature is corrupted; low and high are equally probable.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.
    """

    def corrupted(self, x: Any, drawn: Any) -> Any:
        return ops.where(drawn < self.rate / 2, ops.min(x), ops.max(x))
