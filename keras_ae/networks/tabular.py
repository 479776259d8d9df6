"""Encoder and decoder for tables: an embedding of each column, and perceptrons between it and z.

A perceptron that is given all features at once takes a number as it is, and joins columns from its first layer on. Here
each column first gets an embedding of its own: a number one that is piecewise linear in it (Gorishniy et al. 2022, "On
embeddings for numerical features in tabular deep learning", section 3.3), a category one whose size follows its levels,
and the flag of a missing cell is a part of its column's.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.networks.blocks import check_at_least, check_widths
from keras_ae.networks.dense import stack
from keras_ae.networks.linear import correction_start, latent_head, output_head

HIDDEN = (256, 256)
EMBEDDING = 16


def embedding_size(features: int, most: int) -> int:
    """Of a column of so many features: of a number `most`, of n levels about 1.6 n^0.56, and not more (the rule of
    thumb of Howard and Gugger 2020, "fastai").
    """
    return most if features <= 2 else min(most, round(1.6 * features**0.56))


@keras.saving.register_keras_serializable(package="keras_ae")
class ColumnMap(keras.layers.Layer):
    """A linear map with a bias that keeps columns apart: what belongs to one column follows from that alone.

    Called on (batch, features of all columns); returns (batch, others).

    Args:
        given: column of each feature that is given, (n,).
        made: column of each feature that is made, (m,).
        kernel_initializer: of the kernel.
    """

    def __init__(
        self, given: Sequence[int], made: Sequence[int], kernel_initializer: Any = "he_uniform", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.given, self.made = [int(i) for i in given], [int(i) for i in made]
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        same = np.equal.outer(np.array(self.given), np.array(self.made)).astype("float32")
        # Initializers scale by what all inputs are; here each output has but those of its column.
        self._same, self._gain = same, math.sqrt(len(self.given) / max(float(same.sum(axis=0).mean()), 1.0))

    def build(self, input_shape: Any) -> None:
        shape = (len(self.given), len(self.made))
        self.kernel = self.add_weight(shape=shape, initializer=self.kernel_initializer, name="kernel")
        self.bias = self.add_weight(shape=shape[1:], initializer="zeros", name="bias")

    def call(self, x: Any) -> Any:
        return ops.matmul(x, self.kernel * ops.cast(self._same * self._gain, self.compute_dtype)) + self.bias

    def compute_output_shape(self, input_shape: Any) -> Any:
        return (*input_shape[:-1], len(self.made))

    def get_config(self) -> dict[str, Any]:
        initializer = keras.initializers.serialize(self.kernel_initializer)
        return {**super().get_config(), "given": self.given, "made": self.made, "kernel_initializer": initializer}


def _columns(name: str, shape: tuple[int, ...], columns: Sequence[int] | None) -> tuple[int, ...]:
    if len(shape) != 1:
        raise ValueError(f"`{name}` of a table must be (features,). Received: {shape}.")
    return tuple(range(shape[0])) if columns is None else tuple(columns)


def _embedded(of: tuple[int, ...], most: int) -> list[int]:
    """Column of each number of all embeddings."""
    check_at_least("embedding", most)
    return [column for column in sorted(set(of)) for _ in range(embedding_size(of.count(column), most))]


def tabular_encoder(
    input_shape: tuple[int, ...],
    latent_dim: int,
    gaussian: bool = False,
    embedding: int = EMBEDDING,
    hidden: Sequence[int] = HIDDEN,
    activation: str = "relu",
    norm: str | None = None,
    dropout: float = 0.0,
    linear: bool = True,
    *,
    columns: Sequence[int] | None = None,
) -> keras.Model:
    """An embedding of each column of `x` (batch, features), and residual perceptrons to z (batch, latent_dim).

    Args:
        input_shape: (features,).
        latent_dim: width of z.
        gaussian: output the pair (mean, log_var), each (batch, latent_dim).
        embedding: numbers in that of a column, at most (`embedding_size`).
        hidden: widths of the hidden layers, from x to z.
        activation: of embeddings and hidden layers.
        norm: "layer" or "batch" normalization before each activation of a hidden layer.
        dropout: share of the hidden units that training leaves out.
        linear: add the linear path (see `keras_ae.networks.linear`).
        columns: which column each feature belongs to, (features,); by default each has its own.

    Raises:
        ValueError: for an input that is no row of a table, or sizes that make no sense.
    """
    of = _columns("input_shape", input_shape, columns)
    x = keras.Input(input_shape, name="x")
    h = ColumnMap(of, _embedded(of, embedding), name="embedding")(x)
    h = keras.layers.Activation(activation, name="embedded")(h)
    features = stack(h, check_widths("hidden", hidden), activation, norm, dropout, residual=True)
    return keras.Model(x, latent_head(x, features, latent_dim, gaussian, linear), name="encoder")


def tabular_decoder(
    output_shape: tuple[int, ...],
    latent_dim: int,
    output_activation: str | None = None,
    parameters: int = 1,
    embedding: int = EMBEDDING,
    hidden: Sequence[int] = HIDDEN,
    activation: str = "relu",
    norm: str | None = None,
    dropout: float = 0.0,
    linear: bool = True,
    *,
    columns: Sequence[int] | None = None,
) -> keras.Model:
    """The mirror of `tabular_encoder`: from `z` (batch, latent_dim) an embedding of each column, and of that its
    features x_hat (batch, features).

    Args:
        output_shape: (features,).
        latent_dim: width of z.
        output_activation: over all features, for instance "softmax".
        parameters: numbers that a feature has in the output, a last axis where they are more than one.
        embedding: numbers in that of a column, at most.
        hidden: widths as given to the encoder, from x to z; the decoder takes them in reverse.
        activation: of embeddings and hidden layers.
        norm: "layer" or "batch" normalization before each activation of a hidden layer.
        dropout: share of the hidden units that training leaves out.
        linear: add the linear path.
        columns: as given to the encoder.

    Raises:
        ValueError: for an output that is no row of a table, or sizes that make no sense.
    """
    of = _columns("output_shape", output_shape, columns)
    embedded = _embedded(of, embedding)
    z = keras.Input((latent_dim,), name="z")
    h = stack(z, check_widths("hidden", hidden)[::-1], activation, norm, dropout, residual=True)
    h = keras.layers.Dense(len(embedded), activation, kernel_initializer="he_uniform", name="embedding")(h)
    made = [column for column in of for _ in range(parameters)]
    correction = ColumnMap(embedded, made, correction_start(linear), name="correction")(h)
    x_hat = output_head(z, correction, output_shape, output_activation, linear, parameters)
    return keras.Model(z, x_hat, name="decoder")
