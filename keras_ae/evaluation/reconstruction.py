"""How much of a row comes back."""

import numpy as np

from keras_ae.evaluation.numbers import Number, bootstrap
from keras_ae.evaluation.rows import blocks


def squared_errors(
    x: np.ndarray, x_hat: np.ndarray, unit: np.ndarray | float = 1.0, known: np.ndarray | None = None
) -> np.ndarray:
    """Mean squared error (rows,) of each row over its features, each in a unit of its own. Of those that are `known`,
    bool (rows, features), the sum over as many as a row has in the mean: so the mean over rows is that over all that
    are known.
    """
    if known is None:
        known = np.broadcast_to(True, x.shape)
    parts = zip(blocks(x), blocks(x_hat), blocks(known), strict=True)
    errors = np.concatenate([(np.square((a - b) / unit) * k).sum(axis=1) for a, b, k in parts])
    return errors / (known.sum() / len(known))


def rmse(errors: np.ndarray, seed: int) -> Number:
    """sqrt(E[(x - AE(x))^2]), E over rows and features, from the squared error (rows,) of each row."""
    return bootstrap(lambda i: float(np.sqrt(errors[i].mean(dtype="float64"))), len(errors), seed=seed)
