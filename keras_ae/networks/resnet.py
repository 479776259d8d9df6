"""Residual convolutional encoder and decoder for signals, images and volumes of any size."""

import math
from collections.abc import Sequence

import keras

from keras_ae.networks.blocks import (
    CONV,
    Mask,
    check_at_least,
    check_widths,
    halvings,
    reshaped,
    residual_block,
    spatial,
    upsample,
)
from keras_ae.networks.conv import FILTERS
from keras_ae.networks.linear import latent_head, output_head


def resnet_encoder(
    input_shape: tuple[int, ...],
    latent_dim: int,
    gaussian: bool = False,
    filters: Sequence[int] = FILTERS,
    blocks: int = 2,
    kernel_size: int = 3,
    activation: str = "relu",
    linear: bool = True,
    *,
    padded: bool = False,
) -> keras.Model:
    """Stages of one strided convolution and some residual blocks, from `x` (batch, *input_shape) to z (batch,
    latent_dim) (He et al. 2016, "Identity mappings in deep residual networks").

    Args:
        input_shape: shape of one observation, with or without channels (see `keras_ae.networks.blocks.with_channels`).
        latent_dim: width of z.
        gaussian: output the pair (mean, log_var), each (batch, latent_dim).
        filters: of the stages, each of which halves every spatial size, from x to z.
        blocks: residual blocks of a stage.
        kernel_size: of the convolutions.
        activation: of the blocks.
        linear: add the linear path (see `keras_ae.networks.linear`).
        padded: x is features of series of different lengths (`keras_ae.layers.SequenceScaling`).

    Raises:
        ValueError: for filters or blocks that are not positive, or an input of more than three spatial axes.
    """
    check_at_least("blocks", blocks)
    shape = spatial("input_shape", input_shape, padded)
    x = keras.Input(input_shape, name="x")
    h = reshaped(x, shape, "channels")
    mask = Mask(x, padded)
    for i, width in enumerate(check_widths("filters", filters)):
        h = CONV[len(shape) - 1](width, kernel_size, strides=2, padding="same", name=f"conv_{i}")(h)
        mask.shrink(2, f"conv_{i}")
        for j in range(blocks):
            h = residual_block(h, kernel_size, activation, f"block_{i}_{j}", mask=mask)
        h = mask(h, f"stage_{i}")
    h = mask(keras.layers.Activation(activation, name="activation")(h), "activation")
    return keras.Model(x, latent_head(x, h, latent_dim, gaussian, linear), name="encoder")


def resnet_decoder(
    output_shape: tuple[int, ...],
    latent_dim: int,
    output_activation: str | None = None,
    parameters: int = 1,
    filters: Sequence[int] = FILTERS,
    blocks: int = 2,
    kernel_size: int = 3,
    activation: str = "relu",
    linear: bool = True,
    *,
    padded: bool = False,
) -> keras.Model:
    """The mirror of `resnet_encoder`: from `z` (batch, latent_dim) to x_hat (batch, *output_shape).

    Args:
        output_shape: shape of one observation.
        latent_dim: width of z.
        output_activation: over all features, for instance "softmax".
        parameters: numbers that a feature has in the output, a last axis where they are more than one.
        filters: as given to the encoder, from x to z; the decoder takes them in reverse.
        blocks: residual blocks of a stage.
        kernel_size: of the convolutions.
        activation: of the blocks.
        linear: add the linear path.
        padded: as given to the encoder.

    Raises:
        ValueError: for filters or blocks that are not positive, or an output of more than three spatial axes.
    """
    check_at_least("blocks", blocks)
    shape = spatial("output_shape", output_shape, padded)
    filters = check_widths("filters", filters)
    sizes = halvings(shape, len(filters))
    z = keras.Input((latent_dim,), name="z")
    h = keras.layers.Dense(math.prod(sizes[-1]) * filters[-1], name="features")(z)
    h = reshaped(h, (*sizes[-1], filters[-1]), "map")
    for i, width in reversed(list(enumerate((shape[-1] * parameters, *filters[:-1])))):
        for j in range(blocks):
            h = residual_block(h, kernel_size, activation, f"block_{i}_{j}")
        h = keras.layers.Activation(activation, name=f"activation_{i}")(h)
        h = upsample(h, i, width, kernel_size, sizes[i], linear)
    return keras.Model(
        z, output_head(z, h, output_shape, output_activation, linear, parameters, padded), name="decoder"
    )
