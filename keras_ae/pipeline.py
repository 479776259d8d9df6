"""From raw data to a proven artifact: what `keras-ae fit` calls, and how artifacts are written and loaded in Python."""

import contextlib
import hashlib
import importlib.metadata
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ae import __version__, artifact
from keras_ae.bfloat16 import POLICY, check_bfloat16, in_float32
from keras_ae.data import ColumnStatistics, Splits, Statistics, fit_columns, fit_scaling, load_source, split
from keras_ae.data.columns import layout
from keras_ae.data.sources import Source
from keras_ae.divergence import Divergence
from keras_ae.errors import ArtifactError, ExportError, InputError
from keras_ae.export import (
    EXPORTERS,
    PRECISIONS,
    VERIFIERS,
    Reference,
    export_precision,
    graphs_of,
    reference_rows,
    verify_precision,
)
from keras_ae.export.parity import BATCHES, TOLERANCE
from keras_ae.labelling import Labels, labels_of
from keras_ae.layers import (
    ColumnScaling,
    ContinuousBernoulliLoss,
    FeatureGaussianLoss,
    GaussianLoss,
    RMSELoss,
    Sampling,
    StudentTLoss,
)
from keras_ae.models import Autoencoder
from keras_ae.monitoring import keep_reference
from keras_ae.provenance import source_of
from keras_ae.recipes import DEFAULT, RECIPES, build, default_network
from keras_ae.replicas import is_of_workers, writes
from keras_ae.report import REPORT, add_report
from keras_ae.runs import Run
from keras_ae.training import Training, default_latent_dim, finish, measure, measure_classes, train

MODEL = "model.keras"
DTYPES = {"float32": "float32", "bfloat16": POLICY}
_DENSITIES = (RMSELoss, GaussianLoss, FeatureGaussianLoss, StudentTLoss, ContinuousBernoulliLoss)
"""Of raw x; the other likelihoods are probabilities, which no density of the baseline compares with."""
_LIBRARIES = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow", "tf2onnx")


Progress = Callable[[str, float | None], None]


def _silent(what: str, share: float | None = None) -> None:
    pass


@dataclass(frozen=True)
class Fitted:
    """What `fit` gives back.

    Attributes:
        model: trained, raw in and raw out; `model.fit` goes on training.
        splits: raw rows.
        training: epochs, seconds and the history of each named term.
        manifest: what the artifact's manifest says, metrics included.
        artifact: its folder, or None where none was asked for.
        seconds: of the whole run.
    """

    model: Autoencoder
    splits: Splits
    training: Training
    manifest: dict[str, Any]
    artifact: Path | None
    seconds: float

    @property
    def report(self) -> Path | None:
        """The page in the artifact, or None where there is none."""
        return self.artifact / REPORT if self.artifact and REPORT in self.manifest.get("files", ()) else None

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        keys = ("recipe", "latent_dim", "metrics", "exports", "precisions", "training", "splits", "notes")
        return {
            "artifact": str(self.artifact) if self.artifact else None,
            "seconds": round(self.seconds, 2),
            **{key: self.manifest[key] for key in keys if key in self.manifest},
        }


