"""The table of named families: each is a latent, a reconstruction and some regularizers over shared layers."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from keras_ae.layers import (
    ActivityLoss,
    BernoulliLoss,
    Binarize,
    CategoricalKLLoss,
    CommitmentLoss,
    ContinuousBernoulliLoss,
    Counts,
    CrossEntropyLoss,
    DIPLoss,
    DiscretizedLogisticLoss,
    FeatureGaussianLoss,
    FiniteScalarQuantizer,
    GaussianKLLoss,
    GumbelSoftmax,
    KLDivergenceLoss,
    KLSparsityLoss,
    LogCounts,
    MaskingNoise,
    MMDLoss,
    NegativeBinomialLoss,
    Proportions,
    RMSELoss,
    SaltAndPepperNoise,
    Sampling,
    Scaling,
    SlicedWassersteinLoss,
    StudentTLoss,
    TotalCorrelationLoss,
    UnitInterval,
    VectorQuantizer,
)
from keras_ae.models import Autoencoder
from keras_ae.networks import NETWORKS, classifier_head, conditional_decoder


@dataclass(frozen=True)
class Parts:
    """What a recipe puts between and around the encoder and the decoder.

    Attributes:
        reconstruction: loss layer on (x, x_hat).
        latent: layer from posterior to z; a Sampling makes the encoder give (mean, log_var).
        regularizers: further loss layers.
        front: layer between scaled x and the encoder, which becomes part of the encoder.
        scaling: layer between raw and network units.
        output_activation: of the decoder, over all features.
    """

    reconstruction: keras.layers.Layer
    latent: keras.layers.Layer | None = None
    regularizers: Sequence[keras.layers.Layer] = ()
    front: keras.layers.Layer | None = None
    scaling: Callable[[], keras.layers.Layer] = Scaling
    output_activation: str | None = None


@dataclass(frozen=True)
class Recipe:
    """A row of the table.

    Attributes:
        parts: from (input_shape, **options) to Parts; its keyword arguments are the recipe's options.
        summary: one line.
        paper: author and year.
        network: the only network that makes sense, or None for any.
        variational: a loss term ties z to N(0, I).
        conditional: the decoder takes the label besides z; needs classes.
    """

    parts: Callable[..., Parts]
    summary: str
    paper: str
    network: str | None = None
    variational: bool = False
    conditional: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.parts).parameters)[1:]


def _deterministic(shape: tuple[int, ...], weight: float = 1.0, reduction: str = "batch") -> Parts:
    return Parts(RMSELoss(weight, reduction))


@dataclass(frozen=True)
class _Observed:
    """A likelihood of x, the scaling that takes x where it is defined, and what the encoder needs in front."""

    loss: Callable[[], keras.layers.Layer]
    scaling: Callable[[], keras.layers.Layer] = Scaling
    front: Callable[..., keras.layers.Layer] | None = None


LIKELIHOODS: dict[str, _Observed] = {
    "gaussian": _Observed(lambda: RMSELoss(calibrated=True)),
    "feature_gaussian": _Observed(FeatureGaussianLoss),
    "student_t": _Observed(StudentTLoss),
    "bernoulli": _Observed(BernoulliLoss, Binarize),
    "continuous_bernoulli": _Observed(ContinuousBernoulliLoss, UnitInterval),
    "discretized_logistic": _Observed(DiscretizedLogisticLoss, UnitInterval),
    "negative_binomial": _Observed(NegativeBinomialLoss, Counts, LogCounts),
    "zero_inflated": _Observed(lambda: NegativeBinomialLoss(zero_inflated=True), Counts, LogCounts),
}


def _variational(likelihood: str, *regularizers: keras.layers.Layer, latent: keras.layers.Layer | None = None) -> Parts:
    """A likelihood and what ties z to its prior."""
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"`likelihood` must be one of {', '.join(LIKELIHOODS)}. Received: {likelihood!r}.")
    observed = LIKELIHOODS[likelihood]
    return Parts(
        observed.loss(),
        latent if latent is not None else Sampling(),
        regularizers,
        front=observed.front(name="log_counts") if observed.front is not None else None,
        scaling=observed.scaling,
    )


def _vae(shape: tuple[int, ...], beta: float = 1.0, free_bits: float = 0.0, likelihood: str = "gaussian") -> Parts:
    return _variational(likelihood, GaussianKLLoss(beta, free_bits))


def _student_t(shape: tuple[int, ...], beta: float = 1.0, df: float = 4.0) -> Parts:
    return Parts(StudentTLoss(df=df), Sampling(), [GaussianKLLoss(beta)])


def _beta_vae(shape: tuple[int, ...], beta: float = 4.0, free_bits: float = 0.0, likelihood: str = "gaussian") -> Parts:
    return _vae(shape, beta, free_bits, likelihood)


def _rmse_vae(shape: tuple[int, ...], kl_weight: float = 1e-3, free_bits: float = 0.0) -> Parts:
    return Parts(RMSELoss(), Sampling(), [GaussianKLLoss(kl_weight, free_bits)])


def _kl_ae(shape: tuple[int, ...], weight: float = 1.0) -> Parts:
    axes = tuple(range(1, len(shape) + 1))
    return Parts(
        KLDivergenceLoss(weight, axes),
        # Proportions of D features are about 1 / D; networks start best at inputs of about 1.
        front=keras.layers.Rescaling(float(math.prod(shape)), name="rescale"),
        scaling=Proportions,
        output_activation="softmax",
    )


NOISES: dict[str, Callable[..., keras.layers.Layer]] = {
    "gaussian": keras.layers.GaussianNoise,
    "masking": MaskingNoise,
    "salt_and_pepper": SaltAndPepperNoise,
}


def _denoising(shape: tuple[int, ...], noise: str = "gaussian", level: float = 0.2) -> Parts:
    if noise not in NOISES:
        raise ValueError(f"`noise` must be one of {', '.join(NOISES)}. Received: {noise!r}.")
    return Parts(RMSELoss(), front=NOISES[noise](level, name="corruption"))


def _sparse(shape: tuple[int, ...], penalty: str = "l1", weight: float = 1e-3, rate: float = 0.05) -> Parts:
    if penalty not in ("l1", "kl"):
        raise ValueError(f'`penalty` must be "l1" or "kl". Received: {penalty!r}.')
    return Parts(
        RMSELoss(), regularizers=[ActivityLoss(weight, "l1") if penalty == "l1" else KLSparsityLoss(weight, rate)]
    )


def _rae_l2(shape: tuple[int, ...], weight: float = 1e-3) -> Parts:
    return Parts(RMSELoss(), regularizers=[ActivityLoss(weight, "l2")])


def _wae_mmd(shape: tuple[int, ...], weight: float = 0.1) -> Parts:
    return Parts(RMSELoss(), regularizers=[MMDLoss(weight)])


def _swae(shape: tuple[int, ...], weight: float = 0.1, projections: int = 50) -> Parts:
    return Parts(RMSELoss(), regularizers=[SlicedWassersteinLoss(weight, projections)])


def _fsq(shape: tuple[int, ...], levels: int = 8) -> Parts:
    return Parts(RMSELoss(), FiniteScalarQuantizer(levels))


def _vq_vae(
    shape: tuple[int, ...],
    codes: int = 64,
    code_dim: int | None = None,
    ema: bool = True,
    commitment: float = 0.25,
    revive: float = 0.05,
) -> Parts:
    return Parts(
        RMSELoss(), VectorQuantizer(codes, code_dim, ema=ema, revive=revive), regularizers=[CommitmentLoss(commitment)]
    )


def _residual_vq(
    shape: tuple[int, ...],
    stages: int = 4,
    codes: int = 16,
    code_dim: int | None = None,
    ema: bool = True,
    commitment: float = 0.25,
    revive: float = 0.05,
) -> Parts:
    quantizer = VectorQuantizer(codes, code_dim, stages, ema, revive=revive)
    return Parts(RMSELoss(), quantizer, regularizers=[CommitmentLoss(commitment)])


def _gumbel(
    shape: tuple[int, ...],
    categories: int | None = None,
    temperature: float = 0.5,
    beta: float = 1.0,
    likelihood: str = "gaussian",
) -> Parts:
    return _variational(likelihood, CategoricalKLLoss(beta, categories), latent=GumbelSoftmax(categories, temperature))


def _beta_tc_vae(shape: tuple[int, ...], beta: float = 4.0, likelihood: str = "gaussian") -> Parts:
    # KL = mutual information + total correlation + dimension-wise KL; beta weighs the second of the three.
    return _variational(likelihood, GaussianKLLoss(), TotalCorrelationLoss(beta - 1.0))


def _dip_vae(
    shape: tuple[int, ...], kind: int = 1, weight: float = 5.0, diagonal: float = 10.0, likelihood: str = "gaussian"
) -> Parts:
    return _variational(likelihood, GaussianKLLoss(), DIPLoss(weight, diagonal, kind))


def _info_vae(
    shape: tuple[int, ...], alpha: float = 0.5, mmd_weight: float = 10.0, likelihood: str = "gaussian"
) -> Parts:
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must be in [0, 1]: the KL has weight 1 - alpha. Received: {alpha}.")
    return _variational(likelihood, GaussianKLLoss(1.0 - alpha), MMDLoss(mmd_weight))


RECIPES: dict[str, Recipe] = {
    "ae": Recipe(_deterministic, "Deterministic autoencoder, RMSE.", "Hinton and Salakhutdinov 2006"),
    "vae": Recipe(
        _vae,
        "Variational autoencoder, calibrated RMSE: a true bound, nothing to tune.",
        "Kingma and Welling 2014; Rybkin et al. 2021",
        variational=True,
    ),
    "student_t": Recipe(
        _student_t, "VAE whose decoder is Student's t: outliers weigh less.", "Takahashi et al. 2018", variational=True
    ),
    "rmse_vae": Recipe(
        _rmse_vae,
        "RMSE (equation 3) as it stands plus a weighted KL.",
        "Kingma and Welling 2014",
        variational=True,
    ),
    "beta_vae": Recipe(
        _beta_vae,
        "VAE with beta times the KL, for disentangled latents.",
        "Higgins et al. 2017",
        variational=True,
    ),
    "cvae": Recipe(
        _vae,
        "Conditional VAE: the decoder is told the label, z is what else there is.",
        "Sohn et al. 2015; Kingma et al. 2014",
        variational=True,
        conditional=True,
    ),
    "kl_ae": Recipe(
        _kl_ae, "KL (equation 4) between x and AE(x): histograms, spectra, counts.", "Kullback and Leibler 1951"
    ),
    "denoising": Recipe(_denoising, "Reconstructs x from a damaged x.", "Vincent et al. 2010"),
    "sparse": Recipe(_sparse, "Few latents active at a time: L1 on z, or the KL of their rates.", "Ng 2011"),
    "rae_l2": Recipe(
        _rae_l2,
        "L2 on z; the optimizer's weight decay keeps the decoder smooth. Its prior is fitted.",
        "Ghosh et al. 2020",
    ),
    "wae_mmd": Recipe(_wae_mmd, "Wasserstein autoencoder: all z together match N(0, I).", "Tolstikhin et al. 2018"),
    "swae": Recipe(_swae, "The same by the sliced Wasserstein distance.", "Kolouri et al. 2018"),
    "fsq": Recipe(_fsq, "Discrete: each latent takes one of a few values.", "Mentzer et al. 2024"),
    "vq_vae": Recipe(_vq_vae, "Discrete: pieces of z are vectors of learned codebooks.", "van den Oord et al. 2017"),
    "residual_vq": Recipe(
        _residual_vq, "The same in stages, each coding what the last left over.", "Zeghidour et al. 2021"
    ),
    "gumbel": Recipe(
        _gumbel, "VAE whose latents are categories, relaxed in training.", "Jang et al. 2017; Maddison et al. 2017"
    ),
    "beta_tc_vae": Recipe(
        _beta_tc_vae,
        "VAE with beta times the total correlation, for independent latents.",
        "Chen et al. 2018",
        variational=True,
    ),
    "dip_vae": Recipe(
        _dip_vae,
        "VAE whose covariance of z is pulled towards the identity.",
        "Kumar et al. 2018",
        variational=True,
    ),
    "info_vae": Recipe(
        _info_vae,
        "VAE with less KL and the MMD besides, so that z keeps its information.",
        "Zhao et al. 2019",
        variational=True,
    ),
    "linear": Recipe(_deterministic, "Linear encoder and decoder: PCA.", "Baldi and Hornik 1989", network="linear"),
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
        **options: the recipe's (`beta`, `noise`, ...) and the network's (`hidden`, `filters`, ...).

    Raises:
        ValueError: for an unknown recipe, network or option, and for values that make no sense.
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(int(n) for n in input_shape)
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

    with _policy(dtype):
        encoder = builders.encoder(shape, latent_dim, gaussian=isinstance(parts.latent, Sampling), **for_network)
        if parts.front is not None:
            x = keras.Input(shape, name="x")
            encoder = keras.Model(x, encoder(parts.front(x)), name="encoder")
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
