"""The messages of TF Serving that are spoken here, wire for wire, without TensorFlow.

Field numbers are those of tensorflow/core (`TensorProto`, `SignatureDef`) and of tensorflow_serving/apis
(`PredictRequest`, `GetModelMetadataRequest`, `PredictionLog`). Fields that are not named here are skipped in reading.
"""

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from keras_ae.errors import InputError

_PACKAGE = "keras_ae.tf_serving"
# {message: {field: (number, type)}}; a type in brackets is repeated, after `str:` a map's.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Int64Value": {"value": (1, "int64")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "Dim": {"size": (1, "int64")},
    "TensorShape": {"dim": (2, "[Dim]")},
    "Tensor": {
        "dtype": (1, "int32"),
        "tensor_shape": (2, "TensorShape"),
        "tensor_content": (4, "bytes"),
        "float_val": (5, "[float]"),
    },
    "ModelSpec": {"name": (1, "string"), "version": (2, "Int64Value"), "signature_name": (3, "string")},
    "PredictRequest": {"model_spec": (1, "ModelSpec"), "inputs": (2, "str:Tensor")},
    "PredictResponse": {"outputs": (1, "str:Tensor"), "model_spec": (2, "ModelSpec")},
    "TensorInfo": {"name": (1, "string"), "dtype": (2, "int32"), "tensor_shape": (3, "TensorShape")},
    "SignatureDef": {"inputs": (1, "str:TensorInfo"), "outputs": (2, "str:TensorInfo"), "method_name": (3, "string")},
    "SignatureDefMap": {"signature_def": (1, "str:SignatureDef")},
    "GetModelMetadataRequest": {"model_spec": (1, "ModelSpec"), "metadata_field": (2, "[string]")},
    "GetModelMetadataResponse": {"model_spec": (1, "ModelSpec"), "metadata": (2, "str:Any")},
    "PredictLog": {"request": (1, "PredictRequest"), "response": (2, "PredictResponse")},
    "PredictionLog": {"predict_log": (6, "PredictLog")},
}
_NUMBERS = {"float32": 1, "int32": 3, "uint8": 4}  # DataType
_DTYPES = {number: name for name, number in _NUMBERS.items()}


def message(name: str) -> Any:
    """The class of a message."""
    return _CLASSES[f"{_PACKAGE}.{name}"]


def tensor(array: np.ndarray) -> Any:
    """An array as a `Tensor`.

    Raises:
        InputError: for a dtype that no function of an artifact takes.
    """
    if array.dtype.name not in _NUMBERS:
        raise InputError(f"A tensor must be of {', '.join(_NUMBERS)}. Received: {array.dtype}.")
    made = message("Tensor")(dtype=_NUMBERS[array.dtype.name], tensor_content=array.tobytes())
    for size in array.shape:
        made.tensor_shape.dim.add(size=size)
    return made


def array(given: Any) -> np.ndarray:
    """A `Tensor` as an array; its values are in one string of bytes, or in a list whose last one may stand for more.

    Raises:
        ValueError: for a dtype that no function of an artifact gives, or too few values.
    """
    name = _DTYPES.get(given.dtype)
    if name is None:
        raise ValueError(f"A tensor must be of {', '.join(_NUMBERS)}. Received: DataType {given.dtype}.")
    shape = tuple(dim.size for dim in given.tensor_shape.dim)
    if given.tensor_content or not given.float_val:
        return np.frombuffer(given.tensor_content, np.dtype(name).newbyteorder("<")).reshape(shape)
    values = np.array(given.float_val, name)
    missing = int(np.prod(shape)) - len(values)
    return np.pad(values, (0, max(missing, 0)), mode="edge").reshape(shape)


def predict_request(model: str, version: int | None, function: str, inputs: dict[str, np.ndarray]) -> Any:
    """A `PredictRequest` of a signature on arrays by name."""
    request = message("PredictRequest")()
    request.model_spec.CopyFrom(model_spec(model, version, function))
    for name, values in inputs.items():
        request.inputs[name].CopyFrom(tensor(values))
    return request


def model_spec(model: str, version: int | None, function: str = "") -> Any:
    """Which model, version (None is the newest) and signature."""
    spec = message("ModelSpec")(name=model, signature_name=function)
    if version is not None:
        spec.version.value = version
    return spec


def signature_dtypes(definition: Any, side: str) -> dict[str, dict[str, Any]]:
    """`inputs` or `outputs` of a `SignatureDef`, as in a manifest."""
    return {
        name: {"shape": [dim.size for dim in info.tensor_shape.dim][1:], "dtype": _DTYPES.get(info.dtype, "")}
        for name, info in getattr(definition, side).items()
    }


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="keras_ae/tf_serving.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        described = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            if kind.startswith("str:"):
                entry = "".join(part.capitalize() for part in field.split("_")) + "Entry"
                nested = described.nested_type.add(name=entry)
                nested.options.map_entry = True
                _add(nested, "key", 1, "string", False)
                _add(nested, "value", 2, kind.removeprefix("str:"), False)
                _add(described, field, number, f"{name}.{entry}", True)
            else:
                _add(described, field, number, kind.strip("[]"), kind.startswith("["))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        f"{_PACKAGE}.{name}": message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        for name in _MESSAGES
    }


def _add(described: Any, name: str, number: int, kind: str, repeated: bool) -> None:
    field = descriptor_pb2.FieldDescriptorProto
    added = described.field.add(name=name, number=number)
    added.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind.islower():
        added.type = getattr(field, f"TYPE_{kind.upper()}")
    else:
        added.type, added.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


_CLASSES = _classes()
