"""A perceptron inside a layer: what says the shifts and scales of flows, and the moments of priors."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
from keras import ops


class Perceptron:
    """Weights of a layer that are a perceptron with tanh, whose last map starts at zero; masks cut connections.

    Args:
        layer: that holds the weights.
        name: of the weights, before what they are.
        widths: of the input, the hidden layers and the output.
        masks: for each map, of its kernel's shape.
        seed: of the kernels; None takes one from `keras.utils.set_random_seed`.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        name: str,
        widths: Sequence[int],
        masks: Sequence[Any] = (),
        seed: int | None = None,
    ) -> None:
        self.pairs = []
        for i, (m, n) in enumerate(pairwise(widths)):
            start = "zeros" if i + 2 == len(widths) else keras.initializers.GlorotUniform(seed)
            kernel = layer.add_weight(shape=(m, n), initializer=start, dtype="float32", name=f"{name}_kernel_{i}")
            bias = layer.add_weight(shape=(n,), initializer="zeros", dtype="float32", name=f"{name}_bias_{i}")
            self.pairs.append((kernel, bias))
        self.masks = masks

    def __call__(self, h: Any) -> Any:
        for i, (kernel, bias) in enumerate(self.pairs):
            kernel = kernel * self.masks[i] if len(self.masks) else kernel
            h = ops.matmul(h, kernel) + bias
            h = ops.tanh(h) if i + 1 < len(self.pairs) else h
        return h
