"""What a trained model still needs, learned from rows and not by gradients: what z is drawn from, which cells are
missing, what rows sum to, what is unusual, and how sure to be.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.data.labels import UNKNOWN
from keras_ae.functions import (
    LogPrior,
    before_marginals,
    comparable,
    in_batches,
    opinions,
    params_of,
    reconstructed,
    run_on_encoded,
)
from keras_ae.interface import standard_normal
from keras_ae.layers import AnomalyScore, ColumnScaling, Proportions, RMSELoss, Sampling, SequenceScaling
from keras_ae.layers.detection import BANK
from keras_ae.priors import FittedPrior, fit_prior

_TOTAL_ROWS = 20_000
"""That totals and marginal distributions are learned from, at most."""
_DRAWN_ROWS = 4_096
"""Samples whose quantiles are looked at."""


def posterior(model: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`Autoencoder.posterior`."""
    return _moments(model, _posterior_params(model, x))


def draw_latents(model: Any, x: np.ndarray, seed: int) -> np.ndarray:
    """`Autoencoder.draw_latents`."""
    return _drawn(model, _posterior_params(model, x), seed)


def _posterior_params(model: Any, x: np.ndarray) -> list[np.ndarray]:
    """What the encoder says of rows, (mean, log_var) of a Sampling and otherwise z; each (rows, n)."""
    if not isinstance(model.latent, Sampling):
        return [model.encode(x).reshape(len(x), -1)]

    def said(scaled: Any, _: Any) -> list[Any]:
        return [ops.cast(part, "float32") for part in model.encoder(scaled, training=False)]

    return [part.reshape(len(x), -1) for part in run_on_encoded(model, x, said)]


def _moments(model: Any, said: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    if len(said) == 1:
        return said[0], np.zeros_like(said[0])
    mean, log_var = (ops.convert_to_numpy(part) for part in model.latent.moments(*said))
    return mean, np.exp(log_var)


def _drawn(model: Any, said: list[np.ndarray], seed: int) -> np.ndarray:
    """One draw of each posterior, (rows, n)."""
    if len(said) == 1:
        return said[0]
    shape = (len(said[0]), model.latent.noise_dim(model.latent_dim))
    noise = np.random.default_rng(seed).standard_normal(shape, dtype="float32")
    return ops.convert_to_numpy(model.latent.draw(*said, noise)[0])


def prior_of(
    model: Any,
    x: np.ndarray,
    held_out: np.ndarray | None,
    y: np.ndarray | None,
    y_held_out: np.ndarray | None,
    seed: int,
    keep_rows: bool,
) -> FittedPrior:
    """What `Autoencoder.fit_prior` puts in place."""
    if model.classes and y is None:
        raise ValueError("`fit_prior` of a model with classes needs `y`, the labels of x. Received none.")
    if held_out is None:
        order = np.random.default_rng(seed).permutation(len(x))
        some, rest = order[: max(1, len(x) // 10)], order[max(1, len(x) // 10) :]
        x, held_out = x[rest], x[some]
        y, y_held_out = (None, None) if y is None else (np.asarray(y)[rest], np.asarray(y)[some])
    said = _posterior_params(model, x)
    z, z_held_out = _drawn(model, said, seed), draw_latents(model, held_out, seed + 1)
    given = _moments(model, said) if keep_rows and len(said) > 1 else None
    return fit_prior(z, z_held_out, y, y_held_out, len(model.classes), not model.conditional, seed, given)


def fit_draws(model: Any, x: np.ndarray, y: np.ndarray | None, seed: int) -> None:
    """`Autoencoder.fit_draws`."""
    if isinstance(model.scaling, Proportions):
        some = x[:: math.ceil(len(x) / _TOTAL_ROWS)]
        (p,) = run_on_encoded(model, some, lambda scaled, mean: [reconstructed(model, scaled, mean)])
        model.scaling.set_totals(p, some)
    if model.draws is not None and np.isnan(x).any():
        _fit_missing(model, x, y, seed)
    if model.marginals is not None:
        noise = {"epsilon": standard_normal(_DRAWN_ROWS, model.epsilon_dim, seed)}
        label = {"label": np.full(_DRAWN_ROWS, UNKNOWN, "int32")} if model.classes else {}
        drawn = before_marginals(model)(noise | label)["said"]
        some = x[:: math.ceil(len(x) / _TOTAL_ROWS)]
        model.marginals.fit(drawn, some, model.reconstruct(some) if model.marginals.noisy else None, seed)


def _fit_missing(model: Any, x: np.ndarray, y: np.ndarray | None, seed: int) -> None:
    inputs = {"z": keras.Input(model.latent_shape, name="z")}
    given = {"z": draw_latents(model, x, seed).reshape(-1, *model.latent_shape)}
    if model.conditional:
        inputs["label"] = keras.Input((), dtype="int32", name="label")
        given["label"] = np.full(len(x), UNKNOWN, "int32") if y is None else np.asarray(y, "int32")
    (params,) = in_batches(keras.Model(inputs, params_of(model, inputs["z"], inputs.get("label"))), given)
    model.draws.fit(params.astype("float32"), x)


def detector_of(model: Any, x: np.ndarray, held_out: np.ndarray, keep_rows: bool) -> AnomalyScore:
    """What `Autoencoder.fit_detector` puts in place."""

    def seen(scaled: Any, mean: Any) -> list[Any]:
        return [*comparable(model, scaled, reconstructed(model, scaled, mean)), mean, LogPrior(model.prior)(mean)]

    kept = np.sort(np.random.default_rng(0).permutation(len(x))[:BANK])
    train, unseen = (run_on_encoded(model, part, seen) for part in (np.asarray(x)[kept], held_out))
    masked = isinstance(model.scaling, SequenceScaling)
    columns = model.scaling.layout.column if isinstance(model.scaling, ColumnScaling) else None
    return AnomalyScore.fitted(train, unseen, keep_rows, masked, columns)


def calibrate(model: Any, x: np.ndarray, y: np.ndarray | None) -> None:
    """`Autoencoder.calibrate`."""
    scores = model.run("score", {"x": x}, traced=False)["score"]  # the graph is another one with p-values
    if isinstance(model.reconstruction, RMSELoss) and not model.reconstruction.skip_missing:
        model.reconstruction.set_noise(_expected_error(model, x))
    model.p_value.fit(scores)
    if y is not None and model.classes:
        known = np.asarray(y) != UNKNOWN
        if known.any():
            given = run_on_encoded(model, x[known], lambda scaled, mean: opinions(model, scaled, mean))
            model.pool.fit(given, np.asarray(y)[known])


def _expected_error(model: Any, x: np.ndarray) -> float:
    """Mean squared error in scaled units where z is drawn from the posterior: the noise of the tightest bound."""
    z = model.draw_latents(x).reshape(-1, *model.latent_shape)
    y = model.classify(x).argmax(axis=1).tolist() if model.conditional else None
    x_hat = model.decode(z, y)
    if model.scaling is None:
        return float(np.mean(np.square(x_hat - x, dtype="float64")))
    rows = [np.asarray(model.scaling(part), "float64") for part in (x.astype(model.raw_dtype), x_hat)]
    return float(np.mean(np.square(rows[0] - rows[1])))
