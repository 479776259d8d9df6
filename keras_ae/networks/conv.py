"""Convolutional encoder and decoder for signals, images and volumes of any size."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_ae.networks.dense import _check_widths
from keras_ae.networks.linear import latent_head, output_head

FILTERS = (32, 64)
_CONV = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}
_TRANSPOSE = {1: keras.layers.Conv1DTranspose, 2: keras.layers.Conv2DTranspose, 3: keras.layers.Conv3DTranspose}
_CROP = {1: keras.layers.Cropping1D, 2: keras.layers.Cropping2D, 3: keras.layers.Cropping3D}


def with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one observation with its channel axis, last.

    (T,) is a signal of one channel; (T, C) with C under a quarter of T is a signal of C channels; any other (H, W) is
    an image of one channel; (H, W, C) is an image, (D, H, W, C) a volume.
    """
    if len(shape) == 1 or (len(shape) == 2 and shape[1] * 4 > shape[0]):
        return (*shape, 1)
    return shape


def _stages(shape: tuple[int, ...], filters: Sequence[int]) -> list[tuple[int, ...]]:
    """Spatial sizes, before each stride of two and after the last."""
    sizes = [shape[:-1]]
    for _ in filters:
        sizes.append(tuple(math.ceil(n / 2) for n in sizes[-1]))
    return sizes


def conv_encoder(
    input_shape: tuple[int, ...],
    latent_dim: int,
    gaussian: bool = False,
    filters: Sequence[int] = FILTERS,
    kernel_size: int = 3,
    activation: str = "relu",
    linear: bool = True,
) -> keras.Model:
    """Strided convolutions from `x` (batch, *input_shape) to z (batch, latent_dim).

    Args:
        input_shape: shape of one observation, with or without channels (see `with_channels`); odd sizes too.
        latent_dim: width of z.
        gaussian: output the pair (mean, log_var), each (batch, latent_dim).
        filters: of the convolutions, each of which halves every spatial size, from x to z.
        kernel_size: of the convolutions.
        activation: of the convolutions.
        linear: add the linear path (see `keras_ae.networks.linear`).

    Raises:
        ValueError: for filters that are not positive, or an input of more than three spatial axes.
    """
    shape = with_channels(input_shape)
    if len(shape) - 1 not in _CONV:
        raise ValueError(f"`input_shape` must have 1 to 3 spatial axes. Received: {input_shape}.")
    x = keras.Input(input_shape, name="x")
    h = keras.layers.Reshape(shape, name="channels")(x) if shape != input_shape else x
    for i, width in enumerate(_check_widths("filters", filters)):
        h = _CONV[len(shape) - 1](
            width, kernel_size, strides=2, padding="same", activation=activation, name=f"conv_{i}"
        )(h)
    features = keras.layers.Flatten(name="features")(h)
    return keras.Model(x, latent_head(x, features, latent_dim, gaussian, linear), name="encoder")


def conv_decoder(
    output_shape: tuple[int, ...],
    latent_dim: int,
    output_activation: str | None = None,
    filters: Sequence[int] = FILTERS,
    kernel_size: int = 3,
    activation: str = "relu",
    linear: bool = True,
) -> keras.Model:
    """The mirror of `conv_encoder`: from `z` (batch, latent_dim) to x_hat (batch, *output_shape).

    Args:
        output_shape: shape of one observation.
        latent_dim: width of z.
        output_activation: over all features, for instance "softmax".
        filters: as given to the encoder, from x to z; the decoder takes them in reverse.
        kernel_size: of the convolutions.
        activation: of the convolutions.
        linear: add the linear path.

    Raises:
        ValueError: for filters that are not positive, or an output of more than three spatial axes.
    """
    shape = with_channels(output_shape)
    rank = len(shape) - 1
    if rank not in _CONV:
        raise ValueError(f"`output_shape` must have 1 to 3 spatial axes. Received: {output_shape}.")
    filters = _check_widths("filters", filters)
    sizes = _stages(shape, filters)
    z = keras.Input((latent_dim,), name="z")
    h = keras.layers.Dense(math.prod(sizes[-1]) * filters[-1], activation, name="features")(z)
    h = keras.layers.Reshape((*sizes[-1], filters[-1]), name="map")(h)
    for i, width in reversed(list(enumerate((shape[-1], *filters[:-1])))):
        last = i == 0
        h = _TRANSPOSE[rank](
            width,
            kernel_size,
            strides=2,
            padding="same",
            activation=None if last else activation,
            kernel_initializer="zeros" if last and linear else "glorot_uniform",
            name="correction" if last else f"conv_{i}",
        )(h)
        h = _crop(h, sizes[i + 1], sizes[i], f"crop_{i}")
    correction = keras.layers.Flatten(name="flatten")(h)
    return keras.Model(z, output_head(z, correction, output_shape, output_activation, linear), name="decoder")


def _crop(h: Any, small: tuple[int, ...], large: tuple[int, ...], name: str) -> Any:
    """Cuts what doubling an odd size rounded up."""
    excess = [(0, 2 * s - n) for s, n in zip(small, large, strict=True)]
    if not any(end for _, end in excess):
        return h
    return _CROP[len(small)](excess[0] if len(small) == 1 else tuple(excess), name=name)(h)
