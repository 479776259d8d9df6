"""Fully connected encoder and decoder."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_ae.networks.blocks import check_widths
from keras_ae.networks.linear import correction_start, latent_head, output_head

HIDDEN = (512, 256, 128)
_NORMS = {"layer": keras.layers.LayerNormalization, "batch": keras.layers.BatchNormalization}


def stack(x: Any, widths: Sequence[int], activation: str, norm: str | None, dropout: float, residual: bool) -> Any:
    """Hidden layers of these widths on x (batch, n); arguments are those of `dense_encoder`."""
    if norm is not None and norm not in _NORMS:
        raise ValueError(f"`norm` must be None or one of {', '.join(_NORMS)}. Received: {norm!r}.")
    if not 0 <= dropout < 1:
        raise ValueError(f"`dropout` must be in [0, 1). Received: {dropout}.")
    for i, width in enumerate(widths):
        before = x
        x = keras.layers.Dense(width, kernel_initializer="he_uniform", name=f"hidden_{i}")(x)
        if norm is not None:
            x = _NORMS[norm](name=f"norm_{i}")(x)
        x = keras.layers.Activation(activation, name=f"activation_{i}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"dropout_{i}")(x)
        if residual:
            if before.shape[-1] != width:
                before = keras.layers.Dense(width, use_bias=False, name=f"shortcut_{i}")(before)
            x = keras.layers.Add(name=f"residual_{i}")([before, x])
    return x


def dense_encoder(
    input_shape: tuple[int, ...],
    latent_dim: int,
    gaussian: bool = False,
    hidden: Sequence[int] = HIDDEN,
    activation: str = "relu",
    norm: str | None = None,
    dropout: float = 0.0,
    residual: bool = False,
    linear: bool = True,
) -> keras.Model:
    """Multilayer perceptron from `x` (batch, *input_shape) to z (batch, latent_dim).

    Args:
        input_shape: shape of one observation; it is flattened.
        latent_dim: width of z.
        gaussian: output the pair (mean, log_var), each (batch, latent_dim).
        hidden: widths of the hidden layers, from x to z.
        activation: of the hidden layers.
        norm: "layer" or "batch" normalization before each activation (Ba et al. 2016; Ioffe and Szegedy 2015).
        dropout: share of the hidden units that training leaves out (Srivastava et al. 2014).
        residual: add to each hidden layer what it was given, by a linear map where widths differ (He et al. 2016).
        linear: add the linear path (see `keras_ae.networks.linear`).

    Raises:
        ValueError: for widths that are not positive, an unknown norm, a dropout outside [0, 1).
    """
    x = keras.Input(input_shape, name="x")
    flat = keras.layers.Flatten(name="flatten")(x) if len(input_shape) > 1 else x
    features = stack(flat, check_widths("hidden", hidden), activation, norm, dropout, residual)
    return keras.Model(x, latent_head(x, features, latent_dim, gaussian, linear), name="encoder")


def dense_decoder(
    output_shape: tuple[int, ...],
    latent_dim: int,
    output_activation: str | None = None,
    parameters: int = 1,
    hidden: Sequence[int] = HIDDEN,
    activation: str = "relu",
    norm: str | None = None,
    dropout: float = 0.0,
    residual: bool = False,
    linear: bool = True,
) -> keras.Model:
    """The mirror of `dense_encoder`: from `z` (batch, latent_dim) to x_hat (batch, *output_shape).

    Args:
        output_shape: shape of one observation.
        latent_dim: width of z.
        output_activation: over all features, for instance "softmax".
        parameters: numbers that a feature has in the output, a last axis where they are more than one.
        hidden: widths as given to the encoder, from x to z; the decoder takes them in reverse.
        activation: of the hidden layers.
        norm: "layer" or "batch" normalization before each activation (Ba et al. 2016; Ioffe and Szegedy 2015).
        dropout: share of the hidden units that training leaves out (Srivastava et al. 2014).
        residual: add to each hidden layer what it was given, by a linear map where widths differ (He et al. 2016).
        linear: add the linear path.

    Raises:
        ValueError: for widths that are not positive, an unknown norm, a dropout outside [0, 1).
    """
    z = keras.Input((latent_dim,), name="z")
    features = stack(z, check_widths("hidden", hidden)[::-1], activation, norm, dropout, residual)
    start = correction_start(linear)
    size = math.prod(output_shape) * parameters
    correction = keras.layers.Dense(size, kernel_initializer=start, name="correction")(features)
    x_hat = output_head(z, correction, output_shape, output_activation, linear, parameters)
    return keras.Model(z, x_hat, name="decoder")
