"""From raw data to a proven artifact: what `keras-ae fit` calls."""

import contextlib
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_ae import artifact
from keras_ae.bfloat16 import POLICY, check_bfloat16, in_float32
from keras_ae.data import ColumnStatistics, Splits, Statistics, fit_columns, fit_scaling, load_source, split
from keras_ae.data.columns import layout
from keras_ae.data.source import Source
from keras_ae.divergence import Divergence
from keras_ae.errors import InputError
from keras_ae.labelling import Labels, labels_of
from keras_ae.likelihood import density_bound
from keras_ae.models import Autoencoder
from keras_ae.recipes import DEFAULT, RECIPES, build, default_network
from keras_ae.replicas import losing_workers, writes
from keras_ae.report import REPORT, add_report
from keras_ae.runs import Run
from keras_ae.storage import Progress, check_precisions, describe, silent, versions, write
from keras_ae.tracking.tracker import Tracker, Trackers
from keras_ae.training import Training, default_latent_dim, finish, measure, measure_classes, train

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
    labels: str | bool | None = None,
    test: bool = True,
    report: bool = True,
    keep_rows: bool = True,
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
            `pyarrow.dataset.Dataset`, an array (rows, ...), a DataFrame or a dictionary of columns; or what
            `keras_ae.data.load_source` made of one, with columns dropped or their kinds given.
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
        keep_rows: whether the artifact may hold rows of the source: up to 2,048 that the score finds neighbours among,
            1,000 that `monitor` compares with, and those of the report. Without them the score is of the
            reconstruction error and the prior alone, and there are no monitor and no report.
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
    check_precisions(precisions)
    if precisions and out is None:
        raise InputError("`precisions` are of an artifact, and need `out`.")
    divergence = Divergence(on_divergence)
    if not writes(strategy):
        out = None
    if dtype not in DTYPES:
        raise InputError(f"`dtype` must be one of {', '.join(DTYPES)}. Received: {dtype!r}.")
    if dtype == "bfloat16":
        check_bfloat16()
    tracking = Trackers(track if writes(strategy) else (), None if out is None else Path(out))
    checkpoints = Run(resume) if isinstance(resume, str | Path) else resume
    if checkpoints is not None:
        checkpoints.writes = writes(strategy)
    with (
        contextlib.nullcontext() if checkpoints is None else checkpoints as run,
        tracking,
        contextlib.nullcontext() if out is None else artifact.replacing(Path(out)) as folder,
        contextlib.ExitStack() as scope,
    ):
        column = labels if isinstance(labels, str) else None
        data = source if isinstance(source, Source) else load_source(source, column, stream=stream)
        if data.stream is not None and strategy is not None:
            raise InputError("A stream trains on one device. Received: a strategy besides.")
        splits = split(data, seed, test)
        statistics = _statistics(data, splits)
        schema = statistics.schema if isinstance(statistics, ColumnStatistics) else None
        known = labels_of(data, splits, statistics, None if labels is None else bool(labels), seed)
        asked: dict[str, Any] = {"recipe": recipe, "latent_dim": latent_dim, "network": network, "options": options}
        asked |= {"epochs": epochs, "batch_size": batch_size, "seed": seed, "dtype": dtype}
        asked |= {} if keep_rows else {"keep_rows": False}
        if run is not None:
            also = {"columns": schema, "callbacks": [type(callback).__name__ for callback in callbacks]}
            run.begin(asked | also | _of_data(data, splits, known))
            if run.found is not None:
                progress(f"going on after {run.found}", None)
        tracking.started(asked | {"source": data.name}, run is not None and run.found is not None)
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

        streamed = None if data.stream is None else data.stream.labelled(known.classes)
        rows = len(splits.train) if streamed is None else streamed.rows
        how = "" if streamed is None else f", streamed from {streamed.describe()['files']:,} files"
        what = f"training {recipe} on {rows:,} rows of {'x'.join(map(str, shape))}{how}"
        progress(what, None)
        with losing_workers():
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
                stream=streamed,
                trackers=tracking.all,
            )
        scope.close()
        if dtype == "bfloat16" or strategy is not None:
            model = in_float32(model)  # on one device, too
        prior = finish(model, splits, known, keep_rows)
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
            "keeps_rows": keep_rows,
            "window": data.rows.windowing.describe() if data.rows.windowing else None,
            "labels_column": data.labels,
            "seed": seed,
            "scaling": "shared" if statistics.shared else "per feature",
            "splits": splits.describe(),
            "duplicates": splits.duplicates,
            "stream": None if streamed is None else streamed.describe(),
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
            if report and keep_rows:
                name = Path(out or folder).resolve().name
                manifest = add_report(folder, name, splits, progress, density_bound(model))
        else:
            manifest = {**describe(model), **manifest}
        seconds = time.perf_counter() - started
        fitted = Fitted(model, splits, training, manifest, None if out is None else Path(out), seconds)
    with tracking:  # the artifact is there, whatever becomes of this
        tracking.finished(model, splits, manifest, fitted.artifact)
    return fitted


def _of_data(data: Source, splits: Splits, known: Labels) -> dict[str, Any]:
    """What a run's data and libraries are, to tell it from another."""
    return {
        **({} if data.stream is None else {"stream": data.stream.describe()}),
        "data": {name: part["sha256"] for name, part in splits.describe().items()},
        "labels": {name: hashlib.sha256(y.tobytes()).hexdigest() for name, y in known.learned.items()},
        "versions": versions(),
    }


def _statistics(data: Source, splits: Splits) -> Statistics | ColumnStatistics:
    if data.rows.schema is None or data.rows.schema.is_plain:
        return fit_scaling(splits.train)
    return ColumnStatistics(fit_columns(data.rows.schema, splits.train))


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
