"""SavedModel in TF Serving's layout: a numbered version, one named signature per function."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from keras_ae.export.parity import Reference

from keras_ae.errors import ExportError
from keras_ae.functions import Graph

VERSION = "saved_model/1"


def export_saved_model(graphs: dict[str, Graph], folder: Path, reference: Reference) -> dict[str, dict[str, float]]:
    """Writes `saved_model/1` below the folder, loads it with TensorFlow's loader and compares it with Keras."""
    module = tf.Module()
    module.weights = list({id(v): v.value for graph in graphs.values() for v in graph.function.variables}.values())
    signatures = {name: graph.call.get_concrete_function() for name, graph in graphs.items()}
    module.functions = list(signatures.values())
    try:
        tf.saved_model.save(module, str(folder / VERSION), signatures)
    except (AssertionError, ValueError, tf.errors.OpError) as error:
        raise ExportError(f"SavedModel could not be written: {error}") from error
    # What SavedModel writes besides: a hash of its own, which differs from run to run for one and the same model.
    (folder / VERSION / "fingerprint.pb").unlink(missing_ok=True)
    return verify_saved_model(folder, reference)


def verify_saved_model(folder: Path, reference: Reference) -> dict[str, dict[str, float]]:
    """Loads `saved_model/1` below the folder and compares every signature with Keras."""
    loaded = tf.saved_model.load(str(folder / VERSION))

    def run(name: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        outputs = loaded.signatures[name](**{key: tf.constant(array) for key, array in inputs.items()})
        return {key: value.numpy() for key, value in outputs.items()}

    return reference.compare("SavedModel", run)
