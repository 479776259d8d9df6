"""From p-values to alarms: one row at a time, or a batch at once. NumPy only."""

import numpy as np

from keras_ae.errors import InputError


def alarms(p_value: np.ndarray, alpha: float) -> np.ndarray:
    """Rows (rows,) whose p-value is at most alpha: of normal rows a share of about alpha, whatever their number.

    Raises:
        InputError: for an alpha outside (0, 1).
    """
    return np.asarray(p_value) <= check_level("alpha", alpha)


def alarms_of_batch(p_value: np.ndarray, rate: float) -> np.ndarray:
    """Rows (rows,) that Benjamini and Hochberg (1995) reject: of the alarms of a batch, a share of about `rate` is
    false in expectation.

    Conformal p-values of one batch share their calibration rows; the bound holds nevertheless (Bates et al. 2023,
    theorem 2). With n calibration rows no p-value is below 1 / (n + 1), so in a batch of m rows nothing is found unless
    at least m / (rate (n + 1)) rows are anomalous.

    Raises:
        InputError: for a rate outside (0, 1).
    """
    p_value = np.asarray(p_value, "float64")
    order = np.argsort(p_value, kind="stable")
    below = p_value[order] <= check_level("rate", rate) * np.arange(1, len(p_value) + 1) / max(len(p_value), 1)
    found = np.zeros(len(p_value), bool)
    found[order[: int(np.flatnonzero(below)[-1]) + 1 if below.any() else 0]] = True
    return found


def least_p_value(rows: int) -> float:
    """The lowest conformal p-value that there can be with so many calibration rows."""
    return 1 / (rows + 1)


def check_level(name: str, value: float) -> float:
    """The value; InputError outside (0, 1)."""
    if not 0 < value < 1:
        raise InputError(f"`{name}` must be in (0, 1). Received: {value}.")
    return value
