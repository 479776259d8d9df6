"""Von Mises-Fisher posteriors against Bessel functions, and draws against their moments."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaln, ive

import keras_ae
from keras_ae.layers import VonMisesFisher, VonMisesFisherKLLoss

CASES = [(n, kappa) for n in (2, 3, 16, 50) for kappa in (0.01, 0.5, 7.0, 60.0, 900.0)]


def mean_cosine(n, kappa):
    return ive(n / 2, kappa) / ive(n / 2 - 1, kappa)


def natural(n, kappa, rows=1):
    return np.full((rows, n), kappa / np.sqrt(n), "float32")


def kl(x):
    layer = VonMisesFisherKLLoss()
    layer(x)
    return layer.losses[0]


@pytest.mark.parametrize(("n", "kappa"), CASES)
def test_the_kl_is_that_of_bessel_functions(n, kappa):
    """KL = kappa A + log C(kappa) + log area of the sphere (Davidson et al. 2018, equation 6)."""
    order = n / 2 - 1
    log_normalizer = order * np.log(kappa) - n / 2 * np.log(2 * np.pi) - np.log(ive(order, kappa)) - kappa
    log_area = np.log(2) + n / 2 * np.log(np.pi) - gammaln(n / 2)
    expected = kappa * mean_cosine(n, kappa) + log_normalizer + log_area
    # Sums of 512 float32 numbers of the size of kappa.
    assert float(kl(natural(n, kappa))) == pytest.approx(expected, rel=1e-4, abs=2e-5)


@pytest.mark.parametrize(("n", "kappa"), CASES)
def test_draws_lie_on_the_sphere_at_the_right_angle(n, kappa):
    rows = 4000
    z = np.asarray(VonMisesFisher(seed=1)(natural(n, kappa, rows), training=True))
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1, atol=5e-3)
    cosine = z @ np.full(n, 1 / np.sqrt(n))
    assert cosine.mean() == pytest.approx(mean_cosine(n, kappa), abs=4 * cosine.std() / np.sqrt(rows) + 1e-5)
    away = z - cosine[:, None] / np.sqrt(n)  # and in no direction more than in another
    assert np.abs(away.mean(axis=0)).max() < 5 * away.std() / np.sqrt(rows)


def test_the_gradient_of_a_draw_is_that_of_its_expectation():
    n, kappa, rows = 5, 4.0, 20000
    x = tf.constant(natural(n, kappa, rows))
    direction = tf.constant(np.full(n, 1 / np.sqrt(n), "float32"))
    with tf.GradientTape() as tape:
        tape.watch(x)
        cosine = tf.reduce_sum(VonMisesFisher(seed=0)(x, training=True) * direction, axis=-1)
    along = (tape.gradient(cosine, x).numpy() * direction.numpy()).sum(axis=1)
    a = mean_cosine(n, kappa)
    slope = 1 - a**2 - (n - 1) / kappa * a  # dA / dkappa
    assert along.mean() == pytest.approx(slope, abs=4 * along.std() / np.sqrt(rows))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 8), st.floats(-30, 30), st.integers(0, 2**31 - 1))
def test_gradients_are_finite_for_posteriors_of_any_size(n, exponent, seed):
    x = tf.constant(np.random.default_rng(seed).normal(size=(3, n)).astype("float32") * np.float32(10.0**exponent))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = kl(x) + tf.reduce_sum(VonMisesFisher(seed=0)(x, training=True))
    assert np.isfinite(float(value))
    assert np.isfinite(tape.gradient(value, x).numpy()).all()


def test_a_posterior_that_went_too_far_can_come_back():
    x = tf.constant(natural(3, 1e5))
    with tf.GradientTape() as tape:
        tape.watch(x)
        value = kl(x)
    assert (tape.gradient(value, x).numpy() > 0).all()
    assert float(value) == float(kl(natural(3, 1000.0)))  # the largest concentration


def test_one_number_is_no_direction():
    with pytest.raises(ValueError, match="n >= 2"):
        keras_ae.build("svae", 8, 1)


def test_what_is_generated_and_encoded_lies_on_the_sphere():
    keras.utils.set_random_seed(0)
    model = keras_ae.build("svae", 8, 3, hidden=[8])
    x = np.random.default_rng(0).normal(size=(20, 8)).astype("float32")
    np.testing.assert_allclose(np.linalg.norm(model.encode(x), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.generate(3, seed=0), model.decode(drawn(model, 3)), rtol=1e-4, atol=1e-5)


def drawn(model, n):
    epsilon = np.random.default_rng(0).standard_normal((n, 3), dtype="float32")
    return epsilon / np.linalg.norm(epsilon, axis=1, keepdims=True)
