"""What z knows of the labels: nearest neighbours and a linear probe, judged on held-out rows."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from keras_ae.evaluation.numbers import Number, proportion

NEIGHBOURS = 5
TRAIN_ROWS = 20_000


def accuracies(z: tuple[np.ndarray, np.ndarray], labels: tuple[np.ndarray, np.ndarray], seed: int) -> dict[str, Number]:
    """`knn_accuracy` (5 neighbours) and `probe_accuracy` (logistic regression) of held-out labels from z.

    Args:
        z: of training rows and of held-out rows, (rows, n) each; every latent is divided by its deviation.
        labels: of the same rows, (rows,) each. At most 20,000 training rows, drawn by seed, are used.
        seed: of that draw.
    """
    (z_train, z_test), (train, test) = z, labels
    if len(z_train) > TRAIN_ROWS:
        chosen = np.random.default_rng(seed).choice(len(z_train), TRAIN_ROWS, replace=False)
        z_train, train = z_train[chosen], train[chosen]
    probes = {
        "knn_accuracy": KNeighborsClassifier(min(NEIGHBOURS, len(z_train))),
        "probe_accuracy": LogisticRegression(max_iter=2000),
    }
    fitted = {name: make_pipeline(StandardScaler(), probe).fit(z_train, train) for name, probe in probes.items()}
    return {name: proportion(probe.predict(z_test) == test) for name, probe in fitted.items()}
