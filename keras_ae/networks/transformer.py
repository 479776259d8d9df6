"""Transformer encoder and decoder over the patches of a signal, an image or a volume of any size."""

import math
from typing import Any

import keras

from keras_ae.networks.blocks import CONV, TRANSPOSE, Mask, check_at_least, crop, pad, reshaped, spatial
from keras_ae.networks.linear import correction_start, latent_head, output_head

PATCH, WIDTH, DEPTH, HEADS = 4, 64, 2, 4


@keras.saving.register_keras_serializable(package="keras_ae")
class PositionEmbedding(keras.layers.Layer):
    """Adds a learned vector for each position to tokens (batch, tokens, width) (Vaswani et al. 2017, section 3.5)."""

    def build(self, input_shape: Any) -> None:
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.position = self.add_weight(shape=tuple(input_shape[1:]), initializer=initializer, name="position")

    def call(self, tokens: Any) -> Any:
        return tokens + self.position

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def _blocks(h: Any, depth: int, heads: int, mask: Any = None) -> Any:
    """Attention among tokens h (batch, tokens, width), to those alone that a mask (batch, tokens, 1) has."""
    width = h.shape[-1]
    if width % heads:
        raise ValueError(f"`width` must be a multiple of `heads`. Received: {width} and {heads}.")
    h = PositionEmbedding(name="position")(h)
    # (batch, 1, tokens): to each token the same others.
    seen = None if mask is None else keras.layers.Permute((2, 1), name="seen")(mask)
    for i in range(depth):
        normed = keras.layers.LayerNormalization(name=f"attention_norm_{i}")(h)
        # Flash attention has no ONNX form; at these lengths it gains nothing either.
        attention = keras.layers.MultiHeadAttention(heads, width // heads, flash_attention=False, name=f"attention_{i}")
        h = keras.layers.Add(name=f"attention_sum_{i}")([h, attention(normed, normed, attention_mask=seen)])
        normed = keras.layers.LayerNormalization(name=f"mlp_norm_{i}")(h)
        wide = keras.layers.Dense(4 * width, "gelu", name=f"mlp_wide_{i}")(normed)
        h = keras.layers.Add(name=f"mlp_sum_{i}")([h, keras.layers.Dense(width, name=f"mlp_{i}")(wide)])
    return keras.layers.LayerNormalization(name="norm")(h)


def _check(patch: int, width: int, depth: int, heads: int) -> None:
    for name, value in (("patch", patch), ("width", width), ("depth", depth), ("heads", heads)):
        check_at_least(name, value)


def transformer_encoder(
    input_shape: tuple[int, ...],
    latent_dim: int,
    gaussian: bool = False,
    patch: int = PATCH,
    width: int = WIDTH,
    depth: int = DEPTH,
    heads: int = HEADS,
    linear: bool = True,
    *,
    padded: bool = False,
) -> keras.Model:
    """Attention over patches, from `x` (batch, *input_shape) to z (batch, latent_dim) (Dosovitskiy et al. 2021, "An
    image is worth 16x16 words", section 3.1). Sizes that are no multiple of the patch are padded with zeros.

    Args:
        input_shape: shape of one observation, with or without channels (see `keras_ae.networks.blocks.with_channels`).
        latent_dim: width of z.
        gaussian: output the pair (mean, log_var), each (batch, latent_dim).
        patch: size of a patch along each spatial axis.
        width: of a token, a multiple of `heads`.
        depth: blocks of attention and perceptron, normalized before each (Xiong et al. 2020).
        heads: of the attention.
        linear: add the linear path (see `keras_ae.networks.linear`).
        padded: x is features of series of different lengths (`keras_ae.layers.SequenceScaling`).

    Raises:
        ValueError: for sizes that are not positive or don't divide, or an input of more than three spatial axes.
    """
    _check(patch, width, depth, heads)
    shape = spatial("input_shape", input_shape, padded)
    x = keras.Input(input_shape, name="x")
    h = pad(reshaped(x, shape, "channels"), patch, "pad")
    h = CONV[len(shape) - 1](width, patch, strides=patch, name="patches")(h)
    mask = Mask(x, padded)
    mask.shrink(patch, "patches")
    h = _blocks(reshaped(h, (math.prod(h.shape[1:-1]), width), "tokens"), depth, heads, mask.steps)
    h = mask(h, "tokens")
    return keras.Model(x, latent_head(x, h, latent_dim, gaussian, linear), name="encoder")


def transformer_decoder(
    output_shape: tuple[int, ...],
    latent_dim: int,
    output_activation: str | None = None,
    parameters: int = 1,
    patch: int = PATCH,
    width: int = WIDTH,
    depth: int = DEPTH,
    heads: int = HEADS,
    linear: bool = True,
    *,
    padded: bool = False,
) -> keras.Model:
    """The mirror of `transformer_encoder`: tokens from `z` (batch, latent_dim), attention, patches, and a crop to x_hat
    (batch, *output_shape).

    Args:
        output_shape: shape of one observation.
        latent_dim: width of z.
        output_activation: over all features, for instance "softmax".
        parameters: numbers that a feature has in the output, a last axis where they are more than one.
        patch: size of a patch along each spatial axis.
        width: of a token, a multiple of `heads`.
        depth: blocks of attention and perceptron.
        heads: of the attention.
        linear: add the linear path.
        padded: as given to the encoder.

    Raises:
        ValueError: for sizes that are not positive or don't divide, or an output of more than three spatial axes.
    """
    _check(patch, width, depth, heads)
    shape = spatial("output_shape", output_shape, padded)
    grid = tuple(math.ceil(n / patch) for n in shape[:-1])
    z = keras.Input((latent_dim,), name="z")
    h = keras.layers.Dense(math.prod(grid) * width, name="features")(z)
    h = _blocks(reshaped(h, (math.prod(grid), width), "tokens"), depth, heads)
    h = TRANSPOSE[len(grid)](
        shape[-1] * parameters,
        patch,
        strides=patch,
        kernel_initializer=correction_start(linear),
        name="correction",
    )(reshaped(h, (*grid, width), "map"))
    h = crop(h, shape[:-1], "crop")
    return keras.Model(
        z, output_head(z, h, output_shape, output_activation, linear, parameters, padded), name="decoder"
    )
