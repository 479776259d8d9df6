"""Which rows stand apart from the others, alone or as a small group: what may be anomalies among training rows."""

import math
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import pdist
from scipy.stats import rankdata
from sklearn.neighbors import NearestNeighbors

from keras_ae.errors import InputError

MOST_SHARE = 0.5
_LARGEST_GROUP = 1.75
_LEFT_OUT = 3.0
"""Both in units of the share that is expected: how large a group may be, since in a sample it may be larger, and how
many rows are left out, since the order is not sure. On 14 tables with one anomaly in twenty, by nearest neighbours,
these lose 1.8 points of AUROC, and 2.1 where 0.8 or 1.3 times as many are expected as there are."""
_TREES = 12
_SAMPLE = 1024
_SHARE_OF_TREE = 0.7
"""Rows of each tree: so many, or this share of fewer. One tree of all rows may join the anomalies to others."""
_NEIGHBOURS = 5
_FARTHEST = 20.0
"""Robust deviations beyond which a coordinate is as far as any."""


def check_contamination(share: Any) -> None:
    """Raises InputError unless a share of rows that are anomalies is in (0, 0.5]."""
    if isinstance(share, bool) or not isinstance(share, float | int) or not 0 < share <= MOST_SHARE:
        raise InputError(f"`contamination` must be in (0, {MOST_SHARE:g}]. Received: {share!r}.")


def standing_apart(x: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """The rows that a model of normal rows should not see, bool (rows,): three times the share, at most half.

    Anomalies that resemble each other are each other's neighbours, so that their number, not their density, gives them
    away. A sample of rows is joined by Ward's method (1963, "Hierarchical grouping to optimize an objective function");
    of the largest group that a row is in and that could be all anomalies the distance to what it is joined to next says
    how far it stands apart, as for the small clusters of He, Xu and Deng (2003, "Discovering cluster-based local
    outliers"). Each row is as its nearest neighbours in the sample, by the mean of their ranks, and in the mean of
    twelve samples.

    Args:
        x: rows (rows, ...), NaN where a value is missing. The features of a vector are scaled each for itself.
        share: of the rows that are expected to be anomalies, (0, 0.5].
        seed: of the samples.
    """
    points = _robust(x)
    if not points.size:
        points = np.zeros((len(x), 1))
    size = max(1, min(_SAMPLE, math.floor(_SHARE_OF_TREE * len(points))))
    rng = np.random.default_rng(seed)
    apart = np.zeros(len(points))
    for _ in range(_TREES):
        sample = points[rng.permutation(len(points))[:size]]
        rank = rankdata(_distances_of_groups(sample, _LARGEST_GROUP * share * size))
        near = NearestNeighbors(n_neighbors=min(_NEIGHBOURS, size)).fit(sample)
        apart += rank[near.kneighbors(points, return_distance=False)].mean(axis=1)
    count = math.floor(min(_LEFT_OUT * share, MOST_SHARE) * len(points))
    chosen = np.zeros(len(points), bool)
    chosen[np.argsort(-apart, kind="stable")[:count]] = True
    return chosen


def _distances_of_groups(points: np.ndarray, most: float) -> np.ndarray:
    """Of each row's largest group of at most so many rows: about how far its mean is from that of what it joins."""
    distance = np.zeros(len(points))
    groups = {i: [i] for i in range(len(points))}
    joined = linkage(pdist(points), "ward") if len(points) > 1 else ()
    for i, (first, second, height, size) in enumerate(joined):
        if size <= max(most, 1.0):
            groups[len(points) + i] = groups.pop(int(first)) + groups.pop(int(second))
            continue
        for part in (int(first), int(second)):
            if part in groups:
                rows = groups.pop(part)
                distance[rows] = height / math.sqrt(len(rows))  # Ward's height is the distance times this, but for √2
    return distance


def _robust(x: np.ndarray) -> np.ndarray:
    """Rows (rows, features) from their median, in units of the deviation of their middle four fifths: anomalies change
    neither; images and series in one unit for all features."""
    rows = x.reshape(len(x), -1).astype("float64")
    rows = rows[:, ~np.isnan(rows).all(axis=0)]
    over = 0 if x.ndim == 2 else None
    low, middle, high = (np.nanpercentile(rows, q, axis=over) for q in (10, 50, 90))
    deviation = np.nanstd(rows, axis=over)
    unit = (high - low) / 2.563  # of a normal distribution the standard deviation
    unit = np.where(unit > 1e-6 * deviation, unit, deviation)
    points = (rows - middle) / np.where(unit > 0, unit, 1.0)
    return np.clip(np.nan_to_num(points), -_FARTHEST, _FARTHEST)
