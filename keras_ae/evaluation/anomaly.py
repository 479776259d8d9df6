"""How well a score tells anomalies from normal rows, and how often its alarm is false."""

from collections.abc import Callable

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from keras_ae.evaluation.numbers import Number, bootstrap, proportion


def ranking(score: np.ndarray, anomalous: np.ndarray, seed: int) -> dict[str, Number]:
    """`auroc` and `average_precision` of a score (rows,), higher is more anomalous; `anomalous` (rows,) is bool.

    Normal rows and anomalies are resampled apart. Average precision depends on the share of anomalies, AUROC does not.
    """
    normal, anomaly = score[~anomalous], score[anomalous]
    truth = np.repeat([False, True], [len(normal), len(anomaly)])

    def number(measure: Callable[[np.ndarray, np.ndarray], float]) -> Number:
        return bootstrap(
            lambda i, j: float(measure(truth, np.concatenate([normal[i], anomaly[j]]))),
            len(normal),
            len(anomaly),
            seed=seed,
        )

    return {"auroc": number(roc_auc_score), "average_precision": number(average_precision_score)}


def false_positive_rate(p_value: np.ndarray, alpha: float) -> Number:
    """Share of normal rows with p <= alpha, from their p-values (rows,); for a valid p-value about alpha or less."""
    return proportion(p_value <= alpha)
