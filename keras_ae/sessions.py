"""Sessions of ONNX Runtime on the providers that are asked for, none of which is replaced without a word."""

import contextlib
import ctypes
import io
import logging
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.errors import ArtifactError, InputError

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
"""Short names of ONNX Runtime's execution providers; its own names are taken too."""

Provider = str | tuple[str, Mapping[str, Any]]
"""A name, perhaps with options of ONNX Runtime, such as `("cuda", {"device_id": 1})`."""

CPU: tuple[Provider, ...] = ("cpu",)
_SHORT = {name: short for short, name in PROVIDERS.items()}
_PACKAGES = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu", "openvino": "onnxruntime-openvino"}
_OPTIONS: dict[str, dict[str, Any]] = {"cuda": {"use_tf32": "0"}}  # TF32 rounds factors to 10 bits, and parity is lost
_GRAPHS = {"cuda": {"enable_cuda_graph": "1"}, "tensorrt": {"trt_cuda_graph_enable": "1"}}
_LOG = logging.getLogger("keras_ae")


def short_name(provider: Provider) -> str:
    """`cuda` of CUDAExecutionProvider; a name that is not known here stays as it is."""
    name = provider if isinstance(provider, str) else provider[0]
    return _SHORT.get(name, name)


def available() -> tuple[str, ...]:
    """Names of the providers that the installed ONNX Runtime was built with, whether or not they start here."""
    import onnxruntime

    return tuple(map(short_name, onnxruntime.get_available_providers()))


def check_providers(providers: Sequence[Provider]) -> None:
    """Raises InputError where one is not in the installed ONNX Runtime, or there is none."""
    import onnxruntime

    if not providers:
        raise InputError(f"`providers` must name at least one: {', '.join(available())}. Received: none.")
    for name in map(short_name, providers):
        if name not in available():
            package = f" {_PACKAGES[name]} has it, in place of onnxruntime." if name in _PACKAGES else ""
            raise InputError(
                f"`providers` must be in the installed ONNX Runtime {onnxruntime.__version__}: "
                f"{', '.join(available())}. Received: {name}.{package}"
            )


def automatic(file: Path) -> tuple[Provider, ...]:
    """CUDA where a graph starts on it, else the CPU; what was chosen, and why, is logged."""
    if "cuda" not in available():
        _LOG.info("providers: cpu, since the installed ONNX Runtime has no cuda")
        return CPU
    try:
        open_session(file, ("cuda", "cpu"))
    except InputError as error:
        _LOG.warning("providers: cpu. %s", error)
        return CPU
    _LOG.info("providers: cuda")
    return ("cuda", "cpu")


def session_options(threads: int | None = None) -> Any:
    """What every session of this package is opened with."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    return options


def open_session(
    file: Path, providers: Sequence[Provider] = CPU, threads: int | None = None, batch_size: int | None = None
) -> Any:
    """An ONNX Runtime session on providers in order: each node runs on the first that has a kernel for it, and on the
    CPU where none has.

    Args:
        file: of the graph.
        providers: each must start here.
        threads: within one call.
        batch_size: of every call, where it is fixed; CUDA may capture the graph then.

    Raises:
        ArtifactError: for a file that ONNX Runtime can't load.
        InputError: for a provider that does not start here, with the library that it misses.
    """
    import onnxruntime

    check_providers(providers)
    names = [short_name(provider) for provider in providers]
    if {"cuda", "tensorrt"} & set(names):
        _preload()
    given = [_with_options(provider, batch_size is not None) for provider in providers]
    options = session_options(threads)
    if batch_size is not None:
        for name in _batch_dimensions(file):
            options.add_free_dimension_override_by_name(name, batch_size)
    try:
        # Without `enable_fallback=0` some failures give a session on the CPU, and a message on stdout.
        session = onnxruntime.InferenceSession(file, options, providers=given, enable_fallback=0)
    except Exception as error:  # ONNX Runtime has no base class for what it raises
        if names != ["cpu"]:
            raise InputError(f"Provider {names[0]} could not start here: {_why(names) or error}") from error
        raise ArtifactError(f"ONNX Runtime could not load {file}: {error}") from error
    started = [short_name(name) for name in session.get_providers()]
    missing = [name for name in names if name not in started]
    if missing:
        why = _why(missing) or "its libraries load, so that a device or its driver is missing"
        raise InputError(f"Provider {missing[0]} could not start here, and no other takes its place unasked: {why}.")
    return session


class FixedBatch:
    """A session for batches of one size, whose inputs and outputs stay in the same memory of the device.

    On CUDA its second call records the graph, and later ones replay it in one launch.

    Args:
        session: that `open_session` gave for this `batch_size`.
        device: where the buffers are, `cpu` or `cuda`.
        device_id: of several devices.
        inputs: shapes without the batch, and dtypes, by name.
        outputs: the same.
        batch_size: rows of every call.
    """

    def __init__(
        self,
        session: Any,
        device: str,
        device_id: int,
        inputs: Mapping[str, Mapping[str, Any]],
        outputs: Mapping[str, Mapping[str, Any]],
        batch_size: int,
    ) -> None:
        from onnxruntime import OrtValue

        def buffers(of: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
            arrays = {name: np.zeros((batch_size, *one["shape"]), one["dtype"]) for name, one in of.items()}
            return {name: OrtValue.ortvalue_from_numpy(a, device, device_id) for name, a in arrays.items()}

        self._session, self._inputs, self._outputs = session, buffers(inputs), buffers(outputs)
        self._binding = session.io_binding()
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self._outputs.items():
            self._binding.bind_ortvalue_output(name, value)
        self._lock = threading.Lock()

    def run(self, names: Sequence[str], inputs: Mapping[str, np.ndarray], _: Any = None) -> list[np.ndarray]:
        """The named outputs, as a session gives them."""
        with self._lock:
            for name, value in self._inputs.items():
                value.update_inplace(np.ascontiguousarray(inputs[name]))
            self._session.run_with_iobinding(self._binding)
            return [self._outputs[name].numpy().copy() for name in names]


def _with_options(provider: Provider, is_fixed: bool) -> tuple[str, dict[str, Any]]:
    given = {} if isinstance(provider, str) else provider[1]
    short = short_name(provider)
    graphs = _GRAPHS.get(short, {}) if is_fixed else {}
    return PROVIDERS.get(short, short), {**_OPTIONS.get(short, {}), **graphs, **given}


def _batch_dimensions(file: Path) -> set[str]:
    """Names of the first dimensions of a graph's inputs."""
    import onnxruntime

    inputs = onnxruntime.InferenceSession(file, session_options(), providers=[PROVIDERS["cpu"]]).get_inputs()
    return {one.shape[0] for one in inputs if isinstance(one.shape[0], str)}


@cache
def _preload() -> None:
    """Loads the CUDA libraries that came as Python packages; what is missing is told when a session does not start."""
    import onnxruntime

    preload = getattr(onnxruntime, "preload_dlls", None)  # since 1.21
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            preload()


def _why(providers: Sequence[str]) -> str:
    """What the system says of the first provider's library that does not load: the name of what it misses."""
    import onnxruntime

    for provider in providers:
        for library in Path(onnxruntime.__file__).parent.glob(f"capi/*onnxruntime_providers_{provider}.*"):
            try:
                ctypes.CDLL(str(library))
            except OSError as error:
                return str(error)
    return ""
