"""Estimators for scikit-learn: a transformer, a detector of anomalies, a classifier and a generator.

Each trains with `keras_ae.fit`, takes what that takes (`recipe`, `latent_dim`, `epochs`, ...), and leaves an artifact
with `to_artifact`; `from_artifact` makes a fitted estimator of one.

X is an array of numbers, NaN where one is missing, or a DataFrame, of pandas or polars, that may have categories,
booleans, dates and missing cells. The kinds of its columns follow from the cells as in `fit`; `schema` says what they
do not.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Self

import numpy as np
from sklearn.base import ClassifierMixin, ClassNamePrefixFeaturesOutMixin, DensityMixin, OutlierMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data

from keras_ae.errors import InputError
from keras_ae.estimator import LARGEST_SEED, Estimator
from keras_ae.frames import is_frame
from keras_ae.likelihood import log_likelihood
from keras_ae.recipes import DEFAULT

_STEADY = 64
_MOST_LATENTS = 16
_ALPHA = 0.01
_ROUNDING = 1e-4


def _steadily(function: Callable[[np.ndarray], np.ndarray], rows: np.ndarray) -> np.ndarray:
    """Values (rows, ...) that don't depend, by their last digit, on how many rows come together: products of few rows
    are summed in another order than those of many.
    """
    missing = -len(rows) % _STEADY
    return function(np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]))[: len(rows)]


class AutoencoderTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, Estimator):
    """Rows to latents and back, as PCA's `transform` and `inverse_transform`."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on X (rows, features); y is not looked at."""
        self._train(self._learned(X))
        self._restore()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Latents (rows, latents), the posterior means."""
        rows = self._rows(X)
        return _steadily(self.model_.encode, rows).reshape(len(rows), -1)

    def inverse_transform(self, X: Any) -> Any:
        """Rows (rows, features) of latents X; a DataFrame where `fit` took one."""
        check_is_fitted(self, "model_")
        z = np.asarray(X, "float32")
        return self._table(self.model_.decode(z.reshape(len(z), *self.model_.latent_shape)), X)

    def _restore(self) -> None:
        self._n_features_out = self.model_.latent_dim

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


class AnomalyDetector(OutlierMixin, Estimator):
    """Which rows are unusual, by `keras_ae.layers.AnomalyScore`.

    A row is called an outlier where its score is above `1 - alpha` of those of rows that were held out of training:
    of new normal rows about alpha are, whatever the model (conformal p-values).

    Args:
        contamination: share of the rows in `fit` that are outliers, (0, 0.5]; "auto" where all are normal. Otherwise
            those that stand apart, alone or as a group, are left out of training, as `keras_ae.fit` says; and the
            threshold is the quantile of the scores of all rows, as elsewhere in scikit-learn.
        alpha: false alarms among new normal rows, where `contamination` is "auto"; by default 0.01. The lowest share
            that n held-out rows can tell is 1 / (n + 1), of rows above all of them: it stands for any below. By
            default the highest of them, a row of `fit`, is then an outlier as well.
        recipe: and all after it, as for `AutoencoderTransformer`.

    Attributes:
        offset_: of `score_samples`, below which a row is an outlier.
        alpha_: share of new normal rows that is there in expectation, at most, where `contamination` is "auto".
    """

    def __init__(
        self,
        contamination: float | str = "auto",
        alpha: float | None = None,
        recipe: str = DEFAULT,
        latent_dim: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        network: str | None = None,
        options: Mapping[str, Any] | None = None,
        random_state: Any = None,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(recipe, latent_dim, epochs, batch_size, network, options, random_state, schema)
        self.contamination = contamination
        self.alpha = alpha

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on X (rows, features); y is not looked at."""
        share: Any = None if self.contamination == "auto" else self.contamination
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise InputError(f"`alpha` must be in (0, 1). Received: {self.alpha!r}.")
        self._train(self._learned(X), share)
        if share is None:
            self._restore()
        else:
            self.offset_ = float(np.quantile(self.score_samples(X), share))
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

    def explain(self, X: Any) -> Any:
        """What each feature adds to the anomaly score, (rows, features); a DataFrame where `fit` took one."""
        added = self.model_.explain(self._rows(X))
        if self._frames.of_array:
            return self._table(added)
        by_column = dict(zip(self._frames.schema.names, added.T, strict=True))
        return self._frames.frame(by_column, getattr(X, "index", None))

    def _restore(self) -> None:
        held_out = self.model_.p_value.calibration_scores
        if not len(held_out):
            raise InputError("The model must be calibrated. Received: one without calibration scores.")
        # The p-value (1 + rank) / (1 + n) of what lies above this score is at most alpha; where n is too small for
        # that, of what lies above all of them it is as small as it gets.
        n = len(held_out)
        wanted = int(np.ceil((1 + n) * (1 - (self.alpha or _ALPHA))))
        rank = min(wanted, n)
        self.alpha_ = (1 + n - rank) / (1 + n)
        # In the middle between two scores, so that no rounding decides about a row that is there already.
        other = held_out[rank] if rank < n else held_out[-1] * (1 + _ROUNDING)
        below = held_out[-1] * (1 - _ROUNDING)
        if self.alpha is None and wanted > n and not (held_out[:-1] >= below).any():
            # A new row is above the highest as often as it is no lower, but where scores are alike.
            other = below
        self.offset_ = -float(held_out[rank - 1] + other) / 2


class AutoencoderClassifier(ClassifierMixin, Estimator):
    """p(y | x) by a head on the latents and Bayes' rule, calibrated (docs/labels.md).

    Classes may differ along any direction: by default z has as many numbers as there are features, 16 at most.

    Attributes:
        classes_: labels, in the order of `predict_proba`.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Trains on X (rows, features) and their labels y (rows,)."""
        if is_frame(X):
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
        else:
            X, y = validate_data(self, X, y, dtype="float32", ensure_all_finite=False)
        check_classification_targets(y)
        self.classes_, index = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"Labels must be of two classes or more. Received: one class, {self.classes_[0]!r}.")
        width = len(str(len(self.classes_)))
        self._train(replace(self._learned(X), y=np.array([f"{i:0{width}}" for i in index])))
        names = tuple(map(str, self.classes_))
        if len(set(names)) == len(names):  # an artifact's functions take and give classes by name
            self.model_.classes = names
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


class Generator(DensityMixin, Estimator):
    """New rows, and a bound on the log-density of rows, as scikit-learn's `KernelDensity` and `GaussianMixture`.

    `score_samples` needs a recipe that has a likelihood: `vae`, the default, or another variational one.
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Trains on X (rows, features); y is not looked at."""
        self._train(self._learned(X))
        return self

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Any:
        """New rows (n_samples, features); where `fit` took a DataFrame one of the same columns and dtypes, without
        columns that name rows or have no values.
        """
        check_is_fitted(self, "model_")
        seed = int(check_random_state(random_state).randint(LARGEST_SEED))
        return self._table(self.model_.generate(n_samples, seed=seed))

    def score_samples(self, X: Any) -> np.ndarray:
        """A lower bound on log p(x) of each row (rows,), nats: importance-weighted, of 10 draws."""
        rows = self._rows(X)
        return _steadily(lambda x: log_likelihood(self.model_, x, k=10, common=True).rows, rows)

    def score(self, X: Any, y: Any = None) -> float:
        """The sum of `score_samples`."""
        return float(self.score_samples(X).sum())
