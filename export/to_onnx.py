"""ONNX: one file per function, with dynamic batch, that share one file of weights."""

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tf2onnx
from keras_ae.export.parity import Arrays, Reference, Runner
from onnx import external_data_helper

from keras_ae.errors import ExportError
from keras_ae.functions import Graph

OPSET = 18
IR_VERSION = 9
FOLDER = "onnx/float32"
WEIGHTS = "weights.bin"
_SHARED_FROM = 1024  # bytes: smaller tensors stay where they are used
_WITHOUT_COPIES = "TF2ONNX_CATCH_ERRORS"
"""Where this variable is set, to whatever, tf2onnx copies no graph before each optimizer: a third of its time."""
_ALIGNMENT = 64


def export_onnx(
    graphs: dict[str, Graph], folder: Path, reference: Reference, single_file: bool = False
) -> dict[str, dict[str, float]]:
    """Writes `onnx/float32/<function>.onnx` below the folder, checks each, runs it in ONNX Runtime and compares it
    with Keras.

    Args:
        graphs: from `graphs_of`.
        folder: of the artifact.
        reference: what Keras gives.
        single_file: put each function's weights into its own file; else `weights.bin` holds them once.

    Raises:
        ExportError: for ops that ONNX does not know, with their layer, and for what disagrees with Keras.
    """
    save_models({name: convert(graph) for name, graph in graphs.items()}, folder / FOLDER, single_file)
    return verify_onnx(folder, reference)


def save_models(models: dict[str, Any], folder: Path, single_file: bool = False) -> None:
    """Writes `<function>.onnx` into a new folder, and unless each is to stand alone `weights.bin` beside them."""
    folder.mkdir(parents=True)
    if not single_file:
        models = _sharing_weights(models, folder / WEIGHTS)
    for name, model in models.items():
        onnx.save(model, folder / f"{name}.onnx")


def convert(graph: Graph) -> Any:
    """The ONNX model of one function; every op in it is ONNX's own."""
    logger = logging.getLogger("tf2onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what it logs as an error and goes on with is found below, by op and layer
    try:
        model = _converted(graph)
    except Exception as error:  # tf2onnx raises what its handlers happen to raise
        raise ExportError(f"{graph.name} could not be converted to ONNX: {type(error).__name__}: {error}") from error
    finally:
        logger.setLevel(level)
    foreign = [
        f"{node.op_type} (layer {_layer(node.name)})" for node in nodes_of(model.graph.node) if not _is_known(node)
    ]
    if foreign:
        raise ExportError(f"{graph.name} holds ops that ONNX does not know: {', '.join(dict.fromkeys(foreign))}.")
    model.ir_version = IR_VERSION
    model.graph.name = graph.name
    model.producer_name = "keras_ae"
    return model


def _converted(graph: Graph) -> Any:
    def convert() -> Any:
        return tf2onnx.convert.from_function(
            graph.call, graph.call.input_signature, opset=OPSET, custom_op_handlers={"Erfc": (_erfc, [])}
        )[0]

    if _WITHOUT_COPIES in os.environ:  # as the user wants it
        return convert()
    os.environ[_WITHOUT_COPIES] = ""
    try:
        return convert()
    except Exception:  # of an optimizer, maybe: with copies tf2onnx goes on without the one that fails
        os.environ.pop(_WITHOUT_COPIES)
        return convert()
    finally:
        os.environ.pop(_WITHOUT_COPIES, None)


def _erfc(context: Any, node: Any, name: str, _: Any) -> None:
    """Erfc(x) = 1 - Erf(x), which exact GELU is made of and ONNX has no op for."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(context.get_dtype(node.output[0]))
    erf = context.make_node("Erf", [node.input[0]])
    one = context.make_const(f"{name}_one", np.array(1, dtype))
    node.type = "Sub"
    context.replace_inputs(node, [one.output[0], erf.output[0]])


def nodes_of(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes, and those of the graphs inside them, as loops have."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from nodes_of(inner.node)


def _is_known(node: Any) -> bool:
    return node.domain in ("", "ai.onnx") and bool(onnx.defs.has(node.op_type, OPSET, ""))


def _layer(node_name: str) -> str:
    """The Keras layer in a node's scope, such as `StatefulPartitionedCall/encode_1/encoder_1/hidden_0_1/MatMul`."""
    return "/".join(part for part in node_name.split("/")[:-1] if "PartitionedCall" not in part) or node_name


def _sharing_weights(models: dict[str, Any], path: Path) -> dict[str, Any]:
    """Copies of the models whose large tensors lie in one file, each once."""
    offsets: dict[str, int] = {}
    sharing = {}
    with path.open("wb") as file:
        for name, model in models.items():
            sharing[name] = onnx.ModelProto()
            sharing[name].CopyFrom(model)
            for tensor in sharing[name].graph.initializer:
                array = onnx.numpy_helper.to_array(tensor)
                raw = array.tobytes()
                if len(raw) < _SHARED_FROM:
                    continue
                key = hashlib.sha256(raw).hexdigest()
                if key not in offsets:
                    file.write(b"\0" * (-file.tell() % _ALIGNMENT))
                    offsets[key] = file.tell()
                    file.write(raw)
                tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))  # some hold typed data, not raw
                external_data_helper.set_external_data(tensor, path.name, offsets[key], len(raw))
                tensor.ClearField("raw_data")
    if not offsets:
        path.unlink()
    return sharing


def verify_onnx(folder: Path, reference: Reference) -> dict[str, dict[str, float]]:
    """Checks every ONNX file below the folder, runs it in ONNX Runtime and compares it with Keras."""
    import onnxruntime

    sessions = {}
    for name in dict.fromkeys(name for name, _, _ in reference.cases):
        path = folder / FOLDER / f"{name}.onnx"
        try:
            onnx.checker.check_model(str(path), full_check=True)
            sessions[name] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        except Exception as error:  # neither library has a base class for what it refuses
            raise ExportError(f"ONNX {name} does not load: {type(error).__name__}: {error}") from error

    return reference.compare("ONNX", runner(sessions))


def runner(sessions: dict[str, Any]) -> Runner:
    """Runs functions in sessions of ONNX Runtime, by name."""

    def run(name: str, inputs: Arrays) -> Arrays:
        names = [output.name for output in sessions[name].get_outputs()]
        return dict(zip(names, sessions[name].run(names, inputs), strict=True))

    return run
