"""TF Serving's REST API: rows in `instances` or columns in `inputs`, `predictions` or `outputs` back."""

from typing import Any

import numpy as np
import orjson

from keras_ae.errors import InputError
from keras_ae.serving.calls import Call, prepare, required, resolved
from keras_ae.serving.versions import Version
from keras_ae.signatures import DEFAULT, TF_TYPES


def read(version: Version, body: bytes, most_rows: int) -> tuple[Call, bool]:
    """The call that a request asks for, and whether its answer goes by rows.

    Raises:
        NotServed: for a signature that the model does not have.
        InputError: for what is no such request.
    """
    request = decoded(body)
    by_rows = "instances" in request
    if by_rows == ("inputs" in request):
        raise InputError("The request must have either `instances` or `inputs`. Received: both or neither.")
    function = resolved(version, request.get("signature_name", ""))
    names = required(version.signatures[function]["inputs"])
    given = _columns(request["instances"], names) if by_rows else request["inputs"]
    if not isinstance(given, dict) and len(names) == 1:
        given = {names[0]: given}
    return prepare(version, function, given, most_rows), by_rows


def write(call: Call, outputs: dict[str, np.ndarray], by_rows: bool) -> bytes:
    """The answer: of one output its values, of several an object of them, or one object a row; of what goes by the
    names of columns an object of these, or one a row, cells in words and dates, null for what is missing.
    """
    answer: Any = outputs
    if call.by_columns:
        answer = outputs = {
            name: column.tolist() if column.dtype == object else np.ascontiguousarray(column)
            for name, column in call.columns(outputs).items()
        }
    if len(outputs) == 1 and not call.by_columns:
        (answer,) = outputs.values()
    elif by_rows:
        answer = [dict(zip(outputs, row, strict=True)) for row in zip(*outputs.values(), strict=True)]
    return encoded({"predictions" if by_rows else "outputs": answer})


def status(version: Version) -> dict[str, Any]:
    """What TF Serving says of a version that is loaded."""
    return {"version": version.number, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


def metadata(version: Version) -> dict[str, Any]:
    """TF Serving's signature definitions of a version, `serving_default` included."""
    definitions = {
        name: {
            "inputs": {key: _tensor(name, key, of) for key, of in sides["inputs"].items()},
            "outputs": {key: _tensor(name, key, of) for key, of in sides["outputs"].items()},
            "method_name": "tensorflow/serving/predict",
        }
        for name, sides in version.signatures.items()
    }
    definitions["serving_default"] = definitions[DEFAULT]
    return {
        "model_spec": {"name": version.name, "signature_name": "", "version": version.number},
        "metadata": {"signature_def": {"signature_def": definitions}},
    }


def decoded(body: bytes | memoryview) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: for anything else; JSON has neither NaN nor infinity.
    """
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InputError(f"The request must be JSON. Received: {error}.") from error
    if not isinstance(request, dict):
        raise InputError("The request must be a JSON object.")
    return request


def encoded(content: Any) -> bytes:
    """As JSON; NumPy's numbers in as few digits as tell them apart."""
    return orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)


def _columns(instances: Any, names: list[str]) -> Any:
    """Rows as columns; of objects by their keys."""
    if not isinstance(instances, list) or not instances:
        raise InputError("`instances` must be a list of rows, at least one.")
    if not isinstance(instances[0], dict):
        return instances
    keys = instances[0].keys()
    if any(not isinstance(row, dict) or row.keys() != keys for row in instances):
        raise InputError(f"`instances` must be objects of the same keys. The first has: {', '.join(keys)}.")
    return {key: [row[key] for row in instances] for key in keys}


def _tensor(function: str, key: str, of: dict[str, Any]) -> dict[str, Any]:
    dimensions = [{"size": str(size), "name": ""} for size in (-1, *of["shape"])]
    return {
        "dtype": TF_TYPES[of["dtype"]],
        "tensor_shape": {"dim": dimensions, "unknown_rank": False},
        "name": f"{function}_{key}:0",
    }
