"""The table of named families, and the models that it makes."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_ae import families
from keras_ae.data.columns import layout
from keras_ae.data.schema import Schema
from keras_ae.data.sequences import names_of
from keras_ae.families import Parts, of_columns, of_sequences
from keras_ae.layers import CrossEntropyLoss, Filled, Sampling
from keras_ae.models import Autoencoder
from keras_ae.networks import NETWORKS, classifier_head, conditional_decoder


@dataclass(frozen=True)
class Recipe:
    """A row of the table.

    Attributes:
        parts: from (input_shape, **options) to Parts; its keyword arguments are the recipe's options.
        summary: one line.
        paper: author and year.
        network: the only network that makes sense, or None for any.
        conditional: the decoder takes the label besides z; needs classes.
    """

    parts: Callable[..., Parts]
    summary: str
    paper: str
    network: str | None = None
    conditional: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.parts).parameters)[1:]


RECIPES: dict[str, Recipe] = {
    "ae": Recipe(families.deterministic, "Deterministic autoencoder, RMSE.", "Hinton and Salakhutdinov 2006"),
    "vae": Recipe(
        families.vae,
        "Variational autoencoder, calibrated RMSE: a true bound, nothing to tune.",
        "Kingma and Welling 2014; Rybkin et al. 2021",
    ),
    "student_t": Recipe(
        families.student_t,
        "VAE whose decoder is Student's t: outliers weigh less.",
        "Takahashi et al. 2018",
    ),
    "rmse_vae": Recipe(
        families.rmse_vae,
        "RMSE (equation 3) as it stands plus a weighted KL.",
        "Kingma and Welling 2014",
    ),
    "beta_vae": Recipe(
        families.beta_vae,
        "VAE with beta times the KL, or its distance from a rising capacity.",
        "Higgins et al. 2017; Burgess et al. 2018",
    ),
    "cvae": Recipe(
        families.vae,
        "Conditional VAE: the decoder is told the label, z is what else there is.",
        "Sohn et al. 2015; Kingma et al. 2014",
        conditional=True,
    ),
    "kl_ae": Recipe(
        families.kl_ae, "KL (equation 4) between x and AE(x): histograms, spectra, counts.", "Kullback and Leibler 1951"
    ),
    "denoising": Recipe(families.denoising, "Reconstructs x from a damaged x.", "Vincent et al. 2010"),
    "sparse": Recipe(
        families.sparse,
        "Few latents active at a time: L1 on z, the KL of their rates, or the top k.",
        "Ng 2011; Makhzani and Frey 2014",
    ),
    "contractive": Recipe(
        families.contractive, "z that changes little with x: the encoder's Jacobian is small.", "Rifai et al. 2011"
    ),
    "masked": Recipe(families.masked, "Reconstructs the features that it was not shown.", "He et al. 2022"),
    "rae_l2": Recipe(
        families.rae_l2,
        "L2 on z; the optimizer's weight decay keeps the decoder smooth. Its prior is fitted.",
        "Ghosh et al. 2020",
    ),
    "rae_gp": Recipe(families.rae_gp, "The same with the decoder's Jacobian kept small.", "Ghosh et al. 2020"),
    "adversarial_ae": Recipe(
        families.adversarial_ae,
        "All z together match N(0, I), to a critic that is trained besides.",
        "Makhzani et al. 2016",
    ),
    "wae_mmd": Recipe(
        families.wae_mmd, "Wasserstein autoencoder: all z together match N(0, I).", "Tolstikhin et al. 2018"
    ),
    "swae": Recipe(
        families.swae, "All z together match N(0, I), by the sliced Wasserstein distance.", "Kolouri et al. 2018"
    ),
    "fsq": Recipe(families.fsq, "Discrete: each latent takes one of a few values.", "Mentzer et al. 2024"),
    "vq_vae": Recipe(
        families.vq_vae, "Discrete: pieces of z are vectors of learned codebooks.", "van den Oord et al. 2017"
    ),
    "residual_vq": Recipe(
        families.residual_vq, "The same in stages, each coding what the last left over.", "Zeghidour et al. 2021"
    ),
    "gumbel": Recipe(
        families.gumbel,
        "VAE whose latents are categories, relaxed in training.",
        "Jang et al. 2017; Maddison et al. 2017",
    ),
    "beta_tc_vae": Recipe(
        families.beta_tc_vae,
        "VAE with beta times the total correlation, for independent latents.",
        "Chen et al. 2018",
    ),
    "factor_vae": Recipe(families.factor_vae, "The same, the total correlation by a critic.", "Kim and Mnih 2018"),
    "dip_vae": Recipe(
        families.dip_vae,
        "VAE whose covariance of z is pulled towards the identity.",
        "Kumar et al. 2018",
    ),
    "info_vae": Recipe(
        families.info_vae,
        "VAE with less KL and the MMD besides, so that z keeps its information.",
        "Zhao et al. 2019",
    ),
    "iwae": Recipe(families.iwae, "VAE with a tighter bound, of several weighted draws.", "Burda et al. 2016"),
    "miwae": Recipe(
        families.miwae,
        "The same where cells are missing: those that are known count.",
        "Mattei and Frellsen 2019",
    ),
    "svae": Recipe(
        families.svae,
        "VAE whose latents are directions: von Mises-Fisher posteriors on the unit sphere.",
        "Davidson et al. 2018",
    ),
    "vamp_vae": Recipe(
        families.vamp_vae,
        "VAE whose prior mixes the posteriors of learned inputs.",
        "Tomczak and Welling 2018",
    ),
    "hvae": Recipe(
        families.hvae,
        "VAE whose prior has a second stochastic layer above z.",
        "Burda et al. 2016; Sonderby et al. 2016",
    ),
    "flow_vae": Recipe(
        families.flow_vae,
        "VAE whose prior, or posterior, is an autoregressive flow.",
        "Chen et al. 2017; Kingma et al. 2016",
    ),
    "vae_gan": Recipe(families.vae_gan, "VAE with a critic that tells x from AE(x).", "Larsen et al. 2016"),
    "linear": Recipe(
        families.deterministic, "Linear encoder and decoder: PCA.", "Baldi and Hornik 1989", network="linear"
    ),
}

DEFAULT = "vae"
_LABEL_WEIGHT = 0.3
"""Of the cross-entropy, for each feature of x or for an error that is a mean over them."""


def default_network(input_shape: Sequence[int]) -> str:
    """`dense` for vectors, `conv` for signals, images and volumes."""
    return "dense" if len(input_shape) == 1 else "conv"


def _choose(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    if name not in table:
        raise ValueError(f"Unknown {kind} {name!r}. Known: {', '.join(table)}.")
    return table[name]


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
        schema: of a table that is more than finite numbers, with the statistics of training rows (`fit_columns`); the
            encoder takes its features, and x its columns.
        sequences: x is series of different lengths, `input_shape` (steps, channels) of the longest, NaN behind the end
            of each; or the names of the channels.
        **options: the recipe's (`beta`, `noise`, ...) and the network's (`hidden`, `filters`, ...).

    Raises:
        ValueError: for an unknown recipe, network or option, and for values that make no sense.
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(int(n) for n in input_shape)
    if schema is not None:
        shape = (layout(schema).size,)
    raw_shape = shape
    if sequences:
        if len(shape) != 2 or schema is not None:
            raise ValueError(f"`input_shape` of sequences must be (steps, channels). Received: {shape}.")
        shape = (shape[0], shape[1] + 1)
    entry = _choose("recipe", recipe, RECIPES)
    if entry.network is not None and network not in (None, entry.network):
        raise ValueError(f"Recipe {recipe!r} needs network {entry.network!r}. Received: {network!r}.")
    builders = _choose("network", network or entry.network or default_network(shape), NETWORKS)
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
    parts = entry.parts(shape, **{name: value for name, value in options.items() if name in entry.options})
    if schema is not None:
        parts = of_columns(parts, schema)
    if sequences:
        names = names_of(raw_shape[1]) if isinstance(sequences, bool) else tuple(sequences)
        parts = of_sequences(parts, raw_shape[0], names)
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
        name=recipe,
    )
