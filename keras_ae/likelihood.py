"""How probable are rows under a model? Bounds on log p(x) by importance sampling from the posterior."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ae.data.labels import UNKNOWN
from keras_ae.layers import (
    Binarize,
    ColumnScaling,
    ContinuousBernoulliLoss,
    Counts,
    DiscretizedLogisticLoss,
    FeatureGaussianLoss,
    GaussianLoss,
    RMSELoss,
    Sampling,
    Scaling,
    SequenceScaling,
    StudentTLoss,
    UnitInterval,
)
from keras_ae.priors.mixture import log_joint

_NUMBERS = 1 << 21
"""Numbers of reconstructions, or of the prior's components, that are held at once."""
_ROWS = 1024
_EAGER = 2
"""Calls, at most, that take no graph: tracing one would take longer."""
_DENSITIES = (RMSELoss, GaussianLoss, FeatureGaussianLoss, StudentTLoss, ContinuousBernoulliLoss)
"""Of raw x; the other likelihoods are probabilities, which no density of a baseline compares with."""


@dataclass(frozen=True)
class LogLikelihood:
    """Lower bounds on log p(x).

    Attributes:
        rows: of each row, nats (rows,).
        k: importance samples; 1 is the ELBO.
    """

    rows: np.ndarray
    k: int

    @property
    def mean(self) -> float:
        """Over rows, nats."""
        return float(self.rows.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, nats."""
        return float(self.rows.std(ddof=1) / math.sqrt(len(self.rows))) if len(self.rows) > 1 else math.inf

    def __str__(self) -> str:
        return f"log p(x) >= {self.mean:.2f} +- {self.standard_error:.2f} nats a row (k = {self.k:,})"


def log_likelihood(
    model: Any,
    x: np.ndarray,
    y: np.ndarray | None = None,
    k: int = 1,
    seed: int = 0,
    common: bool = False,
    trained: bool = False,
) -> LogLikelihood:
    """The importance-weighted bound L_k on log p(x), or with labels on log p(x | y), of each row:

        L_k = E[log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x)], z_i drawn from q(z | x)

    (Burda et al. 2016, "Importance weighted autoencoders", equation 8). L_1 is the ELBO; L_k rises with k to log p(x).
    p(z) is what `generate` draws from, or with `trained` what training tied z to. Of a ladder u is drawn from q(u | x)
    first, q(z | x, u) takes the place of q(z | x), and with `trained` p(z | u) p(u) / q(u | x), whose mean is p(z),
    that of p(z).

    Of raw units it is a density; of a table that of its numbers in raw units, whatever their transform, and of its
    other features, where a missing cell does not count; of series that of the values that are there times the
    probability of the length. Whole numbers (uint8) are spread evenly over their unit first, or binarized where the
    model binarizes, by chance of their grey: a density would be infinite on them (Theis et al. 2016, "A note on the
    evaluation of generative models", section 3.1).

    Args:
        model: an Autoencoder with a Sampling latent and a reconstruction layer that has `log_prob`.
        x: raw rows (rows, ...).
        y: indices of classes (rows,), -1 for one that is not known.
        k: importance samples of each row.
        seed: of all draws.
        common: use the same draws for all rows, so that the value of one does not depend on those beside it; the
            standard error of their mean is larger then than it is given.
        trained: take the prior of training, N(0, I) or the one that was learned with the rest, as papers do.

    Raises:
        ValueError: for a model that is no such, k below 1, or the prior of training with labels, which it has not.
    """
    import tensorflow as tf

    _check(model, k)
    x = model.scaling.padded(x) if isinstance(model.scaling, SequenceScaling) else x
    rng = np.random.default_rng(seed)
    width = max(math.prod(model.raw_shape), getattr(model.prior, "numbers", 0) // 8)  # they are soon forgotten
    draws = max(1, min(k, _NUMBERS // width))
    rows = max(1, _NUMBERS // (width * draws))
    classes = len(model.classes)
    if trained and classes:
        raise ValueError(f"The prior of training knows no classes. Received: {classes} classes.")
    width_of_noise = model.latent.noise_dim(model.latent_dim)
    label = np.full(len(x), UNKNOWN, "int32") if y is None else np.asarray(y, "int32")

    def weights(scaled: Any, mean: Any, log_var: Any, asked: Any, noise: Any) -> Any:
        """log p(x | z) p(z) / q(z | x) of (rows, draws), for the labels asked for, or for all of them together."""
        count = tf.shape(noise)[1]
        x_all, *posterior = (tf.repeat(part, count, axis=0) for part in (scaled, mean, log_var))
        flat, log_q, log_p = model.latent.draw(*posterior, tf.reshape(noise, (-1, width_of_noise)))
        if not classes:
            prior = _log_prior_of_training(model, log_p) if trained else model.prior.log_prob
            joint = _log_x(model, x_all, flat, None) + prior(flat)
        else:
            every = log_joint(model.prior, flat)
            if model.conditional:
                every += tf.stack([_log_x(model, x_all, flat, i) for i in range(classes)], axis=-1)
            wanted = tf.repeat(asked, count)[:, None]
            chosen = tf.logical_or(wanted < 0, tf.equal(wanted, tf.range(classes)[None]))
            joint = tf.reduce_logsumexp(tf.where(chosen, every, -np.inf), axis=-1)
            log_y = tf.gather(model.prior.class_log_frequency(), tf.maximum(wanted[:, 0], 0))
            joint -= tf.where(wanted[:, 0] < 0, 0.0, log_y)
            if not model.conditional:
                joint += _log_x(model, x_all, flat, None)
        return tf.reshape(joint - log_q, (-1, count))

    blocks = range(0, len(x), rows)
    if len(blocks) * math.ceil(k / draws) > _EAGER:
        weights = tf.function(weights, autograph=False, reduce_retracing=True)
    found = []
    for start in blocks:
        scaled, log_volume = _scaled(model, np.asarray(x[start : start + rows]), rng)
        mean, log_var = (tf.cast(part, "float32") for part in model.encoder(scaled, training=False))
        shape = (len(scaled), model.latent_dim)
        mean, log_var = tf.reshape(mean, shape), tf.reshape(log_var, shape)
        asked = tf.constant(label[start : start + rows])
        total, done = np.full(len(scaled), -np.inf), 0
        while done < k:
            count = min(draws, k - done)
            noise = rng.standard_normal((1 if common else len(scaled), count, width_of_noise), dtype="float32")
            noise = np.broadcast_to(noise, (len(scaled), *noise.shape[1:]))
            new = np.asarray(weights(scaled, mean, log_var, asked, noise), "float64")
            total = np.logaddexp(total, np.logaddexp.reduce(new, axis=1))
            done += count
        found.append(total - math.log(k) + log_volume)
    return LogLikelihood(np.concatenate(found), k)


def elbo(model: Any, x: np.ndarray, draws: int = 1, seed: int = 0) -> LogLikelihood:
    """The evidence lower bound E[log p(x | z)] - KL(q(z | x) || p(z)) of each row, where z is no Gaussian's draw and
    the KL has a closed form: categories, directions. p(z) is that of training, and z a draw of q(z | x), not a relaxed
    one.

    Args:
        model: an Autoencoder of such a latent (GumbelSoftmax, VonMisesFisher) and a likelihood.
        x: raw rows (rows, ...).
        draws: of z for each row, whose mean is taken.
        seed: of the draws.

    Raises:
        ValueError: for a model that is no such.
    """
    term = _kl_of(model)
    if term is None or not getattr(model.reconstruction, "is_likelihood", False):
        raise ValueError(
            "An ELBO in closed form needs a likelihood, and a latent of categories or directions with its KL. "
            f"Received: {type(model.latent).__name__} and {type(model.reconstruction).__name__}."
        )
    import tensorflow as tf

    latent = type(model.latent).from_config({**model.latent.get_config(), "seed": seed})
    rng = np.random.default_rng(seed)

    def drawn(scaled: Any, posterior: Any) -> Any:
        """log p(x | z) of rows, for one z each."""
        return _log_x(model, scaled, latent.nearest_code(latent(posterior, training=True)), None)

    if math.ceil(len(x) / _ROWS) * draws > _EAGER:
        drawn = tf.function(drawn, autograph=False, reduce_retracing=True)
    found = []
    for start in range(0, len(x), _ROWS):
        scaled, log_volume = _scaled(model, np.asarray(x[start : start + _ROWS]), rng)
        posterior = model.encoder(scaled, training=False)
        total = np.zeros(len(scaled))
        for _ in range(draws):
            total += np.asarray(drawn(scaled, posterior), "float64")
        found.append(total / draws - np.asarray(term.kl_of_rows(posterior), "float64") + log_volume)
    return LogLikelihood(np.concatenate(found), 1)


def density_bound(model: Any, k: int = 10) -> Callable[[np.ndarray], np.ndarray] | None:
    """From raw rows to a bound on -log p(x) of each, nats (rows,), to compare with densities of other models: L_k, or
    the mean of k draws of the ELBO where z is no Gaussian's.

    None where the model has none: its likelihood is of codes, counts or lengths, or nothing is known of p(z).
    """
    likelihood = getattr(model.reconstruction, "likelihood", model.reconstruction)
    if not isinstance(likelihood, _DENSITIES) or not likelihood.is_likelihood:
        return None
    if isinstance(model.latent, Sampling):
        return lambda x: -model.log_likelihood(x, k=k).rows
    return None if _kl_of(model) is None or model.conditional else lambda x: -elbo(model, x, k).rows


def _kl_of(model: Any) -> Any:
    """The term that is the KL of each row in closed form, or None."""
    return next((term for term in model.regularizers if hasattr(term, "kl_of_rows")), None)


def _check(model: Any, k: int) -> None:
    if k < 1:
        raise ValueError(f"`k` must be at least 1. Received: {k}.")
    if not isinstance(model.latent, Sampling) or not getattr(model.reconstruction, "is_likelihood", False):
        raise ValueError(
            "A likelihood needs a `latent` that is Sampling and a reconstruction that is a likelihood, such as "
            f"RMSELoss(calibrated=True) or BernoulliLoss. Received: {type(model.latent).__name__} and "
            f"{type(model.reconstruction).__name__}."
        )
    if not isinstance(model.scaling, Scaling | UnitInterval | Counts | ColumnScaling | SequenceScaling | None):
        raise ValueError(
            "A likelihood needs Scaling, UnitInterval, Binarize, Counts, ColumnScaling, SequenceScaling or none. "
            f"Received: {type(model.scaling).__name__}."
        )


def _scaled(model: Any, x: np.ndarray, rng: np.random.Generator) -> tuple[Any, Any]:
    """Rows in network units, and the logarithm of what a raw unit of volume is there: of all rows, or of each."""
    import tensorflow as tf

    if isinstance(model.scaling, SequenceScaling | ColumnScaling):
        return model.scaling(x), model.scaling.log_volume(x)
    if isinstance(model.scaling, Binarize):
        grey = np.asarray(model.scaling.share(x))
        return tf.constant((rng.random(grey.shape, dtype="float32") < grey).astype("float32")), 0.0
    if isinstance(model.scaling, Counts):
        return model.scaling(x), 0.0
    if isinstance(model.scaling, UnitInterval):
        shares = model.scaling(x)
        if isinstance(model.reconstruction, DiscretizedLogisticLoss):
            return shares, 0.0
        return shares, -math.prod(model.raw_shape) * math.log(float(model.scaling.limit))
    rows = x.astype("float32")
    if x.dtype.kind in "iu":
        rows = rows + rng.random(x.shape, dtype="float32") - np.float32(0.5)
    if model.scaling is None:
        return tf.constant(rows), 0.0
    return model.scaling(rows), -float(np.log(np.asarray(model.scaling.scale, "float64")).sum())


def _log_x(model: Any, scaled: Any, z: Any, label: int | None) -> Any:
    """log p(x | z), or of a conditional decoder log p(x | z, y): (batch,)."""
    import tensorflow as tf

    z = tf.reshape(z, (-1, *model.latent_shape))
    given: Any = z
    if label is not None:
        one_hot = tf.one_hot([label], len(model.classes))
        given = [z, tf.repeat(one_hot, tf.shape(z)[0], axis=0)]
    return model.reconstruction.log_prob(scaled, model.decoder(given, training=False))


def _log_prior_of_training(model: Any, of_latent: Any) -> Callable[[Any], Any]:
    """A prior that was learned beside the latent layer, or what that layer says of its draw."""
    learned = [term.log_estimate for term in model.regularizers if hasattr(term, "log_estimate")]
    return learned[0] if learned else lambda z: of_latent
