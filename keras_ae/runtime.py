"""Runs an artifact with ONNX Runtime and NumPy; never imports TensorFlow or Keras."""

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae import artifact
from keras_ae.data.tables import check_finite
from keras_ae.errors import ArtifactError, InputError

_BATCH_ROWS = 1024
_BATCH_BYTES = 64 << 20
_PROGRESS_AFTER = 2.0  # seconds


class Model:
    """The functions of one artifact, NumPy in and NumPy out. Made by `load`.

    Attributes:
        manifest: of the artifact.
        input_shape: of one raw observation.
        latent_dim: numbers in z.
        columns: names of the features, where the model was trained on a table.
    """

    def __init__(
        self, path: Path, manifest: dict[str, Any], precision: str, providers: Sequence[str], threads: int | None
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.input_shape = tuple(manifest["input"]["shape"])
        self.latent_shape = tuple(manifest["latent_shape"])
        self.latent_dim = int(manifest["latent_dim"])
        self.columns = tuple(manifest["columns"]) if manifest.get("columns") else None
        self._dtype = np.dtype(manifest["input"]["dtype"])
        self._one_row = (1, *self.input_shape)
        self._zeros = np.zeros(math.prod(self.input_shape), self._dtype) if self._dtype.kind == "f" else None
        self._folder = f"onnx/{precision}"
        self._providers = list(providers)
        self._threads = threads
        self._sessions: dict[str, tuple[Any, str, list[str]]] = {}

    def encode(self, x: np.ndarray) -> np.ndarray:
        """Raw x (rows, ...) to z (rows, ...), the posterior mean."""
        return self._run("encode", self._rows(x))["z"]

    def decode(self, z: np.ndarray) -> np.ndarray:
        """z (rows, ...) to x (rows, ...) in raw units."""
        return self._run("decode", self._latents(z))["x"]

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        """AE(x) in raw units, deterministic."""
        return self._run("reconstruct", self._rows(x))["x_hat"]

    def score(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """`score` (rows,), higher is more anomalous, and its conformal `p_value` (rows,)."""
        return self._run("score", self._rows(x))

    def generate(self, n: int, seed: int | None = None) -> np.ndarray:
        """n observations (n, ...) in raw units; a seed gives the same ones as in Keras and every export."""
        if n < 1:
            raise InputError(f"`n` must be at least 1. Received: {n}.")
        epsilon = np.random.default_rng(seed).standard_normal((n, self.latent_dim), dtype=np.float32)
        return self._run("generate", epsilon)["x"]

    def _rows(self, x: Any) -> np.ndarray:
        # The common case of a service, one row as it should be. A product with zeros is NaN where it isn't finite.
        is_plain = type(x) is np.ndarray and x.dtype is self._dtype and x.shape == self._one_row
        if is_plain and (self._zeros is None or x.ravel().dot(self._zeros) == 0.0):
            return x
        return _checked(x, self.input_shape, self._dtype, "x", self.columns)

    def _latents(self, z: Any) -> np.ndarray:
        return _checked(z, self.latent_shape, np.dtype("float32"), "z", None)

    def _open(self, function: str) -> tuple[Any, str, list[str]]:
        """What runs a function, the name of its input, and those of its outputs."""
        import onnxruntime

        weights = f"{self._folder}/weights.bin"
        if weights in self.manifest["files"]:
            artifact.check_file(self.path, weights, self.manifest)
        file = artifact.check_file(self.path, f"{self._folder}/{function}.onnx", self.manifest)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        try:
            session = onnxruntime.InferenceSession(file, options, providers=self._providers)
        except Exception as error:  # ONNX Runtime has no base class for what it raises
            raise ArtifactError(f"ONNX Runtime could not load {file}: {error}") from error
        missing = [name for name in self._providers if name not in session.get_providers()]
        if missing:
            raise InputError(f"Provider {missing[0]} could not start here, and no other takes its place unasked.")
        # The Python layer around a session checks names that are right here, for some microseconds a call, and falls
        # back to other providers without a word; what is below it has the same signature.
        runner = getattr(session, "_sess", session)
        # ONNX has its outputs in the alphabet's order; first comes the one that the function is named for.
        names = sorted((output.name for output in session.get_outputs()), key=lambda name: name != function)
        return runner, session.get_inputs()[0].name, names

    def _run(self, function: str, array: np.ndarray) -> dict[str, np.ndarray]:
        opened = self._sessions.get(function)
        if opened is None:
            opened = self._sessions[function] = self._open(function)
        session, key, names = opened
        if len(array) == 1 or (len(array) <= _BATCH_ROWS and array.nbytes <= _BATCH_BYTES):
            return dict(zip(names, session.run(names, {key: array}, None)))  # noqa: B905  (checking costs a microsecond)
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // array[0].nbytes))
        starts = _progress(range(0, len(array), rows), function)
        parts = [session.run(names, {key: array[i : i + rows]}, None) for i in starts]
        return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


def load(
    path: str | Path,
    precision: str = "float32",
    providers: Sequence[str] | None = None,
    threads: int | None = None,
) -> Model:
    """Opens an artifact; each function's graph is checked and loaded when it is first used.

    Args:
        path: folder of the artifact.
        precision: of the ONNX graphs, one that the artifact holds.
        providers: ONNX Runtime execution providers; by default the CPU. None of them is replaced silently.
        threads: within one call; by default ONNX Runtime's choice.

    Raises:
        ArtifactError: for what is not an artifact, or was changed.
        InputError: for a precision or provider that is not there.
    """
    path = Path(path)
    manifest = artifact.read_manifest(path)
    held = sorted({name.split("/")[1] for name in manifest["files"] if name.startswith("onnx/")})
    if precision not in held:
        raise InputError(
            f"`precision` must be one that {path} holds: {', '.join(held) or 'none'}. Received: {precision!r}."
        )
    if providers is not None:
        import onnxruntime

        unknown = [name for name in providers if name not in onnxruntime.get_available_providers()]
        if unknown or not providers:
            known = ", ".join(onnxruntime.get_available_providers())
            raise InputError(f"`providers` must be available here: {known}. Received: {list(providers)}.")
    if threads is not None and threads < 1:
        raise InputError(f"`threads` must be at least 1. Received: {threads}.")
    return Model(path, manifest, precision, providers or ["CPUExecutionProvider"], threads)


def _checked(
    array: Any, shape: tuple[int, ...], dtype: np.dtype[Any], name: str, columns: tuple[str, ...] | None
) -> np.ndarray:
    array = np.asarray(array)
    if array.shape[1:] != shape or not len(array):
        wanted = ", ".join(map(str, shape))
        raise InputError(f"`{name}` must have shape (batch, {wanted}). Received: {array.shape}.")
    if array.dtype != dtype:
        array = _converted(array, dtype, name)
    check_finite(array, name, columns)
    return array


def _converted(array: np.ndarray, dtype: np.dtype[Any], name: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise InputError(f"`{name}` must be numbers. Received: {array.dtype}.")
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(dtype)
    if dtype.kind != "f" and not np.array_equal(converted, array):
        raise InputError(
            f"`{name}` must be whole numbers that {dtype} holds, as in training. "
            f"Received: {array.dtype} with other values."
        )
    return converted


def _progress(starts: range, what: str) -> Iterator[int]:
    """The starts, with a progress bar on a terminal once it is clear that they will take long."""
    began = time.perf_counter()
    bar: Any = None
    try:
        for done, start in enumerate(starts):
            if bar is None and done == 1 and (time.perf_counter() - began) * len(starts) > _PROGRESS_AFTER:
                from rich.console import Console
                from rich.progress import Progress

                bar = Progress(console=Console(stderr=True), transient=True)
                task = bar.add_task(what, total=len(starts))
                bar.start()
            if bar is not None:
                bar.update(task, completed=done)
            yield start
    finally:
        if bar is not None:
            bar.stop()
