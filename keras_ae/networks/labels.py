"""What labels add to the networks: a head from z to logits, and a decoder that takes the label besides z."""

from collections.abc import Sequence

import keras

from keras_ae.networks.blocks import check_widths

HIDDEN = (128,)


def classifier_head(latent_dim: int, classes: int, hidden: Sequence[int] = HIDDEN) -> keras.Model:
    """From z (batch, latent_dim) to logits (batch, classes), in float32 under any dtype policy.

    Args:
        latent_dim: width of z.
        classes: number of classes.
        hidden: widths of the layers between.
    """
    z = h = keras.Input((latent_dim,), name="z")
    for i, width in enumerate(check_widths("hidden", hidden) if hidden else ()):
        h = keras.layers.Dense(width, "relu", kernel_initializer="he_uniform", dtype="float32", name=f"hidden_{i}")(h)
    return keras.Model(z, keras.layers.Dense(classes, dtype="float32", name="logits")(h), name="classifier")


def conditional_decoder(decoder: keras.Model, latent_dim: int) -> keras.Model:
    """A decoder of z (batch, latent_dim) and the label in one-hot coding (batch, classes), from one of both in a row
    (Sohn et al. 2015, "Learning structured output representation using deep conditional generative models").

    Args:
        decoder: built for latent_dim + classes latents.
        latent_dim: width of z.
    """
    z = keras.Input((latent_dim,), name="z")
    label = keras.Input((decoder.input_shape[1] - latent_dim,), name="label")
    both = keras.layers.Concatenate(name="z_and_label")([z, label])
    return keras.Model([z, label], decoder(both), name="decoder")
