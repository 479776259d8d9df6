"""From raw data to a proven artifact: what `keras-ae fit` calls, and how artifacts are written and loaded in Python."""

import contextlib
import importlib.metadata
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
from keras_ae.data import Splits, Statistics, fit_scaling, load_source, split
from keras_ae.data.sources import Source
from keras_ae.errors import ArtifactError, InputError
from keras_ae.export import EXPORTERS, VERIFIERS, Reference, graphs_of, reference_rows
from keras_ae.export.parity import BATCHES, TOLERANCE
from keras_ae.models import FUNCTIONS, Autoencoder
from keras_ae.recipes import DEFAULT, RECIPES, build, default_network
from keras_ae.training import Training, default_latent_dim, finish, measure, train

MODEL = "model.keras"
DTYPES = {"float32": "float32", "bfloat16": POLICY}
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

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        keys = ("recipe", "latent_dim", "metrics", "exports", "training", "splits", "notes")
        return {
            "artifact": str(self.artifact) if self.artifact else None,
            "seconds": round(self.seconds, 2),
            **{key: self.manifest[key] for key in keys if key in self.manifest},
        }


def fit(
    source: str | Path | np.ndarray | Source,
    out: str | Path | None = None,
    recipe: str = DEFAULT,
    latent_dim: int | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    network: str | None = None,
    dtype: str = "float32",
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: Progress = _silent,
    **options: Any,
) -> Fitted:
    """Splits, scales, trains, measures and, with `out`, exports and verifies: raw data in, a proven artifact out.

    Args:
        source: `digits`, `mnist`, ..., a file, a folder of images, or an array (rows, ...).
        out: folder of the artifact, new or to be replaced; nothing is left there unless everything is verified.
        recipe: a key of `keras_ae.recipes.RECIPES`.
        latent_dim: numbers in z; by default 16, or half the features where they are few.
        epochs: at most; by default about 4,000 steps, at least 10 epochs.
        batch_size: rows in a step; by default 128, or less for small data.
        seed: of the split, the weights and the noise; the same seed on the same machine gives the same metrics.
        network: a key of `keras_ae.networks.NETWORKS`; by default from the input's rank.
        dtype: of the products in training, `float32` or `bfloat16`; losses and exports are float32.
        callbacks: Keras callbacks for `model.fit`.
        progress: is told in a few words what runs, and its share done where that is known.
        **options: of the recipe and the network.

    Raises:
        InputError: for a source, options or a target that can't be used; before anything is written.
        ExportError: for an export that fails or disagrees with Keras; nothing is written.
    """
    started = time.perf_counter()
    for name, value in {"latent_dim": latent_dim, "epochs": epochs, "batch_size": batch_size}.items():
        if value is not None and value < (name != "epochs"):
            raise InputError(f"`{name}` must be positive. Received: {value}.")
    if dtype not in DTYPES:
        raise InputError(f"`dtype` must be one of {', '.join(DTYPES)}. Received: {dtype!r}.")
    if dtype == "bfloat16":
        check_bfloat16()
    with contextlib.nullcontext() if out is None else artifact.replacing(Path(out)) as folder:
        data = source if isinstance(source, Source) else load_source(source)
        splits = split(data, seed)
        statistics = fit_scaling(splits.train)
        shape = splits.train.shape[1:]
        latent_dim = latent_dim or default_latent_dim(splits.train[0].size)
        keras.utils.set_random_seed(seed)
        try:
            model = build(recipe, shape, latent_dim, network, splits.train.dtype.name, DTYPES[dtype], **options)
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
            epochs,
            batch_size,
            callbacks,
            on_epoch=lambda done, of: progress(what, done / of),
        )
        if dtype == "bfloat16":
            model = in_float32(model)
        finish(model, splits, recipe)
        metrics = measure(model, splits, statistics)
        notes = _notes(data, splits, statistics)
        manifest = {
            "recipe": recipe,
            "options": options,
            "network": network or RECIPES[recipe].network or default_network(shape),
            "source": data.name,
            "columns": list(data.rows.columns) if data.rows.columns else None,
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
            },
            "metrics": metrics,
            "notes": notes,
        }
        if folder is not None:
            manifest = write(model, folder, splits.test, manifest, progress)
        else:
            manifest = {**describe(model), **manifest}
        seconds = time.perf_counter() - started
        return Fitted(model, splits, training, manifest, None if out is None else Path(out), seconds)


