"""Walks through the latent space: from one observation to another, and along one latent after the other."""

from typing import Any

import numpy as np

from keras_ae.errors import InputError

_SAMPLES = 1_000
_REACH = 2.0
"""Standard deviations that a traversal goes to either side."""


def interpolate(model: Any, a: np.ndarray, b: np.ndarray, steps: int = 8, y: Any = None) -> np.ndarray:
    """Observations (steps, ...) in raw units on the way from AE(a) to AE(b), both ends among them.

    Where z is drawn from a single Gaussian the way is an arc (White 2016, "Sampling generative networks", section 2.1):
    the middle of a straight one would lie nearer to 0 than draws do. Elsewhere it is straight.

    Args:
        model: an Autoencoder, or one from `keras_ae.runtime.load`.
        a: one raw observation, (...) or (1, ...).
        b: another.
        steps: at least 2.
        y: class of all of them, where the decoder is told the label.
    """
    if steps < 2:
        raise InputError(f"`steps` must be at least 2. Received: {steps}.")
    shape = tuple(model.raw_shape)
    rows = np.concatenate([np.reshape(one, (1, *shape)) for one in (_one(a, shape, "a"), _one(b, shape, "b"))])
    z = model.encode(rows)
    start, end = z.reshape(2, -1).astype("float64")
    share = np.linspace(0, 1, steps)[:, None]
    way = _arc(start, end, share) if model.has_gaussian_prior else (1 - share) * start + share * end
    return model.decode(way.reshape(steps, *z.shape[1:]).astype("float32"), y)


def traverse(model: Any, x: np.ndarray, steps: int = 7, y: Any = None) -> np.ndarray:
    """Observations (latents, steps, ...) in raw units: in each row one latent of x goes from -2 to 2 deviations
    around its mean, the others stay. Mean and deviations are those of the model's own samples.

    Args:
        model: an Autoencoder, or one from `keras_ae.runtime.load`.
        x: one raw observation, (...) or (1, ...).
        steps: at least 2.
        y: class of all of them, where the decoder is told the label.
    """
    if steps < 2:
        raise InputError(f"`steps` must be at least 2. Received: {steps}.")
    shape = tuple(model.raw_shape)
    z = model.encode(_one(x, shape, "x").reshape(1, *shape))
    drawn = model.encode(_as_raw(model, model.generate(_SAMPLES, seed=0))).reshape(_SAMPLES, -1)
    ways = np.repeat(z.reshape(1, 1, -1), model.latent_dim, axis=0).repeat(steps, axis=1)
    places = np.linspace(-_REACH, _REACH, steps)
    for i in range(model.latent_dim):
        ways[i, :, i] = drawn[:, i].mean() + places * drawn[:, i].std()
    decoded = model.decode(ways.reshape(-1, *z.shape[1:]), y)
    return decoded.reshape(model.latent_dim, steps, *decoded.shape[1:])


def _as_raw(model: Any, x: np.ndarray) -> np.ndarray:
    dtype = np.dtype(model.raw_dtype)
    if dtype.kind == "f":
        return x
    limits = np.iinfo(dtype)
    return np.clip(np.rint(x), limits.min, limits.max).astype(dtype)


def _one(x: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    x = np.asarray(x)
    if x.shape not in (shape, (1, *shape)):
        raise InputError(f"`{name}` must be one observation, of shape {shape}. Received: {x.shape}.")
    return x


def _arc(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b / max(lengths, 1e-12), -1.0, 1.0))
    if np.sin(angle) < 1e-3:  # of one direction, or opposite ones, that have no arc between them
        return (1 - share) * a + share * b
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
