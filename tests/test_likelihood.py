"""Bounds on log p(x): against closed forms, by enumeration."""

import itertools

import keras
import numpy as np
import pytest
from scipy.special import log_softmax
from scipy.stats import bernoulli, multivariate_normal, norm

import keras_ae
from keras_ae.layers import BernoulliLoss, Binarize, CategoricalLoss
from keras_ae.likelihood import density_bound, elbo

RNG = np.random.default_rng(0)


def linear_gaussian(classes=()):
    """A VAE whose log p(x) is known: probabilistic PCA."""
    weights = RNG.normal(size=(6, 2))
    x = (RNG.normal(size=(4000, 2)) @ weights.T + 0.5 * RNG.normal(size=(4000, 6))).astype("float32")
    model = keras_ae.build("vae", 6, 2, network="linear", classes=classes)
    keras_ae.training.start(model, x, keras_ae.data.fit_scaling(x))
    model.calibrate(x)
    return model, x


def marginal(model, means=((0.0, 0.0),), covariance=None, shares=(1.0,)):
    """log p(x) of raw x in closed form, of a mixture over z."""
    to_x = model.decoder.get_layer("linear")
    kernel, bias = np.asarray(to_x.kernel, "float64"), np.asarray(to_x.bias)
    scale, shift = np.asarray(model.scaling.scale, "float64"), np.asarray(model.scaling.shift)
    noise = float(model.reconstruction.variance)
    spread = kernel.T @ (np.eye(2) if covariance is None else covariance) @ kernel + noise * np.eye(6)

    def log_p(x):
        parts = [
            np.log(share)
            + multivariate_normal((mean @ kernel + bias) * scale + shift, spread * np.outer(scale, scale)).logpdf(x)
            for mean, share in zip(np.asarray(means), shares, strict=True)
        ]
        return np.logaddexp.reduce(parts)

    return log_p


def test_the_bound_rises_to_the_closed_form_of_a_linear_gaussian_model():
    model, x = linear_gaussian()
    exact = marginal(model)(x[:300])
    means = []
    for k in (1, 10, 1000):
        found = model.log_likelihood(x[:300], k=k)
        assert found.k == k
        means.append(found.mean)
    assert means[0] < means[1] < means[2] + 0.02
    assert means[0] < exact.mean()
    np.testing.assert_allclose(found.rows, exact, atol=0.3)
    assert found.mean == pytest.approx(exact.mean(), abs=0.02)
    assert found.standard_error == pytest.approx(found.rows.std(ddof=1) / 300**0.5)
    np.testing.assert_array_equal(found.rows, model.log_likelihood(x[:300], k=1000).rows)
    assert not np.array_equal(found.rows, model.log_likelihood(x[:300], k=1000, seed=1).rows)


def test_with_labels_it_is_that_of_x_given_y_and_without_the_mean_over_classes():
    model, x = linear_gaussian(classes=("a", "b"))
    means, shares = np.array([[-1.0, 0.0], [2.0, 0.5]]), (0.3, 0.7)
    prior = keras_ae.priors.MixturePrior(2, components=2, classes=2, name="prior")
    prior.build()
    prior.set(means, np.stack([np.eye(2)] * 2), np.diag(shares))
    model.set_prior(prior)
    some = x[:100]
    free = model.log_likelihood(some, k=2000)
    np.testing.assert_allclose(free.rows, marginal(model, means, shares=shares)(some), atol=0.5)
    for i in (0, 1):
        told = model.log_likelihood(some, np.full(100, i), k=2000)
        exact = marginal(model, means[i : i + 1])(some)
        assert told.mean == pytest.approx(exact.mean(), abs=0.1)


def test_a_conditional_decoder_sums_over_classes():
    keras.utils.set_random_seed(0)
    model = keras_ae.build("cvae", 5, 2, hidden=[4], classes=("a", "b"), likelihood="bernoulli")
    for weight in model.trainable_variables:
        weight.assign(RNG.normal(size=weight.shape) * 0.3)
    x = RNG.integers(0, 2, (50, 5)).astype("float32")
    of_class = [model.log_likelihood(x, np.full(50, i), k=3000).rows for i in (0, 1)]
    both = model.log_likelihood(x, k=3000).rows
    np.testing.assert_allclose(both, np.logaddexp(*of_class) + np.log(0.5), atol=0.1)


