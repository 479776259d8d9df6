"""Everything that leaves Python: SavedModel and ONNX, each loaded in its own runtime and compared with Keras."""

from keras_ae.export.graphs import graphs_of
from keras_ae.export.parity import Reference, reference_rows
from keras_ae.export.precision import METHODS as PRECISIONS
from keras_ae.export.precision import export_precision, verify_precision
from keras_ae.export.to_onnx import export_onnx, verify_onnx
from keras_ae.export.to_saved_model import export_saved_model, verify_saved_model

EXPORTERS = {"saved_model": export_saved_model, "onnx": export_onnx}
VERIFIERS = {"saved_model": verify_saved_model, "onnx": verify_onnx}

__all__ = [
    "EXPORTERS",
    "PRECISIONS",
    "VERIFIERS",
    "Reference",
    "export_onnx",
    "export_precision",
    "export_saved_model",
    "graphs_of",
    "reference_rows",
    "verify_onnx",
    "verify_precision",
    "verify_saved_model",
]
