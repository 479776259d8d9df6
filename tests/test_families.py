"""Regularizers against NumPy and SciPy, gradients at extreme inputs, and what a recipe refuses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import expit, logsumexp, rel_entr

import keras_ae
from keras_ae.layers import (
    ActivityLoss,
    DIPLoss,
    FiniteScalarQuantizer,
    KLSparsityLoss,
    MMDLoss,
    SaltAndPepperNoise,
    SlicedWassersteinLoss,
    TotalCorrelationLoss,
)
from keras_ae.layers.regularizers import sliced_wasserstein, squared_mmd

RNG = np.random.default_rng(0)
# float32 sums and differences of some thousand terms of about 1.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def term(layer, *tensors):
    """The one loss that a call adds."""
    layer(*tensors)
    (loss,) = layer.losses
    return float(loss)


@pytest.mark.parametrize(("norm", "size"), [("l1", np.abs), ("l2", lambda z: z**2 / 2)])
def test_activity_is_summed_over_latents(norm, size):
    z = draw(7, 3, 2)
    np.testing.assert_allclose(term(ActivityLoss(0.5, norm), z), 0.5 * size(z).sum(axis=(1, 2)).mean(), **FLOAT32)


def test_kl_sparsity_is_the_divergence_of_two_coins():
    z, rate = draw(9, 4), 0.1
    active = expit(z).mean(axis=0)
    expected = (rel_entr(rate, active) + rel_entr(1 - rate, 1 - active)).sum()
    np.testing.assert_allclose(term(KLSparsityLoss(rate=rate), z), expected, **FLOAT32)


def test_mmd_is_the_unbiased_estimate_written_out_pair_by_pair():
    a, b = draw(6, 3), draw(6, 3) + 1

    def kernel(u, v):
        return sum(6 * s / (6 * s + ((u - v) ** 2).sum()) for s in (0.1, 0.2, 0.5, 1, 2, 5, 10))

    pairs = [(i, j) for i in range(6) for j in range(6)]
    within = sum(kernel(s[i], s[j]) for s in (a, b) for i, j in pairs if i != j) / 30
    expected = within - 2 * sum(kernel(a[i], b[j]) for i, j in pairs) / 36
    np.testing.assert_allclose(float(squared_mmd(a, b)), expected, **FLOAT32)


def test_sliced_wasserstein_along_an_axis_is_the_distance_of_quantiles():
    a, b = draw(50, 2), 3 * draw(50, 2)
    directions = np.array([[2.0, 0.0, 3.0], [0.0, 0.5, 0.0]], "float32")  # of any length
    expected = np.mean([(np.sort(a[:, d]) - np.sort(b[:, d])) ** 2 for d in (0, 1, 0)])
    np.testing.assert_allclose(float(sliced_wasserstein(a, b, directions)), expected, **FLOAT32)


@pytest.mark.parametrize("layer", [MMDLoss, SlicedWassersteinLoss])
def test_distances_from_the_normal_are_small_for_it_alone(layer):
    z = draw(500, 4)
    # By the central limit theorem both are off by about 1 / 500 for the normal; a shift by 2 gives about 0.5 or more.
    assert abs(term(layer(seed=0), z)) < 0.05 < 0.3 < term(layer(seed=0), z + 2)


def test_total_correlation_is_of_the_mixture_of_the_posteriors():
    mean, log_var, z = draw(8, 3), draw(8, 3), draw(8, 3)
    density = stats.norm(mean[None], np.exp(log_var / 2)[None]).logpdf(z[:, None])
    joint = logsumexp(density.sum(-1), axis=1, b=1 / 8)
    marginals = logsumexp(density, axis=1, b=1 / 8).sum(-1)
    got = TotalCorrelationLoss()
    got((mean, log_var), z)
    np.testing.assert_allclose(float(got.losses[0]), (joint - marginals).mean(), **FLOAT32)


@pytest.mark.parametrize("kind", [1, 2])
def test_dip_is_the_distance_of_the_covariance_from_the_identity(kind):
    mean, log_var = draw(20, 3), draw(20, 3)
    off = np.cov(mean.T, bias=True) + (np.diag(np.exp(log_var).mean(axis=0)) if kind == 2 else 0) - np.eye(3)
    expected = (off**2).sum() + (4 - 1) * (np.diag(off) ** 2).sum()
    np.testing.assert_allclose(term(DIPLoss(diagonal=4.0, kind=kind), (mean, log_var)), expected, rtol=2e-5)


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e6])
@pytest.mark.parametrize("layer", [ActivityLoss, KLSparsityLoss, MMDLoss, SlicedWassersteinLoss])
def test_gradients_of_z_are_finite(layer, scale):
    z, layer = tf.Variable(draw(6, 3) * np.float32(scale)), layer()
    with tf.GradientTape() as tape:
        layer(z)
        (loss,) = layer.losses
    assert np.isfinite(tape.gradient(loss, z).numpy()).all()


@pytest.mark.parametrize("log_var", [-1e3, 0.0, 1e3])
@pytest.mark.parametrize("layer", [TotalCorrelationLoss, DIPLoss])
def test_gradients_of_posteriors_are_finite(layer, log_var):
    posterior = [tf.Variable(draw(6, 3) * 100), tf.Variable(np.full((6, 3), log_var, "float32"))]
    layer, z = layer(), draw(6, 3)
    with tf.GradientTape() as tape:
        layer(*(tuple(posterior), z)[: len(layer.reads)])
        (loss,) = layer.losses
    gradients = tape.gradient(loss, posterior, unconnected_gradients="zero")  # DIP-VAE-I has none of log_var
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


def test_salt_and_pepper_damages_its_share_in_training_alone():
    x = RNG.uniform(1, 2, (400, 50)).astype("float32")
    layer = SaltAndPepperNoise(0.3, seed=0)
    damaged = layer(x, training=True).numpy()
    # Four standard errors of a share of 20,000 features.
    for level in (x.min(), x.max()):
        assert abs((damaged == level).mean() - 0.15) < 0.011
    assert abs((damaged == x).mean() - 0.7) < 0.014
    np.testing.assert_array_equal(layer(x), x)


@pytest.mark.parametrize("levels", [2, 5, 8])
def test_finite_scalars_take_every_level_and_no_other(levels):
    layer = FiniteScalarQuantizer(levels)
    x = np.linspace(-9, 9, 4001, dtype="float32")[:, None]
    codes = (np.arange(levels) - levels // 2) / (levels // 2)
    np.testing.assert_allclose(np.unique(layer(x)), codes, atol=1e-6)
    nearest = codes[np.abs(x - codes).argmin(axis=1)][:, None]
    tie = np.isclose(np.abs(x - nearest) * 2 * (levels // 2), 1.0)
    np.testing.assert_allclose(np.where(tie, nearest, layer.nearest_code(x)), nearest, atol=1e-6)
    variable = tf.Variable(x[1500:2500])
    with tf.GradientTape() as tape:
        z = layer(variable)
    assert (tape.gradient(z, variable).numpy() > 0).all()


def test_what_a_quantized_model_generates_is_decoded_from_codes():
    keras.utils.set_random_seed(0)
    model = keras_ae.build("fsq", 16, 2, levels=2, hidden=[8])
    # Four codes of two latents with two levels each: no more than four different rows.
    assert len(np.unique(model.generate(200, seed=0).round(5), axis=0)) == 4


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("sparse", {"penalty": "l0"}, "penalty.*l0"),
        ("sparse", {"penalty": "kl", "rate": 1.0}, "rate.*1.0"),
        ("swae", {"projections": 0}, "projections.*0"),
        ("fsq", {"levels": 1}, "levels.*1"),
        ("dip_vae", {"kind": 3}, "kind.*3"),
        ("info_vae", {"alpha": 2.0}, "alpha.*2.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(recipe, options, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.build(recipe, 8, 2, **options)


def test_a_regularizer_keeps_its_options_when_saved():
    for layer in (
        ActivityLoss(0.3, "l1"),
        KLSparsityLoss(0.3, 0.2),
        MMDLoss(0.3, seed=1),
        SlicedWassersteinLoss(0.3, 7, seed=1),
        TotalCorrelationLoss(0.3),
        DIPLoss(0.3, 2.0, 2),
        FiniteScalarQuantizer(5),
        SaltAndPepperNoise(0.3, seed=1),
    ):
        config = keras.saving.serialize_keras_object(layer)
        assert keras.saving.deserialize_keras_object(config).get_config() == layer.get_config()


def test_what_kl_ae_generates_sums_to_what_rows_do():
    """Two shapes, of which the flatter one has ten times the total; without `like` a distribution once summed to 1."""
    keras.utils.set_random_seed(0)
    flat, peaked = np.ones(8) / 8, np.array([0.79, *[0.03] * 7])
    totals = np.where(np.arange(400) % 2, 2000.0, 200.0)
    shapes = np.where(np.arange(400)[:, None] % 2, flat, peaked)
    x = (shapes * totals[:, None] * RNG.uniform(0.9, 1.1, size=(400, 8))).astype("float32")
    model = keras_ae.build("kl_ae", 8, 1, hidden=[16])
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    model.fit(x, epochs=15, batch_size=50, verbose=0)
    np.testing.assert_allclose(model.decode(model.encode(x)).sum(axis=1), 1.0, rtol=1e-5)
    model.fit_draws(x)
    found = model.decode(model.encode(x)).sum(axis=1)
    # Totals vary by 3 % about either level; the model's entropies are not the rows'.
    np.testing.assert_allclose(found, totals, rtol=0.25)
    np.testing.assert_allclose(model.reconstruct(x).sum(axis=1), x.sum(axis=1), rtol=1e-5)
