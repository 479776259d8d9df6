"""How good are probabilities of classes? Of `probability` (rows, classes) and labels y (rows,), indices."""

import numpy as np


def accuracy(probability: np.ndarray, y: np.ndarray) -> float:
    """Share of rows whose likeliest class is theirs."""
    return float(np.mean(probability.argmax(axis=1) == y))


def log_loss(probability: np.ndarray, y: np.ndarray) -> float:
    """Mean of -log p(y | x), nats."""
    chosen = probability[np.arange(len(y)), y].astype("float64")
    return 0.0 - float(np.log(np.maximum(chosen, np.finfo("float32").tiny)).mean())


def expected_calibration_error(probability: np.ndarray, y: np.ndarray, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy, over equal bins of confidence weighted by their rows (Guo et al.
    2017, "On calibration of modern neural networks", equation 3).
    """
    confidence = probability.max(axis=1).astype("float64")
    right = probability.argmax(axis=1) == y
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, right - confidence, bins)
    return float(np.abs(gaps).sum() / len(y))
