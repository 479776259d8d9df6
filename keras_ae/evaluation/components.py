"""Principal components of the training rows, the linear view that baselines and distances share."""

import numpy as np
from sklearn.decomposition import PCA

from keras_ae.evaluation.rows import blocks

MOST = 64
_ROWS_PER_COMPONENT = 10


class Components:
    """PCA of scaled training rows.

    Args:
        train: scaled, (rows, features).
        at_least: components that a caller will ask for.
        seed: of the randomized solver that large data take.
    """

    def __init__(self, train: np.ndarray, at_least: int, seed: int) -> None:
        largest = min(len(train) - 1, train.shape[1])
        # Distances use at most 64 components, and ten rows or more for each: with fewer, training rows would be
        # spread wider than rows that PCA has not seen.
        self.width = max(1, min(MOST, largest, max(2, len(train) // _ROWS_PER_COMPONENT)))
        self._pca = PCA(min(largest, max(self.width, at_least)), random_state=seed).fit(train)
        self._shift = self._pca.mean_ @ self._pca.components_.T
        self.variances = self._pca.explained_variance_
        self.total_variance = float(self.variances[0] / self._pca.explained_variance_ratio_[0])

    def encode(self, scaled: np.ndarray, n: int | None = None) -> np.ndarray:
        """Scores (rows, n) of the first n components, by default `width`."""
        n = self.width if n is None else n
        return scaled @ self._pca.components_[:n].T - self._shift[:n]

    def decode(self, scores: np.ndarray) -> np.ndarray:
        """Scaled rows from the scores (rows, n) of the first n components."""
        return scores.astype("float32") @ self._pca.components_[: scores.shape[1]] + self._pca.mean_

    def left_out(self, scaled: np.ndarray, n: int | None = None) -> np.ndarray:
        """Squared length (rows,) of what the first n components leave out of each scaled row."""
        n = self.width if n is None else n
        parts = [np.square(block - self.decode(self.encode(block, n))).sum(axis=1) for block in blocks(scaled)]
        return np.concatenate(parts)
