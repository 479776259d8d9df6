"""The parts of the named families: each is a latent, a reconstruction and some regularizers over shared layers.

A family's function takes the shape of one observation and, by keyword, its options.
"""

# ruff: noqa: D103 - the table of recipes says what each is

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras

from keras_ae.layers import (
    ActivityLoss,
    AdversarialPriorLoss,
    AdversarialReconstructionLoss,
    AutoregressiveFlow,
    BernoulliLoss,
    Binarize,
    CapacityKLLoss,
    CategoricalKLLoss,
    CommitmentLoss,
    ContinuousBernoulliLoss,
    Counts,
    DensityRatioTCLoss,
    DIPLoss,
    DiscretizedLogisticLoss,
    FeatureGaussianLoss,
    FiniteScalarQuantizer,
    FlowPriorLoss,
    GaussianKLLoss,
    GaussianLoss,
    GumbelSoftmax,
    HierarchicalPriorLoss,
    ImportanceWeightedLoss,
    JacobianLoss,
    KLDivergenceLoss,
    KLSparsityLoss,
    LadderKLLoss,
    LadderSampling,
    LogCounts,
    MaskedRMSELoss,
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
    TopK,
    TotalCorrelationLoss,
    UnitInterval,
    VampPriorLoss,
    VectorQuantizer,
    VonMisesFisher,
    VonMisesFisherKLLoss,
)
from keras_ae.layers.bounds import WARM_UP
from keras_ae.parts import Parts


def deterministic(shape: tuple[int, ...], weight: float = 1.0, reduction: str = "batch") -> Parts:
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


def vae(shape: tuple[int, ...], beta: float = 1.0, free_bits: float = 0.0, likelihood: str = "gaussian") -> Parts:
    return _variational(likelihood, GaussianKLLoss(beta, free_bits))


def student_t(shape: tuple[int, ...], beta: float = 1.0, df: float = 4.0) -> Parts:
    return Parts(StudentTLoss(df=df), Sampling(), [GaussianKLLoss(beta)])


def beta_vae(
    shape: tuple[int, ...],
    beta: float = 4.0,
    free_bits: float = 0.0,
    likelihood: str = "gaussian",
    capacity: float | None = None,
    capacity_steps: int = 2000,
) -> Parts:
    if capacity is None:
        return vae(shape, beta, free_bits, likelihood)
    if free_bits:
        raise ValueError(
            f"`free_bits` and `capacity` both set the nats that are free: give one. Received: {free_bits}."
        )
    return _variational(likelihood, CapacityKLLoss(beta, capacity, capacity_steps))


def rmse_vae(shape: tuple[int, ...], kl_weight: float = 1e-3, free_bits: float = 0.0) -> Parts:
    return Parts(RMSELoss(), Sampling(), [GaussianKLLoss(kl_weight, free_bits)])


def kl_ae(shape: tuple[int, ...], weight: float = 1.0) -> Parts:
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


def denoising(shape: tuple[int, ...], noise: str = "gaussian", level: float = 0.2) -> Parts:
    if noise not in NOISES:
        raise ValueError(f"`noise` must be one of {', '.join(NOISES)}. Received: {noise!r}.")
    return Parts(RMSELoss(), front=NOISES[noise](level, name="corruption"))


def sparse(shape: tuple[int, ...], penalty: str = "l1", weight: float = 1e-3, rate: float = 0.05, k: int = 4) -> Parts:
    if penalty not in ("l1", "kl", "top_k"):
        raise ValueError(f'`penalty` must be "l1", "kl" or "top_k". Received: {penalty!r}.')
    if penalty == "top_k":
        return Parts(RMSELoss(), TopK(k))
    return Parts(
        RMSELoss(), regularizers=[ActivityLoss(weight, "l1") if penalty == "l1" else KLSparsityLoss(weight, rate)]
    )


def contractive(shape: tuple[int, ...], weight: float = 1e-2, probes: int = 1) -> Parts:
    return Parts(RMSELoss(), regularizers=[JacobianLoss(weight, "encoder", probes)])


def masked(shape: tuple[int, ...], rate: float = 0.5, patch: int = 1) -> Parts:
    return Parts(MaskedRMSELoss(rate=rate, patch=patch))


def rae_l2(shape: tuple[int, ...], weight: float = 1e-3) -> Parts:
    return Parts(RMSELoss(), regularizers=[ActivityLoss(weight, "l2")])


def rae_gp(shape: tuple[int, ...], weight: float = 1e-3, penalty: float = 0.03, probes: int = 1) -> Parts:
    # Of a feature, as the error is: the norm is a sum over features.
    jacobian = JacobianLoss(penalty / math.prod(shape), "decoder", probes)
    return Parts(RMSELoss(), regularizers=[ActivityLoss(weight, "l2"), jacobian])


def adversarial_ae(shape: tuple[int, ...], weight: float = 0.1) -> Parts:
    return Parts(RMSELoss(), regularizers=[AdversarialPriorLoss(weight)])