def fit(
    source: Any,
    out: str | Path | None = None,
    recipe: str = DEFAULT,
    latent_dim: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    network: str | None = None,
    dtype: str = "float32",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    precisions: Sequence[str] = (),
    labels: str | bool | None = None,
    test: bool = True,
    report: bool = True,
    progress: Progress = _silent,
    resume: str | Path | Run | None = None,
    on_divergence: str = "stop",
    strategy: Any = None,
    **options: Any,
) -> Fitted:
    """Splits, scales, trains, measures and, with `out`, exports and verifies: raw data in, a proven artifact out.

    Args:
        source: `digits`, `mnist`, ..., a file, a folder of images, an array (rows, ...), a DataFrame or a dictionary of
            columns; or what `keras_ae.data.load_source` made of one, with columns dropped or their kinds given.
        out: folder of the artifact, new or to be replaced; nothing is left there unless everything is verified.
        recipe: a key of `keras_ae.recipes.RECIPES`.
        latent_dim: numbers in z; by default 16, or half the features where they are few.
        epochs: at most; by default about 4,000 steps, at least 10 epochs.
        batch_size: rows in a step; by default 128, or less for small data.
        seed: of the split, the weights and the noise; the same seed on the same machine gives the same metrics.
        network: a key of `keras_ae.networks.NETWORKS`; by default from the input's rank.
        dtype: of the products in training, `float32` or `bfloat16`; losses and exports are float32.
        callbacks: Keras callbacks for `model.fit`.
        precisions: `int8`, `float16`: ONNX graphs beside those in float32. One that is slower than float32, or adds
            more than 2 % to the RMSE, is left out; the manifest says why.
        labels: a column of a .csv or .parquet, or an array of an .npz, that holds labels; or True or False: learn from
            the labels of the source too, so that the artifact can `classify`, and `generate` what is
            asked for; by default where it has some that can be used. NaN, None, "" and -1 are labels that are missing:
            they are spread from the others along neighbours.
        test: keep a tenth of the rows for the figures alone; otherwise these are of the rows that chose the epoch.
        report: leave a report in the artifact, of at most 2,000 rows of each split (`keras_ae.report`).
        progress: is told in a few words what runs, and its share done where that is known.
        resume: folder of checkpoints, or a `Run`, which says how often. A new folder begins a run; one that was killed
            goes on from its newest whole checkpoint, and ends as if it had not been.
        strategy: a `tf.distribute.Strategy` that trains on several devices; of several workers, each of which calls
            this, the first writes the artifact.
        on_divergence: `stop` where a term of the loss is not finite, or `lower_learning_rate` and go on.
        **options: of the recipe and the network.

    Raises:
        InputError: for a source, options or a target that can't be used, before anything is written; for a run with
            other options or data than it began with; for a folder that another run writes.
        DivergenceError: for a loss that is no longer finite; no artifact is written.
        Interrupted: with `resume`, after SIGTERM or Ctrl-C.
        ExportError: for an export that fails or disagrees with Keras; nothing is written.
    """
    started = time.perf_counter()
    for name, value in {"latent_dim": latent_dim, "epochs": epochs, "batch_size": batch_size}.items():
        if value is not None and value < (name != "epochs"):
            raise InputError(f"`{name}` must be positive. Received: {value}.")
    _check_precisions(precisions)
    if precisions and out is None:
        raise InputError("`precisions` are of an artifact, and need `out`.")
    divergence = Divergence(on_divergence)
    if not writes(strategy):
        out = None
    if resume is not None and is_of_workers(strategy):
        raise InputError("`resume` is of one machine. Received: a strategy of several workers besides.")
    if dtype not in DTYPES:
        raise InputError(f"`dtype` must be one of {', '.join(DTYPES)}. Received: {dtype!r}.")
    if dtype == "bfloat16":
        check_bfloat16()
    with (
        contextlib.nullcontext() if resume is None else resume if isinstance(resume, Run) else Run(resume) as run,
        contextlib.nullcontext() if out is None else artifact.replacing(Path(out)) as folder,
        contextlib.ExitStack() as scope,
    ):
        column = labels if isinstance(labels, str) else None
        data = source if isinstance(source, Source) else load_source(source, column)
        splits = split(data, seed, test)
        statistics = _statistics(data, splits)
        schema = statistics.schema if isinstance(statistics, ColumnStatistics) else None
        known = labels_of(data, splits, statistics, None if labels is None else bool(labels), seed)
        asked: dict[str, Any] = {"recipe": recipe, "latent_dim": latent_dim, "network": network, "options": options}
        asked |= {"epochs": epochs, "batch_size": batch_size, "seed": seed, "dtype": dtype}
        if run is not None:
            also = {"columns": schema, "callbacks": [type(callback).__name__ for callback in callbacks]}
            run.begin(asked | also | _of_data(splits, known))
            if run.found is not None:
                progress(f"going on after {run.found}", None)
        shape = splits.train.shape[1:]
        latent_dim = latent_dim or default_latent_dim(splits.train[0].size if schema is None else layout(schema).size)
        keras.utils.set_random_seed(seed)
        if strategy is not None:
            scope.enter_context(strategy.scope())
        try:
            model = build(
                recipe,
                shape,
                latent_dim,
                network,
                splits.train.dtype.name,
                DTYPES[dtype],
                known.classes,
                schema=schema,
                **options,
            )
        except (TypeError, ValueError) as error:
            given = f" (options: {', '.join(f'{k}={v!r}' for k, v in options.items())})" if options else ""
            raise InputError(f"{error}{given}") from error
        _check_sign(model, data)

        what = f"training {recipe} on {len(splits.train):,} rows of {'x'.join(map(str, shape))}"
        progress(what, None)
        training = train(
            model,
            splits,
            statistics,
            recipe,
            known,
            epochs,
            batch_size,
            callbacks,
            on_epoch=lambda done, of: progress(what, done / of),
            run=run,
            divergence=divergence,
        )
        scope.close()
        if dtype == "bfloat16" or strategy is not None:
            model = in_float32(model)  # on one device, too
        prior = finish(model, splits, known)
        metrics = measure(model, splits, statistics) | measure_classes(model, splits, known)
        notes = [*data.rows.notes, *_notes(data, splits, statistics), *known.notes, *divergence.notes]
        if run is not None and run.found is not None:
            notes.append(f"training went on after {run.found}, and its seconds are since then")
        if run is not None and run.damaged:
            notes.append(f"damaged checkpoints were passed over for the one before: {', '.join(run.damaged)}")
        manifest = {
            "recipe": recipe,
            "options": options,
            "network": network or RECIPES[recipe].network or default_network(shape),
            "source": data.name,
            "asked": {name: value for name, value in asked.items() if value is not None},
            "columns": list(data.rows.columns) if data.rows.columns else None,
            "dropped": list(data.rows.schema.dropped) if data.rows.schema else [],
            "rows_skipped": data.rows.skipped,
            "window": data.rows.windowing.describe() if data.rows.windowing else None,
            "labels_column": data.labels,
            "seed": seed,
            "scaling": "shared" if statistics.shared else "per feature",
            "splits": splits.describe(),
            "duplicates": splits.duplicates,
            "training": {
                "epochs": training.epochs,
                "best_epoch": training.best_epoch,
                "seconds": round(training.seconds, 2),
                "seconds_to_first_step": training.seconds_to_first_step and round(training.seconds_to_first_step, 2),
                "dtype": dtype,
                "history": _history(training),
            },
            "prior": prior.describe(),
            "metrics": metrics,
            "notes": notes,
        }
        if folder is not None:
            manifest = write(model, folder, splits.test, manifest, progress, precisions, splits.calibration)
            if report:
                name = Path(out or folder).resolve().name
                manifest = add_report(folder, name, splits, progress, density_bound(model))
        else:
            manifest = {**describe(model), **manifest}
        seconds = time.perf_counter() - started
        return Fitted(model, splits, training, manifest, None if out is None else Path(out), seconds)


