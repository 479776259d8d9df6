"""Priors: each candidate on data of its own family; densities, draws, files, and graphs that leave."""

import keras
import numpy as np
import pytest
from scipy.stats import multivariate_normal

import keras_ae
from keras_ae import storage
from keras_ae.priors import FlowPrior, MixturePrior, fit_prior

pytestmark = pytest.mark.usefixtures("in_full")


def standard(rng, n):
    return rng.normal(size=(n, 2))


def correlated(rng, n):
    return rng.normal(size=(n, 2)) @ [[2.0, 1.0], [0.0, 0.5]] + [3.0, -1.0]


def clusters(rng, n):
    centers = np.array([[0, 0], [4, 0], [0, 4], [4, 4]])
    return centers[rng.integers(0, 4, n)] + 0.4 * rng.normal(size=(n, 2))


def bent(rng, n):
    a = rng.normal(size=(n, 2))
    return np.stack([2 * a[:, 0], a[:, 0] ** 2 + 0.3 * a[:, 1]], axis=1)


def bent_log_prob(z):
    at = z[:, 0] / 2
    return -0.5 * (at**2 + ((z[:, 1] - at**2) / 0.3) ** 2) - np.log(2 * np.pi * 2 * 0.3)


def pseudo_inputs(n, dimensions, seed=0):
    """Latents of an encoder that tells 60 places, and the posteriors that it gives."""
    places = 3 * np.random.default_rng(0).normal(size=(60, dimensions))
    rng = np.random.default_rng(seed)
    mean = places[rng.integers(0, 60, n)]
    variance = np.tile(np.linspace(0.1, 0.3, dimensions), (n, 1)) ** 2
    return mean + np.sqrt(variance) * rng.normal(size=mean.shape), (mean, variance)


def fitted_flow(z, **options):
    """One Gaussian, bent."""
    base = MixturePrior(2)
    base.build()
    prior = FlowPrior(base, name="prior", **options)
    prior.build()
    prior.fit(z, None, lambda u, y: base.set(u.mean(0)[None], np.cov(u.T)[None], np.ones((1, 1))), prior.seed)
    return prior


@pytest.fixture(scope="module")
def flow():
    """Fitted to latents on a parabola, which no few Gaussians follow."""
    return fitted_flow(bent(np.random.default_rng(0), 1500), seed=0)


@pytest.mark.parametrize(
    ("family", "kind"), [(standard, "standard"), (correlated, "gaussian"), (clusters, "mixture_4")]
)
def test_of_two_that_are_as_good_the_simpler_wins(family, kind):
    fitted = fit_prior(family(np.random.default_rng(0), 300), family(np.random.default_rng(1), 300))
    assert fitted.kind == kind
    assert fitted.describe()["components"] == {"mixture_4": 4}.get(kind, 1)
    assert "flow" not in fitted.nats  # too few rows
    assert "vamp" not in fitted.nats  # no posterior


def test_posteriors_win_where_each_is_narrow():
    z, posterior = pseudo_inputs(700, 6)
    held_out, _ = pseudo_inputs(200, 6, seed=1)
    fitted = fit_prior(z, held_out, posterior=posterior)
    assert fitted.kind == "vamp"
    assert fitted.layer.diagonal
    assert fitted.layer.components == 500
    mean, variance = posterior
    kept = [np.flatnonzero(np.isclose(mean, at, atol=1e-5).all(1))[0] for at in np.asarray(fitted.layer.mean)]
    np.testing.assert_allclose(np.square(fitted.layer.factor), variance[kept], rtol=1e-4)  # wide enough as they are
    parts = [multivariate_normal(mean[i], np.diag(variance[i])).logpdf(held_out[:5]) for i in kept]
    weights = np.asarray(fitted.layer.share)[0]
    expected = np.logaddexp.reduce(np.array(parts) + np.log(weights)[:, None])
    np.testing.assert_allclose(fitted.layer.log_prob(held_out[:5]), expected, rtol=1e-3)
    # What the rows of a place weigh together is how often it is seen, not how many of its rows were drawn.
    place = np.unique(mean, axis=0, return_inverse=True)[1].ravel()
    seen, drawn = (np.bincount(of, minlength=60) / len(of) for of in (place, place[kept]))
    weighed = np.bincount(place[kept], weights, minlength=60)
    assert np.abs(weighed - seen).sum() < 0.7 * np.abs(drawn - seen).sum()
    # Posteriors that are too narrow for other rows are widened, and few are no prior.
    narrow = fit_prior(z, held_out, posterior=(mean, variance / 100))
    assert narrow.nats["vamp"] > fitted.nats["vamp"] - 6
    assert (np.square(narrow.layer.factor) > variance[0] / 10).all()
    assert "vamp" not in fit_prior(z[:90], held_out, posterior=(mean[:90], variance[:90])).nats