def save(model: Autoencoder, out: str | Path, rows: np.ndarray | None = None) -> dict[str, Any]:
    """Writes a model that you trained with `model.fit` as an artifact, every export verified; returns its manifest.

    Args:
        model: trained; `model.calibrate(x)` gives its scores p-values, `model.fit_prior(x)` its samples a fitted prior.
        out: folder of the artifact, new or to be replaced.
        rows: raw rows to compare the exports on; by default the model's own samples.

    Raises:
        InputError: for a target that can't be written.
        ExportError: for an export that fails or disagrees with Keras; nothing is written.
    """
    with artifact.replacing(Path(out)) as folder:
        return write(model, folder, rows, {"recipe": None})


def write(
    model: Autoencoder,
    folder: Path,
    rows: np.ndarray | None,
    content: dict[str, Any],
    progress: Progress = _silent,
) -> dict[str, Any]:
    """Writes model, exports and manifest into an empty folder, each export compared with Keras on raw rows."""
    reference = _reference(model, rows)
    graphs = graphs_of(model)
    model.save(folder / MODEL)
    exports = {}
    for kind, export in EXPORTERS.items():
        progress(f"exporting and verifying {kind}", None)
        exports[kind] = _summarized(export(graphs, folder, reference))
    artifact.write_manifest(folder, {**describe(model), **content, "exports": exports})
    return artifact.read_manifest(folder)


def _reference(model: Autoencoder, rows: np.ndarray | None) -> Reference:
    if rows is None or len(rows) < max(BATCHES):
        rows = reference_rows(model)
    return Reference.of(model, rows[: max(BATCHES)])


def describe(model: Autoencoder) -> dict[str, Any]:
    """What every artifact says of itself, whatever made it."""
    versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {
        "name": model.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {"shape": list(model.input_shape[1:]), "dtype": model.raw_dtype},
        "latent_dim": model.latent_dim,
        "latent_shape": list(model.latent_shape),
        "functions": list(FUNCTIONS),
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


def verify(path: str | Path) -> dict[str, Any]:
    """Checks the hashes of an artifact and compares its exports with its Keras model again.

    Raises:
        ArtifactError: for a changed, missing or foreign file.
        ExportError: for an export that disagrees.
    """
    folder = Path(path)
    manifest = artifact.verify_files(folder)
    reference = _reference(load(folder), None)
    exports = {kind: _summarized(VERIFIERS[kind](folder, reference)) for kind in manifest["exports"]}
    return {"artifact": str(path), "files": len(manifest["files"]), "exports": exports}


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
    if Path(out).exists() and not (Path(out).is_dir() and not any(Path(out).iterdir())):
        raise InputError(f"{out} must be new or empty.")
    manifest = artifact.verify_files(Path(path))
    model = load(path)
    arguments = {"single_file": single_file} if to == "onnx" else {}
    with artifact.replacing(Path(out)) as folder:
        figures = EXPORTERS[to](graphs_of(model), folder, _reference(model, None), **arguments)
    return {"artifact": str(path), "out": str(out), "recipe": manifest["recipe"], "export": _summarized(figures)}


def _summarized(figures: dict[str, dict[str, float]]) -> dict[str, Any]:
    largest = {key: max(entry[key] for entry in figures.values()) for key in ("max_abs_diff", "max_rel_diff")}
    return {**largest, "tolerance_rel": TOLERANCE, "batches": list(BATCHES), "functions": figures}


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


def _notes(data: Source, splits: Splits, statistics: Statistics) -> list[str]:
    notes = []
    if statistics.constant and data.rows.columns:
        names = [data.rows.columns[i] for i in statistics.constant]
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        notes.append(f"{len(names)} constant column{'s' if len(names) > 1 else ''} in the training rows: {shown}")
    for name, count in splits.duplicates.items():
        notes.append(f"{count} of {len(splits.parts()[name])} {name} rows also occur in an earlier split")
    return notes
