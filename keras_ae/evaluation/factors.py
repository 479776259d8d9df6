"""Is each factor of variation in one latent of its own? For data whose factors are known."""

from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import mutual_info_score

from keras_ae.errors import InputError

BINS = 20
"""Of each latent, equally wide, for its mutual information."""
_TREES = 30
_DEPTH = 10


@dataclass(frozen=True)
class Disentanglement:
    """How latents and known factors of variation belong together.

    Attributes:
        mig: mutual information gap: how much more the best latent tells about a factor than the second best, as a share
            of the factor's entropy, mean over factors (Chen et al. 2018, "Isolating sources of disentanglement in
            VAEs", equation 6). 0 to 1.
        disentanglement: whether a latent is important to one factor alone, mean over latents by their importance.
        completeness: whether one latent alone is important to a factor, mean over factors.
        informativeness: accuracy of the factors from z on held-out rows, mean over factors.
        importance: (latents, factors), of random forests; each factor's sum to 1, or are 0 where the rows that a forest
            learns from have one value of it. These and the three before are Eastwood and Williams 2018, "A framework
            for the quantitative evaluation of disentangled representations".
        information: (latents, factors), mutual information in nats.
    """

    mig: float
    disentanglement: float
    completeness: float
    informativeness: float
    importance: np.ndarray
    information: np.ndarray


def disentanglement(z: np.ndarray, factors: np.ndarray, seed: int = 0) -> Disentanglement:
    """Measures latents (rows, latents) against the factors (rows, factors) that made the rows.

    Args:
        z: latents, such as `encode` gives.
        factors: a whole number for each value of a factor, such as shape, size and place.
        seed: of the forests, and of the half of the rows that they learn from.

    Raises:
        InputError: for arrays that don't match, fewer than two latents or 100 rows, or a factor of one value.
    """
    z, factors = np.asarray(z), np.asarray(factors)
    if z.ndim != 2 or factors.ndim != 2 or len(z) != len(factors) or z.shape[1] < 2 or len(z) < 100:
        raise InputError(
            "`z` must be (rows, latents) and `factors` (rows, factors), of 100 rows and two latents or more. "
            f"Received: shapes {z.shape} and {factors.shape}."
        )
    if not np.isfinite(z).all() or not np.equal(factors, np.round(factors)).all():
        raise InputError("`z` must be finite and `factors` whole numbers. Received: other numbers.")
    constant = [k for k in range(factors.shape[1]) if len(np.unique(factors[:, k])) < 2]
    if constant:
        raise InputError(f"Each factor must have two values or more. Received: one value of factor {constant[0]}.")
    factors = factors.astype("int64")
    information = _information(z, factors)
    entropy = np.array([mutual_info_score(column, column) for column in factors.T])
    ordered = np.sort(information, axis=0)
    importance, accuracy = _importance(z, factors, seed)
    of_latent = importance.sum(axis=1)
    apart = 1.0 - _relative_entropy(importance, axis=1)
    whole = 1.0 - _relative_entropy(importance, axis=0)
    return Disentanglement(
        mig=float(np.mean((ordered[-1] - ordered[-2]) / entropy)),
        disentanglement=float(apart @ of_latent / max(of_latent.sum(), 1e-30)),
        completeness=float(whole.mean()),
        informativeness=float(np.mean(accuracy)),
        importance=importance,
        information=information,
    )


def _information(z: np.ndarray, factors: np.ndarray) -> np.ndarray:
    binned = [np.digitize(column, np.histogram_bin_edges(column, BINS)[1:-1]) for column in z.T]
    return np.array([[mutual_info_score(latent, factor) for factor in factors.T] for latent in binned])


def _importance(z: np.ndarray, factors: np.ndarray, seed: int) -> tuple[np.ndarray, list[float]]:
    order = np.random.default_rng(seed).permutation(len(z))
    train, test = order[: len(z) // 2], order[len(z) // 2 :]
    importances, accuracies = [], []
    for factor in factors.T:
        # All latents at each split: where some are hidden, those that tell nothing are found important too.
        forest = RandomForestClassifier(_TREES, max_depth=_DEPTH, max_features=None, n_jobs=-1, random_state=seed)
        forest.fit(z[train], factor[train])
        importances.append(forest.feature_importances_)
        accuracies.append(float(forest.score(z[test], factor[test])))
    return np.array(importances).T, accuracies


def _relative_entropy(importance: np.ndarray, axis: int) -> np.ndarray:
    """Entropy of shares along an axis, 1 where they are equal; of nothing at all too."""
    total = importance.sum(axis=axis, keepdims=True)
    share = np.where(total > 0, importance / np.maximum(total, 1e-30), 1.0 / importance.shape[axis])
    if importance.shape[axis] == 1:
        return np.zeros(importance.shape[1 - axis])
    return -np.sum(share * np.log(np.maximum(share, 1e-30)), axis=axis) / np.log(importance.shape[axis])
