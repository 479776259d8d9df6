"""From a recipe, a network and a shape to an untrained model."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from keras_ae.data.columns import layout
from keras_ae.data.schema import Schema
from keras_ae.data.sequences import names_of
from keras_ae.layers import CrossEntropyLoss, Filled, Marginals, Sampling
from keras_ae.models import Autoencoder
from keras_ae.networks import NETWORKS, classifier_head, conditional_decoder
from keras_ae.parts import for_sequences, for_table
from keras_ae.recipes import RECIPES, choose

_LABEL_WEIGHT = 0.3
"""Of the cross-entropy, for each feature of x or for an error that is a mean over them."""


def default_network(input_shape: Sequence[int]) -> str:
    """`dense` for vectors, `conv` for signals, images and volumes."""
    return "dense" if len(input_shape) == 1 else "conv"


def _check_dims(shape: tuple[int, ...], latent_dim: int) -> None:
    features = math.prod(shape)
    if not shape or features < 1 or min(shape) < 1:
        raise ValueError(f"`input_shape` must be positive sizes. Received: {shape}.")
    if not 1 <= latent_dim <= features:
        raise ValueError(
            f"`latent_dim` must be at least 1 and at most the number of features, {features}. Received: {latent_dim}."
        )


def _options(builder: Callable[..., keras.Model]) -> tuple[str, ...]:
    """Names of a network's options: what follows input_shape, latent_dim and gaussian, and is not bound already."""
    parameters = inspect.signature(builder).parameters.values()
    return tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)[3:]


def _keywords(builder: Callable[..., keras.Model]) -> tuple[str, ...]:
    return tuple(inspect.signature(builder).parameters)


@contextlib.contextmanager
def _policy(dtype: str) -> Iterator[None]:
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@_policy("float32")
def build(
    recipe: str,
    input_shape: int | Sequence[int],
    latent_dim: int,
    network: str | None = None,
    input_dtype: str = "float32",
    dtype: str = "float32",
    classes: Sequence[str] = (),
    conditional: bool = False,
    schema: Schema | None = None,
    sequences: bool | Sequence[str] = False,
    **options: Any,
) -> Autoencoder:
    """Builds an untrained autoencoder of a named family.

    Args:
        recipe: a key of RECIPES.
        input_shape: shape of one observation.
        latent_dim: numbers in z, at most the features of x.
        network: a key of `keras_ae.networks.NETWORKS`; by default from the input's rank.
        input_dtype: of raw x.
        dtype: policy of encoder and decoder, such as "mixed_bfloat16"; losses are in float32.
        classes: names of the classes of labels. A head on z learns p(y | x) beside the rest.
        conditional: the decoder takes the label too, and p(y | x) follows by Bayes' rule instead, as in `cvae`.
        schema: of a table, with the statistics of training rows (`fit_columns`); the encoder takes its features, and
            x its columns. Of one of finite numbers the encoder takes these, and only samples are as the schema says
            (`fit_support`).
        sequences: x is series of different lengths, `input_shape` (steps, channels) of the longest, NaN behind the end
            of each; or the names of the channels.
        **options: the recipe's (`beta`, `noise`, ...) and the network's (`hidden`, `filters`, ...).

    Raises:
        ValueError: for an unknown recipe, network or option, and for values that make no sense.
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(int(n) for n in input_shape)
    numbers = schema if schema is not None and schema.is_plain else None
    schema = None if numbers is not None else schema
    if schema is not None:
        shape = (layout(schema).size,)
    raw_shape = shape
    if sequences:
        if len(shape) != 2 or schema is not None:
            raise ValueError(f"`input_shape` of sequences must be (steps, channels). Received: {shape}.")
        shape = (shape[0], shape[1] + 1)
    entry = choose("recipe", recipe, RECIPES)
    if entry.network is not None and network not in (None, entry.network):
        raise ValueError(f"Recipe {recipe!r} needs network {entry.network!r}. Received: {network!r}.")
    builders = choose("network", network or entry.network or default_network(shape), NETWORKS)
    _check_dims(shape, latent_dim)
    conditional = conditional or entry.conditional
    if conditional and not classes:
        raise ValueError("A conditional decoder, as of recipe 'cvae', needs labels of two classes. Received none.")

    network_options = _options(builders.encoder)
    unknown = [name for name in options if name not in entry.options + network_options]
    if unknown:
        known = ", ".join(sorted(entry.options + network_options)) or "none"
        raise ValueError(f"Unknown option {unknown[0]!r} for recipe {recipe!r}. Its options: {known}.")
    for_network = {name: value for name, value in options.items() if name in network_options}
    parts = entry.family(shape, **{name: value for name, value in options.items() if name in entry.options})
    if schema is not None:
        parts = for_table(parts, schema)
    if sequences:
        names = names_of(raw_shape[1]) if isinstance(sequences, bool) else tuple(sequences)
        parts = for_sequences(parts, raw_shape[0], names)
    incomplete = schema is not None or bool(sequences)
    filled = [Filled(() if schema is None else layout(schema).hides, name="filled")] if incomplete else []
    fronts = [*filled, *([parts.front] if parts.front is not None else [])]

    if classes and getattr(parts.latent, "samples", 1) > 1:
        raise ValueError(
            f"Recipe {recipe!r} draws several samples of z for each row and takes no labels. "
            f"Received: {len(classes)} classes."
        )
    of_rows = {"padded": bool(sequences), "columns": None if schema is None else layout(schema).column}
    for_network |= {name: value for name, value in of_rows.items() if value and name in _keywords(builders.encoder)}
    with _policy(dtype):
        encoder = builders.encoder(shape, latent_dim, gaussian=isinstance(parts.latent, Sampling), **for_network)
        if fronts:
            x = given = keras.Input(shape, name="x")
            for front in fronts:
                given = front(given)
            encoder = keras.Model(x, encoder(given), name="encoder")
        width = latent_dim + (len(classes) if conditional else 0)
        decoder = builders.decoder(
            shape,
            width,
            output_activation=parts.output_activation,
            parameters=getattr(parts.reconstruction, "parameters", 1),
            **for_network,
        )
        if conditional:
            decoder = conditional_decoder(decoder, latent_dim)
        if parts.bridge is not None:
            z, *label = (keras.Input(given.shape[1:], name=given.name) for given in decoder.inputs)
            bridged = parts.bridge(z)
            decoder = keras.Model([z, *label] if label else z, decoder([bridged, *label] if label else bridged))
    has_head = bool(classes) and not conditional and entry.network != "linear"
    # A likelihood is in nats of all features, and grows with them (Kingma et al. 2014, "Semi-supervised learning with
    # deep generative models", equation 9).
    size = math.prod(shape) if getattr(parts.reconstruction, "is_likelihood", False) else 1
    head = [CrossEntropyLoss(_LABEL_WEIGHT * size)] if has_head else []
    return Autoencoder(
        encoder,
        decoder,
        latent=parts.latent,
        reconstruction=parts.reconstruction,
        regularizers=[*parts.regularizers, *head],
        scaling=parts.scaling(),
        input_dtype=input_dtype,
        classes=classes,
        classifier=classifier_head(latent_dim, len(classes)) if has_head else None,
        marginals=None if numbers is None else Marginals(numbers.describe(), noisy=True, name="marginals"),
        name=recipe,
    )
