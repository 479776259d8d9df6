"""Keras layers that make an autoencoder of an encoder and a decoder: losses, latents, scaling, noise."""

from keras_ae.layers.calibration import ConformalPValue, LogarithmicPool
from keras_ae.layers.codebooks import CategoricalKLLoss, CommitmentLoss, GumbelSoftmax, VectorQuantizer
from keras_ae.layers.detection import AnomalyScore
from keras_ae.layers.latents import Sampling, bound_log_var
from keras_ae.layers.likelihoods import (
    BernoulliLoss,
    CategoricalLoss,
    ContinuousBernoulliLoss,
    DiscretizedLogisticLoss,
    FeatureGaussianLoss,
    GaussianLoss,
    Likelihood,
    NegativeBinomialLoss,
    StudentTLoss,
)
from keras_ae.layers.losses import CrossEntropyLoss, GaussianKLLoss, KLDivergenceLoss, LossLayer, RMSELoss
from keras_ae.layers.noise import MaskingNoise, SaltAndPepperNoise
from keras_ae.layers.quantizers import FiniteScalarQuantizer
from keras_ae.layers.regularizers import (
    ActivityLoss,
    DIPLoss,
    KLSparsityLoss,
    MMDLoss,
    SlicedWassersteinLoss,
    TotalCorrelationLoss,
)
from keras_ae.layers.scaling import Binarize, Counts, LogCounts, Proportions, Scaling, UnitInterval

__all__ = [
    "ContinuousBernoulliLoss",
    "Counts",
    "DiscretizedLogisticLoss",
    "FeatureGaussianLoss",
    "GaussianLoss",
    "Likelihood",
    "LogCounts",
    "NegativeBinomialLoss",
    "StudentTLoss",
    "UnitInterval",
    "BernoulliLoss",
    "Binarize",
    "CategoricalKLLoss",
    "CategoricalLoss",
    "CommitmentLoss",
    "GumbelSoftmax",
    "VectorQuantizer",
    "ActivityLoss",
    "AnomalyScore",
    "DIPLoss",
    "FiniteScalarQuantizer",
    "KLSparsityLoss",
    "MMDLoss",
    "SaltAndPepperNoise",
    "SlicedWassersteinLoss",
    "TotalCorrelationLoss",
    "ConformalPValue",
    "CrossEntropyLoss",
    "GaussianKLLoss",
    "KLDivergenceLoss",
    "LossLayer",
    "MaskingNoise",
    "Proportions",
    "RMSELoss",
    "Sampling",
    "Scaling",
    "LogarithmicPool",
    "bound_log_var",
]
