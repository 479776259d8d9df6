"""The model of an artifact against the rows that it was trained on and those that it was not; without TensorFlow."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from keras_ae import runtime
from keras_ae.data.columns import features, flags_of, layout, rows
from keras_ae.data.preprocessing import fit_scaling
from keras_ae.data.source import Source
from keras_ae.data.splits import Splits
from keras_ae.evaluation import Evaluation, evaluate
from keras_ae.progress import Progress, silent
from keras_ae.provenance import complete_labels, fitted_splits

Bound = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Judged:
    """What was found, and on what.

    Attributes:
        evaluation: the numbers and the verdict.
        splits: raw rows, as `fit` split them; missing cells of a table are filled.
        samples: of the model, raw rows.
        given: the same rows as they were, with the cells that are missing; scores are of these.
        test_rows: numbers of the test rows that were looked at, among all test rows.
        all_rows: whether every row was looked at.
    """

    evaluation: Evaluation
    splits: Splits
    samples: np.ndarray
    given: Splits
    test_rows: np.ndarray
    all_rows: bool


def evaluate_artifact(
    path: str | Path,
    source: str | Path | np.ndarray | Source | None = None,
    max_rows: int = 5000,
    seed: int = 0,
    progress: Progress = silent,
    nll: Bound | None = None,
) -> Evaluation:
    """Splits the source as `fit` did, and measures the artifact's model on training and test rows.

    Args:
        path: the artifact.
        source: what it was trained on; by default what its manifest names.
        max_rows: samples compared with as many rows, at most.
        seed: of samples, halves, draws and bootstraps.
        progress: is told in a few words what runs, and its share done.
        nll: from raw rows to a bound on -log p(x), nats; `keras_ae.likelihood.density_bound` gives one.

    Returns:
        The numbers beside those of real rows, copies and PCA with a mixture, and the verdict
        (`keras_ae.evaluation.Evaluation`).

    Raises:
        InputError: for a source that gives other rows than the artifact was trained on.
    """
    model = runtime.load(path)
    return judge(model, fitted_splits(model.path, model.manifest, source), max_rows, seed, progress, nll).evaluation


def judge(
    model: runtime.Model,
    splits: Splits,
    max_rows: int,
    seed: int,
    progress: Progress,
    nll: Bound | None = None,
    most: int | None = None,
) -> Judged:
    """As `evaluate_artifact`, of a model that is loaded, with the rows that were looked at.

    Args:
        model: of the artifact.
        splits: those that it was trained on.
        max_rows: samples compared with as many rows, at most.
        seed: of samples, halves, draws and bootstraps, and of the rows where not all are looked at.
        progress: is told in a few words what runs, and its share done.
        nll: from raw rows to a bound on -log p(x), nats.
        most: rows of each split that are looked at; by default all.
    """
    unit = _unit(model, splits.train)
    sizes = {name: len(rows) for name, rows in splits.parts().items()}
    rng = np.random.default_rng(seed)
    index = {name: np.sort(rng.permutation(size)[:most]) for name, size in sizes.items()}
    splits = given = _rows_of(splits, index)
    progress("running the model", None)
    schema = model.schema
    if schema is not None:
        splits = replace(splits, **{name: model.impute(rows) for name, rows in splits.parts().items()})
    scores = model.score(given.test)
    samples = model.generate(min(max_rows, max(len(splits.test), 1000)), seed=seed)
    train, test = splits.train, splits.test
    evaluation = evaluate(
        model.features(given.train, train),
        model.features(given.test, test),
        model.features(samples),
        latent_dim=model.latent_dim,
        reconstructed=(model.features(model.reconstruct(train)), model.features(model.reconstruct(test))),
        known=None if schema is None and model.sequences is None else (_known(model, train), _known(model, test)),
        unit=unit,
        z=(model.encode(splits.train), model.encode(splits.test)),
        labels=complete_labels(splits, model.classes),
        score=scores["score"],
        p_value=scores.get("p_value"),
        nll=None if nll is None else nll(splits.test),
        max_rows=max_rows,
        seed=seed,
        valid=_valid(model),
        progress=progress,
    )
    return Judged(evaluation, splits, samples, given, index["test"], most is None or max(sizes.values()) <= most)


def _known(model: runtime.Model, x: np.ndarray) -> np.ndarray:
    """Which features of rows a reconstruction tells, bool: of series those before their end, of a table all but whether
    a cell was missing.
    """
    if model.sequences is not None:
        return model.sequences.known(x)
    assert model.schema is not None
    size = layout(model.schema).size
    return np.broadcast_to(~np.isin(np.arange(size), flags_of(model.schema)), (len(x), size))


def _unit(model: runtime.Model, train: np.ndarray) -> np.ndarray | float:
    """Of an error of each feature, as of the RMSE in the manifest: where columns have units of their own the deviation
    of each. Features of a table with other cells than numbers have it already.
    """
    if model.schema is not None or model.manifest["scaling"] == "shared":
        return 1.0
    if model.sequences is not None:
        return np.tile(np.array([*model.sequences.scale, 1.0], "float32"), model.sequences.steps)
    return fit_scaling(train).scale


def _valid(model: runtime.Model) -> Callable[[np.ndarray], np.ndarray] | None:
    """From features to those of the nearest rows that there can be; None where all can."""
    if model.sequences is not None:
        return model.sequences.nearest
    schema = model.schema
    if schema is None:
        return None
    flags = flags_of(schema)

    def nearest(f: np.ndarray) -> np.ndarray:
        found = features(schema, rows(schema, f))
        found[:, flags] = f[:, flags] >= 0.5
        return found

    return nearest


def _rows_of(splits: Splits, index: dict[str, np.ndarray]) -> Splits:
    labels = None if splits.labels is None else {name: y[index[name]] for name, y in splits.labels.items()}
    return replace(splits, **{name: x[index[name]] for name, x in splits.parts().items()}, labels=labels)
