"""Likelihoods against SciPy: the density, its mean, and missing values; and that each trains in a VAE."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import integrate, stats
from scipy.special import expit, log_softmax, logsumexp, softplus

import keras_ae
from keras_ae.families import LIKELIHOODS
from keras_ae.layers import (
    BernoulliLoss,
    ContinuousBernoulliLoss,
    DiscretizedLogisticLoss,
    FeatureGaussianLoss,
    GaussianLoss,
    NegativeBinomialLoss,
    StudentTLoss,
)

RNG = np.random.default_rng(0)
# float32 sums of 15 terms, each a difference of numbers of about 10.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def scale_of(raw):
    return softplus(raw.astype("float64") + math.log(math.expm1(0.99))) + 0.01


def check(layer, x, params, expected):
    """expected: log p of each feature."""
    np.testing.assert_allclose(layer.log_prob(x, params), expected.sum(axis=1), **FLOAT32)
    layer(x, params)
    np.testing.assert_allclose(float(layer.losses[0]), -expected.sum(axis=1).mean(), **FLOAT32)
    holes = x.copy()
    holes[::2, 1:3] = np.nan
    np.testing.assert_allclose(
        layer.log_prob(holes, params), np.where(np.isnan(holes), 0, expected).sum(axis=1), **FLOAT32
    )


def test_gaussians():
    x, params = draw(6, 5), draw(6, 5, 2)
    layer = GaussianLoss()
    layer.build(x.shape, params.shape)
    layer.log_var.assign(0.7)
    check(layer, x, params[..., 0], stats.norm(params[..., 0], math.exp(0.35)).logpdf(x))
    check(FeatureGaussianLoss(), x, params, stats.norm(params[..., 0], scale_of(params[..., 1])).logpdf(x))


def test_student_t():
    x, params = 10 * draw(6, 5), draw(6, 5, 2)
    check(StudentTLoss(df=3.0), x, params, stats.t(3.0, params[..., 0], scale_of(params[..., 1])).logpdf(x))


def test_continuous_bernoulli():
    x = RNG.uniform(size=(6, 5)).astype("float32")
    logits = np.array([-30.0, -1.0, 0.0, 0.05, 4.0], "float32")[None] * np.ones((6, 1), "float32")
    constants, means = [], []
    for logit in logits[0].astype("float64"):
        constant = 1 / integrate.quad(lambda t, s=logit: expit(s) ** t * expit(-s) ** (1 - t), 0, 1)[0]
        constants.append(constant)
        density = lambda t, s=logit, c=constant: t * c * expit(s) ** t * expit(-s) ** (1 - t)  # noqa: E731
        means.append(integrate.quad(density, 0, 1)[0])
    log_p = x * np.log(expit(logits)) + (1 - x) * np.log(expit(-logits)) + np.log(constants)
    check(ContinuousBernoulliLoss(), x, logits, log_p)
    np.testing.assert_allclose(ContinuousBernoulliLoss().mean(logits)[0], means, rtol=1e-4)


def test_discretized_logistic_is_a_distribution_over_grey_values():
    layer, params = DiscretizedLogisticLoss(levels=5, components=2), draw(1, 3, 6)
    p = params[0].astype("float64")
    mean, scale = p[:, 2:4] + [0.25, 0.75], softplus(p[:, 4:] + math.log(math.expm1(0.1))) + 0.02
    edges = np.array([-np.inf, 0.125, 0.375, 0.625, 0.875, np.inf])
    cumulative = stats.logistic(mean[..., None], scale[..., None]).cdf(edges)
    share = np.exp(log_softmax(p[:, :2], axis=-1))
    mass = (share[..., None] * np.diff(cumulative, axis=-1)).sum(axis=1)  # (features, levels)
    np.testing.assert_allclose(mass.sum(axis=-1), 1.0)
    expected = (share * mean).sum(axis=-1).clip(0, 1)
    np.testing.assert_allclose(layer.mean(params)[0], expected, rtol=1e-5)
    for level in range(5):
        x = np.full((1, 3), level / 4, "float32")
        np.testing.assert_allclose(layer.log_prob(x, params)[0], np.log(mass[:, level]).sum(), rtol=1e-4)
    assert logsumexp(np.log(mass), axis=-1) == pytest.approx(0, abs=1e-9)


def test_negative_binomials():
    x, params = RNG.poisson(3.0, (6, 5)).astype("float32"), draw(6, 5, 3)
    x[0] = 0
    m, r = np.exp(params[..., 0].astype("float64")), np.exp(params[..., 1].astype("float64"))
    count = stats.nbinom(r, r / (r + m))
    check(NegativeBinomialLoss(), x, params[..., :2], count.logpmf(x))
    zero = expit(params[..., 2] - 2.0)
    expected = np.log(zero * (x == 0) + (1 - zero) * count.pmf(x))
    check(NegativeBinomialLoss(zero_inflated=True), x, params, expected)
    np.testing.assert_allclose(NegativeBinomialLoss(zero_inflated=True).mean(params), (1 - zero) * m, rtol=1e-5)


def test_negative_binomials_of_large_counts_and_those_that_are_nearly_poisson():
    log_m, log_r = (part.ravel().astype("float32") for part in np.meshgrid([1.0, 8.0, 14.0], [0.0, 8.0, 20.0]))
    m, r = np.exp(log_m.astype("float64")), np.exp(log_r.astype("float64"))
    layer, params = NegativeBinomialLoss(), tf.Variable(np.stack([log_m, log_r], axis=-1)[None])
    assert layer.parameters == params.shape[-1]
    for x in (np.zeros_like(m), np.round(m), np.round(1.01 * m)):
        with tf.GradientTape() as tape:
            log_p = layer.log_prob_of_features(tf.constant(x[None], "float32"), params)
        np.testing.assert_allclose(log_p[0], stats.nbinom(r, r / (r + m)).logpmf(x), **FLOAT32)
        slopes = tape.gradient(log_p, params)[0, -3:-1]  # those of a Poisson distribution, which has no r
        np.testing.assert_allclose(slopes, np.stack([x - m, 0 * m], axis=-1)[-3:-1], rtol=1e-4, atol=0.02)


LAYERS = [
    BernoulliLoss(),
    GaussianLoss(),
    FeatureGaussianLoss(),
    StudentTLoss(df=3.0),
    ContinuousBernoulliLoss(0.5),
    DiscretizedLogisticLoss(levels=2, components=1),
    NegativeBinomialLoss(zero_inflated=True),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
@pytest.mark.parametrize("size", [0.0, 1.0, 1e3])
def test_gradients_are_finite_and_options_are_kept(layer, size):
    shape = (4, 3) if layer.parameters == 1 else (4, 3, layer.parameters)
    params = tf.Variable(draw(*shape) * np.float32(size))
    x = np.array([[0.0, 1.0, np.nan]] * 4, "float32")
    if not layer.built:
        layer.build(x.shape, shape)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(layer.log_prob(x, params))
    assert np.isfinite(tape.gradient(loss, params).numpy()).all()
    config = keras.saving.serialize_keras_object(layer)
    assert keras.saving.deserialize_keras_object(config).get_config() == layer.get_config()


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_a_vae_of_every_likelihood_learns_and_has_a_bound(likelihood):
    keras.utils.set_random_seed(0)
    x = RNG.poisson(np.exp(1.5 * RNG.normal(size=(256, 1)) * RNG.normal(size=8)).clip(0, 30)).astype("float32")
    model = keras_ae.build("vae", 8, 2, hidden=[16], likelihood=likelihood)
    keras_ae.training.start(model, x, keras_ae.data.fit_scaling(x))
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    losses = model.fit(x, epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert model.reconstruct(x).shape == x.shape
    one, five = (model.log_likelihood(x[:50], k=k) for k in (1, 20))
    assert np.isfinite(one.rows).all()
    assert five.mean > one.mean - 0.5


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match=r"likelihood.*poisson"):
        keras_ae.build("vae", 8, 2, likelihood="poisson")
    with pytest.raises(ValueError, match=r"df.*1.0"):
        keras_ae.build("student_t", 8, 2, df=1.0)