@pytest.mark.parametrize(
    ("recipe", "options"),
    [
        ("vae", {}),
        ("vamp_vae", {}),
        ("hvae", {}),
        ("hvae", {"inference": "ladder", "top_dims": [2, 1]}),
        ("flow_vae", {}),
        ("flow_vae", {"flow": "posterior"}),
    ],
)
def test_probabilities_of_all_observations_sum_to_one(recipe, options):
    keras.utils.set_random_seed(0)
    model = keras_ae.build(recipe, 6, 2, hidden=[8], likelihood="bernoulli", **options)
    rng = np.random.default_rng(0)
    flows = [layer for layer in model.decoder.layers if layer.name == "flow"]
    of_prior = {id(weight) for part in (*model.regularizers, *flows) for weight in part.trainable_variables}
    of_latent = {id(weight) for weight in model.latent.trainable_variables}
    for weight in model.trainable_variables:
        # A prior far from all posteriors would need more draws.
        scale = 0.05 if id(weight) in of_prior else 0.08 if id(weight) in of_latent else 0.3
        weight.assign(rng.normal(size=weight.shape) * scale)
    if of_latent:  # a posterior of less than half the prior's variance has weights of no finite variance
        said = [model.encoder.get_layer("log_var").bias, *(up.pairs[-1][1] for up in model.latent.up)]
        for bias, shift in zip(said, ([0.5, 0.5], [0.0, 0.0, 0.5, 0.5], [0.0, 0.5]), strict=True):
            bias.assign_add(shift)
    every = np.array(list(itertools.product([0.0, 1.0], repeat=6)), "float32")
    found = model.log_likelihood(every, k=5000, trained=True)
    of_standard = model.log_likelihood(every, k=5000)  # what `generate` draws from, before it is fitted
    assert (recipe == "vae") == np.allclose(found.rows, of_standard.rows, atol=1e-3)
    for bound in (found, of_standard):
        assert np.exp(bound.rows).sum() == pytest.approx(1, abs=0.01)


def test_whole_numbers_are_spread_over_their_unit():
    x = RNG.integers(100, 130, (500, 4)).astype("uint8")
    model = keras_ae.build("vae", 4, 2, network="linear", input_dtype="uint8")
    keras_ae.training.start(model, x, keras_ae.data.fit_scaling(x))
    model.calibrate(x)
    a, b = (model.log_likelihood(x, seed=seed).rows for seed in (0, 1))
    assert not np.array_equal(a, b)
    # At best each of four pixels costs the entropy of a Gaussian as wide as 30 grey levels that are all alike.
    entropy = np.log(30 / 12**0.5) + 0.5 * np.log(2 * np.pi * np.e)
    assert model.log_likelihood(x, k=200).mean == pytest.approx(-4 * entropy, abs=0.25)