def test_a_flow_comes_to_the_density_of_what_is_bent(flow):
    held_out = bent(np.random.default_rng(1), 1000)
    true = bent_log_prob(held_out).mean()
    assert true - 0.12 < np.mean(flow.log_prob(held_out)) < true + 0.02
    gaussian = multivariate_normal(held_out.mean(0), np.cov(held_out.T)).logpdf(held_out).mean()
    assert gaussian < true - 1


def test_densities_integrate_to_one(flow):
    side = np.linspace(-14, 14, 300)
    grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    cell = (side[1] - side[0]) ** 2
    assert np.exp(flow.log_prob(grid)).sum() * cell == pytest.approx(1, abs=0.01)
    z, posterior = pseudo_inputs(150, 2)
    narrow = fit_prior(z, z, posterior=(posterior[0], posterior[1] + 0.05)).layer
    assert narrow.diagonal
    assert np.exp(narrow.log_prob(grid)).sum() * cell == pytest.approx(1, abs=0.01)


def test_draws_follow_the_density(flow):
    """The mean over draws of any function is its integral; of 1 / p(z) on a box it is the area of that."""
    epsilon = np.random.default_rng(0).standard_normal((40_000, flow.epsilon_dim)).astype("float32")
    z = np.asarray(flow(epsilon))
    inside = (np.abs(z[:, 0]) < 2) & (z[:, 1] > 0) & (z[:, 1] < 1)
    density = np.exp(flow.log_prob(z[inside]))
    likely = density > 1e-3
    side = [np.linspace(-2, 2, 400), np.linspace(0, 1, 100)]
    grid = np.stack(np.meshgrid(*side), axis=-1).reshape(-1, 2)
    area = 4 * np.mean(np.exp(flow.log_prob(grid)) > 1e-3)
    assert (1 / density[likely]).sum() / len(z) == pytest.approx(area, rel=0.08)
    fresh = bent(np.random.default_rng(2), 40_000)
    np.testing.assert_allclose(z.mean(0), fresh.mean(0), atol=0.15)
    np.testing.assert_allclose(z.std(0), fresh.std(0), rtol=0.1)


def test_the_determinant_is_that_of_the_jacobian(flow):
    import tensorflow as tf

    z = tf.constant(bent(np.random.default_rng(3), 20), "float32")
    with tf.GradientTape() as tape:
        tape.watch(z)
        u, log_det = flow.transform(z)
    jacobian = tape.batch_jacobian(u, z)
    np.testing.assert_allclose(log_det, np.log(np.abs(np.linalg.det(jacobian))), atol=1e-3)
    np.testing.assert_allclose(flow._inverse(u), z, atol=1e-3)


def test_seeds_decide(monkeypatch):
    monkeypatch.setattr("keras_ae.priors.flow._ROUNDS", 1)
    z = bent(np.random.default_rng(0), 500)

    def again(seed):
        return np.asarray(fitted_flow(z, couplings=1, hidden=8, seed=seed).log_prob(z[:5]))

    np.testing.assert_array_equal(again(1), again(1))
    assert not np.array_equal(again(1), again(2))


