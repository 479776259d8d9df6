"""Encoder and decoder builders: plain functional Keras models, input `x` or `z`, any shape of observation.

An encoder's signature is `(input_shape, latent_dim, gaussian=False, **its options)`, a decoder's
`(output_shape, latent_dim, output_activation=None, **the same options)`; NETWORKS pairs them by name.
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


class Network(NamedTuple):
    """A pair of builders that take the same options."""

    encoder: Callable[..., keras.Model]
    decoder: Callable[..., keras.Model]


NETWORKS = {
    "dense": Network(dense_encoder, dense_decoder),
    "conv": Network(conv_encoder, conv_decoder),
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
    "NETWORKS",
    "Network",
    "PrincipalComponents",
    "classifier_head",
    "conditional_decoder",
    "conv_decoder",
    "conv_encoder",
    "dense_decoder",
    "dense_encoder",
    "fit_pca",
    "gaussian_head",
    "linear_decoder",
    "linear_encoder",
    "start_from_pca",
]
