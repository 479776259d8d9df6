"""Fits the scaling that becomes part of the exported graphs."""

from dataclasses import dataclass

import numpy as np

_CHUNK = 8192


@dataclass(frozen=True)
class Statistics:
    """What Scaling is set to.

    Attributes:
        shift: mean of each feature, of the shape of one observation.
        scale: positive, of that shape: one number where all features share a unit, else each feature's deviation.
        shared: whether features share one scale.
        constant: flat indices of the features that never change.
    """

    shift: np.ndarray
    scale: np.ndarray
    shared: bool
    constant: tuple[int, ...]

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """Raw x (rows, ...) in network units, float32."""
        return (x.astype("float32") - self.shift) / self.scale


def fit_scaling(x: np.ndarray) -> Statistics:
    """Mean and scale of raw training rows x (rows, ...).

    Features that share a unit (pixels, samples of one signal) share one scale, since dividing each by its own
    deviation would blow up the noise of quiet ones; columns of different units are each divided by their deviation.
    Which it is `share_a_unit` tells.
    """
    total = np.zeros(x.shape[1:])
    squares = np.zeros(x.shape[1:])
    first = x[0].astype("float64")  # sums of squares around a row lose no digits where the mean is large
    for start in range(0, len(x), _CHUNK):
        chunk = x[start : start + _CHUNK].astype("float64") - first
        total += chunk.sum(axis=0)
        squares += np.square(chunk).sum(axis=0)
    mean = total / len(x)
    deviation = np.sqrt(np.maximum(squares / len(x) - np.square(mean), 0.0))
    scale, shared, constant = scales(mean + first, deviation)
    return Statistics((mean + first).astype("float32"), scale.astype("float32"), shared, constant)


def share_a_unit(deviations: np.ndarray) -> bool:
    """Whether features whose deviations are these seem to have one unit: the median of them is at least a tenth of the
    largest. In digits, pixels and sensor windows it is a third and more, in tables with units that differ far below.

    Of an even number it is the lower of the two in the middle: between a column of years and one of shares, or two
    channels of such, there is no deviation to speak of.
    """
    return deviations.size == 0 or bool(np.quantile(deviations, 0.5, method="lower") >= 0.1 * deviations.max())


def scales(mean: np.ndarray, deviation: np.ndarray) -> tuple[np.ndarray, bool, tuple[int, ...]]:
    """Scale of each feature by its mean and deviation, whether all share one, and which are constant, by flat index."""
    # What float32 can't tell from a constant is one.
    moving = deviation > 1e-6 * np.maximum(np.abs(mean), 1e-30)
    constant = tuple(int(i) for i in np.flatnonzero(~moving.ravel()))
    spread = deviation[moving]
    shared = share_a_unit(spread)
    if shared:
        scale = np.full(mean.shape, np.sqrt(np.mean(np.square(spread))) if spread.size else 1.0)
    else:
        scale = np.where(moving, deviation, 1.0)
    return scale, shared, constant