@pytest.mark.parametrize("diagonal", [False, True])
def test_with_classes_each_has_its_components_and_its_frequency(diagonal):
    rng = np.random.default_rng(0)
    prior = MixturePrior(2, components=3, classes=2, diagonal=diagonal)
    prior.build()
    means = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    spread = np.full((3, 2), 0.01) if diagonal else np.tile(0.01 * np.eye(2), (3, 1, 1))
    prior.set(means, spread, np.array([[0.1, 0.0, 0.2], [0.0, 0.7, 0.0]]))
    epsilon = rng.standard_normal((20_000, 3)).astype("float32")
    z, label = (np.asarray(part) for part in prior(epsilon, np.full(20_000, -1)))
    nearest = np.square(z[:, None] - means).sum(-1).argmin(1)
    found = np.array([[np.mean((label == y) & (nearest == k)) for k in range(3)] for y in range(2)])
    np.testing.assert_allclose(found, [[0.1, 0, 0.2], [0, 0.7, 0]], atol=0.015)
    z, label = (np.asarray(part) for part in prior(epsilon, np.zeros(20_000, int)))
    assert not label.any()
    assert np.mean(np.square(z - means[0]).sum(-1) < 1) == pytest.approx(1 / 3, abs=0.015)
    far = np.array([[40.0, 0, 0], [-40.0, 0, 0]], "float32")  # whose share is 1, or 0, in float32
    for asked in (0, 1, -1):
        z, label = (np.asarray(part) for part in prior(far, np.full(2, asked)))
        assert set(np.square(z[:, None] - means).sum(-1).argmin(1)) <= ({1} if asked == 1 else {0, 1, 2})
        assert np.isfinite(z).all()
        assert set(label) <= {0, 1}


def test_a_flow_knows_its_classes():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 900)
    z = bent(rng, 900) + np.where(y[:, None] == 1, [0.0, 4.0], [0.0, 0.0])
    fitted = fit_prior(z[:800], z[800:], y[:800], y[800:], classes=2)
    assert set(fitted.nats) >= {"gaussian_per_class", "flow_per_class"}
    assert not {"gaussian", "flow", "standard"} & set(fitted.nats)
    assert fitted.nats["flow_per_class"] > fitted.nats["gaussian_per_class"] + 0.3
    assert fitted.nats["flow_per_class"] > max(fitted.nats.values()) - 0.2
    assert fitted.kind in ("flow_per_class", "mixture_2_per_class", "mixture_8_per_class")


def test_a_flow_leaves_with_parity_and_comes_back(tmp_path):
    """Through score, generate and Bayes' rule, in Keras, SavedModel and ONNX; and through the file."""
    rng = np.random.default_rng(0)
    keras.utils.set_random_seed(0)
    x = rng.normal(size=(300, 6)).astype("float32")
    y = (x[:, 0] > 0).astype("int32")
    model = keras_ae.build("vae", 6, 2, hidden=[8], classes=("a", "b"))
    keras_ae.training.start(model, x, keras_ae.data.fit_scaling(x))
    base = MixturePrior(2, components=2, classes=2)
    base.build()
    base.set(np.array([[-1.0, 0.0], [1.0, 0.5]]), np.tile(0.5 * np.eye(2), (2, 1, 1)), 0.5 * np.eye(2))
    prior = FlowPrior(base, hidden=8, seed=0, name="prior")
    prior.build()
    for perceptron in prior.perceptrons:
        for kernel, bias in perceptron.pairs:
            kernel.assign(rng.normal(size=kernel.shape) * 0.3)
            bias.assign(rng.normal(size=bias.shape) * 0.3)
    model.set_prior(prior)
    assert not model.has_gaussian_prior
    assert not any("coupling" in weight.path for weight in model.trainable_variables)
    model.fit_detector(x[:200], x[200:])
    model.calibrate(x[200:], y[200:])
    manifest = storage.save(model, tmp_path / "a", x)
    for figures in manifest["exports"].values():
        assert {"score", "classify", "generate"} <= set(figures["functions"])
    again, deployed = storage.load(tmp_path / "a"), keras_ae.runtime.load(tmp_path / "a")
    assert not deployed.has_gaussian_prior
    for other in (again, deployed):
        np.testing.assert_allclose(other.generate(5, y="b", seed=1), model.generate(5, y="b", seed=1), atol=1e-4)
        np.testing.assert_allclose(other.score(x)["score"], model.score(x)["score"], rtol=1e-4)
        np.testing.assert_allclose(other.classify(x), model.classify(x), atol=1e-5)
    assert model.log_likelihood(x[:5], k=3).rows == pytest.approx(again.log_likelihood(x[:5], k=3).rows, rel=1e-5)


def test_what_can_not_be_a_prior_is_refused():
    with pytest.raises(ValueError, match=r"A coupling needs 2 dimensions.*Received: 1, 4, 64"):
        FlowPrior(MixturePrior(1))
    with pytest.raises(ValueError, match=r"Received: 2, 0, 0"):
        MixturePrior(2, components=0)
    with pytest.raises(ValueError, match="none of class 1"):
        fit_prior(np.ones((5, 2)), np.ones((5, 2)), np.zeros(5, int), classes=2)