def _of_data(splits: Splits, known: Labels) -> dict[str, Any]:
    """What a run's data and libraries are, to tell it from another."""
    return {
        "data": {name: part["sha256"] for name, part in splits.describe().items()},
        "labels": {name: hashlib.sha256(y.tobytes()).hexdigest() for name, y in known.learned.items()},
        "versions": {"keras_ae": __version__} | {name: importlib.metadata.version(name) for name in _LIBRARIES},
    }


def save(
    model: Autoencoder, out: str | Path, rows: np.ndarray | None = None, precisions: Sequence[str] = ()
) -> dict[str, Any]:
    """Writes a model that you trained with `model.fit` as an artifact, every export verified; returns its manifest.

    Args:
        model: trained; `model.calibrate(x)` gives its scores p-values, `model.fit_prior(x)` its samples a fitted prior.
        out: folder of the artifact, new or to be replaced.
        rows: raw rows to compare the exports on; by default the model's own samples.
        precisions: as for `fit`; they need `rows`, those that calibrated the model.

    Raises:
        InputError: for a target that can't be written, or precisions without the rows that calibrated the model.
        ExportError: for an export that fails or disagrees with Keras; nothing is written.
    """
    _check_precisions(precisions)
    if precisions and rows is None:
        raise InputError("`precisions` are measured on rows that were not trained on, and need `rows`.")
    with artifact.replacing(Path(out)) as folder:
        return write(model, folder, rows, {"recipe": None}, precisions=precisions, calibration=rows)


