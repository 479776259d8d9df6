"""The ladder against SciPy, quadrature and Monte Carlo, and hvae as it is trained, saved and exported with it."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import logsumexp

import keras_ae
from keras_ae import storage
from keras_ae.layers import LadderKLLoss, LadderSampling, Sampling
from keras_ae.layers.ladder import merged

RNG = np.random.default_rng(0)
# float32 sums of some tens of terms of about 1.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def excited(n=2, top_dims=(3, 2), hidden=5, scale=0.4):
    """A ladder whose weights, which start at zero, are none."""
    layer = LadderSampling(top_dims, hidden, seed=0)
    layer.build(((None, n), (None, n)))
    for weight in layer.trainable_variables:
        weight.assign(RNG.normal(size=weight.shape) * scale)
    return layer


def perceptron(of, h):
    """Written out: a hidden layer of tanh; a mean and a deviation of what comes out."""
    (w0, b0), (w1, b1) = [(np.asarray(kernel, "float64"), np.asarray(bias)) for kernel, bias in of.pairs]
    mean, log_var = np.split(np.tanh(h @ w0 + b0) @ w1 + b1, 2, axis=-1)
    return mean, np.exp(log_var / 2)


def product(m, s, prior_m, prior_s):
    """Of the posterior N(m, s^2) under N(0, 1), divided by that, and of another prior."""
    precision = np.where(s < 1, s**-2.0 - 1 + prior_s**-2.0, prior_s**-2.0 * s ** (-2 * np.minimum(prior_s**2, 1)))
    return (m * s**-2.0 + prior_m * prior_s**-2.0) / precision, precision**-0.5


def walked(layer, mean, log_var, noise):
    """Each layer from the top down: posterior, prior (mean and deviation each) and value, by products of densities."""
    said = [(mean, np.exp(log_var / 2))]
    for up in layer.up:
        m, s = said[-1]
        said.append(perceptron(up, np.concatenate([m, 2 * np.log(s)], axis=-1)))
    m, s = said[-1]
    ends = np.cumsum([0, *layer.sizes])
    rungs = [((m, s), (np.zeros_like(m), np.ones_like(s)), m + s * noise[:, ends[-2] : ends[-1]])]
    for i in (1, 0):
        prior = perceptron(layer.down[i], rungs[-1][2])
        m, s = product(*said[i], *prior)
        rungs.append(((m, s), prior, m + s * noise[:, ends[i] : ends[i + 1]]))
    return rungs


def test_a_posterior_under_another_prior_is_that_of_the_densities():
    grid = np.linspace(-30, 30, 20_001)
    for m, log_v, prior_m, prior_log_v in draw(5, 4) * 1.5:
        log_v = -abs(log_v)  # not wider than N(0, 1)
        density = stats.norm(m, np.exp(log_v / 2)).logpdf(grid) - stats.norm.logpdf(grid)
        density = np.exp(density + stats.norm(prior_m, np.exp(prior_log_v / 2)).logpdf(grid))
        density /= density.sum()
        mean = (density * grid).sum()
        found = [float(part) for part in merged(*np.float32([m, log_v, prior_m, prior_log_v]))]
        assert found == pytest.approx([mean, np.log((density * (grid - mean) ** 2).sum())], rel=1e-4, abs=1e-4)


def test_under_a_standard_normal_a_posterior_stays_what_it_is_and_wide_ones_have_no_step():
    m, log_v = draw(50) * 3, np.linspace(-8, 8, 50, dtype="float32")
    mean, spread = merged(m, log_v, np.zeros_like(m), np.zeros_like(m))
    np.testing.assert_allclose(mean, m, **FLOAT32)
    np.testing.assert_allclose(spread, log_v, **FLOAT32)
    near = np.float32([-1e-3, 0.0, 1e-3])
    for prior_log_v in (-2.0, 0.0):
        _, spread = merged(near, near, 0.5 * np.ones(3, "float32"), np.full(3, prior_log_v, "float32"))
        first, second = np.diff(np.asarray(spread, "float64"))
        assert first == pytest.approx(second, rel=1e-2)
        assert first > 0


def test_draws_and_their_densities_are_those_of_scipy():
    layer, mean, log_var, noise = excited(), draw(6, 2), draw(6, 2), draw(6, 7)
    z, log_q, log_p = layer.draw(mean, log_var, noise)
    *above, bottom = walked(layer, mean, log_var, noise)
    np.testing.assert_allclose(z, bottom[2], **FLOAT32)
    np.testing.assert_allclose(log_q, stats.norm(*bottom[0]).logpdf(bottom[2]).sum(-1), **FLOAT32)
    expected = stats.norm(*bottom[1]).logpdf(bottom[2]).sum(-1)
    for posterior, prior, value in above:
        expected += (stats.norm(*prior).logpdf(value) - stats.norm(*posterior).logpdf(value)).sum(-1)
    np.testing.assert_allclose(log_p, expected, **FLOAT32)
    at_mean = walked(layer, mean, log_var, np.zeros((6, 7)))[-1][0]
    np.testing.assert_allclose(layer((mean, log_var)), at_mean[0], **FLOAT32)
    np.testing.assert_allclose(layer.moments(mean, log_var)[1], 2 * np.log(at_mean[1]), **FLOAT32)


def test_the_term_is_the_kl_of_the_joint_by_monte_carlo():
    layer, loss = excited(), LadderKLLoss(0.5, warm_up=0, seed=1)
    loss.bind(None, None, layer)
    draws = 40_000
    mean, log_var = (np.repeat(part, draws, axis=0) for part in (draw(1, 2), draw(1, 2)))
    _, log_q, log_p = (np.asarray(part, "float64") for part in layer.draw(mean, log_var, draw(draws, 7)))
    loss((mean, log_var), mean, training=True)
    of_rows = np.asarray(sum(rung.kl() for rung in layer.rungs(mean, log_var, draw(draws, 7))), "float64")
    error = math.hypot((log_q - log_p).std(), of_rows.std()) / math.sqrt(draws)
    found = float(loss.tracker.result())
    assert found == pytest.approx((log_q - log_p).mean(), abs=5 * error)
    assert float(loss.losses[0]) == pytest.approx(0.5 * found, rel=1e-6)
    assert of_rows.std() < (log_q - log_p).std()
    # At evaluation, where what is above is at its mean, from the moments by the textbook.
    loss.tracker.reset_state()
    loss((mean[:1], log_var[:1]), mean[:1])
    expected = 0.0
    for (m, s), (prior_m, prior_s), _ in walked(layer, mean[:1], log_var[:1], np.zeros((1, 7))):
        expected += (np.log(prior_s / s) + (s**2 + (m - prior_m) ** 2) / (2 * prior_s**2) - 0.5).sum()
    assert float(loss.tracker.result()) == pytest.approx(expected, rel=1e-4)


def test_the_weights_of_draws_estimate_p_z():
    # q is a proposal for p(z) itself here: E[p(z, u) / q(z, u)] = 1, and near a point it is p(z) by quadrature.
    layer = excited(n=1, top_dims=1, scale=0.3)
    mean, log_var = np.zeros((200_000, 1), "float32"), np.full((200_000, 1), 1.5, "float32")
    z, log_q, log_p = (np.asarray(part, "float64") for part in layer.draw(mean, log_var, draw(200_000, 2)))
    weight = np.exp(log_p - log_q)
    assert weight.mean() == pytest.approx(1.0, abs=5 * weight.std() / math.sqrt(len(z)))
    u = np.linspace(-8, 8, 2001)[:, None]
    m, s = perceptron(layer.down[0], u)
    log_u = stats.norm.logpdf(u[:, 0]) + math.log(u[1, 0] - u[0, 0])
    exact = np.exp(logsumexp(stats.norm(m, s).logcdf(0.7)[:, 0] + log_u))
    below = weight * (z[:, 0] < 0.7)
    assert below.mean() == pytest.approx(exact, abs=5 * below.std() / math.sqrt(len(z)))


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e4])
@pytest.mark.parametrize("log_var", [-1e30, -30.0, 0.0, 30.0, 1e30])
def test_gradients_are_finite_over_extreme_inputs(size, log_var):
    layer, loss = excited(scale=1.0), LadderKLLoss(warm_up=0, seed=0)
    loss.bind(None, None, layer)
    given = [tf.Variable(draw(4, 2) * np.float32(size)), tf.Variable(np.full((4, 2), log_var, "float32"))]
    with tf.GradientTape() as tape:
        loss(given, given[0], training=True)
        total = loss.losses[0] + tf.reduce_sum(layer(given, training=True))
    for gradient in (total, *tape.gradient(total, [*given, *layer.trainable_variables])):
        assert np.isfinite(gradient).all()


def test_what_is_no_ladder_is_refused():
    with pytest.raises(ValueError, match=r"LadderSampling. Received: Sampling"):
        LadderKLLoss().bind(None, None, Sampling())
    with pytest.raises(ValueError, match=r"two tensors \(batch, n\)"):
        LadderSampling()(draw(3, 2))
    for nonsense in ({"top_dims": []}, {"top_dims": [3, 0]}, {"hidden": 0}):
        with pytest.raises(ValueError, match=r"`top_dims` and `hidden` must be at least 1"):
            LadderSampling(**nonsense)


def test_three_layers_leave_with_parity(tmp_path):
    keras.utils.set_random_seed(0)
    x = draw(300, 6)
    model = keras_ae.build("hvae", 6, 3, hidden=[8], inference="ladder", top_dims=[3, 2], linear=False)
    for weight in model.trainable_variables:  # far from zero, where errors would hide
        weight.assign_add(RNG.normal(size=weight.shape) * 0.3)
    mean, variance = model.posterior(x)
    np.testing.assert_allclose(mean, model.encode(x), **FLOAT32)
    assert (variance > 0).all()
    # A draw of each row has the layers above drawn too, and so lies about as far off as that says, or farther.
    error = (model.draw_latents(x, seed=1) - mean) ** 2 / variance
    assert error.mean() > 0.8
    model.fit_prior(x)
    model.calibrate(x)
    manifest = storage.save(model, tmp_path / "a", x)
    for figures in manifest["exports"].values():
        assert 0 <= figures["max_rel_diff"] <= 1e-5
    runtime = keras_ae.runtime.load(tmp_path / "a")
    np.testing.assert_allclose(runtime.encode(x), model.encode(x), rtol=1e-4, atol=1e-4)
    again = storage.load(tmp_path / "a")
    assert again.latent.get_config() == model.latent.get_config()
    np.testing.assert_allclose(again.encode(x), model.encode(x), **FLOAT32)
    assert again.log_likelihood(x, k=3, trained=True).rows == pytest.approx(
        model.log_likelihood(x, k=3, trained=True).rows, rel=1e-4, abs=1e-3
    )
