"""The features in which generated and real rows are compared: of a classifier trained on the data itself."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from keras_ae.evaluation.components import Components
from keras_ae.evaluation.rows import blocks

HIDDEN = (256, 64)
_NUMBERS = 16_000_000
_STEPS = 1000


@dataclass(frozen=True)
class Features:
    """A map of scaled rows (rows, features) to features whose total variance on the training rows is 1.

    Attributes:
        of: the map.
        description: what it is, for people.
        learned: whether labels taught it.
    """

    of: Callable[[np.ndarray], np.ndarray]
    description: str
    learned: bool


def fit_features(train: np.ndarray, labels: np.ndarray | None, components: Components, seed: int) -> Features:
    """The last hidden layer (64) of a classifier of the labels; without labels, the principal components.

    Args:
        train: scaled, (rows, features).
        labels: classes (rows,), or None.
        components: of the training rows.
        seed: of the classifier's weights, and of the rows it learns from: about 16 million numbers' worth.
    """
    chosen = np.random.default_rng(seed).permutation(len(train))[: max(1000, _NUMBERS // train.shape[1])]
    sample = train[chosen]
    learned = False
    if labels is not None and len(np.unique(labels[chosen])) > 1:
        learned = True
        classifier = _classifier(sample, labels[chosen], seed)
        extract = _hidden(classifier)
        description = f"last hidden layer ({HIDDEN[-1]}) of a classifier of {len(classifier.classes_)} labels"
    else:
        extract = components.encode
        description = f"principal components ({components.width})"
    # One number for all features, so that a Frechet distance is a share of the data's own variance.
    size = np.float32(np.sqrt(extract(sample).var(axis=0, dtype="float64").sum()) or 1.0)
    return Features(lambda rows: np.concatenate([extract(b) for b in blocks(rows)]) / size, description, learned)


def _classifier(rows: np.ndarray, labels: np.ndarray, seed: int) -> MLPClassifier:
    steps_an_epoch = max(1, len(rows) // 200)
    classifier = MLPClassifier(HIDDEN, max_iter=max(8, _STEPS // steps_an_epoch), random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after a thousand steps on purpose
        return classifier.fit(rows, labels)


def _hidden(classifier: MLPClassifier) -> Callable[[np.ndarray], np.ndarray]:
    def extract(rows: np.ndarray) -> np.ndarray:
        for kernel, bias in zip(classifier.coefs_[:-1], classifier.intercepts_[:-1], strict=True):
            rows = np.maximum(rows @ kernel + bias, 0)
        return rows

    return extract
