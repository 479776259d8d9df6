"""What z is drawn from after training: a function of standard normal noise, so that samples follow from their seed.

A Gaussian, a mixture, one mixture per class and the posteriors of training rows are one layer, `MixturePrior`;
`FlowPrior` bends one. `fit_prior` chooses between them by the likelihood of latents that none was fitted to.
"""

from keras_ae.priors.fitting import FittedPrior, fit_prior
from keras_ae.priors.flow import FlowPrior
from keras_ae.priors.mixture import MixturePrior

__all__ = ["FittedPrior", "fit_prior", "FlowPrior", "MixturePrior"]
