"""A number and its 95 % interval."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 200
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Number:
    """A measured value with its 95 % interval; `low` and `high` are None where there is none. NaN: not defined."""

    value: float
    low: float | None = None
    high: float | None = None

    def bounds(self) -> tuple[float, float]:
        """The interval, or the value twice."""
        return self.value if self.low is None else self.low, self.value if self.high is None else self.high

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return _short(self.value)
        return f"{_short(self.value)} [{_short(self.low)}, {_short(self.high)}]"


def _short(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def proportion(hits: np.ndarray) -> Number:
    """Share of True in `hits` (rows,), with the exact binomial interval (Clopper and Pearson 1934)."""
    interval = binomtest(int(hits.sum()), len(hits)).proportion_ci(CONFIDENCE, method="exact")
    return Number(float(hits.mean()), float(interval.low), float(interval.high))


def bootstrap(statistic: Callable[..., float], *rows: int, seed: int, centred: bool = False) -> Number:
    """Value and bootstrap interval of a statistic (Efron 1979).

    Args:
        statistic: of one array of row indices for each entry of `rows`.
        rows: how many rows each sample has; each is resampled on its own.
        seed: of the draws.
        centred: shifts the draws so that their median is the value, for statistics that resampling itself pushes to
            one side; otherwise the interval is of the draws as they are, the percentile interval.
    """
    rng = np.random.default_rng(seed)
    value = float(statistic(*map(np.arange, rows)))
    draws = [statistic(*(rng.integers(n, size=n) for n in rows)) for _ in range(RESAMPLES)]
    if np.isnan(value) or np.isnan(draws).all():
        return Number(value)
    low, high = np.nanquantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    if centred:
        shift = value - np.nanmedian(draws)
        low, high = low + shift, high + shift
    return Number(value, float(low), float(high))


def mean(values: np.ndarray, seed: int) -> Number:
    """Mean of `values` (rows,) with its bootstrap interval."""
    return bootstrap(lambda i: float(values[i].mean()), len(values), seed=seed)
