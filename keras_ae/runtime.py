"""Runs an artifact with ONNX Runtime and NumPy; never imports TensorFlow or Keras."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae import artifact
from keras_ae.data.batches import ahead
from keras_ae.data.cells import cells_of, columns_of, is_table, table_like
from keras_ae.data.columns import features, with_flags
from keras_ae.data.labels import label_index
from keras_ae.data.nested import in_order, series_of_table
from keras_ae.data.schema import Schema, check_problems
from keras_ae.data.sequences import Sequences
from keras_ae.data.tables import UNNAMED, check_finite
from keras_ae.data.windows import Windowing
from keras_ae.errors import InputError
from keras_ae.interface import STEPS, LocalFunctions
from keras_ae.progress import rows_bar
from keras_ae.sessions import CPU, FixedBatch, Provider, automatic, check_providers, open_session, short_name
from keras_ae.signatures import Signatures, signatures

_BATCH_ROWS = 1024
_BATCH_BYTES = 64 << 20
_COMPARED_ROWS = 7
_AGREES = {True: 1e-3, False: 5e-2}
"""Share of the largest value that providers may differ by, in float32 and in less."""


class Model(LocalFunctions):
    """The functions of one artifact, NumPy in and NumPy out. Made by `load`.

    Raw x may also be a table, a DataFrame or a dictionary of columns; `reconstruct`, `impute` and `explain` give back
    one then.

    Attributes:
        manifest: of the artifact.
        input_shape: of one raw observation.
        latent_dim: numbers in z.
        columns: names of the features, where the model was trained on a table.
        schema: what they are, where they are more than finite numbers; a row has codes, days and NaN then.
        windowing: how x is cut from a time series, where it was trained on windows.
        sequences: what is known of series, where it was trained on such of different lengths; x may be a list of series
            then, or an array with NaN behind the end of each.
        classes: names of the classes, where it was trained with labels.
        providers: of ONNX Runtime that it runs on, in order: `cuda`, `cpu`.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        precision: str,
        providers: Sequence[Provider],
        threads: int | None,
        batch_size: int | None = None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.input_shape = self.raw_shape = tuple(manifest["input"]["shape"])
        self.raw_dtype = manifest["input"]["dtype"]
        self.latent_shape = tuple(manifest["latent_shape"])
        self.latent_dim = int(manifest["latent_dim"])
        self.columns = tuple(manifest["columns"]) if manifest.get("columns") else None
        self.schema = Schema.of(manifest["table"]) if manifest.get("table") else None
        self.classes = tuple(manifest.get("classes") or ())
        self.windowing = Windowing.of(manifest["window"]) if manifest.get("window") else None
        self.sequences = Sequences.of(manifest["sequences"]) if manifest.get("sequences") else None
        self._signatures = signatures(manifest)
        self._dtype = np.dtype(self.raw_dtype)
        self._one_row = (1, *self.input_shape) if self.sequences is None else None
        self._zeros = np.zeros(math.prod(self.input_shape), self._dtype) if self._dtype.kind == "f" else None
        self.providers = tuple(map(short_name, providers))
        self._precision = precision
        self._providers = tuple(providers)
        self._threads = threads
        self._batch_size = batch_size
        self._sessions: dict[str, tuple[Any, list[str]]] = {}
        self._fixed: dict[str, tuple[Any, list[str]]] = {}

    def __repr__(self) -> str:
        name, functions = self.manifest["name"], ", ".join(self.signatures)
        return f"Model({name}, x {self.input_shape}, {self.latent_dim} latents: {functions})"

    @property
    def signatures(self) -> Signatures:
        """Inputs and outputs of each function, by name: shapes without the batch, and dtypes."""
        return self._signatures

    def reconstruct(self, x: Any) -> Any:
        """AE(x) in raw units, deterministic."""
        rows = super().reconstruct(x)
        return table_like(x, self.table(rows)) if is_table(x) else rows

    def impute(self, x: Any, steps: int = STEPS) -> Any:
        """Raw rows with missing cells filled, as `LocalFunctions.impute`. All else of a table stays."""
        if not is_table(x):
            return super().impute(x, steps)
        rows = self.rows(x)
        made = self.table(super().impute(rows, steps))
        for i, name in enumerate(made):
            given = np.array(x[name], object)
            made[name] = np.where(np.isnan(rows[:, i]), np.array(made[name], object), given)
        return table_like(x, made)

    def explain(self, x: Any) -> Any:
        """What each feature adds to the score of raw x, (rows, ...); over a row it sums to that."""
        parts = super().explain(x)
        return table_like(x, dict(zip(self.columns or (), parts.T, strict=True))) if is_table(x) else parts

    @property
    def drawn(self) -> Schema | None:
        """Of a table whose cells `generate` draws."""
        return self.schema

    @property
    def channels(self) -> tuple[str, ...]:
        """Of a window of a time series, or of series of different lengths; none where x is no such."""
        found = self.sequences or self.windowing
        return () if found is None else found.channels

    @property
    def has_gaussian_prior(self) -> bool:
        """Whether `generate` draws z from a single Gaussian."""
        return self.manifest.get("prior", {}).get("components", 1) == 1

    def run(self, function: str, inputs: np.ndarray | dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A function by name, on what its graph takes (`signatures`): raw x, z for `decode`, standard normal noise
        `epsilon` for `generate`; its outputs by name.

        Args:
            function: by name.
            inputs: by name, or one array for the first of them. A `label` that is left out is -1, not given.
        """
        return self._run(function, self._inputs(function, inputs))

    def stream(self, function: str, batches: Iterable[np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """The outputs for batches as they come, of any size; while one is computed, a thread fetches the next.

        Raises:
            InputError: as `run`, with the number of the row in the whole stream.
        """
        start = 0
        for batch in ahead(batches):
            inputs = self._inputs(function, batch, start)
            yield self._run(function, inputs, quiet=True)
            start += len(next(iter(inputs.values())))

    def example(self, function: str, n: int) -> np.ndarray:
        """n rows of a function's first input: for raw x the model's own samples, for z and noise standard normal
        numbers.
        """
        name, of = next(iter(self.check(function)["inputs"].items()))
        if name == "x":
            return self.samples(n)
        return np.random.default_rng(0).standard_normal((n, *of["shape"]), dtype=np.float32)

    def table(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Raw rows (rows, columns) as columns of cells by name: numbers, text, booleans, ISO dates."""
        return self.schema_of_table().table(np.asarray(x))

    def rows(self, table: Any) -> np.ndarray:
        """The other way: a DataFrame or a dictionary of columns, in any order, as raw rows (rows, columns).

        Raises:
            InputError: for a cell that can't be used, by row and column, or columns that are not those trained on.
        """
        x, problems = self.schema_of_table().encode(cells_of(table, "`x`"), self.ignored)
        check_problems(problems, "")
        return x

    def schema_of_table(self) -> Schema:
        """What its columns are, of one of finite numbers too.

        Raises:
            InputError: for a model that was not trained on a table.
        """
        if self.columns is None:
            raise InputError("A table is for a model that was trained on one. Received: one that was not.")
        return self.schema or Schema.of_numbers(self.columns)

    @property
    def ignored(self) -> tuple[str, ...]:
        """Columns that a table may have and the model does not look at: those dropped, the labels, and row numbers."""
        labels = self.manifest.get("labels_column")
        others = (*self.manifest.get("dropped", ()), *(() if labels is None else (labels,)), *UNNAMED)
        return tuple(name for name in others if name not in (self.columns or ()))

    def features(self, x: np.ndarray, filled: np.ndarray | None = None) -> np.ndarray:
        """Raw rows as numbers that have distances: of a table its features, where missing cells are filled, and told by
        a feature, of series values and lengths (`Sequences.flat`), other rows as they are.

        filled: what `impute` made of the rows of a table, where it has been asked already.
        """
        if self.sequences is not None:
            return self.sequences.flat(x)
        if self.schema is None:
            return x
        x = np.asarray(x, "float32")
        return with_flags(self.schema, features(self.schema, self.impute(x) if filled is None else filled), x)

    def padded(self, x: Any) -> np.ndarray:
        """Series, as a list, a table whose cells are lists, or an array, as rows (rows, steps, channels) with NaN
        behind the end of each.

        Raises:
            InputError: for a model that is not of series, and for series that it does not take.
        """
        if self.sequences is None:
            raise InputError("Series of different lengths are for a model that was trained on such. Received: another.")
        series = series_of_table(columns_of(x), "`x`") if is_table(x) else None
        return self.sequences.padded(x if series is None else in_order(series, self.sequences.channels, "`x`"), "x")

    def _inputs(self, function: str, given: Any, start: int | None = None) -> dict[str, np.ndarray]:
        taken = self.check(function)["inputs"]
        arrays = given if isinstance(given, dict) else {next(iter(taken)): given}
        x: Any = arrays.get("x")
        # The common case of a service, one row as it should be. A product with zeros is NaN where it isn't finite.
        is_plain = type(x) is np.ndarray and x.dtype is self._dtype and x.shape == self._one_row
        if is_plain and "x" in taken and (self._zeros is None or x.ravel().dot(self._zeros) == 0.0):
            return {"x": x}
        missing = [name for name in taken if name not in arrays and name != "label"]
        if missing or set(arrays) - set(taken):
            raise InputError(f"{function} takes {', '.join(taken)}. Received: {', '.join(arrays) or 'nothing'}.")
        inputs = {}
        for name, array in arrays.items():
            if name == "x" and (self.sequences is not None or is_table(array)):
                inputs[name] = self.rows(array) if self.sequences is None else self.padded(array)
                continue
            of = taken[name]
            columns, schema = (self.columns, self.schema) if name == "x" else (None, None)
            inputs[name] = _checked(array, tuple(of["shape"]), np.dtype(of["dtype"]), name, columns, start, schema)
        sizes = {len(array) for array in inputs.values()}
        if len(sizes) > 1:
            raise InputError(f"All inputs of {function} must have as many rows. Received: {sorted(sizes)}.")
        if "label" in inputs:
            label_index(inputs["label"].tolist(), len(inputs["label"]), self.classes)
        elif "label" in taken:
            inputs["label"] = np.full(sizes.pop(), -1, "int32")
        return inputs

    def _open(self, function: str, batch_size: int | None = None) -> tuple[Any, list[str]]:
        """What runs a function, and the names of its outputs."""
        file = _graph(self.path, self.manifest, self._precision, function, first=not self._sessions)
        session = open_session(file, self._providers, self._threads, batch_size)
        # ONNX has its outputs in the alphabet's order; first comes the one that the function is named for.
        names = sorted((output.name for output in session.get_outputs()), key=lambda name: name != function)
        # The Python layer around a session checks names that are right here, for some microseconds a call, and falls
        # back to other providers without a word; what is below it has the same signature.
        runner = getattr(session, "_sess", session)
        if batch_size is not None:
            on_gpu = self.providers[0] in ("cuda", "tensorrt")
            options = self._providers[0][1] if isinstance(self._providers[0], tuple) else {}
            sides = self.signatures[function]
            runner = FixedBatch(
                session,
                "cuda" if on_gpu else "cpu",
                int(options.get("device_id", 0)),
                sides["inputs"],
                sides["outputs"],
                batch_size,
            )
        if self.providers[0] != "cpu":
            self._check_agreement(function, runner, names, batch_size or _COMPARED_ROWS)
        return runner, names

    def _check_agreement(self, function: str, runner: Any, names: list[str], rows: int) -> None:
        """Raises InputError where a provider does not compute what the CPU does.

        Two calls, since the second is the first that CUDA replays from a graph. P-values are steps of the score.
        """
        on_cpu = Model(self.path, self.manifest, self._precision, CPU, self._threads)
        inputs = on_cpu._inputs(function, on_cpu.example(function, rows))
        expected = on_cpu._run(function, inputs)
        for _ in range(2):
            for name, found in zip(names, runner.run(names, inputs, None), strict=True):
                largest = float(np.nanmax(np.abs(expected[name])))
                off = np.abs(np.where(np.isnan(found) & np.isnan(expected[name]), 0.0, found - expected[name]))
                if function == "generate":  # what lies midway between two whole numbers goes to either: in one row
                    whole = (found == np.rint(found)) & (expected[name] == np.rint(expected[name]))
                    mean = np.where(whole, off, 0.0).mean(axis=0) - 1.0 / len(off)
                    off = np.maximum(np.where(whole, off - 1.0, off), mean)
                difference = float(off.max())
                # A NaN is no agreement either.
                if name != "p_value" and not difference <= _AGREES[self._precision == "float32"] * largest:
                    raise InputError(
                        f"Provider {self.providers[0]} must give for {function} what the CPU gives. "
                        f"Its `{name}` differs by {difference:.1e}, of {largest:.1e}: ask for cpu."
                    )

    def _run(self, function: str, inputs: dict[str, np.ndarray], quiet: bool = False) -> dict[str, np.ndarray]:
        array = next(iter(inputs.values()))
        is_fixed = len(array) == self._batch_size
        sessions = self._fixed if is_fixed else self._sessions
        opened = sessions.get(function)
        if opened is None:
            opened = sessions[function] = self._open(function, self._batch_size if is_fixed else None)
        session, names = opened
        if is_fixed or len(array) == 1 or (len(array) <= _BATCH_ROWS and array.nbytes <= _BATCH_BYTES):
            return dict(zip(names, session.run(names, inputs, None)))  # noqa: B905  (checking costs a microsecond)
        rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES // array[0].nbytes))
        parts = []
        with rows_bar(function) as show:
            for i in range(0, len(array), rows):
                parts.append(session.run(names, {key: a[i : i + rows] for key, a in inputs.items()}, None))
                if not quiet:
                    show(min(i + rows, len(array)), len(array))
        return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


def load(
    path: str | Path,
    precision: str = "float32",
    providers: Sequence[Provider] | str | None = None,
    threads: int | None = None,
    batch_size: int | None = None,
) -> Model:
    """Opens an artifact; each function's graph is checked and loaded when it is first used.

    Args:
        path: folder of the artifact.
        precision: of the ONNX graphs, one that the artifact holds.
        providers: where it runs, in order, of `cuda`, `tensorrt`, `openvino`, `cpu` and ONNX Runtime's own names, each
            perhaps with its options, `("cuda", {"device_id": 1})`; by default the CPU. Each must start, and what it
            computes is compared with the CPU when a function is first used. "auto" is CUDA where that starts, else the
            CPU, and the choice is logged.
        threads: within one call; by default ONNX Runtime's choice.
        batch_size: calls of just this many rows get buffers that stay where they are, and on CUDA and TensorRT are
            replayed as one graph; those of other sizes run as without.

    Raises:
        ArtifactError: for what is not an artifact, or was changed.
        InputError: for a precision or provider that is not there; when a function is first used, for a provider that
            does not start, with the library that it misses, or that computes something else than the CPU.
    """
    path = Path(path)
    manifest = artifact.read_manifest(path)
    held = artifact.precisions(manifest)
    if precision not in held:
        refused = manifest.get("precisions", {}).get(precision)
        why = f", which was refused when it was measured: {refused['reason']}" if refused else ""
        raise InputError(
            f"`precision` must be one that {path} holds: {', '.join(held) or 'none'}. Received: {precision!r}{why}."
        )
    if threads is not None and threads < 1:
        raise InputError(f"`threads` must be at least 1. Received: {threads}.")
    if batch_size is not None and batch_size < 1:
        raise InputError(f"`batch_size` must be at least 1. Received: {batch_size}.")
    if providers == "auto":
        providers = automatic(_graph(path, manifest, precision, "encode"))
    chosen = CPU if providers is None else (providers,) if isinstance(providers, str) else tuple(providers)
    check_providers(chosen)
    return Model(path, manifest, precision, chosen, threads, batch_size)


def _graph(path: Path, manifest: dict[str, Any], precision: str, function: str, first: bool = True) -> Path:
    """The file of a function, after checking its hash and with the first one that of the weights, one file for all."""
    weights = f"onnx/{precision}/weights.bin"
    if first and weights in manifest["files"]:
        artifact.check_file(path, weights, manifest)
    return artifact.check_file(path, f"onnx/{precision}/{function}.onnx", manifest)


def _checked(
    array: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    name: str,
    columns: tuple[str, ...] | None,
    start: int | None,
    schema: Schema | None,
) -> np.ndarray:
    array = np.asarray(array)
    if array.shape[1:] != shape or not array.ndim or not len(array):
        wanted = ", ".join(["batch", *map(str, shape)])
        raise InputError(f"`{name}` must have shape ({wanted}). Received: {array.shape}.")
    if array.dtype != dtype:
        array = _converted(array, dtype, name)
    if schema is not None:
        schema.check(array, start)
    else:
        check_finite(array, name, columns, start)
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
