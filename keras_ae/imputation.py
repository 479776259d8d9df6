"""Missing cells filled by what a model makes of the rest of the row."""

from typing import Any

import numpy as np

STEPS = 10
"""Reconstructions of reconstructions: each fills better what the next one looks at."""


def impute(model: Any, x: np.ndarray, steps: int = STEPS) -> np.ndarray:
    """Raw rows with their missing cells filled, and the others as they are.

    A missing cell is the reconstruction's; it is put in place and the row reconstructed again, some times (Rezende et
    al. 2014, "Stochastic backpropagation and approximate inference in deep generative models", appendix F, with means
    for draws).

    Args:
        model: with `reconstruct`, in Keras or at run time.
        x: raw rows (rows, columns), NaN where a cell is missing.
        steps: reconstructions.
    """
    x = np.asarray(x, "float32")
    missing = np.isnan(x)
    filled = x
    for _ in range(steps if missing.any() else 0):
        filled = np.where(missing, model.reconstruct(filled), x)
    return filled
