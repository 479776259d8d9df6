"""How unusual a row is, from what a trained autoencoder knows: one small graph, fitted on normal rows only."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers.latents import flat
from keras_ae.layers.neighbours import Fitted, LocalOutlierFactor, Neighbours, limited, share_of

EXACT = ("anomaly_score", "log_prior")
"""Names of layers that no precision but float32 is enough for."""
BANK = 2048
"""Rows kept, at most, to find neighbours among."""
MOST_FEATURES = 256
"""Rows of more features are compared by their latents."""
NEIGHBOURS = (1, 2, 5, 10)
"""Which neighbours' distances are measures: no one size of a neighbourhood suits all data."""
MEASURES = (
    "error",
    "prior",
    *(f"distance_{k}" for k in NEIGHBOURS),
    *(f"density_{k}" for k, _ in LocalOutlierFactor.KERNELS),
)
_FLOOR = 1e-2
"""Least variance of a feature's error, as a share of the mean over features; and the square of what error is none, in
units of that of held-out rows."""
_EXACT = 1e-6
"""The same as a share of the mean square of x: an error below a thousandth of x is none."""
_LEAST_SPREAD = 0.02
_NEAR = 0.1
"""A distance below this share of that of held-out rows is none: rows that occur twice have one of 0."""
_NOWHERE = 1e-3
"""The same as a share of how far training rows are from their mean, where most held-out rows are among them."""
_LOWEST = 0.01
"""Quantile of held-out rows below which a measure says no more."""


