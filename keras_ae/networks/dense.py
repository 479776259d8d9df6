"""Fully connected encoder and decoder."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_ae.networks.linear import latent_head, output_head

HIDDEN = (512, 256, 128)


def _check_widths(name: str, widths: Sequence[int]) -> tuple[int, ...]:
    if not widths or any(int(width) != width or width < 1 for width in widths):
        raise ValueError(f"`{name}` must be one or more positive whole numbers. Received: {tuple(widths)}.")
    return tuple(int(width) for width in widths)


def _stack(x: Any, widths: Sequence[int], activation: str) -> Any:
    for i, width in enumerate(widths):
        x = keras.layers.Dense(width, activation, kernel_initializer="he_uniform", name=f"hidden_{i}")(x)
    return x


def dense_encoder(
    input_shape: tuple[int, ...],
    latent_dim: int,
    gaussian: bool = False,
    hidden: Sequence[int] = HIDDEN,
    activation: str = "relu",
    linear: bool = True,
) -> keras.Model:
    """Multilayer perceptron from `x` (batch, *input_shape) to z (batch, latent_dim).

    Args:
        input_shape: shape of one observation; it is flattened.
        latent_dim: width of z.
        gaussian: output the pair (mean, log_var), each (batch, latent_dim).
        hidden: widths of the hidden layers, from x to z.
        activation: of the hidden layers.
        linear: add the linear path (see `keras_ae.networks.linear`).

    Raises:
        ValueError: for widths that are not positive.
    """
    x = keras.Input(input_shape, name="x")
    flat = keras.layers.Flatten(name="flatten")(x) if len(input_shape) > 1 else x
    features = _stack(flat, _check_widths("hidden", hidden), activation)
    return keras.Model(x, latent_head(x, features, latent_dim, gaussian, linear), name="encoder")


def dense_decoder(
    output_shape: tuple[int, ...],
    latent_dim: int,
    output_activation: str | None = None,
    hidden: Sequence[int] = HIDDEN,
    activation: str = "relu",
    linear: bool = True,
) -> keras.Model:
    """The mirror of `dense_encoder`: from `z` (batch, latent_dim) to x_hat (batch, *output_shape).

    Args:
        output_shape: shape of one observation.
        latent_dim: width of z.
        output_activation: over all features, for instance "softmax".
        hidden: widths as given to the encoder, from x to z; the decoder takes them in reverse.
        activation: of the hidden layers.
        linear: add the linear path.

    Raises:
        ValueError: for widths that are not positive.
    """
    z = keras.Input((latent_dim,), name="z")
    features = _stack(z, _check_widths("hidden", hidden)[::-1], activation)
    start = "zeros" if linear else "glorot_uniform"
    correction = keras.layers.Dense(math.prod(output_shape), kernel_initializer=start, name="correction")(features)
    return keras.Model(z, output_head(z, correction, output_shape, output_activation, linear), name="decoder")
