"""Keras layers that make an autoencoder of an encoder and a decoder: losses, latents, scaling, noise."""

from keras_ae.layers.adversarial import AdversarialPriorLoss, AdversarialReconstructionLoss, DensityRatioTCLoss
from keras_ae.layers.bounds import FlowPriorLoss, HierarchicalPriorLoss, ImportanceWeightedLoss, VampPriorLoss
from keras_ae.layers.calibration import ConformalPValue, LogarithmicPool
from keras_ae.layers.capacity import CapacityKLLoss
from keras_ae.layers.codebooks import CategoricalKLLoss, CommitmentLoss, GumbelSoftmax, VectorQuantizer
from keras_ae.layers.columns import ColumnLoss, ColumnScaling, Filled, Incomplete
from keras_ae.layers.detection import AnomalyScore
from keras_ae.layers.drawing import ColumnDraws
from keras_ae.layers.flows import AutoregressiveFlow
from keras_ae.layers.jacobian import JacobianLoss, MaskedRMSELoss
from keras_ae.layers.ladder import LadderKLLoss, LadderSampling
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
from keras_ae.layers.marginals import Marginals
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
from keras_ae.layers.sequences import (
    LastStep,
    LengthLoss,
    SequenceLoss,
    SequenceRMSELoss,
    SequenceScaling,
    StepMask,
    ValuesOnly,
)
from keras_ae.layers.sparse import TopK
from keras_ae.layers.spherical import VonMisesFisher, VonMisesFisherKLLoss

__all__ = [
    "ActivityLoss",
    "AdversarialPriorLoss",
    "AdversarialReconstructionLoss",
    "AnomalyScore",
    "AutoregressiveFlow",
    "BernoulliLoss",
    "Binarize",
    "bound_log_var",
    "CapacityKLLoss",
    "CategoricalKLLoss",
    "CategoricalLoss",
    "ColumnDraws",
    "ColumnLoss",
    "ColumnScaling",
    "CommitmentLoss",
    "ConformalPValue",
    "ContinuousBernoulliLoss",
    "Counts",
    "CrossEntropyLoss",
    "DensityRatioTCLoss",
    "DIPLoss",
    "DiscretizedLogisticLoss",
    "FeatureGaussianLoss",
    "Filled",
    "FiniteScalarQuantizer",
    "FlowPriorLoss",
    "GaussianKLLoss",
    "GaussianLoss",
    "GumbelSoftmax",
    "HierarchicalPriorLoss",
    "ImportanceWeightedLoss",
    "Incomplete",
    "JacobianLoss",
    "KLDivergenceLoss",
    "KLSparsityLoss",
    "LastStep",
    "LadderKLLoss",
    "LadderSampling",
    "LengthLoss",
    "Likelihood",
    "LogarithmicPool",
    "LogCounts",
    "LossLayer",
    "Marginals",
    "MaskedRMSELoss",
    "MaskingNoise",
    "MMDLoss",
    "NegativeBinomialLoss",
    "Proportions",
    "RMSELoss",
    "SaltAndPepperNoise",
    "Sampling",
    "Scaling",
    "SequenceLoss",
    "SequenceRMSELoss",
    "SequenceScaling",
    "SlicedWassersteinLoss",
    "StepMask",
    "StudentTLoss",
    "TopK",
    "TotalCorrelationLoss",
    "UnitInterval",
    "ValuesOnly",
    "VampPriorLoss",
    "VectorQuantizer",
    "VonMisesFisher",
    "VonMisesFisherKLLoss",
]