def wae_mmd(shape: tuple[int, ...], weight: float = 0.1) -> Parts:
    return Parts(RMSELoss(), regularizers=[MMDLoss(weight)])


def swae(shape: tuple[int, ...], weight: float = 0.1, projections: int = 50) -> Parts:
    return Parts(RMSELoss(), regularizers=[SlicedWassersteinLoss(weight, projections)])


def fsq(shape: tuple[int, ...], levels: int = 8) -> Parts:
    return Parts(RMSELoss(), FiniteScalarQuantizer(levels))


def vq_vae(
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


def residual_vq(
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


def gumbel(
    shape: tuple[int, ...],
    categories: int | None = None,
    temperature: float = 0.5,
    beta: float = 1.0,
    likelihood: str = "gaussian",
) -> Parts:
    return _variational(likelihood, CategoricalKLLoss(beta, categories), latent=GumbelSoftmax(categories, temperature))


def beta_tc_vae(shape: tuple[int, ...], beta: float = 4.0, likelihood: str = "gaussian") -> Parts:
    # KL = mutual information + total correlation + dimension-wise KL; beta weighs the second of the three.
    return _variational(likelihood, GaussianKLLoss(), TotalCorrelationLoss(beta - 1.0))


def dip_vae(
    shape: tuple[int, ...], kind: int = 1, weight: float = 5.0, diagonal: float = 10.0, likelihood: str = "gaussian"
) -> Parts:
    return _variational(likelihood, GaussianKLLoss(), DIPLoss(weight, diagonal, kind))


def info_vae(
    shape: tuple[int, ...], alpha: float = 0.5, mmd_weight: float = 10.0, likelihood: str = "gaussian"
) -> Parts:
    if not 0 <= alpha <= 1:
        raise ValueError(f"`alpha` must be in [0, 1]: the KL has weight 1 - alpha. Received: {alpha}.")
    return _variational(likelihood, GaussianKLLoss(1.0 - alpha), MMDLoss(mmd_weight))


def factor_vae(shape: tuple[int, ...], gamma: float = 6.0, likelihood: str = "gaussian") -> Parts:
    return _variational(likelihood, GaussianKLLoss(), DensityRatioTCLoss(gamma))


def vae_gan(shape: tuple[int, ...], weight: float = 1.0, beta: float = 1.0) -> Parts:
    return Parts(RMSELoss(calibrated=True), Sampling(), [GaussianKLLoss(beta), AdversarialReconstructionLoss(weight)])


def iwae(shape: tuple[int, ...], samples: int = 5, likelihood: str = "gaussian") -> Parts:
    parts = _variational(likelihood, latent=Sampling(samples))
    # The noise that is best for a batch is not defined where its rows have weights: it is learned.
    loss = GaussianLoss() if isinstance(parts.reconstruction, RMSELoss) else parts.reconstruction
    return replace(parts, reconstruction=ImportanceWeightedLoss(loss))


def miwae(shape: tuple[int, ...], samples: int = 10, likelihood: str = "student_t") -> Parts:
    return iwae(shape, samples, likelihood)


def svae(shape: tuple[int, ...], beta: float = 1.0, likelihood: str = "gaussian") -> Parts:
    return _variational(likelihood, VonMisesFisherKLLoss(beta), latent=VonMisesFisher())


def vamp_vae(
    shape: tuple[int, ...],
    components: int = 64,
    beta: float = 1.0,
    warm_up: int = WARM_UP,
    likelihood: str = "gaussian",
) -> Parts:
    return _variational(likelihood, VampPriorLoss(shape, beta, components, warm_up=warm_up))


def hvae(
    shape: tuple[int, ...],
    top_dims: Sequence[int] | int | None = None,
    inference: str = "bottom_up",
    beta: float = 1.0,
    warm_up: int = WARM_UP,
    likelihood: str = "gaussian",
) -> Parts:
    if inference == "ladder":
        return _variational(likelihood, LadderKLLoss(beta, warm_up), latent=LadderSampling(top_dims))
    if inference != "bottom_up":
        raise ValueError(f'`inference` must be "bottom_up" or "ladder". Received: {inference!r}.')
    above = top_dims if isinstance(top_dims, Sequence) else (top_dims,)
    if len(above) != 1:
        raise ValueError(f"`top_dims` must be one number where inference is bottom-up. Received: {top_dims}.")
    return _variational(likelihood, HierarchicalPriorLoss(beta, above[0], warm_up=warm_up))


def flow_vae(
    shape: tuple[int, ...],
    steps: int = 4,
    flow: str = "prior",
    beta: float = 1.0,
    warm_up: int = WARM_UP,
    likelihood: str = "gaussian",
) -> Parts:
    if flow not in ("prior", "posterior"):
        raise ValueError(f'`flow` must be "prior" or "posterior". Received: {flow!r}.')
    of_decoder = flow == "posterior"
    parts = _variational(likelihood, FlowPriorLoss(beta, steps, warm_up=warm_up, of_decoder=of_decoder))
    return replace(parts, bridge=AutoregressiveFlow(steps, name="flow") if of_decoder else None)
