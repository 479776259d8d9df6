"""Estimators for scikit-learn: a transformer, a detector of anomalies, a classifier and a generator.

Each trains with `keras_ae.fit`, takes what that takes (`recipe`, `latent_dim`, `epochs`, ...), and leaves an artifact
with `to_artifact`; `from_artifact` makes a fitted estimator of one.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    DensityMixin,
    OutlierMixin,
    TransformerMixin,
)
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from keras_ae import pipeline, storage
from keras_ae.data.source import Source
from keras_ae.data.tables import Rows
from keras_ae.errors import InputError
from keras_ae.likelihood import log_likelihood
from keras_ae.models import Autoencoder
from keras_ae.recipes import DEFAULT

_LARGEST_SEED = 2**31 - 1
_STEADY = 64
_MOST_LATENTS = 16


class _Fitting(BaseEstimator):
    """What all estimators share: parameters, training, and a model that is pickled as its .keras file.

    Args:
        recipe: a key of `keras_ae.recipes.RECIPES`.
        latent_dim: numbers in z; by default 16, or half the features where they are few.
        epochs: at most; by default about 4,000 steps.
        batch_size: rows in a step; by default 128, or less for few rows.
        network: a key of `keras_ae.networks.NETWORKS`; by default from the input's rank.
        options: of the recipe and the network, such as {"hidden": [64]}.
        random_state: seed, or generator of one.
    """

    def __init__(
        self,
        recipe: str = DEFAULT,
        latent_dim: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        network: str | None = None,
        options: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        self.recipe = recipe
        self.latent_dim = latent_dim
        self.epochs = epochs
        self.batch_size = batch_size
        self.network = network
        self.options = options
        self.random_state = random_state

    def _train(self, x: np.ndarray, y: np.ndarray | None = None) -> None:
        fitted = pipeline.fit(
            Source(type(self).__name__, Rows(x, y)),
            recipe=self.recipe,
            latent_dim=self._chosen_latent_dim(x.shape[1]),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=int(check_random_state(self.random_state).randint(_LARGEST_SEED)),
            network=self.network,
            labels=y is not None,
            test=False,
            **(self.options or {}),
        )
        self.model_: Autoencoder = fitted.model
        self.manifest_: dict[str, Any] = fitted.manifest
        self.n_iter_: int = max(fitted.training.epochs, 1)

    def _chosen_latent_dim(self, features: int) -> int | None:
        return self.latent_dim

    def _rows(self, X: Any, reset: bool = False, **checks: Any) -> np.ndarray:
        if not reset:
            check_is_fitted(self, "model_")
        rows: np.ndarray = validate_data(self, X, reset=reset, dtype="float32", **checks)
        return rows

    def to_artifact(self, path: str | Path, X: Any = None) -> dict[str, Any]:
        """Writes the model as an artifact, every export verified; returns its manifest.

        Args:
            path: folder, new or to be replaced.
            X: rows to compare the exports on; by default the model's own samples.
        """
        check_is_fitted(self, "model_")
        return storage.save(self.model_, path, None if X is None else self._rows(X))

    @classmethod
    def from_artifact(cls, path: str | Path) -> Self:
        """A fitted estimator of the Keras model of an artifact.

        Raises:
            InputError: for a model of images or signals.
        """
        model = storage.load(path)
        if len(model.raw_shape) != 1:
            raise InputError(
                f"An estimator takes tables, (rows, features). Received: an artifact of {model.raw_shape}."
            )
        estimator = cls()
        estimator.model_, estimator.manifest_, estimator.n_iter_ = model, {}, 1
        estimator.n_features_in_ = model.raw_shape[0]
        estimator._restore()
        return estimator

    def _restore(self) -> None:
        """Sets, from the model alone, what `fit` sets."""

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        if "model_" in state:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / storage.MODEL
                state.pop("model_").save(path)
                state["_model_file"] = path.read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        file = state.pop("_model_file", None)
        super().__setstate__(state)
        if file is not None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / storage.MODEL
                path.write_bytes(file)
                self.model_ = storage.load(path)


def _steadily(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Values (rows, ...) that don't depend, by their last digit, on how many rows come together: products of few rows
    are summed in another order than those of many.
    """
    missing = -len(rows) % _STEADY
    return function(np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]))[: len(rows)]


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, _Fitting):
    """Rows to latents and back, as PCA's `transform` and `inverse_transform`."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on X (rows, features); y is not looked at."""
        self._train(self._rows(X, reset=True, ensure_min_samples=2))
        self._restore()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Latents (rows, latents), the posterior means."""
        rows = self._rows(X)
        return _steadily(self.model_.encode, rows).reshape(len(rows), -1)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Rows (rows, features) of latents X."""
        check_is_fitted(self, "model_")
        z = np.asarray(X, "float32")
        return self.model_.decode(z.reshape(len(z), *self.model_.latent_shape))

    def _restore(self) -> None:
        self._n_features_out = self.model_.latent_dim

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class AnomalyDetector(OutlierMixin, _Fitting):
    """Which rows are unusual, by `keras_ae.layers.AnomalyScore`.

    A row is called an outlier where its score is above `1 - alpha` of those of rows that were held out of training:
    of new normal rows about alpha are, whatever the model (conformal p-values).

    Args:
        contamination: share of the rows in `fit` that are outliers, (0, 0.5]. "auto" where all are normal. Otherwise
            the model is trained twice: first on all rows, then without that share of those that it found most
            unusual; and the threshold is the quantile of their scores, as elsewhere in scikit-learn.
        alpha: false alarms among new normal rows, where `contamination` is "auto".
        recipe: and all after it, as for `AutoencoderTransformer`.

    Attributes:
        offset_: of `score_samples`, below which a row is an outlier.
    """

    def __init__(
        self,
        contamination: float | str = "auto",
        alpha: float = 0.01,
        recipe: str = DEFAULT,
        latent_dim: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        network: str | None = None,
        options: Mapping[str, Any] | None = None,
        random_state: Any = None,
    ) -> None:
        super().__init__(recipe, latent_dim, epochs, batch_size, network, options, random_state)
        self.contamination = contamination
        self.alpha = alpha

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on X (rows, features); y is not looked at."""
        share = self.contamination
        if share != "auto" and not (isinstance(share, float | int) and 0 < share <= 0.5):
            raise InputError(f'`contamination` must be "auto" or in (0, 0.5]. Received: {share!r}.')
        if not 0 < self.alpha < 1:
            raise InputError(f"`alpha` must be in (0, 1). Received: {self.alpha!r}.")
        rows = self._rows(X, reset=True, ensure_min_samples=2)
        self._train(rows)
        if share != "auto":
            scores = self.model_.score(rows)["score"]
            usual = scores <= np.quantile(scores, 1 - float(share))
            if not usual.all():
                self._train(rows[usual])
            self.offset_ = float(np.quantile(self.score_samples(X), float(share)))
        else:
            self._restore()
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """Minus the anomaly score (rows,): lower is more unusual."""
        rows = self._rows(X)
        return -_steadily(lambda x: self.model_.score(x)["score"], rows).astype("float64")

    def decision_function(self, X: Any) -> np.ndarray:
        """`score_samples` above the threshold (rows,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """1 for rows that are usual, -1 for those that are not."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:
        """Conformal p-values (rows,): of new normal rows, a share of at most p has one of at most p."""
        rows = self._rows(X)
        return self.model_.score(rows)["p_value"]

    def explain(self, X: Any) -> np.ndarray:
        """What each feature adds to the anomaly score, (rows, features)."""
        rows = self._rows(X)
        return self.model_.explain(rows)

    def _restore(self) -> None:
        held_out = self.model_.p_value.calibration_scores
        if not len(held_out):
            raise InputError("The model must be calibrated. Received: one without calibration scores.")
        # The p-value (1 + rank) / (1 + n) of what lies above this score is at most alpha; where n is too small for
        # that, of what lies above all of them it is as small as it gets.
        rank = min(int(np.ceil((1 + len(held_out)) * (1 - self.alpha))), len(held_out))
        # In the middle between two scores, so that no rounding decides about a row that is there already.
        above = held_out[rank] if rank < len(held_out) else held_out[-1] * (1 + 1e-4)
        self.offset_ = -float(held_out[rank - 1] + above) / 2


class AutoencoderClassifier(ClassifierMixin, _Fitting):
    """p(y | x) by a head on the latents and Bayes' rule, calibrated (docs/labels.md).

    Classes may differ along any direction: by default z has as many numbers as there are features, 16 at most.

    Attributes:
        classes_: labels, in the order of `predict_proba`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Trains on X (rows, features) and their labels y (rows,)."""
        X, y = validate_data(self, X, y, dtype="float32", ensure_min_samples=2)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"Labels must be of two classes or more. Received: one class, {self.classes_[0]!r}.")
        width = len(str(len(self.classes_)))
        self._train(X, np.array([f"{i:0{width}}" for i in index]))
        return self

    def _chosen_latent_dim(self, features: int) -> int | None:
        return self.latent_dim or min(_MOST_LATENTS, features)

    def predict_proba(self, X: Any) -> np.ndarray:
        """(rows, classes)."""
        rows = self._rows(X)
        return _steadily(self.model_.classify, rows)

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class of each row."""
        likeliest = self.predict_proba(X).argmax(axis=1)
        return self.classes_[likeliest]

    def _restore(self) -> None:
        if not self.model_.classes:
            raise InputError("The model must have classes. Received: one that was trained without labels.")
        self.classes_ = np.array(self.model_.classes)


class Generator(DensityMixin, _Fitting):
    """New rows, and a bound on the log-density of rows, as scikit-learn's `KernelDensity` and `GaussianMixture`.

    `score_samples` needs a recipe that has a likelihood: `vae`, the default, or another variational one.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on X (rows, features); y is not looked at."""
        self._train(self._rows(X, reset=True, ensure_min_samples=2))
        return self

    def sample(self, n_samples: int = 1, random_state: Any = None) -> np.ndarray:
        """New rows (n_samples, features)."""
        check_is_fitted(self, "model_")
        seed = int(check_random_state(random_state).randint(_LARGEST_SEED))
        return self.model_.generate(n_samples, seed=seed)

    def score_samples(self, X: Any) -> np.ndarray:
        """A lower bound on log p(x) of each row (rows,), nats: importance-weighted, of 10 draws."""
        rows = self._rows(X)
        return _steadily(lambda x: log_likelihood(self.model_, x, k=10, common=True).rows, rows)

    def score(self, X: Any, y: Any = None) -> float:
        """The sum of `score_samples`."""
        return float(self.score_samples(X).sum())