@keras.saving.register_keras_serializable(package="keras_ae")
class AnomalyScore(Fitted):
    """An anomaly score from several measures of how far a row lies from normal ones.

    `error`: the root mean squared reconstruction error, each feature in units of its own error on held-out rows.
    `prior`: standard deviations from where the fitted prior is densest, sqrt(1 + 2 (highest log p - log p(z))).
    `distance_k`: to the k-th nearest training row (Ramaswamy, Rastogi and Shim 2000, definition 2.1), each feature in
    units of its deviation; for k of 1, 2, 5 and 10.
    `density_k`: the local outlier factor as far as the fourth neighbour, and the sixteenth, each feature in units of
    the root of its deviation: half way between units of its own, which a quiet feature fills with noise, and one unit
    for all, in which it is not heard.

    The logarithm of each is standardized by held-out rows. The score is the mean over measures of its softplus: at
    least 0, about 0.8 in the mean of normal rows; each measure that is high adds to it, and one that is low takes
    nothing away. Rows of more than 256 features are compared by their latents, as these are.

    Of a table each column counts as one in the error and in distances, however many features tell it (Gower 1971, "A
    general coefficient of similarity"): the deviation of a category is the root of its levels' variances' sum.

    Called on [x, x_hat, z, log_prior], the first two in scaled units (batch, ...), log_prior (batch,) in nats. Returns
    scores (batch,) and contributions (batch, features), which sum to the score: what a measure adds is divided among
    features as the squares behind it are; those of latents and of the prior as the squared error is.

    Args:
        features: of one row, flattened.
        latents: of one row, flattened.
        rows: in the bank of training rows; with 0 there is none, and error and prior are the measures.
        masked: NaN in x is what does not count: the error is the mean over the others, and distances take 0 for it.
    """

    def __init__(self, features: int, latents: int, rows: int, masked: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.masked = bool(masked)
        self.features, self.latents, self.rows = int(features), int(latents), int(rows)
        self.by_latents = self.features > MOST_FEATURES
        self.listens_to = MEASURES if self.rows else MEASURES[:2]
        if self.rows:
            coordinates = self.latents if self.by_latents else self.features
            self.nearest = Neighbours(self.rows, coordinates, NEIGHBOURS, name="nearest")
            self.outlier_factor = LocalOutlierFactor(self.rows, coordinates, name="outlier_factor")

    def build(self, input_shape: Any = None) -> None:
        if self.rows:
            self.nearest.build()
            self.outlier_factor.build()
            self.hold(units=(self.nearest.coordinates,), near=(len(NEIGHBOURS),))
        of_measures = (len(self.listens_to),)
        self.hold(
            variance=(self.features,),
            highest_log_prior=(),
            lowest=of_measures,
            center=of_measures,
            spread=of_measures,
        )

    @classmethod
    def fitted(
        cls,
        train: list[np.ndarray],
        held_out: list[np.ndarray],
        keep_rows: bool = True,
        masked: bool = False,
        columns: Sequence[int] | None = None,
    ) -> "AnomalyScore":
        """A layer for normal rows like these.

        Args:
            train: x, x_hat, z and log_prior of the bank: rows that were trained on, at most `BANK`.
            held_out: of rows that were not, by which the measures are standardized. Then they join the bank, where it
                has room for them.
            keep_rows: have a bank.
            masked: as of the layer.
            columns: of a table, which one each feature is of; by default each is one.
        """
        x, _, z, log_prior = train
        features = math.prod(x.shape[1:])
        column = np.arange(features) if columns is None else np.asarray(columns)
        layer = cls(features, math.prod(z.shape[1:]), len(x) if keep_rows else 0, masked, name=EXACT[0])
        layer.build()
        if keep_rows:
            bank, unseen = (
                np.asarray(limited(np.nan_to_num(part[2 if layer.by_latents else 0]))) for part in (train, held_out)
            )
            units = np.ones(bank.shape[1]) if layer.by_latents else _relative_deviations(bank, column)
            layer._keep(bank, units)
            size = np.sqrt((bank / units).var(axis=0).sum())
            layer.put(near=np.maximum(_NEAR * layer.nearest.typical(unseen / units), _NOWHERE * size))
        known = ~np.isnan(held_out[0].reshape(len(held_out[0]), -1))
        observed, expected = (np.asarray(limited(np.nan_to_num(part)), "float64") for part in held_out[:2])
        square = np.square(observed[known]).mean()
        error = np.where(known, np.square(observed - expected), 0.0)
        # Of a feature that no held-out row has, the error is as usual.
        error = np.where(
            known.any(axis=0), error.sum(axis=0) / np.maximum(known.sum(axis=0), 1), error.sum() / known.sum()
        )
        variance = np.maximum(error, max(_FLOOR * error.mean(), _EXACT * square, 1e-30))
        # The mean over features is that over columns where each feature has this part in it.
        part = features / (len(np.unique(column)) * np.bincount(column)[column])
        layer.put(variance=variance / part, highest_log_prior=np.max(log_prior))
        starts = range(0, len(held_out[0]), 1024)
        measured = [np.asarray(layer.measures([part[i : i + 1024] for part in held_out])[0]) for i in starts]
        lowest = np.quantile(np.concatenate(measured), _LOWEST, axis=0)
        raised = np.maximum(np.concatenate(measured), lowest)
        layer.put(lowest=lowest, center=raised.mean(axis=0), spread=np.maximum(raised.std(axis=0), _LEAST_SPREAD))
        if not keep_rows or len(bank) >= BANK:
            return layer
        wider = cls.from_config({**layer.get_config(), "rows": min(len(bank) + len(unseen), BANK)})
        wider.build()
        wider._keep(np.concatenate([bank, unseen])[:BANK], units)
        own = ("near", "variance", "highest_log_prior", "lowest", "center", "spread")
        wider.put(**{name: getattr(layer, name) for name in own})
        return wider

    def _keep(self, bank: np.ndarray, units: np.ndarray) -> None:
        self.nearest.fit(bank / units)
        self.outlier_factor.fit(bank / np.sqrt(units))
        self.put(units=units)

    @property
    def rounding(self) -> float:
        """What one part in a measure adds to the score: the mean over measures of 1 / spread."""
        return float(np.mean(1.0 / np.asarray(self.spread)))

    def measures(self, inputs: Any) -> tuple[Any, list[Any]]:
        """Natural logarithms of the measures (batch, measures), and how each divides among features, (batch, features)
        of each."""
        x, x_hat, z, log_prior = inputs
        if self.masked:
            missing = ops.isnan(x)
            known = flat(ops.where(missing, ops.zeros_like(x), ops.ones_like(x)))
            x = ops.where(missing, ops.zeros_like(x), x)
        x, x_hat, z = limited(x), limited(x_hat), limited(z)
        # Where x_hat is x but for rounding, no feature has a larger part in that than another.
        squares, least = ops.square(x - x_hat) / self.variance, _FLOOR
        if self.masked:
            squares, least = known * squares, known * _FLOOR
            mean = ops.sum(squares, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)
        else:
            mean = ops.mean(squares, axis=-1)
        of_error = share_of(squares + least)
        error = ops.sqrt(mean + _FLOOR)
        below = ops.clip(self.highest_log_prior - ops.cast(log_prior, "float32"), 0.0, 1e30)
        prior = ops.sqrt(1.0 + 2.0 * below)
        if not self.rows:
            return ops.log(ops.stack([error, prior], axis=-1)), [of_error, of_error]
        at = z if self.by_latents else x
        _, differences = self.nearest(at / self.units)
        distances = ops.sqrt(ops.sum(differences, axis=-1) + ops.square(self.near))
        farther = [distances[:, i] for i in range(len(NEIGHBOURS))]
        factors, around = self.outlier_factor(at / ops.sqrt(self.units))
        if self.by_latents:
            shares = [of_error] * len(MEASURES)
        else:
            # The difference from one neighbour would be another's where two are equally far.
            of_distance = share_of(around / self.units)
            of_density = [share_of(around)] * len(LocalOutlierFactor.KERNELS)
            shares = [of_error, of_error, *[of_distance] * len(NEIGHBOURS), *of_density]
        stacked = ops.concatenate([ops.stack([error, prior, *farther], axis=-1), factors], axis=-1)
        return ops.log(ops.maximum(stacked, np.float32(1e-30))), shares

    def call(self, inputs: Any) -> tuple[Any, Any]:
        measured, shares = self.measures(inputs)
        added = ops.softplus((ops.maximum(measured, self.lowest) - self.center) / self.spread) / len(self.listens_to)
        contributions = sum(added[:, i : i + 1] * share for i, share in enumerate(shares))
        return ops.sum(added, axis=-1), contributions

    def compute_output_spec(self, inputs: Any) -> Any:
        batch = inputs[0].shape[0]
        return (
            keras.KerasTensor((batch,), dtype="float32"),
            keras.KerasTensor((batch, self.features), dtype="float32"),
        )

    def get_config(self) -> dict[str, Any]:
        sizes = {"features": self.features, "latents": self.latents, "rows": self.rows}
        return {**super().get_config(), **sizes, "masked": self.masked}


def _relative_deviations(bank: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Of each feature of (rows, n) the standard deviation of its column, relative to the root mean square of those of
    features; 1 for a constant."""
    variances = np.bincount(column, bank.astype("float64").var(axis=0))
    deviations = np.sqrt(variances)[column]
    overall = max(float(np.sqrt(np.mean(np.square(deviations)))), 1e-30)
    return np.where(deviations > 1e-6 * overall, deviations / overall, 1.0)
