"""Encoder and decoder builders: plain functional Keras models, input `x` or `z`, any shape of observation.

An encoder's signature is `(input_shape, latent_dim, gaussian=False, **its options)`, a decoder's
`(output_shape, latent_dim, output_activation=None, parameters=1, **the same options)`; NETWORKS pairs them by name.
What follows from the rows and is no option goes by keyword alone: `padded` for series of different lengths, `columns`
for the features of a table.
"""

from collections.abc import Callable
from typing import NamedTuple

import keras

from keras_ae.networks.conv import conv_decoder, conv_encoder
from keras_ae.networks.dense import dense_decoder, dense_encoder
from keras_ae.networks.labels import classifier_head, conditional_decoder
from keras_ae.networks.linear import (
    PrincipalComponents,
    fit_pca,
    linear_decoder,
    linear_encoder,
    start_from_pca,
)
from keras_ae.networks.resnet import resnet_decoder, resnet_encoder
from keras_ae.networks.sequences import (
    gru_decoder,
    gru_encoder,
    lstm_decoder,
    lstm_encoder,
    tcn_decoder,
    tcn_encoder,
)
from keras_ae.networks.tabular import tabular_decoder, tabular_encoder
from keras_ae.networks.transformer import PositionEmbedding, transformer_decoder, transformer_encoder


class Network(NamedTuple):
    """A pair of builders that take the same options."""

    encoder: Callable[..., keras.Model]
    decoder: Callable[..., keras.Model]


NETWORKS = {
    "dense": Network(dense_encoder, dense_decoder),
    "tabular": Network(tabular_encoder, tabular_decoder),
    "conv": Network(conv_encoder, conv_decoder),
    "resnet": Network(resnet_encoder, resnet_decoder),
    "transformer": Network(transformer_encoder, transformer_decoder),
    "tcn": Network(tcn_encoder, tcn_decoder),
    "lstm": Network(lstm_encoder, lstm_decoder),
    "gru": Network(gru_encoder, gru_decoder),
    "linear": Network(linear_encoder, linear_decoder),
}


def gaussian_head(encoder: keras.Model, latent_dim: int) -> keras.Model:
    """Gives any one-output encoder the two outputs (mean, log_var), each (batch, latent_dim), by a Dense layer each."""
    features = encoder.output
    if len(features.shape) > 2:
        features = keras.layers.Flatten(name="features")(features)
    mean = keras.layers.Dense(latent_dim, name="mean")(features)
    log_var = keras.layers.Dense(latent_dim, kernel_initializer="zeros", name="log_var")(features)
    return keras.Model(encoder.inputs, (mean, log_var), name=encoder.name)


__all__ = [
    "classifier_head",
    "conditional_decoder",
    "conv_decoder",
    "conv_encoder",
    "dense_decoder",
    "dense_encoder",
    "fit_pca",
    "gaussian_head",
    "gru_decoder",
    "gru_encoder",
    "linear_decoder",
    "linear_encoder",
    "lstm_decoder",
    "lstm_encoder",
    "Network",
    "NETWORKS",
    "PositionEmbedding",
    "PrincipalComponents",
    "resnet_decoder",
    "resnet_encoder",
    "start_from_pca",
    "tabular_decoder",
    "tabular_encoder",
    "tcn_decoder",
    "tcn_encoder",
    "transformer_decoder",
    "transformer_encoder",
]
