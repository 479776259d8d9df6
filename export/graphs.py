"""Which functions leave, as TensorFlow functions of named inputs with a dynamic batch and named outputs."""

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
        call: TensorFlow function from the inputs, by keyword, to a dict of outputs.
        specs: of the inputs, (None, ...), named.
        variables: that it reads.
    """

    name: str
    call: Callable[..., dict[str, Any]]
    specs: tuple[tf.TensorSpec, ...]
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
    specs = tuple(tf.TensorSpec((None, *t.shape[1:]), t.dtype, name=t.name) for t in function.inputs)

    def call(*arrays: Any) -> dict[str, Any]:
        inputs = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
        # The identity gives each output a node of its own, where two outputs would be one tensor.
        return {key: tf.identity(value, name=key) for key, value in function(inputs, training=False).items()}

    return Graph(name, tf.function(call, input_signature=specs), specs, tuple(v.value for v in function.variables))