def write(
    model: Autoencoder,
    folder: Path,
    rows: np.ndarray | None,
    content: dict[str, Any],
    progress: Progress = _silent,
    precisions: Sequence[str] = (),
    calibration: np.ndarray | None = None,
) -> dict[str, Any]:
    """Writes model, exports and manifest into an empty folder, each export compared with Keras on raw rows, and each
    precision measured on calibration rows.
    """
    reference = _reference(model, rows)
    graphs = graphs_of(model)
    model.save(folder / MODEL)
    exports = {}
    for kind, export in EXPORTERS.items():
        progress(f"exporting and verifying {kind}", None)
        exports[kind] = _summarized(export(graphs, folder, reference))
    if calibration is not None:
        keep_reference(folder, calibration)
    measured = {}
    for precision in precisions:
        assert calibration is not None
        progress(f"measuring {precision}", None)
        measured[precision] = export_precision(folder, folder, precision, model, calibration)
    low = {"precisions": measured} if measured else {}
    artifact.write_manifest(folder, {**describe(model), **content, "exports": exports, **low})
    return artifact.read_manifest(folder)


def _reference(model: Autoencoder, rows: np.ndarray | None) -> Reference:
    if rows is None or len(rows) < max(BATCHES):
        rows = reference_rows(model)
    rows = rows[: max(BATCHES)]
    return Reference.of(model, model.scaling.hard_rows(rows) if isinstance(model.scaling, ColumnScaling) else rows)


