"""Labels of few rows spread to the rest along a graph of neighbours, before anything is trained."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ae.data.labels import UNKNOWN

_NEIGHBOURS = 7
_COMPONENTS = 32
"""Distances between rows are taken along so many principal components, at most."""
_MOST_ROWS = 70_000
"""In the graph; rows beyond stay without a label."""
_KEPT = 0.8
"""Share of the spread labels that is kept, the surest: on handwritten digits they are right where the last fifth is
often not, and a network learns more from fewer that are right."""
_ALPHA = 0.99
_ITERATIONS = 100


@dataclass(frozen=True)
class Spread:
    """Labels after spreading.

    Attributes:
        y: indices (rows,): those that were known, unchanged; those that were spread; -1 where no label is sure.
        agreement: share of one half of the known labels that the other half predicts; None where they are too few.
        chance: share of the most frequent class.
    """

    y: np.ndarray
    agreement: float | None
    chance: float

    @property
    def is_useful(self) -> bool:
        """Whether neighbours tell more about labels than their frequency does."""
        return self.agreement is None or self.agreement > self.chance


def spread_labels(x: np.ndarray, y: np.ndarray, seed: int = 0) -> Spread:
    """Spreads labels over a graph of nearest neighbours (Zhou et al. 2004, "Learning with local and global
    consistency").

    Args:
        x: rows (rows, ...), scaled.
        y: indices of classes (rows,), -1 where one is not known.
        seed: of the halves that judge it, and of the rows where there are too many.
    """
    known = np.flatnonzero(y != UNKNOWN)
    rng = np.random.default_rng(seed)
    chosen = np.arange(len(x))
    if len(x) > _MOST_ROWS:
        others = np.setdiff1d(chosen, known)
        room = min(max(_MOST_ROWS - len(known), 0), len(others))
        chosen = np.sort(np.concatenate([known[:_MOST_ROWS], rng.choice(others, room, replace=False)]))
    graph = _neighbours(x[chosen].reshape(len(chosen), -1))
    given = y[chosen]

    hidden = _half(given, rng)
    agreement = None
    if len(hidden):
        partly = given.copy()
        partly[hidden] = UNKNOWN
        agreement = float(np.mean(_spread(graph, partly)[0][hidden] == given[hidden]))
    labels, certainty = _spread(graph, given)
    unknown = given == UNKNOWN
    sure = certainty >= (np.quantile(certainty[unknown], 1 - _KEPT) if unknown.any() else 0.0)
    result = y.copy()
    result[chosen] = np.where(unknown, np.where(sure & (certainty > 0), labels, UNKNOWN), given)
    return Spread(result, agreement, float(np.bincount(y[known]).max() / len(known)))


def _half(y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows with half of the labels of each class, of classes with two or more."""
    parts = [rng.permutation(np.flatnonzero(y == i)) for i in range(y.max() + 1)]
    return np.concatenate([part[: len(part) // 2] for part in parts]).astype(int)


def _neighbours(rows: np.ndarray) -> Any:
    """Weights between rows and their nearest neighbours: 1 for the same place, 1/e at the furthest of them."""
    from sklearn.decomposition import PCA
    from sklearn.neighbors import kneighbors_graph

    width = min(_COMPONENTS, *rows.shape)
    if rows.shape[1] > width:
        rows = PCA(width, random_state=0).fit_transform(rows)
    graph = kneighbors_graph(rows, min(_NEIGHBOURS, len(rows) - 1), mode="distance", n_jobs=-1)
    furthest = graph.max(axis=1).toarray().ravel()
    scale = np.repeat(np.maximum(furthest, 1e-12), np.diff(graph.indptr))
    graph.data = np.exp(-np.square(graph.data / scale))
    return graph.maximum(graph.T)


def _spread(graph: Any, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (rows,), and how far the likeliest is ahead of the second, (rows,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.semi_supervised import LabelSpreading

    model = LabelSpreading(kernel=lambda *_: graph, alpha=_ALPHA, max_iter=_ITERATIONS)
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # of rows that no label reaches
        model.fit(np.zeros((len(y), 1)), y)
    ordered = np.sort(np.nan_to_num(model.label_distributions_), axis=1)
    return model.classes_[np.nan_to_num(model.label_distributions_).argmax(axis=1)], ordered[:, -1] - ordered[:, -2]
