"""What the estimators for scikit-learn share: parameters, training, tables in and out, and a model that is pickled."""

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from keras_ae import artifact, pipeline, storage
from keras_ae.data.columns import layout
from keras_ae.data.schema import Schema, as_given
from keras_ae.data.sequences import is_ragged
from keras_ae.data.source import Source
from keras_ae.data.tables import Rows
from keras_ae.errors import InputError
from keras_ae.frames import Frames, is_frame
from keras_ae.layers import ColumnScaling
from keras_ae.models import Autoencoder
from keras_ae.recipes import DEFAULT

LARGEST_SEED = 2**31 - 1


class Estimator(BaseEstimator):
    """What all estimators share: parameters, training, and a model that is pickled as its .keras file.

    Args:
        recipe: a key of `keras_ae.recipes.RECIPES`.
        latent_dim: numbers in z; by default 16, or half the features where they are few.
        epochs: at most; by default about 4,000 steps.
        batch_size: rows in a step; by default 128, or less for few rows.
        network: a key of `keras_ae.networks.NETWORKS`; by default from the input's rank.
        options: of the recipe and the network, such as {"hidden": [64]}.
        random_state: seed, or generator of one.
        schema: what is known of a DataFrame's columns, {"zip": "categorical"} or {"day": {"kind": "datetime", "format":
            "%d.%m.%Y"}}, as for `keras_ae.data.load_source`; kind "drop" leaves a column out.
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
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self.recipe = recipe
        self.latent_dim = latent_dim
        self.epochs = epochs
        self.batch_size = batch_size
        self.network = network
        self.options = options
        self.random_state = random_state
        self.schema = schema

    _frames: Frames
    _ignored: tuple[str, ...] = ()
    """Columns that the model of an artifact does not look at; those of `fit` are known by their place."""

    def _train(self, rows: Rows, contamination: float | None = None) -> None:
        fitted = pipeline.fit(
            Source(type(self).__name__, rows),
            recipe=self.recipe,
            latent_dim=self._chosen_latent_dim(rows.x.shape[1] if rows.schema is None else layout(rows.schema).numbers),
            epochs=self.epochs,
            batch_size=self.batch_size,
            seed=int(check_random_state(self.random_state).randint(LARGEST_SEED)),
            network=self.network,
            labels=rows.y is not None,
            test=False,
            contamination=contamination,
            **(self.options or {}),
        )
        self.model_: Autoencoder = fitted.model
        self.manifest_: dict[str, Any] = fitted.manifest
        self.n_iter_: int = max(fitted.training.epochs, 1)
        if isinstance(self.model_.scaling, ColumnScaling):  # with what it learned of them, such as times of day
            self._frames = replace(self._frames, schema=self.model_.scaling.schema)

    def _chosen_latent_dim(self, features: int) -> int | None:
        return self.latent_dim

    def _learned(self, X: Any) -> Rows:
        """What is trained on."""
        x = validate_data(self, X, skip_check_array=True) if is_frame(X) else self._numbers(X, True)
        if is_frame(X) and len(x) < 2:
            raise InputError(f"`X` must have at least 2 rows. Received: a DataFrame of {len(x)}.")
        if not is_frame(X) and np.isfinite(x).all():
            if self.schema:
                raise InputError("`schema` is of the columns of a DataFrame. Received: an array besides.")
            self._frames = Frames.of_numbers(x.shape[1])
            return Rows(x, schema=self._frames.schema)
        self._frames, rows = Frames.learned(x, as_given(self.schema or {}))
        schema = self._frames.schema
        return Rows(rows, columns=schema.names, schema=schema)

    def _numbers(self, X: Any, reset: bool) -> np.ndarray:
        """An array of numbers (rows, features), float32, NaN where one is missing."""
        if is_ragged(X) and len({np.shape(row) for row in X}) > 1:
            raise InputError("An estimator takes tables, (rows, features). Received: rows of different lengths.")
        checks = {"ensure_all_finite": False, "ensure_min_samples": 2 if reset else 1}
        x: np.ndarray = validate_data(self, X, reset=reset, dtype="float32", **checks)
        return x

    def _rows(self, X: Any) -> np.ndarray:
        """Rows of the model, of what `fit` took."""
        check_is_fitted(self, "model_")
        if not is_frame(X) and self._frames.of_array:
            return self._frames.rows(self._numbers(X, False))
        if is_frame(X) and self._ignored:
            X = X[[name for name in X.columns if name not in self._ignored]]
        table = X if is_frame(X) else np.asarray(X)
        return self._frames.rows(validate_data(self, table, reset=False, skip_check_array=True))

    def _table(self, columns: np.ndarray, X: Any = None) -> Any:
        """Rows of the model as what `fit` took, with the index of a DataFrame X."""
        return self._frames.table(columns, getattr(X, "index", None))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def to_artifact(self, path: str | Path, X: Any = None) -> dict[str, Any]:
        """Writes the model as an artifact, every export verified; returns its manifest.

        Args:
            path: folder, new or to be replaced.
            X: rows to compare the exports on; by default the model's own samples.
        """
        check_is_fitted(self, "model_")
        columns = None if self._frames.of_array else self._frames.schema.names
        return storage.save(self.model_, path, None if X is None else self._rows(X), columns=columns)

    @classmethod
    def from_artifact(cls, path: str | Path) -> Self:
        """A fitted estimator of the Keras model of an artifact.

        Raises:
            InputError: for a model of images or signals.
        """
        manifest, model = artifact.read_manifest(Path(path)), storage.load(path)
        if len(model.raw_shape) != 1:
            raise InputError(
                f"An estimator takes tables, (rows, features). Received: an artifact of {model.raw_shape}."
            )
        estimator = cls()
        estimator.model_, estimator.manifest_, estimator.n_iter_ = model, manifest, 1
        estimator.n_features_in_ = model.raw_shape[0]
        estimator._frames = Frames.of_numbers(model.raw_shape[0])
        names = manifest.get("columns")
        if names is not None:
            scaling = model.scaling
            schema = scaling.schema if isinstance(scaling, ColumnScaling) else Schema.of_numbers(names)
            estimator._frames = Frames.of_model(schema)
            if not estimator._frames.of_array:
                estimator.feature_names_in_ = np.array(names, object)
            labels = manifest.get("labels_column")
            estimator._ignored = (*schema.dropped, *manifest.get("dropped", ()), *(() if labels is None else (labels,)))
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
