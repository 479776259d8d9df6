"""Do rows look drawn from P_d? Each number compares candidate rows with as many real, held-out reference rows."""

import numpy as np
from scipy.stats import mannwhitneyu, rankdata
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import StratifiedKFold

from keras_ae.evaluation.neighbours import kth_squared_distance, squared_distances
from keras_ae.evaluation.numbers import Number, bootstrap, proportion

FOLDS = 5
TREES = 100
NEIGHBOURS = 5


def two_sample(reference: np.ndarray, candidate: np.ndarray, seed: int) -> dict[str, Number]:
    """Classifier two-sample test (Lopez-Paz and Oquab 2017), with extremely randomized trees (Geurts et al. 2006).

    `c2st_auc` is the probability that the classifier, judged by 5-fold cross-validation, finds a candidate row more
    like a candidate than a reference row: 0.5 where it can't tell, 1 where it always can. `c2st_p_value` is the
    one-sided Mann-Whitney p-value of that AUC; rows of one fold share a classifier, so it is approximate.
    """
    rows = np.concatenate([reference, candidate])
    truth = np.repeat([0, 1], [len(reference), len(candidate)])
    scores = np.empty(len(rows))
    folds = StratifiedKFold(min(FOLDS, len(reference), len(candidate)), shuffle=True, random_state=seed)
    for train, test in folds.split(rows, truth):
        trees = ExtraTreesClassifier(TREES, random_state=seed, n_jobs=-1 if len(rows) > 2000 else None)
        fold = trees.fit(rows[train], truth[train]).predict_proba(rows[test])[:, 1]
        scores[test] = rankdata(fold) / len(test)  # scores of two folds are of two classifiers: compare ranks
    real, made = scores[truth == 0], scores[truth == 1]
    auc = bootstrap(lambda i, j: probability_above(made[j], real[i]), len(real), len(made), seed=seed)
    return {"c2st_auc": auc, "c2st_p_value": Number(float(mannwhitneyu(made, real, alternative="greater").pvalue))}


def probability_above(a: np.ndarray, b: np.ndarray) -> float:
    """P(A > B) + P(A = B) / 2 of values (rows,) each: the AUC of Mann and Whitney (1947)."""
    ranks = rankdata(np.concatenate([a, b]))[: len(a)]
    return float((ranks.sum() - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def frechet(reference: np.ndarray, candidate: np.ndarray, seed: int) -> Number:
    """Frechet distance of the Gaussians with the moments of two sets of features (rows, n) (Dowson and Landau 1982).

    |m_r - m_c|^2 + tr(C_r + C_c - 2 (C_r C_c)^(1/2)), 0 at best. Finite samples raise it, the fewer rows the more:
    compare values of equally many rows only. Resampling raises it as well, hence the centred interval.
    """
    reference, candidate = reference.astype("float64"), candidate.astype("float64")
    mean = reference.mean(axis=0)
    covariance = np.atleast_2d(np.cov(reference, rowvar=False))
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T

    def distance(i: np.ndarray) -> float:
        other = np.atleast_2d(np.cov(candidate[i], rowvar=False))
        # C_r C_c and the symmetric root C_c root have the same eigenvalues.
        cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ other @ root), 0.0)).sum()
        gap = np.square(mean - candidate[i].mean(axis=0)).sum()
        return max(0.0, float(gap + np.trace(covariance) + np.trace(other) - 2 * cross))

    return bootstrap(distance, len(candidate), seed=seed, centred=True)


def manifolds(reference: np.ndarray, candidate: np.ndarray, seed: int) -> dict[str, Number]:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), with k = 5.

    A ball of each row reaches to its k-th nearest row of its own set. `precision`: share of candidates inside some
    ball of a reference row. `recall`: share of reference rows inside some ball of a candidate. `density`: balls of
    reference rows that hold a candidate, on average, over k. `coverage`: share of reference balls that hold a
    candidate; 1 - 2^-k = 0.97 for two equally large sets from one distribution.
    """
    k = min(NEIGHBOURS, len(reference) - 1, len(candidate) - 1)
    reference_radii, candidate_radii = kth_squared_distance(reference, k), kth_squared_distance(candidate, k)
    inside = np.zeros(len(candidate))
    recalled, covered = np.empty(len(reference), bool), np.empty(len(reference), bool)
    for part, squared in squared_distances(reference, candidate):
        held = squared <= reference_radii[part, None]
        inside += held.sum(axis=0)
        covered[part] = held.any(axis=1)
        recalled[part] = (squared <= candidate_radii).any(axis=1)
    return {
        "precision": proportion(inside > 0),
        "recall": proportion(recalled),
        "density": bootstrap(lambda i: float(inside[i].mean() / k), len(candidate), seed=seed),
        "coverage": proportion(covered),
    }
