"""Are rows considerably different from X, the training rows? Distances to X, against those of real held-out rows."""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata
from sklearn.cluster import KMeans

from keras_ae.evaluation.fidelity import probability_above
from keras_ae.evaluation.neighbours import nearest
from keras_ae.evaluation.numbers import Number, bootstrap, proportion

CELLS = 10
_ROWS_PER_CELL = 20
_FIT_ROWS = 20_000
RARE = 0.01
"""Share of real rows that count as copied, by definition."""


@dataclass(frozen=True)
class Neighbours:
    """The training row nearest to each of some rows.

    Attributes:
        rows: which of the given rows were measured, (n,).
        index: of the nearest training row, (n,).
        distance: to it, (n,), in principal components of scaled rows.
        held_out_distance: to the nearest reference row, (n,); that of a copy is much larger than `distance`.
    """

    rows: np.ndarray
    index: np.ndarray
    distance: np.ndarray
    held_out_distance: np.ndarray

    def ratio(self) -> np.ndarray:
        """`distance` over `held_out_distance`: 0 for a copy, below or about 1 for rows that are no copies."""
        both_zero = (self.distance == 0) & (self.held_out_distance == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(both_zero, 1.0, self.distance / self.held_out_distance)


class Novelty:
    """Distances to training rows, judged by those of held-out rows.

    Args:
        train: X, float32 (rows, n), and so are the others, in the space that distances are taken in.
        reference: real held-out rows.
        held_out: other real held-out rows: what the numbers of a candidate stand beside.
        seed: of the cells.
    """

    def __init__(self, train: np.ndarray, reference: np.ndarray, held_out: np.ndarray, seed: int) -> None:
        self._train, self._reference, self._seed = train, reference, seed
        self._reference_distance = nearest(reference, train)[1]
        # Meehan et al. compare within cells, so that copies in one region don't hide behind bad samples in another.
        cells = int(np.clip(len(reference) // _ROWS_PER_CELL, 1, CELLS))
        sample = np.random.default_rng(seed).permutation(len(train))[:_FIT_ROWS]
        cells = min(cells, len(np.unique(train[sample], axis=0)))
        self._cells = KMeans(cells, n_init=1, random_state=seed).fit(train[sample])
        self._reference_cell = self._cells.predict(reference)
        self._held_out_ratio = self._neighbours(held_out, np.arange(len(held_out))).ratio()
        self._rare_ratio = np.quantile(self._held_out_ratio, RARE, method="inverted_cdf")

    def left_out(self, rows: np.ndarray) -> tuple[Neighbours, dict[str, Number]]:
        """What `measure` gives for the training rows of these indices (rows,), each left out of X in its turn."""
        return self.measure(self._train[rows], rows, rows[:, None])

    def measure(
        self, candidate: np.ndarray, rows: np.ndarray, exclude: np.ndarray | None = None
    ) -> tuple[Neighbours, dict[str, Number]]:
        """Neighbours and numbers of candidates (rows, n); `rows` says which rows they are, `exclude` (rows, any number)
        which training rows are not in X for each.

        `c_t`: data-copying test (Meehan et al. 2020, section 4): mean over k-means cells of the Mann-Whitney z that
        candidates are farther from X than reference rows; about 0 for real rows, far below for copies.
        `nn_ratio`: median distance of candidates to X over that of reference rows; NaN where the latter is 0.
        `authenticity`: share of candidates that are farther from their nearest training row than that row is from its
        own nearest training row (Alaa et al. 2022).
        `preference`: probability that a candidate's ratio of distances, to X over to reference rows, is below that of
        a held-out row: 0.5 for real rows, 1 for copies. Unlike the three above, it doesn't take smooth rows for copies.
        `copied`: share of candidates whose ratio is as low as in 1 % of held-out rows.
        """
        found = self._neighbours(candidate, rows, exclude)
        distance, ratio = found.distance, found.ratio()
        cell = self._cells.predict(candidate)
        itself = found.index[:, None]
        not_counted = itself if exclude is None else np.concatenate([itself, exclude], axis=1)
        own = nearest(self._train[found.index], self._train, not_counted)[1]
        typical = float(np.median(self._reference_distance))
        n = len(candidate)
        numbers = {
            "c_t": bootstrap(lambda i: self._c_t(distance[i], cell[i]), n, seed=self._seed),
            "nn_ratio": bootstrap(
                lambda i: float(np.median(distance[i]) / typical) if typical else np.nan, n, seed=self._seed
            ),
            "authenticity": proportion(distance > own),
            "preference": bootstrap(lambda i: probability_above(self._held_out_ratio, ratio[i]), n, seed=self._seed),
            "copied": proportion(ratio <= self._rare_ratio),
        }
        return found, numbers

    def _neighbours(self, candidate: np.ndarray, rows: np.ndarray, exclude: np.ndarray | None = None) -> Neighbours:
        index, distance = nearest(candidate, self._train, exclude)
        return Neighbours(rows, index, distance, nearest(candidate, self._reference)[1])

    def _c_t(self, distance: np.ndarray, cell: np.ndarray) -> float:
        z, weights = [], []
        for number in range(self._cells.n_clusters):
            made = distance[cell == number]
            real = self._reference_distance[self._reference_cell == number]
            if len(made) >= min(_ROWS_PER_CELL, len(distance)) and len(real):
                z.append(_mann_whitney_z(made, real))
                weights.append(len(real))
        return float(np.average(z, weights=weights)) if z else np.nan


def _mann_whitney_z(a: np.ndarray, b: np.ndarray) -> float:
    """Normal score of U, positive where a is larger; the variance is corrected for ties."""
    ranks = rankdata(np.concatenate([a, b]))
    n, m = len(a), len(b)
    # The variance of the ranks themselves is what ties leave of (N^2 - 1) / 12.
    deviation = np.sqrt(n * m / (n + m - 1) * np.var(ranks))
    return float((ranks[:n].sum() - n * (n + m + 1) / 2) / deviation) if deviation else 0.0
