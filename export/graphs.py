"""Which functions leave: those of a model that holds no code."""

import keras

from keras_ae.errors import ExportError
from keras_ae.functions import Graph
from keras_ae.models import Autoencoder


def graphs_of(model: Autoencoder) -> dict[str, Graph]:
    """The deployable functions of a model.

    Raises:
        ExportError: for layers that hold code (Lambda): an artifact holds none.
    """
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Lambda):
            raise ExportError(
                f"An artifact holds no code: layer {layer.name!r} must be a registered Keras layer. "
                f"Received: {type(layer).__name__}."
            )
    return model.graphs()
