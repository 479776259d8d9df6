"""The model of an artifact against the rows that it was trained on and those that it was not; without TensorFlow."""

from pathlib import Path

import numpy as np

from keras_ae import runtime
from keras_ae.data.labels import UNKNOWN, Classes
from keras_ae.data.sources import Source
from keras_ae.data.splits import Splits
from keras_ae.errors import InputError
from keras_ae.evaluation import Evaluation, evaluate
from keras_ae.evaluation.protocol import Progress
from keras_ae.provenance import fitted_splits


def evaluate_artifact(
    path: str | Path,
    source: str | Path | np.ndarray | Source | None = None,
    max_rows: int = 5000,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
) -> Evaluation:
    """Splits the source as `fit` did, and measures the artifact's model on training and test rows.

    Args:
        path: the artifact.
        source: what it was trained on; by default what its manifest names.
        max_rows: samples compared with as many rows, at most.
        seed: of samples, halves, draws and bootstraps.
        progress: is told in a few words what runs, and its share done.

    Returns:
        The numbers beside those of real rows, copies and PCA with a mixture, and the verdict
        (`keras_ae.evaluation.Evaluation`).

    Raises:
        InputError: for a source that gives other rows than the artifact was trained on.
    """
    model = runtime.load(path)
    splits = fitted_splits(path, model.manifest, source)
    progress("running the model", None)
    labels = _known_labels(splits, model.classes)
    scores = model.score(splits.test)
    return evaluate(
        splits.train,
        splits.test,
        model.generate(min(max_rows, max(len(splits.test), 1000)), seed=seed),
        latent_dim=model.latent_dim,
        reconstructed=(model.reconstruct(splits.train), model.reconstruct(splits.test)),
        z=(model.encode(splits.train), model.encode(splits.test)),
        labels=labels,
        score=scores["score"],
        p_value=scores.get("p_value"),
        max_rows=max_rows,
        seed=seed,
        progress=progress,
    )


def _known_labels(splits: Splits, classes: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray] | None:
    """Labels of training and test rows as indices; None where one is missing, or they make no classes."""
    if splits.labels is None:
        return None
    try:
        known = Classes(classes) if classes else Classes.of(np.concatenate(list(splits.labels.values())))
    except InputError:  # such as measurements; the metrics that need classes say that they are not measured
        return None
    train, test = known.index(splits.labels["train"]), known.index(splits.labels["test"])
    return None if min(train.min(), test.min()) == UNKNOWN else (train, test)
