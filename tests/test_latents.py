"""Walks through the latent space."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_ae
from keras_ae import runtime
from keras_ae.errors import InputError

X = load_digits().data.astype("float32")


@pytest.fixture(scope="module")
def linear():
    """Without a correction a decoder is linear, so that a way in z shows in x."""
    model = keras_ae.build("linear", 64, 3)
    keras_ae.training.start(model, X, keras_ae.data.fit_scaling(X))
    return model


def test_an_arc_keeps_the_length_of_z_and_both_ends(linear):
    assert linear.has_gaussian_prior
    z = np.array([[2.0, 0, 0], [0, 2.0, 0]], "float32")
    a, b = linear.decode(z)
    way = linear.interpolate(a, b, steps=5)
    np.testing.assert_allclose(way[[0, -1]], [a, b], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(linear.encode(way), axis=1), 2, atol=1e-3)
    opposite = linear.interpolate(*linear.decode(np.array([[1.0, 0, 0], [-1.0, 0, 0]], "float32")), steps=3)
    np.testing.assert_allclose(linear.encode(opposite)[1], 0, atol=1e-3)


def test_where_the_prior_is_a_mixture_the_way_is_straight(linear):
    model = keras_ae.models.Autoencoder.from_config(linear.get_config())
    model.set_weights(linear.get_weights())
    model.set_prior(keras_ae.priors.MixturePrior(3, components=2, name="prior"))
    way = model.encode(model.interpolate(X[0], X[1:2], steps=3))
    np.testing.assert_allclose(way[1], way[[0, 2]].mean(axis=0), atol=1e-3)


def test_a_traversal_moves_one_latent_at_a_time(linear):
    grid = linear.traverse(X[0], steps=5)
    assert grid.shape == (3, 5, 64)
    z = linear.encode(grid.reshape(-1, 64)).reshape(3, 5, 3)
    base = linear.encode(X[:1])[0]
    for i in range(3):
        others = [j for j in range(3) if j != i]
        np.testing.assert_allclose(z[i][:, others], np.tile(base[others], (5, 1)), atol=1e-3)
        np.testing.assert_allclose(z[i][:, i], np.linspace(-2, 2, 5), atol=0.3)  # z of N(0, I)


def test_the_runtime_walks_the_same_way(digits_fitted, digits_artifact):
    model = runtime.load(digits_artifact)
    for one, other in (
        (model.interpolate(X[0], X[1]), digits_fitted.model.interpolate(X[0], X[1])),
        (model.traverse(X[0]), digits_fitted.model.traverse(X[0])),
    ):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-2)


def test_what_is_no_observation_or_no_way_is_refused(linear):
    with pytest.raises(InputError, match=r"`b` must be one observation, of shape \(64,\). Received: \(2, 64\)"):
        linear.interpolate(X[0], X[:2])
    for walk in (lambda: linear.interpolate(X[0], X[1], steps=1), lambda: linear.traverse(X[0], steps=1)):
        with pytest.raises(InputError, match="at least 2"):
            walk()
