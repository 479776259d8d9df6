"""From raw data to a proven artifact: what `keras-ae fit` calls."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ae import artifact
from keras_ae.bfloat16 import POLICY, check_bfloat16, in_float32
from keras_ae.building import build, default_network
from keras_ae.data import Splits, load_source
from keras_ae.data.source import Source
from keras_ae.data.streams import Stream
from keras_ae.data.trimming import check_contamination
from keras_ae.divergence import Divergence
from keras_ae.errors import InputError
from keras_ae.export.precision import check_of_one_size
from keras_ae.likelihood import density_bound
from keras_ae.models import Autoencoder
from keras_ae.preparation import Prepared
from keras_ae.progress import Progress, silent
from keras_ae.recipes import DEFAULT, RECIPES
from keras_ae.replicas import losing_workers, writes
from keras_ae.report import REPORT, add_report
from keras_ae.runs import Run
from keras_ae.storage import check_precisions, describe, versions, write
from keras_ae.tracking.tracker import Tracker, Trackers
from keras_ae.training import Training, finish, measure, measure_classes, train

DTYPES = {"float32": "float32", "bfloat16": POLICY}


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
    labels: Any = None,
    test: bool = True,
    report: bool = True,
    keep_rows: bool = True,
    contamination: float | None = None,
    progress: Progress = silent,
    resume: str | Path | Run | None = None,
    on_divergence: str = "stop",
    strategy: Any = None,
    track: Sequence[str | Tracker] = (),
    stream: bool | None = None,
    **options: Any,
) -> Fitted:
    """Splits, scales, trains, measures and, with `out`, exports and verifies: raw data in, a proven artifact out.

    Args:
        source: `digits`, `mnist`, ..., a file, a folder or a glob of files, a folder of images, a
            `pyarrow.dataset.Dataset`, an array (rows, ...), a list of series (steps, channels) of different lengths, a
            DataFrame or a dictionary of columns; or what `keras_ae.data.load_source` made of one, with columns dropped
            or their kinds given.
        out: folder of the artifact, new or to be replaced; nothing is left there unless everything is verified.
        recipe: a key of `keras_ae.recipes.RECIPES`.
        latent_dim: numbers in z; by default 16, or half the features where they are few (of a category its bits count).
        epochs: at most; by default about 4,000 steps, at least 10 epochs.
        batch_size: rows in a step; by default 128, or less for small data.
        seed: of the split, the weights and the noise; the same seed on the same machine gives the same metrics.
        network: a key of `keras_ae.networks.NETWORKS`; by default from the input's rank.
        dtype: of the products in training, `float32` or `bfloat16`; losses and exports are float32.
        callbacks: Keras callbacks for `model.fit`.
        precisions: `int8`, `float16`: ONNX graphs beside those in float32. One that is slower than float32, or adds
            more than 2 % to the RMSE, is left out; the manifest says why.
        labels: a column of a table or DataFrame, or an array of an .npz, that holds labels; labels (rows,) themselves,
            of what is in memory; or True or False: learn from the labels of the source too, so that the artifact can
            `classify`, and `generate` what is asked for; by default where it has some that can be used. NaN, None, ""
            and -1 are labels that are missing: they are spread from the others along neighbours.
        test: keep a tenth of the rows for the figures alone; otherwise these are of the rows that chose the epoch.
        report: leave a report in the artifact, of at most 2,000 rows of each split (`keras_ae.report`).
        keep_rows: whether the artifact may hold rows of the source: up to 2,048 that the score finds neighbours among,
            1,000 that `monitor` compares with, and those of the report. Without them the score is of the
            reconstruction error and the prior alone, and there are no monitor and no report.
        contamination: share of the rows of `source` that are anomalies, (0, 0.5], where not all of them are normal.
            Three times as many are left out of training, those that stand apart alone or as a group
            (`keras_ae.data.trimming`), and of the rows behind p-values that share whose scores are highest.
        progress: is told in a few words what runs, and its share done where that is known.
        resume: folder of checkpoints, or a `Run`, which says how often. A new folder begins a run; one that was killed
            goes on from its newest whole checkpoint, and ends as if it had not been. Of several workers the first
            writes it, all of them read it, and as many go on as you like.
        strategy: a `tf.distribute.Strategy` that trains on several devices; of several workers, each of which calls
            this, the first writes the artifact.
        stream: read rows anew each epoch instead of holding them, as `load_source` says; by default where a table is
            large.
        track: `csv`, `tensorboard` or `mlflow`, or NAME=PLACE; or trackers (`keras_ae.tracking`). They are told the
            arguments, each epoch, the metrics and the artifact.
        on_divergence: `stop` where a term of the loss is not finite, or `lower_learning_rate` and go on.
        **options: of the recipe and the network.

    Raises:
        InputError: for a source, options or a target that can't be used, before anything is written; for a run with
            other options or data than it began with; for a folder that another run writes.
        DivergenceError: for a loss that is no longer finite; no artifact is written.
        Interrupted: with `resume`, after SIGTERM or Ctrl-C, of any of several workers.
        WorkerLost: where another worker has died.
        ExportError: for an export that fails or disagrees with Keras; nothing is written.
    """
    started = time.perf_counter()
    for name, value in {"latent_dim": latent_dim, "epochs": epochs, "batch_size": batch_size}.items():
        if value is not None and value < (name != "epochs"):
            raise InputError(f"`{name}` must be positive. Received: {value}.")
    if contamination is not None:
        check_contamination(contamination)
    check_precisions(precisions)
    if precisions and out is None:
        raise InputError("`precisions` are of an artifact, and need `out`.")
    if dtype not in DTYPES:
        raise InputError(f"`dtype` must be one of {', '.join(DTYPES)}. Received: {dtype!r}.")
    if dtype == "bfloat16":
        check_bfloat16()
    divergence = Divergence(on_divergence)
    if not writes(strategy):
        out = None
    tracking = Trackers(track if writes(strategy) else (), None if out is None else Path(out))
    checkpoints = Run(resume) if isinstance(resume, str | Path) else resume
    if checkpoints is not None:
        checkpoints.writes = writes(strategy)
    asked: dict[str, Any] = {"recipe": recipe, "latent_dim": latent_dim, "network": network, "options": options}
    asked |= {"epochs": epochs, "batch_size": batch_size, "seed": seed, "dtype": dtype}
    asked |= {} if keep_rows else {"keep_rows": False}
    asked |= {} if contamination is None else {"contamination": contamination}
    with (
        contextlib.nullcontext() if checkpoints is None else checkpoints as run,
        tracking,
        contextlib.nullcontext() if out is None else artifact.replacing(Path(out)) as folder,
    ):
        given = None if isinstance(labels, bool) else labels
        data = source if isinstance(source, Source) else load_source(source, given, stream=stream)
        rows = Prepared.of(data, True if given is not None else labels, test, seed, contamination)
        check_of_one_size(bool(precisions and rows.sequences))
        if run is not None:
            also = {"columns": rows.schema, "callbacks": [type(callback).__name__ for callback in callbacks]}
            run.begin(asked | also | rows.hashes() | {"versions": versions()})
            if run.found is not None:
                progress(f"going on after {run.found}", None)
        tracking.started(asked | {"source": data.name}, run is not None and run.found is not None)
        keras.utils.set_random_seed(seed)
        with contextlib.nullcontext() if strategy is None else strategy.scope():
            model = _built(rows, recipe, latent_dim, network, DTYPES[dtype], options)
            streamed = data.stream and data.stream.labelled(rows.labels.classes, rows.labels.learned.get("train"))
            what = _what(recipe, rows, streamed)
            progress(what, None)
            with losing_workers():
                training = train(
                    model,
                    rows.splits,
                    rows.statistics,
                    recipe,
                    rows.labels,
                    epochs,
                    batch_size,
                    callbacks,
                    on_epoch=lambda done, of: progress(what, done / of),
                    run=run,
                    divergence=divergence,
                    stream=streamed,
                    trackers=tracking.all,
                )
        if dtype == "bfloat16" or strategy is not None:
            model = in_float32(model)  # on one device, too
        prior = finish(model, rows.splits, rows.labels, keep_rows, contamination or 0.0)
        manifest = {
            "recipe": recipe,
            "options": options,
            "network": network or RECIPES[recipe].network or default_network(rows.shape),
            "asked": {name: value for name, value in asked.items() if value is not None},
            "seed": seed,
            "keeps_rows": keep_rows,
            **rows.describe(),
            "training": {**training.describe(), "dtype": dtype},
            "prior": prior.describe(),
            "metrics": measure(model, rows.splits, rows.statistics) | measure_classes(model, rows.splits, rows.labels),
            "notes": [*rows.notes(), *divergence.notes, *([] if run is None else run.notes())],
        }
        if folder is not None:
            splits = rows.splits
            manifest = write(model, folder, splits.test, manifest, progress, precisions, splits.calibration)
            if report and keep_rows:
                name = Path(out or folder).resolve().name
                manifest = add_report(folder, name, splits, progress, density_bound(model))
        else:
            manifest = {**describe(model), **manifest}
        seconds = time.perf_counter() - started
        fitted = Fitted(model, rows.splits, training, manifest, None if out is None else Path(out), seconds)
    with tracking:  # the artifact is there, whatever becomes of this
        tracking.finished(model, rows.splits, manifest, fitted.artifact)
    return fitted


def _built(
    rows: Prepared, recipe: str, latent_dim: int | None, network: str | None, policy: str, options: dict[str, Any]
) -> Autoencoder:
    """The untrained model; what makes no sense for these rows becomes InputError."""
    try:
        model = build(
            recipe,
            rows.shape,
            latent_dim or rows.latent_dim,
            network,
            rows.splits.train.dtype.name,
            policy,
            rows.labels.classes,
            schema=rows.schema,
            sequences=rows.sequences,
            **options,
        )
    except (TypeError, ValueError) as error:
        given = f" (options: {', '.join(f'{k}={v!r}' for k, v in options.items())})" if options else ""
        raise InputError(f"{error}{given}") from error
    x = rows.data.rows.x
    if getattr(model.scaling, "non_negative", False) and (x < 0).any():
        row, *column = (int(i) for i in np.argwhere(x < 0)[0])
        raise InputError(
            f"Recipe {recipe!r} takes values of at least 0. "
            f"Received: {x[(row, *column)]} in row {row}, column {tuple(column)}."
        )
    return model


def _what(recipe: str, rows: Prepared, stream: Stream | None) -> str:
    """What runs, for people."""
    count = len(rows.splits.train) if stream is None else stream.rows
    how = "" if stream is None else f", streamed from {stream.describe()['files']:,} files"
    of = "x".join(map(str, rows.shape)) if rows.schema is None else rows.schema.counts()
    return f"training {recipe} on {count:,} rows of {of}{how}"
