"""Encoders and decoders over (steps, channels): recurrent (LSTM, GRU) and temporal convolutions."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import keras

from keras_ae.layers import LastStep, StepMask
from keras_ae.networks.blocks import CONV, Mask, check_at_least, check_widths, reshaped, residual_block, sequence
from keras_ae.networks.linear import correction_start, latent_head, output_head

UNITS = (64,)
_CELLS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
TCN_FILTERS = 32


def recurrent_encoder(
    input_shape: tuple[int, ...],
    latent_dim: int,
    gaussian: bool = False,
    units: Sequence[int] = UNITS,
    linear: bool = True,
    *,
    cell: str,
    padded: bool = False,
) -> keras.Model:
    """Recurrent layers from `x` (batch, steps, channels) to z (batch, latent_dim), from their state after the last step
    (Srivastava et al. 2015, "Unsupervised learning of video representations using LSTMs").

    Args:
        input_shape: (steps,) or (steps, channels).
        latent_dim: width of z.
        gaussian: output the pair (mean, log_var), each (batch, latent_dim).
        units: of the recurrent layers, from x to z.
        linear: add the linear path (see `keras_ae.networks.linear`).
        cell: "lstm" (Hochreiter and Schmidhuber 1997) or "gru" (Cho et al. 2014).
        padded: x is features of series of different lengths (`keras_ae.layers.SequenceScaling`).

    Raises:
        ValueError: for units that are not positive, or an observation that is no sequence.
    """
    x = keras.Input(input_shape, name="x")
    h = reshaped(x, sequence("input_shape", input_shape), "channels")
    units = check_widths("units", units)
    for i, width in enumerate(units):
        h = _CELLS[cell](width, return_sequences=padded or i + 1 < len(units), name=f"{cell}_{i}")(h)
    if padded:
        h = LastStep(name="last_step")(h, StepMask(name="mask")(x))
    return keras.Model(x, latent_head(x, h, latent_dim, gaussian, linear), name="encoder")


def recurrent_decoder(
    output_shape: tuple[int, ...],
    latent_dim: int,
    output_activation: str | None = None,
    parameters: int = 1,
    units: Sequence[int] = UNITS,
    linear: bool = True,
    *,
    cell: str,
    padded: bool = False,
) -> keras.Model:
    """The mirror of `recurrent_encoder`: z at every step, recurrent layers, and a linear map to the channels.

    Args:
        output_shape: (steps,) or (steps, channels).
        latent_dim: width of z.
        output_activation: over all features, for instance "softmax".
        parameters: numbers that a feature has in the output, a last axis where they are more than one.
        units: as given to the encoder, from x to z; the decoder takes them in reverse.
        linear: add the linear path.
        cell: "lstm" or "gru".
        padded: as given to the encoder.

    Raises:
        ValueError: for units that are not positive, or an observation that is no sequence.
    """
    steps, channels = sequence("output_shape", output_shape)
    z = keras.Input((latent_dim,), name="z")
    h = keras.layers.RepeatVector(steps, name="repeat")(z)
    for i, width in reversed(list(enumerate(check_widths("units", units)))):
        h = _CELLS[cell](width, return_sequences=True, name=f"{cell}_{i}")(h)
    start = correction_start(linear)
    h = keras.layers.Dense(channels * parameters, kernel_initializer=start, name="correction")(h)
    return keras.Model(
        z, output_head(z, h, output_shape, output_activation, linear, parameters, padded), name="decoder"
    )


lstm_encoder, lstm_decoder = (partial(build, cell="lstm") for build in (recurrent_encoder, recurrent_decoder))
gru_encoder, gru_decoder = (partial(build, cell="gru") for build in (recurrent_encoder, recurrent_decoder))


def _dilated(h: Any, steps: int, kernel_size: int, activation: str, mask: Mask | None = None) -> Any:
    """Residual blocks of dilations 1, 2, 4, ... until one block spans the sequence."""
    dilation, i = 1, 0
    while dilation == 1 or dilation * (kernel_size - 1) < steps:
        h = residual_block(h, kernel_size, activation, f"block_{i}", dilation, mask)
        dilation, i = dilation * 2, i + 1
    return keras.layers.Activation(activation, name="activation")(h)


def tcn_encoder(
    input_shape: tuple[int, ...],
    latent_dim: int,
    gaussian: bool = False,
    filters: int = TCN_FILTERS,
    kernel_size: int = 3,
    activation: str = "relu",
    linear: bool = True,
    *,
    padded: bool = False,
) -> keras.Model:
    """Dilated residual convolutions over `x` (batch, steps, channels), not causal, to z (batch, latent_dim) (Bai et al.
    2018, "An empirical evaluation of generic convolutional and recurrent networks for sequence modeling", section 3).

    Args:
        input_shape: (steps,) or (steps, channels).
        latent_dim: width of z.
        gaussian: output the pair (mean, log_var), each (batch, latent_dim).
        filters: of the convolutions.
        kernel_size: of the convolutions, at least 2; there are as many blocks as it takes to span all steps.
        activation: of the blocks.
        linear: add the linear path (see `keras_ae.networks.linear`).
        padded: x is features of series of different lengths (`keras_ae.layers.SequenceScaling`).

    Raises:
        ValueError: for filters or kernels that make no sense, or an observation that is no sequence.
    """
    check_at_least("filters", filters)
    check_at_least("kernel_size", kernel_size, 2)
    steps, channels = sequence("input_shape", input_shape)
    x = keras.Input(input_shape, name="x")
    h = CONV[1](filters, 1, name="widen")(reshaped(x, (steps, channels), "channels"))
    mask = Mask(x, padded)
    h = mask(_dilated(h, steps, kernel_size, activation, mask), "activation")
    return keras.Model(x, latent_head(x, h, latent_dim, gaussian, linear), name="encoder")


def tcn_decoder(
    output_shape: tuple[int, ...],
    latent_dim: int,
    output_activation: str | None = None,
    parameters: int = 1,
    filters: int = TCN_FILTERS,
    kernel_size: int = 3,
    activation: str = "relu",
    linear: bool = True,
    *,
    padded: bool = False,
) -> keras.Model:
    """The mirror of `tcn_encoder`: from `z` (batch, latent_dim) to x_hat (batch, *output_shape).

    Args:
        output_shape: (steps,) or (steps, channels).
        latent_dim: width of z.
        output_activation: over all features, for instance "softmax".
        parameters: numbers that a feature has in the output, a last axis where they are more than one.
        filters: of the convolutions.
        kernel_size: of the convolutions, at least 2.
        activation: of the blocks.
        linear: add the linear path.
        padded: as given to the encoder.

    Raises:
        ValueError: for filters or kernels that make no sense, or an observation that is no sequence.
    """
    check_at_least("filters", filters)
    check_at_least("kernel_size", kernel_size, 2)
    steps, channels = sequence("output_shape", output_shape)
    z = keras.Input((latent_dim,), name="z")
    h = reshaped(keras.layers.Dense(steps * filters, name="features")(z), (steps, filters), "map")
    h = _dilated(h, steps, kernel_size, activation)
    start = correction_start(linear)
    h = CONV[1](channels * parameters, 1, kernel_initializer=start, name="correction")(h)
    return keras.Model(
        z, output_head(z, h, output_shape, output_activation, linear, parameters, padded), name="decoder"
    )
