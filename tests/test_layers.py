"""Loss layers against NumPy, SciPy and Monte Carlo; gradients where formulas are singular; serialization."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import rel_entr

from keras_ae.layers import (
    AnomalyScore,
    ConformalPValue,
    GaussianKLLoss,
    KLDivergenceLoss,
    LogarithmicPool,
    MaskingNoise,
    Proportions,
    RMSELoss,
    Sampling,
    Scaling,
    VectorQuantizer,
)
from keras_ae.layers.draws import uniform_of_seed
from keras_ae.layers.neighbours import LocalOutlierFactor, Neighbours

RNG = np.random.default_rng(0)
# float32 sums of a few hundred terms: relative error about sqrt(300) * 6e-8.
FLOAT32 = {"rtol": 2e-6, "atol": 1e-7}


def term(layer, *tensors):
    """The one loss that a call adds."""
    layer(*tensors)
    (loss,) = layer.losses
    return float(loss)


def gradient(layer, *tensors, of=-1):
    variables = [tf.Variable(t) for t in tensors]
    with tf.GradientTape() as tape:
        layer(*variables) if layer.reads != ("posterior",) else layer(tuple(variables))
        (loss,) = layer.losses
    return tape.gradient(loss, variables[of]).numpy()


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 5, 2)])
def test_rmse_is_the_root_of_the_mean_over_batch_and_features(shape):
    x, x_hat = RNG.normal(size=(2, *shape)).astype("float32")
    expected = np.sqrt(np.mean((x.astype("float64") - x_hat) ** 2))
    np.testing.assert_allclose(term(RMSELoss(weight=2.5), x, x_hat), 2.5 * expected, **FLOAT32)


def test_rmse_per_sample_is_the_mean_of_roots():
    x, x_hat = RNG.normal(size=(2, 6, 3, 4)).astype("float32")
    expected = np.sqrt(((x.astype("float64") - x_hat) ** 2).mean(axis=(1, 2))).mean()
    np.testing.assert_allclose(term(RMSELoss(reduction="sample"), x, x_hat), expected, **FLOAT32)


def test_calibrated_rmse_is_the_gaussian_log_likelihood_at_its_best_noise():
    x, x_hat = RNG.normal(size=(2, 8, 11)).astype("float32")

    def nll(sigma):
        return -stats.norm(x_hat, sigma).logpdf(x).sum(axis=1).mean()

    best = np.sqrt(np.mean((x - x_hat) ** 2))
    value = term(RMSELoss(calibrated=True), x, x_hat)
    np.testing.assert_allclose(value, nll(best), **FLOAT32)
    assert value < min(nll(best * 0.99), nll(best * 1.01))


def test_of_missing_values_neither_error_nor_likelihood_counts():
    x, x_hat = RNG.normal(size=(2, 8, 11)).astype("float32")
    x[::2, :7] = np.nan
    error = np.square(x - x_hat)
    of_rows = [np.sqrt(row[~np.isnan(row)].mean()) for row in error]
    rmse = np.sqrt(np.nanmean(error))
    np.testing.assert_allclose(term(RMSELoss(skip_missing=True), x, x_hat), rmse, **FLOAT32)
    by_row = RMSELoss(reduction="sample", skip_missing=True)
    np.testing.assert_allclose(term(by_row, x, x_hat), np.mean(of_rows), **FLOAT32)
    log_p = stats.norm(x_hat, rmse).logpdf(x)
    calibrated = RMSELoss(calibrated=True, skip_missing=True)
    np.testing.assert_allclose(term(calibrated, x, x_hat), -np.nansum(log_p) / 8, **FLOAT32)
    calibrated.set_noise(rmse**2)
    np.testing.assert_allclose(calibrated.log_prob(x, x_hat), np.nansum(log_p, axis=1), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"reduction": "sample"}, {"calibrated": True}])
@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-10, 1.0, 1e15])
def test_rmse_gradient_is_finite_also_where_x_is_x_hat(options, size):
    x = RNG.normal(size=(4, 3)).astype("float32")
    assert np.isfinite(gradient(RMSELoss(**options), x, x + np.float32(size))).all()


def test_rmse_of_a_perfect_reconstruction_is_zero():
    x = RNG.normal(size=(4, 3)).astype("float32")
    assert term(RMSELoss(), x, x) == 0.0


@pytest.mark.parametrize(("axis", "shape"), [(-1, (6, 9)), ((1, 2), (4, 3, 5)), (1, (4, 3, 5))])
def test_kl_divergence_is_equation_4(axis, shape):
    p, q = RNG.gamma(1.0, size=(2, *shape)).astype("float32")
    p[0].flat[0] = 0.0
    normal = [w.astype("float64") / w.sum(axis=axis, keepdims=True, dtype="float64") for w in (p, q)]
    expected = rel_entr(*normal).sum(axis=axis).mean()
    np.testing.assert_allclose(term(KLDivergenceLoss(weight=0.5, axis=axis), p, q), 0.5 * expected, rtol=1e-5)


def test_kl_divergence_of_a_distribution_from_itself_is_zero_whatever_its_total():
    p = RNG.gamma(1.0, size=(5, 20)).astype("float32")
    assert abs(term(KLDivergenceLoss(), p, 7 * p)) < 1e-6


weights = st.lists(st.floats(0, 1e6, width=32), min_size=4, max_size=4)


@given(p=weights, q=weights)
@settings(max_examples=60, deadline=None)
def test_kl_divergence_and_its_gradient_are_finite_and_not_negative(p, q):
    p, q = (np.array([w], "float32") for w in (p, q))
    assert term(KLDivergenceLoss(), p, q) >= -1e-5  # rounding of four float32 terms
    assert np.isfinite(gradient(KLDivergenceLoss(), p, q)).all()


def test_gaussian_kl_agrees_with_monte_carlo():
    mean, log_var = RNG.normal(size=(2, 1, 3)).astype("float32")
    draws = 200_000
    q = stats.norm(mean, np.exp(log_var / 2))
    z = q.rvs(size=(draws, 3), random_state=0)
    ratio = (q.logpdf(z) - stats.norm.logpdf(z)).sum(axis=1)
    error = 5 * ratio.std() / math.sqrt(draws)
    assert abs(term(GaussianKLLoss(), (mean, log_var)) - ratio.mean()) < error


def test_gaussian_kl_sums_over_latents_and_averages_over_the_batch():
    mean, log_var = RNG.normal(size=(2, 6, 4)).astype("float32")
    expected = 0.5 * (np.exp(log_var.astype("float64")) + mean**2 - 1 - log_var).sum(axis=1).mean()
    np.testing.assert_allclose(term(GaussianKLLoss(weight=3.0), (mean, log_var)), 3 * expected, **FLOAT32)


def test_free_bits_is_the_least_that_each_latent_costs():
    mean = np.array([[0.0, 3.0]], "float32")
    kl = np.array([0.0, 4.5])
    assert term(GaussianKLLoss(free_bits=0.25), (mean, 0 * mean)) == pytest.approx(np.maximum(kl, 0.25).sum())


@pytest.mark.parametrize("log_var", [-1e30, -100.0, 0.0, 100.0, 1e30])
def test_extreme_log_variances_stay_finite_and_can_come_back(log_var):
    mean, log_var = np.zeros((2, 3), "float32"), np.full((2, 3), log_var, "float32")
    assert math.isfinite(term(GaussianKLLoss(), (mean, log_var)))
    slope = gradient(GaussianKLLoss(), mean, log_var)
    assert np.isfinite(slope).all()
    assert (np.sign(slope) == np.sign(log_var)).all()
    assert np.isfinite(Sampling(seed=0)((mean, log_var), training=True)).all()


def test_sampling_draws_from_the_posterior_in_training_and_gives_the_mean_at_inference():
    mean, log_var = np.full((50_000, 1), 3.0, "float32"), np.full((50_000, 1), math.log(4.0), "float32")
    layer = Sampling(seed=1)
    z = layer((mean, log_var), training=True).numpy().ravel()
    assert stats.kstest(z, stats.norm(3, 2).cdf).pvalue > 1e-3
    assert not np.array_equal(z, layer((mean, log_var), training=True).numpy().ravel())
    np.testing.assert_array_equal(layer((mean, log_var)), mean)
    np.testing.assert_array_equal(z, Sampling(seed=1)((mean, log_var), training=True).numpy().ravel())


def test_sampling_refuses_a_single_tensor():
    with pytest.raises(ValueError, match=r"pair \(mean, log_var\)"):
        Sampling()(np.zeros((2, 3), "float32"))


@pytest.mark.parametrize(
    "layer", [RMSELoss(), RMSELoss(calibrated=True), KLDivergenceLoss(), RMSELoss(reduction="sample")]
)
def test_losses_refuse_shapes_that_differ_and_name_both(layer):
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 1\)"):
        layer(np.zeros((2, 3), "float32"), np.zeros((2, 1), "float32"))


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float16", "float64"])
def test_terms_are_float32_inside_any_policy_and_hand_on_what_came(policy):
    x, x_hat = (RNG.uniform(1, 2, size=(64, 10)).astype("float16") for _ in range(2))
    expected = np.sqrt(np.mean((x.astype("float64") - x_hat) ** 2))
    layer = RMSELoss(dtype=policy)
    out = layer(x, x_hat)
    assert out.dtype == tf.float16
    np.testing.assert_array_equal(out, x_hat)
    assert layer.losses[0].dtype == tf.float32
    np.testing.assert_allclose(float(layer.losses[0]), expected, rtol=1e-6)


def test_masking_noise_masks_at_its_rate_and_only_in_training():
    x = np.ones((200, 500), "float32")
    layer = MaskingNoise(0.3, seed=0)
    masked = layer(x, training=True).numpy()
    assert set(np.unique(masked)) == {0.0, 1.0}
    assert abs((masked == 0).mean() - 0.3) < 5 * math.sqrt(0.3 * 0.7 / x.size)
    np.testing.assert_array_equal(layer(x), x)
    np.testing.assert_array_equal(MaskingNoise(0)(x, training=True), x)


def test_scaling_and_its_inverse():
    x = RNG.normal(5, 3, size=(10, 4)).astype("float32")
    layer = Scaling()
    np.testing.assert_array_equal(layer(x), x)
    layer.set_statistics(np.arange(4, dtype="float32"), np.array([1, 2, 4, 8], "float32"))
    np.testing.assert_allclose(layer(x), (x - np.arange(4)) / [1, 2, 4, 8], rtol=1e-6)
    np.testing.assert_allclose(layer(layer(x), inverse=True), x, rtol=1e-6)
    assert layer.trainable_weights == []
    with pytest.raises(ValueError, match="positive"):
        layer.set_statistics(np.zeros(4, "float32"), np.zeros(4, "float32"))


@pytest.mark.parametrize(
    ("layer", "called_on"),
    [
        (RMSELoss(), [(2, 3), (2, 3)]),
        (KLDivergenceLoss(), [(2, 3), (2, 3)]),
        (Proportions(), [(2, 3)]),
        (ConformalPValue(), [(2,)]),
        (LogarithmicPool(1), [[(2, 3)]]),
        (Neighbours(4, 3, (1, 2)), [(2, 3)]),
        (LocalOutlierFactor(4, 3), [(2, 3)]),
        (AnomalyScore(3, 2, 4), [[(2, 3), (2, 3), (2, 2), (2,)]]),
        (VectorQuantizer(4), [(2, 4)]),
    ],
    ids=lambda of: type(of).__name__,
)
def test_what_is_fitted_is_not_trained(layer, called_on):
    layer(*keras.tree.map_shape_structure(lambda shape: np.ones(shape, "float32"), called_on))
    assert layer.trainable_weights == []
    assert layer.non_trainable_weights


def test_proportions_and_their_totals():
    x = np.array([[1, 3], [0, 0], [5, 5]], "float32")
    layer = Proportions()
    p = layer(x).numpy()
    np.testing.assert_allclose(p, [[0.25, 0.75], [0, 0], [0.5, 0.5]])
    np.testing.assert_allclose(layer(p, inverse=True, like=x), x)
    np.testing.assert_allclose(layer(p, inverse=True), p)
    layer.set_totals(p[2:], x[2:])  # one row tells a level and no slope
    np.testing.assert_allclose(layer(p, inverse=True), 10 * p, rtol=1e-6)


def test_totals_follow_from_entropies_as_in_a_regression():
    p = RNG.dirichlet(np.ones(6), size=300)
    x = RNG.dirichlet(np.ones(6), size=300) * RNG.uniform(1, 30, size=(300, 1))
    x[0] = 0  # without a total there is no logarithm
    fitted = stats.linregress(stats.entropy(p[1:], axis=1), np.log(x[1:].sum(axis=1)))
    layer = Proportions()
    layer.set_totals(p, x)
    totals = layer(p, inverse=True).numpy().sum(axis=1)
    # float32 sums of six numbers of about 1.
    np.testing.assert_allclose(totals, np.exp(fitted.intercept + fitted.slope * stats.entropy(p, axis=1)), rtol=1e-5)


def test_conformal_p_values_are_exact_and_uniform_for_exchangeable_scores():
    layer = ConformalPValue()
    layer.build((None,))
    layer.fit(np.array([3.0, 1.0, 2.0], "float32"))
    np.testing.assert_allclose(layer(np.array([0.0, 2.0, 2.5, 9.0], "float32")), [1.0, 0.75, 0.5, 0.25])
    layer.fit(RNG.normal(size=999))
    p = layer(RNG.normal(size=20_000).astype("float32")).numpy()
    for alpha in (0.01, 0.1, 0.5):
        # Two errors: of the fresh rows, and of the calibration rows that they share.
        error = 4 * math.sqrt(alpha * (1 - alpha) * (1 / 20_000 + 1 / 999))
        assert abs((p <= alpha).mean() - alpha) < error
    with pytest.raises(ValueError, match="finite"):
        layer.fit(np.array([np.nan]))


@pytest.mark.parametrize(
    "layer",
    [
        RMSELoss(weight=2.0, reduction="sample", name="a"),
        RMSELoss(calibrated=True),
        KLDivergenceLoss(weight=0.5, axis=(1, 2)),
        GaussianKLLoss(weight=0.1, free_bits=0.2, name="b"),
        Sampling(seed=3),
        MaskingNoise(0.4, seed=5),
        Scaling(),
        Proportions(),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_round_trip_with_options(layer):
    config = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RMSELoss(reduction="sum"), "sum"),
        (lambda: RMSELoss(calibrated=True, reduction="sample"), "calibrated"),
        (lambda: GaussianKLLoss(free_bits=-1), "free_bits"),
        (lambda: MaskingNoise(1.0), "rate"),
    ],
)
def test_nonsense_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_uniform_noise_is_never_0_nor_1():
    """Of so many draws some are of the lowest and of the highest step, whose normals must be finite."""
    found = np.asarray(uniform_of_seed((2**25,), (0, 1)))
    assert found.min() == 2.0**-24
    assert found.max() == 1 - 2.0**-24
