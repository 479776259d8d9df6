"""A trained model as an artifact: written and proven, loaded again, exported in other formats."""

import importlib.metadata
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ae import __version__, artifact
from keras_ae.data import split
from keras_ae.data.source import Source
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
from keras_ae.layers import ColumnScaling, Incomplete, SequenceScaling
from keras_ae.models import Autoencoder
from keras_ae.monitoring import keep_reference
from keras_ae.progress import Progress, silent
from keras_ae.provenance import source_of

MODEL = "model.keras"


def save(
    model: Autoencoder,
    out: str | Path,
    rows: np.ndarray | None = None,
    precisions: Sequence[str] = (),
    columns: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Writes a model that you trained with `model.fit` as an artifact, every export verified; returns its manifest.

    Args:
        model: trained; `model.calibrate(x)` gives its scores p-values, `model.fit_prior(x)` its samples a fitted prior.
        out: folder of the artifact, new or to be replaced.
        rows: raw rows to compare the exports on; by default the model's own samples.
        precisions: as for `fit`; they need `rows`, those that calibrated the model.
        columns: names of the features, where rows are a table of numbers; a model of another table knows them.

    Raises:
        InputError: for a target that can't be written, or precisions without the rows that calibrated the model.
        ExportError: for an export that fails or disagrees with Keras; nothing is written.
    """
    check_precisions(precisions)
    if precisions and rows is None:
        raise InputError("`precisions` are measured on rows that were not trained on, and need `rows`.")
    with artifact.replacing(Path(out)) as folder:
        content = {"recipe": None, **({} if columns is None else {"columns": list(columns)})}
        return write(model, folder, rows, content, precisions=precisions, calibration=rows)


def write(
    model: Autoencoder,
    folder: Path,
    rows: np.ndarray | None,
    content: dict[str, Any],
    progress: Progress = silent,
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
    if calibration is not None and content.get("keeps_rows", True):
        keep_reference(folder, calibration)
    measured = {}
    for precision in precisions:
        assert calibration is not None
        progress(f"measuring {precision}", None)
        measured[precision] = export_precision(folder, folder, precision, model, calibration)
    low = {"precisions": measured} if measured else {}
    artifact.write_manifest(folder, {**describe(model), **content, "exports": exports, **low})
    return artifact.read_manifest(folder)


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
    artifact.check_new(Path(out))
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
    check_precisions([precision])
    if single_file and out is None:
        raise InputError("Files that stand alone need `out`, a folder of their own.")
    manifest = artifact.verify_files(path)
    model = load(path)
    rows = _calibration_rows(manifest, source)
    if out is not None:
        artifact.check_new(Path(out))
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


def describe(model: Autoencoder) -> dict[str, Any]:
    """What every artifact says of itself, whatever made it."""
    return {
        "name": model.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "input": {"shape": list(model.raw_shape), "dtype": model.raw_dtype},
        "latent_dim": model.latent_dim,
        "latent_shape": list(model.latent_shape),
        "functions": list(model.functions()),
        "epsilon_dim": model.epsilon_dim,
        "prior": {"components": getattr(model.prior, "components", None)},
        "classes": list(model.classes),
        **_table_of(model),
        "conditional": model.conditional,
        "calibration_rows": len(model.p_value.calibration_scores),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of this package and of those that the result depends on."""
    libraries = ("keras", "numpy", "onnx", "onnxruntime", "tensorflow", "tf2onnx")
    return {"keras_ae": __version__} | {name: importlib.metadata.version(name) for name in libraries}


def _table_of(model: Autoencoder) -> dict[str, Any]:
    if isinstance(model.scaling, SequenceScaling):
        return {"sequences": model.scaling.describe()}
    if not isinstance(model.scaling, ColumnScaling):
        return {}
    return {"columns": list(model.scaling.schema.names), "table": model.scaling.schema.describe()}


def _reference(model: Autoencoder, rows: np.ndarray | None) -> Reference:
    if rows is None or len(rows) < max(BATCHES):
        rows = reference_rows(model)
    rows = rows[: max(BATCHES)]
    return Reference.of(model, model.scaling.hard_rows(rows) if isinstance(model.scaling, Incomplete) else rows)


def _calibration_rows(manifest: dict[str, Any], source: Any) -> np.ndarray:
    if source is None and manifest.get("source") is None:
        raise InputError("The artifact does not name what it was trained on: `source` must give its calibration rows.")
    try:
        data = source_of(manifest, source)
    except InputError as error:
        raise InputError(f"{error} `source` must be what the artifact was trained on.") from error
    return split(data, manifest["seed"]).calibration if "seed" in manifest else data.rows.x


def check_precisions(precisions: Sequence[str]) -> None:
    """Raises InputError for a precision that there is not."""
    for name in precisions:
        if name not in PRECISIONS:
            raise InputError(f"`precisions` must be of {', '.join(PRECISIONS)}. Received: {name!r}.")


def _refusal(precision: str, figures: dict[str, Any]) -> ExportError:
    return ExportError(f"{precision} is not worth it here: {figures['reason']}.")


def _summarized(figures: dict[str, dict[str, float]]) -> dict[str, Any]:
    largest = {key: max(entry[key] for entry in figures.values()) for key in ("max_abs_diff", "max_rel_diff")}
    return {**largest, "tolerance_rel": TOLERANCE, "batches": list(BATCHES), "functions": figures}
