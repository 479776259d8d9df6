"""What rises over the first steps of training."""

from typing import Any

import keras
from keras import ops


class Ramp:
    """A share that rises from 0 to 1 over the first steps in which a layer is trained, and is 1 at evaluation where
    `evaluated` says so. The count is a weight of the layer, so that a run that is resumed goes on with it.

    Args:
        layer: that holds the count.
        steps: until 1; 0 for 1 from the start.
        evaluated: at evaluation the share is 1; otherwise what training has come to.
    """

    def __init__(self, layer: keras.layers.Layer, steps: int, evaluated: bool = False) -> None:
        self.steps, self.evaluated = int(steps), evaluated
        self.step = layer.add_weight(shape=(), initializer="zeros", dtype="float32", trainable=False, name="step")

    def __call__(self, training: bool) -> Any:
        if not self.steps or (self.evaluated and not training):
            return 1.0
        share = ops.minimum(self.step / self.steps, 1.0)
        if training:
            self.step.assign(self.step + 1.0)
        return share
