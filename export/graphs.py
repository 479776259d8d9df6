"""Which functions leave, as TensorFlow functions of one named input with a dynamic batch and named outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from keras_ae.errors import ExportError
from keras_ae.models import Autoencoder

_CODE = (keras.layers.Lambda,)


@dataclass(frozen=True)
class Graph:
    """One function that leaves.

    Attributes:
        name: `encode`, `decode`, ...
        call: TensorFlow function from the input to a dict of outputs.
        spec: of the input, (None, ...), named.
        variables: that it reads.
    """

    name: str
    call: Callable[..., dict[str, Any]]
    spec: tf.TensorSpec
    variables: tuple[tf.Variable, ...]


def graphs_of(model: Autoencoder) -> dict[str, Graph]:
    """The deployable functions of a model.

    Raises:
        ExportError: for layers that hold code (Lambda): an artifact holds none.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, _CODE):
            raise ExportError(
                f"An artifact holds no code: layer {layer.name!r} must be a registered Keras layer. "
                f"Received: {type(layer).__name__}."
            )
    return {name: _graph(name, function) for name, function in model.functions().items()}


def _graph(name: str, function: keras.Model) -> Graph:
    source = function.inputs[0]
    spec = tf.TensorSpec((None, *source.shape[1:]), source.dtype, name=source.name)

    def call(array: Any) -> dict[str, Any]:
        # The identity gives each output a node of its own, where two outputs would be one tensor.
        return {key: tf.identity(value, name=key) for key, value in function(array, training=False).items()}

    return Graph(name, tf.function(call, input_signature=[spec]), spec, tuple(v.value for v in function.variables))
