"""Keras layers that make an autoencoder of an encoder and a decoder: losses, latents, scaling, noise."""

from keras_ae.layers.calibration import ConformalPValue, LogarithmicPool
from keras_ae.layers.latents import Sampling, bound_log_var
from keras_ae.layers.losses import CrossEntropyLoss, GaussianKLLoss, KLDivergenceLoss, LossLayer, RMSELoss
from keras_ae.layers.noise import MaskingNoise
from keras_ae.layers.scaling import Proportions, Scaling

__all__ = [
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
