"""A client of an artifact that is served: by `keras-ae serve` or by TF Serving, over REST or gRPC."""

import math
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import numpy as np

from keras_ae.data.cells import cells_of, is_table, table_like
from keras_ae.data.sequences import are_padded
from keras_ae.errors import InputError, ServiceError, importing
from keras_ae.interface import Functions
from keras_ae.signatures import TF_TYPES, Signatures

_FIRST_WAIT = 0.1  # seconds; doubled each time, and a random part of it is waited
_LONGEST_WAIT = 5.0
_AGAIN = (429, 502, 503, 504)
_SERVICE = "/tensorflow.serving.PredictionService"
_DTYPES = {name: dtype for dtype, name in TF_TYPES.items()}


class Client(Functions):
    """The functions of a served model, NumPy in and NumPy out, as of `keras_ae.runtime.Model`.

    Functions are pure, so a call that got no answer is made again: after what the server's `Retry-After` says, or a
    random time up to 0.1 s, 0.2 s, 0.4 s and so on. Rows are sent in batches.

    Args:
        address: for REST `http://host:8501`, for gRPC `host:8500`.
        model: its name.
        version: a number; by default the newest.
        protocol: `rest` or `grpc`.
        deadline: seconds for each request, its retries included.
        retries: at most, of one request.
        batch_rows: in one request.

    Raises:
        InputError: for arguments out of range; in a call for what the server refuses, with the server's reason.
        ServiceError: in a call, for a server that can't be reached, or gives no answer in time.
        MissingExtra: where `keras-ae[client]` is not installed.
    """

    def __init__(
        self,
        address: str,
        model: str,
        version: int | None = None,
        protocol: str = "rest",
        deadline: float = 10.0,
        retries: int = 3,
        batch_rows: int = 1024,
    ) -> None:
        if protocol not in _TRANSPORTS:
            raise InputError(f"`protocol` must be one of {', '.join(_TRANSPORTS)}. Received: {protocol!r}.")
        for name, value, least in (
            ("deadline", deadline, 1e-3),
            ("retries", retries, 0),
            ("batch_rows", batch_rows, 1),
        ):
            if value < least:
                raise InputError(f"`{name}` must be at least {least}. Received: {value}.")
        with importing("The client", "client"):
            self._transport: _Rest | _Grpc = _TRANSPORTS[protocol](address, model, version)
        self._called = f"{address}, {model}" + ("" if version is None else f" version {version}")
        self._deadline = deadline
        self._retries = retries
        self._batch_rows = batch_rows
        self._signatures: Signatures | None = None

    def __repr__(self) -> str:
        known = f": {', '.join(self._signatures)}" if self._signatures else ""
        return f"Client({self._called}{known})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    @property
    def signatures(self) -> Signatures:
        """Inputs and outputs of each function, as the server tells them."""
        if self._signatures is None:
            self._signatures = self._patiently(self._transport.signatures)
        return self._signatures

    def reconstruct(self, x: Any) -> Any:
        """AE(x) in raw units, deterministic; of a DataFrame or a dictionary of columns one of their kind."""
        return self._of_columns("reconstruct", x)

    def explain(self, x: Any) -> Any:
        """What each feature of raw x adds to the score; of a DataFrame or a dictionary of columns one of their kind."""
        return self._of_columns("explain", x)

    def _of_columns(self, function: str, x: Any) -> Any:
        """The output of a function that gives something for each column, by the names of these where it does."""
        found = self.run(function, {"x": x})
        (output,) = self.signatures[function]["outputs"]
        return found[output] if list(found) == [output] else table_like(x, found)

    def generate_table(
        self, n: int, y: Any = None, seed: int | None = None, missing: bool = True
    ) -> dict[str, np.ndarray]:
        """n rows of a table by the names of its columns, in words and dates, of one class y where there are any, from
        `keras-ae serve` over REST; a seed gives the rows of the runtime, `missing=False` rows without missing cells.
        """
        if not isinstance(self._transport, _Rest):
            raise InputError("A table must come from `keras-ae serve` over REST. Received: gRPC.")
        asked = {"n": n, "seed": seed, "label": y, **({} if missing else {"missing": False})}
        given = {name: value for name, value in asked.items() if value is not None}
        found = self._patiently(partial(self._transport.answer, "generate", given))
        if not isinstance(found, dict):
            raise InputError(f"A table must come from a model of one. Received: {self._called}, of other rows.")
        return {name: _received(values) for name, values in found.items()}

    def run(self, function: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        """A function by name on its inputs by name; a label may be left out, or one for all rows.

        Labels are indices of classes; `keras-ae serve` takes their names too, over REST. Of a model of a table it takes
        as `x` a DataFrame or a dictionary of columns as well, with their words, dates and missing cells.
        """
        wanted = self.check(function)["inputs"]
        if is_table(inputs.get("x")):
            if not isinstance(self._transport, _Rest):
                raise InputError("A table must go to `keras-ae serve` over REST. Received: one for gRPC.")
            arrays = {name: _sent(name, cells) for name, cells in cells_of(inputs["x"], "`x`").columns.items()}
        else:
            arrays = self._arrays(wanted, function, inputs)
        rows = len(next(iter(arrays.values())))
        if not rows:
            raise InputError("`x` must have at least one row. Received: none.")
        outputs = list(self.signatures[function]["outputs"])
        parts = []
        for start in range(0, rows, self._batch_rows):
            part = {name: array[start : start + self._batch_rows] for name, array in arrays.items()}
            parts.append(self._patiently(partial(self._transport.predict, function, part, outputs)))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _label(self, function: str, y: Any, n: int) -> dict[str, Any]:
        return {} if y is None else {"label": y}  # the server knows the classes

    def _arrays(self, wanted: dict[str, Any], function: str, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
        first = next(name for name in wanted if name != "label")
        if set(inputs) - {"label"} != set(wanted) - {"label"} or set(inputs) - set(wanted):
            raise InputError(f"{function} must have the inputs {', '.join(wanted)}. Received: {', '.join(inputs)}.")
        arrays: dict[str, np.ndarray] = {}
        # A map of protocol buffers has no order, and a label needs to know how many rows there are.
        for name, of in sorted(wanted.items(), key=lambda item: item[0] == "label"):
            if name == "label":
                label = np.asarray(inputs.get("label", -1))
                rows = len(arrays[first])
                if label.shape not in ((), (rows,)):
                    raise InputError(f"`label` must be one class, or one a row: {rows}. Received: {label.shape}.")
                label = label if label.dtype.kind == "U" else label.astype("int32")
                arrays[name] = np.broadcast_to(label, (rows,))
                continue
            array = np.asarray(inputs[name])
            if array.shape[1:] != tuple(of["shape"]) or not array.size:
                shape = ", ".join(map(str, of["shape"]))
                raise InputError(f"`{name}` must have shape (batch, {shape}). Received: {array.shape}.")
            if array.dtype.kind not in "biuf" or not (np.isfinite(array).all() or _is_of_series(name, array)):
                raise InputError(f"`{name}` must be finite numbers. Received: others.")
            converted = array.astype(of["dtype"])
            if converted.dtype.kind != "f" and not np.array_equal(converted, array):
                raise InputError(f"`{name}` must be whole numbers that {of['dtype']} holds. Received: others.")
            arrays[name] = converted
        return arrays

    def _patiently(self, request: Callable[[float], Any]) -> Any:
        """The answer of a request that is told the seconds left, made again where that may help."""
        ends = time.monotonic() + self._deadline
        made = 0
        while True:
            try:
                return request(max(ends - time.monotonic(), 1e-3))
            except _Again as again:
                wait = again.seconds
                if wait is None:
                    wait = random.uniform(0, min(_LONGEST_WAIT, _FIRST_WAIT * 2**made))
                if made >= self._retries or time.monotonic() + wait >= ends:
                    raise ServiceError(
                        f"No answer in {made + 1} tries, within a deadline of {self._deadline:g} s: {again}"
                    ) from again
                time.sleep(wait)
                made += 1


def _is_of_series(name: str, array: np.ndarray) -> bool:
    """Whether an array is of series of different lengths, NaN behind the end of each, and what is known finite."""
    return name == "x" and are_padded(array) and not np.isinf(array).any()


def _received(values: list[Any]) -> np.ndarray:
    """Numbers as float32, NaN for null; cells with words as they are, None for null."""
    has_words = any(isinstance(value, str | bool) for value in values)
    return np.array(values, object) if has_words else np.asarray(values, "float32")


def _sent(name: str, cells: Any) -> np.ndarray:
    """Cells of a column as JSON has them, which knows no infinity; dates in ISO 8601."""
    plain = cells.astype("datetime64[us]") if getattr(cells, "dtype", np.dtype("O")).kind == "M" else cells
    held = plain.tolist() if isinstance(plain, np.ndarray) else plain
    made = np.empty(len(held), object)
    for row, cell in enumerate(held):
        if cell is not None and cell == cell:
            one = cell.item() if isinstance(cell, np.generic) else cell
            if isinstance(one, float) and not math.isfinite(one):
                raise InputError(f"`x`, row {row}, column {name}: must be finite. Received: {one}.")
            made[row] = one if isinstance(one, str | int | float) else str(one)
    return made


def _in_json(array: np.ndarray) -> Any:
    """Lists, null for NaN, which JSON does not know."""
    if array.dtype.kind != "f" or not np.isnan(array).any():
        return array.tolist()
    cells = array.astype(object)
    cells[np.isnan(array)] = None
    return cells.tolist()


class _Again(Exception):  # noqa: N818  (named for what it says)
    """A request that may succeed when it is made again, after some seconds where the server says so."""

    def __init__(self, message: str, seconds: float | None = None) -> None:
        super().__init__(message)
        self.seconds = seconds


class _Rest:
    """TF Serving's REST API."""

    def __init__(self, address: str, model: str, version: int | None) -> None:
        import httpx

        if not address.startswith(("http://", "https://")):
            raise InputError(f"`address` must begin with http:// or https://. Received: {address!r}.")
        self._errors = httpx.TransportError
        self._http = httpx.Client(base_url=address)
        self._path = f"/v1/models/{model}" + ("" if version is None else f"/versions/{version}")

    def close(self) -> None:
        self._http.close()

    def signatures(self, seconds: float) -> Signatures:
        answer = self._request("GET", f"{self._path}/metadata", seconds)
        definitions = answer["metadata"]["signature_def"]["signature_def"]
        return {
            name: {side: {key: _described(info) for key, info in definitions[name][side].items()} for side in _SIDES}
            for name in _FUNCTIONS
            if name in definitions
        }

    def predict(
        self, function: str, arrays: dict[str, np.ndarray], outputs: list[str], seconds: float
    ) -> dict[str, np.ndarray]:
        found = self.answer(function, {name: _in_json(array) for name, array in arrays.items()}, seconds)
        named = found if isinstance(found, dict) else {outputs[0]: found}
        return {name: _received(values) for name, values in named.items()}

    def answer(self, function: str, inputs: dict[str, Any], seconds: float) -> Any:
        """What a function gives for inputs as JSON has them: lists by name, or of one output its list."""
        content = {"signature_name": function, "inputs": inputs}
        return self._request("POST", f"{self._path}:predict", seconds, content)["outputs"]

    def _request(self, method: str, path: str, seconds: float, content: Any = None) -> Any:
        try:
            response = self._http.request(method, path, json=content, timeout=seconds)
        except self._errors as error:
            raise _Again(f"{type(error).__name__}: {error}") from error
        if response.status_code == 200:
            return response.json()
        is_told = True
        try:
            reason = str(response.json()["error"])
        except (ValueError, KeyError, TypeError):
            is_told, reason = False, f"{response.status_code} {response.reason_phrase}"
        # A 500 without a reason is not of the server, but of what stands before it: its process died, say.
        if response.status_code in _AGAIN or (response.status_code == 500 and not is_told):
            after = response.headers.get("retry-after", "")
            raise _Again(reason, float(after) if after.isdigit() else None)
        if 400 <= response.status_code < 500:
            raise InputError(reason)
        raise ServiceError(reason)


class _Grpc:
    """TF Serving's PredictionService, without TensorFlow's own messages."""

    def __init__(self, address: str, model: str, version: int | None) -> None:
        import grpc

        from keras_ae import protos

        self._grpc, self._protos = grpc, protos
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=unlimited)
        self._model, self._version = model, version
        self._again = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED)
        self._wrong = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND, grpc.StatusCode.OUT_OF_RANGE)

    def close(self) -> None:
        self._channel.close()

    def signatures(self, seconds: float) -> Signatures:
        request = self._protos.message("GetModelMetadataRequest")(
            model_spec=self._protos.model_spec(self._model, self._version), metadata_field=["signature_def"]
        )
        answer = self._request("GetModelMetadata", request, seconds)
        held = self._protos.message("SignatureDefMap").FromString(answer.metadata["signature_def"].value)
        return {
            name: {side: self._protos.signature_dtypes(held.signature_def[name], side) for side in _SIDES}
            for name in _FUNCTIONS
            if name in held.signature_def
        }

    def predict(
        self, function: str, arrays: dict[str, np.ndarray], outputs: list[str], seconds: float
    ) -> dict[str, np.ndarray]:
        request = self._protos.predict_request(self._model, self._version, function, arrays)
        answer = self._request("Predict", request, seconds)
        return {name: self._protos.array(tensor) for name, tensor in answer.outputs.items()}

    def _request(self, method: str, request: Any, seconds: float) -> Any:
        call = self._channel.unary_unary(
            f"{_SERVICE}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self._protos.message(f"{method}Response").FromString,
        )
        try:
            return call(request, timeout=seconds)
        except self._grpc.RpcError as error:
            reason = error.details() or error.code().name
            if error.code() in self._again:
                raise _Again(reason) from error
            if error.code() in self._wrong:
                raise InputError(reason) from error
            raise ServiceError(f"{error.code().name}: {reason}") from error


def _described(info: dict[str, Any]) -> dict[str, Any]:
    sizes = [int(dim["size"]) for dim in info["tensor_shape"].get("dim", [])]
    return {"shape": sizes[1:], "dtype": _DTYPES.get(info["dtype"], "")}


_SIDES = ("inputs", "outputs")
_FUNCTIONS = ("encode", "decode", "reconstruct", "score", "explain", "classify", "generate")
_TRANSPORTS: dict[str, Callable[..., _Rest | _Grpc]] = {"rest": _Rest, "grpc": _Grpc}
