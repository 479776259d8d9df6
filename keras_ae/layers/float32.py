"""What is fitted to a trained model, or computed of it, in float32 whatever the policy."""

from typing import Any

import keras


class Float32Layer(keras.layers.Layer):
    """A layer that computes in float32 under any global policy, as exports do, and takes tensors as they come."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"dtype": "float32", "autocast": False, **kwargs})
