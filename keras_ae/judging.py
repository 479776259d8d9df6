"""The model of an artifact against the rows that it was trained on and those that it was not; without TensorFlow."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_ae import runtime
from keras_ae.data.sources import Source
from keras_ae.data.splits import Splits
from keras_ae.evaluation import Evaluation, evaluate
from keras_ae.evaluation.protocol import Progress
from keras_ae.provenance import complete_labels, fitted_splits

Bound = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Judged:
    """What was found, and on what.

    Attributes:
        evaluation: the numbers and the verdict.
        splits: raw rows, as `fit` split them.
        samples: of the model, raw rows.
    """

    evaluation: Evaluation
    splits: Splits
    samples: np.ndarray


def evaluate_artifact(
    path: str | Path,
    source: str | Path | np.ndarray | Source | None = None,
    max_rows: int = 5000,
    seed: int = 0,
    progress: Progress = lambda what, share: None,
    nll: Bound | None = None,
) -> Evaluation:
    """Splits the source as `fit` did, and measures the artifact's model on training and test rows.

    Args:
        path: the artifact.
        source: what it was trained on; by default what its manifest names.
        max_rows: samples compared with as many rows, at most.
        seed: of samples, halves, draws and bootstraps.
        progress: is told in a few words what runs, and its share done.
        nll: from raw rows to a bound on -log p(x), nats; `keras_ae.pipeline.nll_bound` of an artifact gives one.

    Returns:
        The numbers beside those of real rows, copies and PCA with a mixture, and the verdict
        (`keras_ae.evaluation.Evaluation`).

    Raises:
        InputError: for a source that gives other rows than the artifact was trained on.
    """
    return judge_artifact(runtime.load(path), source, max_rows, seed, progress, nll).evaluation


def judge_artifact(
    model: runtime.Model,
    source: str | Path | np.ndarray | Source | None,
    max_rows: int,
    seed: int,
    progress: Progress,
    nll: Bound | None = None,
) -> Judged:
    """As `evaluate_artifact`, of a model that is loaded, with the rows that were looked at."""
    splits = fitted_splits(model.path, model.manifest, source)
    progress("running the model", None)
    scores = model.score(splits.test)
    samples = model.generate(min(max_rows, max(len(splits.test), 1000)), seed=seed)
    evaluation = evaluate(
        splits.train,
        splits.test,
        samples,
        latent_dim=model.latent_dim,
        reconstructed=(model.reconstruct(splits.train), model.reconstruct(splits.test)),
        z=(model.encode(splits.train), model.encode(splits.test)),
        labels=complete_labels(splits, model.classes),
        score=scores["score"],
        p_value=scores.get("p_value"),
        nll=None if nll is None else nll(splits.test),
        max_rows=max_rows,
        seed=seed,
        progress=progress,
    )
    return Judged(evaluation, splits, samples)
