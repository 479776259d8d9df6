"""Graphs of another precision, made from those in float32: static and dynamic int8, float16."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from keras_ae.export.parity import Arrays
from keras_ae.export.to_onnx import IR_VERSION, nodes_of

from keras_ae.layers.detection import EXACT
from keras_ae.sessions import session_options

_CALIBRATION_ROWS = 1_000  # through which static quantization finds the ranges of activations
_QUANTIZED = ["MatMul", "Gemm", "Conv"]
# Below these, float32 takes less time than quantizing what goes in: numbers in a matrix, terms in a convolution's sum.
_WORTH_WEIGHTS = 32_768
_WORTH_TERMS = 64
# In half precision: where the weights are, and what lies between.
_WITH_WEIGHTS = ("MatMul", "Gemm", "Conv", "ConvTranspose")
_BETWEEN = ("Relu", "LeakyRelu", "Elu", "Selu", "Sigmoid", "Tanh", "Reshape", "Transpose", "Flatten")

Convert = Callable[[Any, Arrays], Any]
"""From a float32 graph and inputs of its function to the graph in another precision."""


def converted(convert: Convert, original: Any, inputs: Arrays) -> Any:
    """A graph in another precision, that every runtime of the float32 one reads."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the quantizers advise what is done here in another way
    try:
        model = convert(_folded(original), inputs)
    finally:
        logging.disable(disabled)
    model.ir_version = IR_VERSION
    model.producer_name = original.producer_name
    used = {node.domain for node in model.graph.node}
    known = [entry for entry in model.opset_import if entry.domain in used]  # ONNX Runtime lists all that it knows
    del model.opset_import[:]
    model.opset_import.extend(known)
    return model


def _folded(original: Any) -> Any:
    """The same graph with constants folded and `MatMul` and `Add` as one `Gemm`: what quantizers look for."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "folded.onnx"
        options = session_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(original.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.shape_inference.infer_shapes(onnx.load(path))


def _static(model: Any, inputs: Arrays) -> Any:
    """Ranges of activations from rows: what a row gives does not depend on the rows beside it."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            rows = min(len(next(iter(inputs.values()))), _CALIBRATION_ROWS)
            self.batches = iter(np.array_split(np.arange(rows), max(1, rows // 100)))

        def get_next(self) -> Arrays | None:
            batch = next(self.batches, None)
            return None if batch is None else {name: array[batch] for name, array in inputs.items()}

    return _through_file(
        model,
        lambda path: quantize_static(
            model,
            path,
            Reader(),
            op_types_to_quantize=[*_QUANTIZED, "Relu"],
            nodes_to_exclude=_left_alone(model),
            reduce_range=True,  # 8 x 8 bits saturate in the 16 of processors without VNNI instructions
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        ),
    )


def _dynamic(model: Any, inputs: Arrays) -> Any:
    """Ranges of activations from each batch as it comes: nothing to calibrate, and one odd row coarsens the others."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    alone = _left_alone(model)
    return _through_file(
        model,
        lambda path: quantize_dynamic(
            model,
            path,
            op_types_to_quantize=_QUANTIZED,
            nodes_to_exclude=[*alone, *(f"{name}_MatMul" for name in alone)],  # so it renames a Gemm
            reduce_range=True,
            weight_type=QuantType.QInt8,
        ),
    )


def _left_alone(model: Any) -> list[str]:
    """Names of the nodes that would gain nothing from int8, and of the activations behind them."""
    shape = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    names, quantized = [], set()
    for node in model.graph.node:
        if _is_exact(node):
            names.append(node.name)
            continue
        weights = max((shape.get(name, ()) for name in node.input[:2]), key=np.prod, default=())
        worth = {
            "Conv": bool(weights) and np.prod(weights[1:]) >= _WORTH_TERMS,
            "Gemm": np.prod(weights) >= _WORTH_WEIGHTS,
            "MatMul": np.prod(weights) >= _WORTH_WEIGHTS,
            "Relu": node.input[0] in quantized,  # is part of what it follows
        }
        if worth.get(node.op_type, False):
            quantized.update(node.output)
        elif node.op_type in worth:
            names.append(node.name)
    return names


def _is_exact(node: Any) -> bool:
    """Whether it finds neighbours: distances are small differences of large products."""
    return any(f"/{layer}" in node.name for layer in EXACT)


def _half(model: Any, inputs: Arrays) -> Any:
    """Weights and products in float16. All else stays in float32: raw units may pass 65,504, where half precision ends,
    and a p-value needs all digits of its score.
    """
    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    halved: dict[str, str] = {}
    nodes: list[Any] = []

    def half(name: str) -> str:
        if name not in halved:
            halved[name] = f"{name}/half"
            if name in weights:
                with np.errstate(over="ignore"):
                    numbers = onnx.numpy_helper.to_array(weights[name]).astype("float16")
                graph.initializer.append(onnx.numpy_helper.from_array(numbers, halved[name]))
            else:
                nodes.append(onnx.helper.make_node("Cast", [name], [halved[name]], to=onnx.TensorProto.FLOAT16))
        return halved[name]

    for node in list(graph.node):
        has_weights = node.op_type in _WITH_WEIGHTS and not _is_exact(node)
        if not has_weights and not (node.op_type in _BETWEEN and node.input[0] in halved and not _is_exact(node)):
            nodes.append(node)
            continue
        for i, name in enumerate(node.input if has_weights else node.input[:1]):
            node.input[i] = half(name)
        nodes.append(node)
        (output,) = node.output
        halved[output] = node.output[0] = f"{output}/half"
        nodes.append(onnx.helper.make_node("Cast", [halved[output]], [output], to=onnx.TensorProto.FLOAT))
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    _drop_unused(graph)
    return model


def _drop_unused(graph: Any) -> None:
    used = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if used.intersection(node.output):
            kept.append(node)
            used.update(name for inner in nodes_of([node]) for name in inner.input)
    del graph.node[:]
    graph.node.extend(reversed(kept))
    weights = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def _through_file(model: Any, quantize: Callable[[str], None]) -> Any:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "quantized.onnx"
        quantize(str(path))
        return onnx.load(path)


METHODS: dict[str, dict[str, Convert]] = {
    "int8": {"static": _static, "dynamic": _dynamic},
    "float16": {"half": _half},
}