def describe(model: Autoencoder) -> dict[str, Any]:
    """What every artifact says of itself, whatever made it."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "name": model.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {"shape": list(model.raw_shape), "dtype": model.raw_dtype},
        "latent_dim": model.latent_dim,
        "latent_shape": list(model.latent_shape),
        "functions": list(model.functions()),
        "epsilon_dim": model.prior.epsilon_dim,
        "prior": {"components": getattr(model.prior, "components", None)},
        "classes": list(model.classes),
        **_table_of(model),
        "conditional": model.conditional,
        "calibration_rows": len(model.p_value.calibration_scores),
        "versions": {"keras_ae": __version__, **versions},
    }


def load(path: str | Path) -> Autoencoder:
    """The Keras model of an artifact, or of a .keras file, to run or to train further.

    Raises:
        ArtifactError: for a changed byte, code in the file (Lambda, pickle), or a model that is no Autoencoder.
    """
    path = Path(path)
    if path.suffix != ".keras":
        path = artifact.check_file(path, MODEL, artifact.read_manifest(path))
    elif not path.is_file():
        raise InputError(f"No such file: {path}.")
    try:
        model = keras.saving.load_model(path, safe_mode=True)
    except Exception as error:  # Keras and zipfile raise what they happen to meet
        raise ArtifactError(f"{path} could not be loaded: {str(error).splitlines()[0]}") from error
    if not isinstance(model, Autoencoder):
        raise ArtifactError(f"{path} must hold a keras_ae Autoencoder. Received: {type(model).__name__}.")
    return model


def _table_of(model: Autoencoder) -> dict[str, Any]:
    if not isinstance(model.scaling, ColumnScaling):
        return {}
    return {"columns": list(model.scaling.schema.names), "table": model.scaling.schema.describe()}


def nll_bound(path: str | Path, k: int = 10) -> Callable[[np.ndarray], np.ndarray] | None:
    """From raw rows to an importance-weighted bound on -log p(x), nats, as a density; None where the model of the
    artifact has none (`keras_ae.likelihood`).
    """
    return density_bound(load(path), k)


def density_bound(model: Autoencoder, k: int = 10) -> Callable[[np.ndarray], np.ndarray] | None:
    """As `nll_bound`, of a model."""
    likelihood = getattr(model.reconstruction, "likelihood", model.reconstruction)
    is_density = isinstance(likelihood, _DENSITIES) and likelihood.is_likelihood
    if not is_density or not isinstance(model.latent, Sampling):
        return None
    return lambda x: -model.log_likelihood(x, k=k).rows


def verify(path: str | Path) -> dict[str, Any]:
    """Checks the hashes of an artifact and compares its exports with its Keras model again.

    Raises:
        ArtifactError: for a changed, missing or foreign file.
        ExportError: for an export that disagrees.
    """
    folder = Path(path)
    manifest = artifact.verify_files(folder)
    model = load(folder)
    reference = _reference(model, None)
    exports = {kind: _summarized(VERIFIERS[kind](folder, reference)) for kind in manifest["exports"]}
    precisions = {
        name: verify_precision(folder, name, model, figures)
        for name, figures in manifest.get("precisions", {}).items()
        if figures["method"] is not None
    }
    return {"artifact": str(path), "files": len(manifest["files"]), "exports": exports, "precisions": precisions}


def export(path: str | Path, to: str, out: str | Path, single_file: bool = False) -> dict[str, Any]:
    """Exports an artifact's model again, verified, into a folder of its own that holds nothing else.

    Args:
        path: the artifact.
        to: `saved_model` or `onnx`.
        out: new or empty folder.
        single_file: give each ONNX file its own weights, for use alone.
    """
    if to not in EXPORTERS:
        raise InputError(f"`to` must be one of {', '.join(EXPORTERS)}. Received: {to!r}.")
    _check_new(out)
    manifest = artifact.verify_files(Path(path))
    model = load(path)
    arguments = {"single_file": single_file} if to == "onnx" else {}
    with artifact.replacing(Path(out)) as folder:
        figures = EXPORTERS[to](graphs_of(model), folder, _reference(model, None), **arguments)
    return {"artifact": str(path), "out": str(out), "recipe": manifest["recipe"], "export": _summarized(figures)}


def add_precision(
    path: str | Path,
    precision: str,
    out: str | Path | None = None,
    source: str | Path | np.ndarray | Source | None = None,
    single_file: bool = False,
) -> dict[str, Any]:
    """Makes the ONNX graphs of another precision, measured beside float32, in a new folder or in the artifact itself.

    Args:
        path: the artifact.
        precision: `int8` or `float16`.
        out: new or empty folder; by default the artifact, which is rewritten whole.
        source: what the artifact was trained on, for the rows that calibrated it; by default what its manifest names.
            For one that `save` wrote, those rows.
        single_file: give each ONNX file its own weights, for use alone; with `out` only.

    Returns:
        `artifact`, `out` and the figures, as in the manifest.

    Raises:
        InputError: for a source that gives other rows.
        ExportError: where measurement refuses the precision; an artifact's manifest then says why.
    """
    path = Path(path)
    _check_precisions([precision])
    if single_file and out is None:
        raise InputError("Files that stand alone need `out`, a folder of their own.")
    manifest = artifact.verify_files(path)
    model = load(path)
    rows = _calibration_rows(manifest, source)
    if out is not None:
        _check_new(out)
    with artifact.replacing(path if out is None else Path(out)) as folder:
        if out is None:
            shutil.copytree(path, folder, dirs_exist_ok=True)
            shutil.rmtree(folder / "onnx" / precision, ignore_errors=True)
        figures = export_precision(path, folder, precision, model, rows, single_file)
        if out is None:
            measured = {**manifest.get("precisions", {}), precision: figures}
            artifact.write_manifest(folder, {**artifact.content_of(manifest), "precisions": measured})
        elif figures["method"] is None:
            raise _refusal(precision, figures)
    if figures["method"] is None:
        raise _refusal(precision, figures)
    return {"artifact": str(path), "out": str(path if out is None else out), "precision": precision, "figures": figures}


def predicting(path: str | Path) -> Callable[[str, np.ndarray], Callable[[], object]]:
    """Keras's `predict` on an artifact's functions: from a name and an array to a call, for timing."""
    functions = load(path).functions()

    def timed(name: str, inputs: Any) -> Callable[[], object]:
        arrays = inputs if isinstance(inputs, dict) else {functions[name].inputs[0].name: inputs}
        rows = len(next(iter(arrays.values())))
        for tensor in functions[name].inputs:
            arrays = {tensor.name: np.full(rows, -1, "int32"), **arrays} if tensor.name == "label" else arrays
        return lambda: functions[name].predict(arrays, batch_size=rows, verbose=0)

    return timed


def _calibration_rows(manifest: dict[str, Any], source: Any) -> np.ndarray:
    if source is None and manifest.get("source") is None:
        raise InputError("The artifact does not name what it was trained on: `source` must give its calibration rows.")
    try:
        data = source_of(manifest, source)
    except InputError as error:
        raise InputError(f"{error} `source` must be what the artifact was trained on.") from error
    return split(data, manifest["seed"]).calibration if "seed" in manifest else data.rows.x


def _statistics(data: Source, splits: Splits) -> Statistics | ColumnStatistics:
    if data.rows.schema is None or data.rows.schema.is_plain:
        return fit_scaling(splits.train)
    return ColumnStatistics(fit_columns(data.rows.schema, splits.train))


def _check_precisions(precisions: Sequence[str]) -> None:
    for name in precisions:
        if name not in PRECISIONS:
            raise InputError(f"`precisions` must be of {', '.join(PRECISIONS)}. Received: {name!r}.")


def _refusal(precision: str, figures: dict[str, Any]) -> ExportError:
    return ExportError(f"{precision} is not worth it here: {figures['reason']}.")


def _check_new(out: str | Path) -> None:
    if Path(out).exists() and not (Path(out).is_dir() and not any(Path(out).iterdir())):
        raise InputError(f"{out} must be new or empty.")


def _summarized(figures: dict[str, dict[str, float]]) -> dict[str, Any]:
    largest = {key: max(entry[key] for entry in figures.values()) for key in ("max_abs_diff", "max_rel_diff")}
    return {**largest, "tolerance_rel": TOLERANCE, "batches": list(BATCHES), "functions": figures}


def _history(training: Training) -> dict[str, Any]:
    """The terms by epoch, at most 200 values each, for pictures; and the epochs that they stand for."""
    thinned = {}
    for name, values in training.history.items():
        index = np.unique(np.linspace(0, len(values) - 1, min(len(values), 200)).astype(int))
        thinned[name] = [float(f"{values[i]:.6g}") for i in index]
    return {"epochs": training.epochs, **thinned}


def _check_sign(model: Autoencoder, data: Source) -> None:
    if not getattr(model.scaling, "non_negative", False):
        return
    negative = np.argwhere(data.rows.x < 0)
    if len(negative):
        row, *column = (int(i) for i in negative[0])
        raise InputError(
            f"Recipe {model.name!r} takes distributions, values of at least 0. "
            f"Received: {data.rows.x[tuple(negative[0])]} in row {row}, column {tuple(column)}."
        )


def _notes(data: Source, splits: Splits, statistics: Statistics | ColumnStatistics) -> list[str]:
    notes = []
    if statistics.constant and data.rows.columns:
        names = [data.rows.columns[i] for i in statistics.constant]
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        notes.append(f"{len(names)} constant column{'s' if len(names) > 1 else ''} in the training rows: {shown}")
    for name, count in splits.duplicates.items():
        notes.append(f"{count} of {len(splits.parts()[name])} {name} rows also occur in an earlier split")
    return notes