@pytest.mark.parametrize(
    ("recipe", "k", "message"),
    [("ae", 1, "Received: NoneType and RMSELoss"), ("rmse_vae", 1, "Received: Sampling"), ("vae", 0, "`k` must be")],
)
def test_what_has_no_likelihood_is_refused(recipe, k, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.build(recipe, 4, 2, hidden=[4]).log_likelihood(np.zeros((2, 4)), k=k)


@pytest.mark.parametrize(
    ("recipe", "options", "found"),
    [
        ("vae", {}, True),
        ("vae", {"likelihood": "feature_gaussian"}, True),
        ("vae", {"likelihood": "bernoulli"}, False),
        ("iwae", {}, True),
        ("rmse_vae", {}, False),
        ("ae", {}, False),
        ("gumbel", {}, True),
        ("svae", {}, True),
        ("vq_vae", {}, False),
    ],
)
def test_only_densities_are_compared_with_densities(recipe, options, found):
    bound = density_bound(keras_ae.build(recipe, 4, 2, hidden=[4], **options), k=2)
    assert (bound is not None) == found
    if bound is not None:
        assert np.isfinite(bound(RNG.normal(size=(3, 4)).astype("float32"))).all()


def test_the_elbo_of_categories_is_the_sum_over_them():
    model = keras_ae.build("gumbel", 6, 4, hidden=[8], categories=2)
    x = RNG.normal(size=(5, 6)).astype("float32")
    log_q = log_softmax(np.asarray(model.encoder(x)).reshape(5, 2, 2), axis=-1)
    exact = np.zeros(5)
    for a, b in itertools.product(range(2), range(2)):
        z = np.tile(np.eye(2)[[a, b]].reshape(1, 4), (5, 1)).astype("float32")
        log_joint = np.asarray(model.reconstruction.log_prob(x, model.decoder(z))) - 2 * np.log(2)
        of_code = log_q[:, 0, a] + log_q[:, 1, b]
        exact += np.exp(of_code) * (log_joint - of_code)
    np.testing.assert_allclose(elbo(model, x, draws=800).rows, exact, atol=0.15)
    with pytest.raises(ValueError, match=r"closed form.*Received: NoneType and RMSELoss"):
        elbo(keras_ae.build("ae", 4, 2, hidden=[4]), x)


def test_the_elbo_of_directions_is_below_the_integral_over_the_circle():
    model = keras_ae.build("svae", 6, 2, hidden=[8])
    x = RNG.normal(size=(5, 6)).astype("float32")
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
    log_p = [model.reconstruction.log_prob(np.tile(row, (400, 1)), model.decoder(circle)) for row in x]
    exact = np.logaddexp.reduce(np.array(log_p, "float64"), axis=1) - np.log(400)
    gap = exact - elbo(model, x, draws=400).rows
    assert (gap > -0.05).all()
    assert (gap < 3.0).all()


def test_an_unknown_likelihood_is_refused():
    with pytest.raises(ValueError, match=r"gaussian.*bernoulli.*Received: 'poisson'"):
        keras_ae.build("vae", 4, 2, likelihood="poisson")


# Layers


def test_bernoulli_and_categorical_terms_are_those_of_scipy():
    logits = RNG.normal(size=(7, 3, 4)).astype("float32") * 3
    bits = RNG.integers(0, 2, logits.shape).astype("float32")
    layer = BernoulliLoss(2.0)
    np.testing.assert_array_equal(layer(bits, logits), logits)
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    expected = bernoulli(p).logpmf(bits).sum(axis=(1, 2))
    np.testing.assert_allclose(layer.log_prob(bits, logits), expected, rtol=1e-4)
    assert float(layer.losses[0]) == pytest.approx(-2 * expected.mean(), rel=1e-4)
    np.testing.assert_allclose(layer.mean(logits), p, rtol=1e-5)

    level = RNG.integers(0, 4, (7, 3))
    one_hot = np.eye(4, dtype="float32")[level]
    layer = CategoricalLoss()
    layer(one_hot, logits)
    log_p = log_softmax(logits.astype("float64"), axis=-1)
    expected = np.take_along_axis(log_p, level[..., None], axis=-1).sum(axis=(1, 2))
    np.testing.assert_allclose(layer.log_prob(one_hot, logits), expected, rtol=1e-4)
    assert float(layer.losses[0]) == pytest.approx(-expected.mean(), rel=1e-4)
    for of in (BernoulliLoss(), CategoricalLoss()):
        with pytest.raises(ValueError, match="of one shape"):
            of(bits, logits[:, :2])


def test_the_gaussian_log_prob_is_scipys():
    x, x_hat = RNG.normal(size=(2, 5, 3)).astype("float32")
    layer = keras_ae.layers.RMSELoss(calibrated=True)
    layer.set_noise(0.49)
    np.testing.assert_allclose(layer.log_prob(x, x_hat), norm(x_hat, 0.7).logpdf(x).sum(axis=1), rtol=1e-5)


def test_grey_is_binarized_by_chance_in_training_and_by_threshold_otherwise():
    layer = Binarize(seed=0)
    layer.set_limit(255)
    grey = np.repeat(np.array([[0, 51, 204, 255]], "uint8"), 5000, axis=0)
    drawn = np.asarray(layer(grey, training=True))
    assert set(np.unique(drawn)) == {0.0, 1.0}
    np.testing.assert_allclose(drawn.mean(axis=0), [0, 0.2, 0.8, 1], atol=0.03)
    np.testing.assert_array_equal(np.asarray(layer(grey))[0], [0, 0, 1, 1])
    np.testing.assert_allclose(layer(np.array([[0.5]], "float32"), inverse=True), [[127.5]])
    with pytest.raises(ValueError, match=r"must be positive. Received: 0"):
        layer.set_limit(0)
