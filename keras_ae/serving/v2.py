"""The Open Inference Protocol v2: tensors in JSON, or in binary after it (the binary tensor data extension)."""

import math
from typing import Any

import numpy as np

from keras_ae.errors import InputError
from keras_ae.serving.calls import Call, prepare
from keras_ae.serving.rest import decoded, encoded
from keras_ae.serving.versions import Version
from keras_ae.signatures import DEFAULT

JSON_LENGTH = b"inference-header-content-length"
_TYPES = {
    "BOOL": "bool",
    **{f"INT{bits}": f"<i{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": f"<u{bits // 8}" for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}
_NAMES = {"float32": "FP32", "uint8": "UINT8", "int32": "INT32"}
_PARAMETERS = ("n", "seed", "label", "missing")  # of generate, besides those of the protocol


class Request:
    """One inference, read.

    Attributes:
        call: what is to run.
        id: of the request, given back with the answer.
        wanted: names of the outputs that go back, and whether in binary.
    """

    def __init__(self, version: Version, function: str, body: bytes, json_length: bytes | None, most_rows: int) -> None:
        length = len(body)
        if json_length is not None:
            if not json_length.isdigit() or len(json_length) > 18 or not int(json_length) <= len(body):
                raise InputError(
                    f"`Inference-Header-Content-Length` must be the length of the JSON, 0 to {len(body)}. "
                    f"Received: {json_length[:40].decode('latin-1')!r}."
                )
            length = int(json_length)
        request = decoded(memoryview(body)[:length])
        self.id = request.get("id")
        if self.id is not None and not isinstance(self.id, str):
            raise InputError("`id` must be text.")
        parameters = _parameters(request)
        given = _tensors(request.get("inputs", []), memoryview(body)[length:])
        if function == "generate":
            given.update({name: parameters[name] for name in _PARAMETERS if name in parameters})
        self.call: Call = prepare(version, function, given, most_rows)
        known = list(version.signatures[function]["outputs"])
        columns = list(version.model.columns or ()) if self.call.by_columns else []
        self.wanted = _wanted(request, parameters, columns or known, {*known, *columns})

    def write(self, outputs: dict[str, np.ndarray]) -> tuple[bytes, int | None]:
        """The answer, and the length of its JSON where binary tensors follow."""
        if self.call.by_columns:
            outputs = {**outputs, **self.call.columns(outputs)}
        tensors, binary = [], []
        for name, in_binary in self.wanted.items():
            array = outputs[name]
            texts = list(map(_text, array)) if array.dtype == object else None
            datatype = _NAMES[array.dtype.name] if texts is None else "BYTES"
            tensor = {"name": name, "shape": array.shape, "datatype": datatype}
            if in_binary:
                binary.append(_little(array) if texts is None else b"".join(map(_with_length, texts)))
                tensors.append({**tensor, "parameters": {"binary_data_size": len(binary[-1])}})
            else:
                tensors.append({**tensor, "data": array.ravel() if texts is None else texts})
        version = self.call.version
        head = {"model_name": _model(version, self.call.function), "model_version": version.number, "outputs": tensors}
        text = encoded(head if self.id is None else {**head, "id": self.id})
        return b"".join([text, *binary]), len(text) if binary else None


def metadata(version: Version, function: str) -> dict[str, Any]:
    """What the protocol says of a model: here, of one function."""
    sides = version.signatures[function]
    return {
        "name": _model(version, function),
        "versions": [version.number],
        "platform": "onnxruntime_onnx",
        "inputs": [_described(name, of) for name, of in sides["inputs"].items()],
        "outputs": [_described(name, of) for name, of in sides["outputs"].items()],
    }


def names(version: Version) -> list[str]:
    """What the protocol's clients call the functions of a model; its own name is the default one."""
    return [_model(version, function) for function in version.signatures]


def _model(version: Version, function: str) -> str:
    return version.name if function == DEFAULT else f"{version.name}.{function}"


def _described(name: str, of: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "datatype": _NAMES[of["dtype"]], "shape": [-1, *of["shape"]]}


def _parameters(of: dict[str, Any]) -> dict[str, Any]:
    parameters = of.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InputError("`parameters` must be an object.")
    return parameters


def _objects(tensors: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(tensors, list) or any(
        not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str) for tensor in tensors
    ):
        raise InputError(f"`{what}` must be a list of objects, each with a `name`.")
    return tensors


def _tensors(tensors: Any, binary: memoryview) -> dict[str, Any]:
    given: dict[str, Any] = {}
    start = 0
    for tensor in _objects(tensors, "inputs"):
        name = tensor["name"]
        if name in given:
            raise InputError(f"Each input must be given once. Received `{name}` twice.")
        shape = _shape(tensor.get("shape"), name)
        size = _parameters(tensor).get("binary_data_size")
        if size is None:
            given[name] = _from_json(tensor, shape)
            continue
        if type(size) is not int or not 0 <= size <= len(binary) - start:
            raise InputError(f"`{name}` must have as many bytes as its `binary_data_size` says, {size!r}.")
        given[name] = _from_bytes(tensor, shape, binary[start : start + size])
        start += size
    if start != len(binary):
        raise InputError(f"The inputs must take all {len(binary)} binary bytes of the request. They take {start}.")
    return given


def _shape(shape: Any, name: str) -> tuple[int, ...]:
    whole = isinstance(shape, list) and all(type(size) is int and 0 <= size < 2**31 for size in shape)
    if not whole or len(shape) > 16:
        raise InputError(f"`{name}` must have a `shape`, a list of whole numbers. Received: {str(shape)[:80]}.")
    return tuple(shape)


def _from_json(tensor: dict[str, Any], shape: tuple[int, ...]) -> Any:
    name, data = tensor["name"], tensor.get("data")
    if not isinstance(data, list):
        raise InputError(f"`{name}` must have `data`, a list, or a `binary_data_size`.")
    if tensor.get("datatype") == "BYTES":
        return data  # names of classes, or cells
    _dtype(tensor)
    try:
        array = np.asarray(data)
    except (ValueError, OverflowError) as error:
        raise InputError(f"`{name}` must be numbers. Received: {error}.") from error
    return _shaped(array, shape, name)


def _from_bytes(tensor: dict[str, Any], shape: tuple[int, ...], binary: memoryview) -> Any:
    if tensor.get("datatype") == "BYTES":
        return _texts(binary, tensor["name"])
    dtype = _dtype(tensor)
    if len(binary) != math.prod(shape) * dtype.itemsize:
        raise InputError(
            f"`{tensor['name']}` must have the {math.prod(shape) * dtype.itemsize} bytes of its shape and datatype. "
            f"Received: {len(binary)}."
        )
    # A tensor may begin at any byte after the JSON; what computes wants it where its type may stand.
    return np.require(np.frombuffer(binary, dtype).reshape(shape), requirements="A")


def _dtype(tensor: dict[str, Any]) -> np.dtype[Any]:
    datatype = tensor.get("datatype")
    if not isinstance(datatype, str) or datatype not in _TYPES:
        raise InputError(
            f"`{tensor['name']}` must have a `datatype`, one of {', '.join(_TYPES)}, or BYTES for text. "
            f"Received: {str(datatype)[:40]!r}."
        )
    return np.dtype(_TYPES[datatype])


def _shaped(array: np.ndarray, shape: tuple[int, ...], name: str) -> np.ndarray:
    if array.size != math.prod(shape):
        raise InputError(f"`{name}` must have the {math.prod(shape)} values of its shape. Received: {array.size}.")
    return array.reshape(shape)


def _texts(binary: memoryview, name: str) -> list[str]:
    """Texts, each after its length in four bytes."""
    texts, start = [], 0
    while start < len(binary):
        end = start + 4 + int.from_bytes(binary[start : start + 4], "little")
        if start + 4 > len(binary) or end > len(binary):
            raise InputError(f"`{name}` must be texts, each after its length in four bytes. Received: fewer bytes.")
        texts.append(bytes(binary[start + 4 : end]).decode(errors="replace"))
        start = end
    return texts


def _text(cell: Any) -> str:
    """A cell as the inputs take it: an empty text where it is missing."""
    return "" if cell is None else str(cell).lower() if isinstance(cell, bool) else str(cell)


def _with_length(text: str) -> bytes:
    held = text.encode()
    return len(held).to_bytes(4, "little") + held


def _little(array: np.ndarray) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _wanted(request: dict[str, Any], parameters: dict[str, Any], usual: list[str], known: set[str]) -> dict[str, bool]:
    """Names of the outputs that go back, by default the usual ones, and whether in binary."""
    in_binary = parameters.get("binary_data_output") is True
    asked = _objects(request.get("outputs") or [], "outputs")
    wanted = {output["name"]: _parameters(output).get("binary_data", in_binary) is True for output in asked}
    foreign = [name for name in wanted if name not in known]
    if foreign:
        raise InputError(f"`outputs` must be of {', '.join(usual)}. Received: {foreign[0]!r}.")
    return wanted or dict.fromkeys(usual, in_binary)
