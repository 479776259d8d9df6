"""What is compared: models, data, ways of training, and the ratios that keras_ae aims at."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

LATENTS = 16
LEARNING_RATE = 1e-3
MATRIX_TARGET = 0.75
"""Share of the machine's own rate of float32 products that an epoch's products should reach."""


class Way(NamedTuple):
    """A way of training: the worker that does it, what it is called in the report."""

    script: str
    label: str


OURS = "keras_ae"
WAYS = {
    OURS: Way("peer_keras.py", "keras_ae, default `fit`"),
    "keras": Way("peer_keras.py", "plain Keras, default `fit`"),
    "keras_ae xla": Way("peer_keras.py", "keras_ae, `jit_compile=True`"),
    "pythae": Way("peer_pythae.py", "pythae, its trainer"),
    "torch": Way("peer_torch.py", "PyTorch"),
    "torch compiled": Way("peer_torch.py", "PyTorch, `torch.compile`"),
    "torch channels last": Way("peer_torch.py", "PyTorch, channels last"),
    "torch channels last compiled": Way("peer_torch.py", "PyTorch, channels last, `torch.compile`"),
}


class Case(NamedTuple):
    """A model on rows of one shape.

    Attributes:
        epochs: in one timed call.
        repeats: timed calls of each way.
        targets: way to how many times faster than it keras_ae should be, or None where none is set.
    """

    title: str
    shape: tuple[int, ...]
    rows: int
    batch: int
    network: dict[str, list[int]]
    epochs: int
    repeats: int
    targets: dict[str, float | None]


CASES = {
    "dense": Case(
        "Dense VAE 784-512-16, 60,000 rows, batch 128",
        (784,),
        60_000,
        128,
        {"hidden": [512]},
        3,
        4,
        {"keras": 2.0, "pythae": 1.7, "torch compiled": 1.1, "torch": None},
    ),
    "conv": Case(
        "Convolutional VAE 28 x 28, filters 32-64, 6,000 rows, batch 128",
        (28, 28),
        6_000,
        128,
        {"filters": [32, 64]},
        3,
        5,
        {"keras": 1.2, "torch channels last": 1.3, "torch channels last compiled": None, "torch": None},
    ),
    "conv-xla": Case(
        "The same model with its step compiled by XLA, 1,000 rows, batch 128",
        (28, 28),
        1_000,
        128,
        {"filters": [32, 64]},
        1,
        5,
        {"keras_ae xla": None},
    ),
    "small": Case(
        "Dense VAE 64-512-16, 1,400 rows, batch 32",
        (64,),
        1_400,
        32,
        {"hidden": [512]},
        30,
        7,
        {"keras": 5.0, "torch compiled": None, "torch": None},
    ),
}


OTHER_CASES = ("loss", "noise")
"""Time to a held-out loss, on the dense case's model; one draw of noise."""


def rows_of(shape: tuple[int, ...], rows: int, held_out: int, data: Path | None) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out rows in [0, 1], float32.

    From scikit-learn's digits, each drawn many times with new noise, and for 28 x 28 enlarged and shifted by up to two
    pixels; training and held-out rows come of different digits. Or, for 784 features, from an npz file with `x_train`
    and `x_test` of 28 x 28 bytes.
    """
    if data is not None and math.prod(shape) == 784:
        with np.load(data) as file:
            parts = file["x_train"][:rows] / np.float32(255), file["x_test"][:held_out] / np.float32(255)
        return tuple(part.reshape(-1, *shape) for part in parts)

    from scipy.ndimage import zoom
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(0)
    digits = load_digits().images.astype("float32")[rng.permutation(1797)] / 16
    if math.prod(shape) == 784:
        digits = np.clip(zoom(digits, (1, 3.5, 3.5), order=1), 0, 1)

    def drawn(images: np.ndarray, n: int) -> np.ndarray:
        x = images[rng.integers(len(images), size=n)]
        if math.prod(shape) == 784:
            shifts = rng.integers(-2, 3, size=(n, 2))
            for shift in np.unique(shifts, axis=0):
                chosen = (shifts == shift).all(axis=1)
                x[chosen] = np.roll(x[chosen], shift, axis=(1, 2))
        x = x + rng.normal(scale=0.1, size=x.shape)
        return np.clip(x, 0, 1).astype("float32").reshape(n, *shape)

    return drawn(digits[:1500], rows), drawn(digits[1500:], held_out)


def products(features: int, hidden: int, latents: int, batch: int) -> list[tuple[int, int, int]]:
    """The matrix products (m, k) x (k, n) of one training step of a dense VAE, as (m, k, n).

    A layer from `i` to `o` units multiplies (batch, i) x (i, o) forward, (i, batch) x (batch, o) for its kernel's
    gradient and (batch, o) x (o, i) for its input's, each batch * i * o multiply-adds. The first layer's input needs no
    gradient. So a row costs 3 * sum(i * o) - features * hidden multiply-adds.
    """
    layers = [(features, hidden), (hidden, latents), (hidden, latents), (latents, hidden), (hidden, features)]
    shapes = []
    for place, (i, o) in enumerate(layers):
        shapes += [(batch, i, o), (i, batch, o)] + ([(batch, o, i)] if place else [])
    return shapes


def operations(shapes: list[tuple[int, int, int]]) -> int:
    """Floating-point operations of the products: two for a multiply-add."""
    return 2 * sum(m * k * n for m, k, n in shapes)
