"""What the deeper networks share: residual blocks, sizes that halve, padding and cropping."""

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import keras

from keras_ae.layers import StepMask
from keras_ae.networks.linear import correction_start

CONV = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}
TRANSPOSE = {1: keras.layers.Conv1DTranspose, 2: keras.layers.Conv2DTranspose, 3: keras.layers.Conv3DTranspose}
_CROP = {1: keras.layers.Cropping1D, 2: keras.layers.Cropping2D, 3: keras.layers.Cropping3D}
_PAD = {1: keras.layers.ZeroPadding1D, 2: keras.layers.ZeroPadding2D, 3: keras.layers.ZeroPadding3D}


def check_widths(name: str, widths: Sequence[int] | int) -> tuple[int, ...]:
    """The widths as a tuple, of one where one number is given; ValueError unless all are positive whole numbers."""
    listed = (widths,) if isinstance(widths, Integral) else widths
    if (
        not isinstance(listed, list | tuple)
        or not listed
        or not all(isinstance(w, Integral) and int(w) > 0 for w in listed)
    ):
        raise ValueError(f"`{name}` must be one or more positive whole numbers. Received: {widths!r}.")
    return tuple(int(width) for width in listed)


def check_at_least(name: str, value: float, least: int = 1) -> None:
    """ValueError for a whole number below `least`."""
    if int(value) != value or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}. Received: {value}.")


def with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one observation with its channel axis, last.

    (T,) is a signal of one channel; (T, C) with C at most a quarter of T is a signal of C channels; any other (H, W) is
    an image of one channel; (H, W, C) is an image, (D, H, W, C) a volume.
    """
    if len(shape) == 1 or (len(shape) == 2 and shape[1] * 4 > shape[0]):
        return (*shape, 1)
    return shape


def spatial(name: str, shape: tuple[int, ...], padded: bool = False) -> tuple[int, ...]:
    """`with_channels`; ValueError unless there are 1 to 3 spatial axes. What is padded is a sequence, however short."""
    full = shape if padded else with_channels(shape)
    if len(full) - 1 not in CONV:
        raise ValueError(f"`{name}` must have 1 to 3 spatial axes. Received: {shape}.")
    return full


def sequence(name: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """(steps, channels) of a sequence, where (steps,) has one channel; ValueError for more axes."""
    if len(shape) not in (1, 2):
        raise ValueError(f"`{name}` of a sequence must be (steps,) or (steps, channels). Received: {shape}.")
    return (shape[0], shape[1] if len(shape) == 2 else 1)


def reshaped(x: Any, shape: tuple[int, ...], name: str) -> Any:
    """X (batch, ...) as (batch, *shape)."""
    return keras.layers.Reshape(shape, name=name)(x) if tuple(x.shape[1:]) != shape else x


def halvings(shape: tuple[int, ...], times: int) -> list[tuple[int, ...]]:
    """Spatial sizes of a shape with channels, before each stride of two and after the last."""
    sizes = [shape[:-1]]
    for _ in range(times):
        sizes.append(tuple(math.ceil(n / 2) for n in sizes[-1]))
    return sizes


def crop(h: Any, size: tuple[int, ...], name: str) -> Any:
    """Cuts the ends of the spatial axes of h (batch, ..., channels) down to `size`."""
    excess = tuple((0, have - n) for have, n in zip(h.shape[1:-1], size, strict=True))
    if not any(end for _, end in excess):
        return h
    return _CROP[len(size)](excess[0] if len(size) == 1 else excess, name=name)(h)


def upsample(
    h: Any, stage: int, width: int, kernel_size: int, size: tuple[int, ...], linear: bool, activation: str | None = None
) -> Any:
    """Doubles the spatial axes of h (batch, ..., channels), and cuts them down to `size`. Stage 0, the last of a
    decoder, is its correction of the linear path, if it has one, and without an activation.
    """
    h = TRANSPOSE[len(size)](
        width,
        kernel_size,
        strides=2,
        padding="same",
        activation=activation if stage else None,
        kernel_initializer=correction_start(linear and not stage),
        name=f"conv_{stage}" if stage else "correction",
    )(h)
    return crop(h, size, f"crop_{stage}")


def pad(h: Any, multiple: int, name: str) -> Any:
    """Adds zeros to the ends of the spatial axes of h (batch, ..., channels) up to a multiple."""
    missing = tuple((0, -n % multiple) for n in h.shape[1:-1])
    if not any(end for _, end in missing):
        return h
    return _PAD[len(missing)](missing[0] if len(missing) == 1 else missing, name=name)(h)


class Mask:
    """Keeps a network from looking behind the end of each series: the layers that it gives set what is there to zero.

    Args:
        x: the encoder's input, features (batch, steps, channels + 1), of which the last says which steps are there;
            where it is not `padded` no layer is made.
        padded: whether it does.
    """

    def __init__(self, x: Any, padded: bool) -> None:
        self.steps = StepMask(name="mask")(x) if padded else None

    def __call__(self, h: Any, name: str) -> Any:
        """H (batch, steps, width), 0 behind the end."""
        return h if self.steps is None else keras.layers.Multiply(name=f"{name}_there")([h, self.steps])

    def shrink(self, by: int, name: str) -> None:
        """Of a step in place of so many, which is there where one of them is."""
        if self.steps is not None:
            padded = pad(self.steps, by, f"{name}_mask_pad")
            self.steps = keras.layers.MaxPooling1D(by, name=f"{name}_mask")(padded)


def residual_block(
    h: Any, kernel_size: int, activation: str, name: str, dilation: int = 1, mask: Mask | None = None
) -> Any:
    """The sum of h (batch, ..., channels) and conv(act(conv(act(norm(h))))) (He et al. 2016, "Identity mappings in deep
    residual networks", figure 4e). The second convolution starts at zero, so that the block starts as the identity.
    """
    rank, width = len(h.shape) - 2, h.shape[-1]
    out = keras.layers.LayerNormalization(name=f"{name}_norm")(h)
    for i, start in enumerate(("he_uniform", "zeros")):
        out = keras.layers.Activation(activation, name=f"{name}_activation_{i}")(out)
        out = out if mask is None else mask(out, f"{name}_{i}")
        out = CONV[rank](
            width,
            kernel_size,
            padding="same",
            dilation_rate=dilation,
            kernel_initializer=start,
            name=f"{name}_conv_{i}",
        )(out)
    return keras.layers.Add(name=f"{name}_sum")([h, out])
