"""Jacobians, masks, adversaries, importance weights and learned priors against NumPy, SciPy and quadrature."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import logsumexp

import keras_ae
from keras_ae.layers import (
    AdversarialPriorLoss,
    AdversarialReconstructionLoss,
    AutoregressiveFlow,
    CapacityKLLoss,
    DensityRatioTCLoss,
    FlowPriorLoss,
    GaussianKLLoss,
    GaussianLoss,
    HierarchicalPriorLoss,
    ImportanceWeightedLoss,
    JacobianLoss,
    LadderKLLoss,
    LadderSampling,
    MaskedRMSELoss,
    RMSELoss,
    Sampling,
    TopK,
    VampPriorLoss,
)

RNG = np.random.default_rng(0)
# float32 sums of some hundred terms of about 1.
FLOAT32 = {"rtol": 2e-5, "atol": 2e-5}


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def dense(n, m, activation="tanh"):
    x = keras.Input((n,), name="x")
    return keras.Model(x, keras.layers.Dense(m, activation)(x))


def excite(layer):
    """Weights that start at zero would hide errors."""
    for weight in layer.trainable_variables:
        weight.assign(RNG.normal(size=weight.shape) * 0.3)


@pytest.mark.parametrize("of", ["encoder", "decoder"])
def test_the_jacobian_of_one_layer_is_the_closed_form(of):
    keras.utils.set_random_seed(0)
    # Copies of a row have a probe each, so that few passes see many.
    network, x = dense(4, 3), np.repeat(draw(5, 4), 4000, axis=0)
    layer = JacobianLoss(of=of, probes=2, seed=0)
    layer.bind(network, network, None)
    layer(x, network(x))
    kernel, out = network.layers[1].kernel.numpy(), network(x).numpy()
    # Rifai et al. 2011, equation 7: sum_j (1 - h_j^2)^2 sum_i W_ij^2. |J^T v|^2 has a deviation of about its mean.
    expected = ((1 - out**2) ** 2 @ np.square(kernel).sum(axis=0)).mean()
    assert float(layer.losses[0]) == pytest.approx(expected, rel=5 * 1.5 / math.sqrt(2 * 4000 * 5))


def test_a_contractive_model_is_contracted():
    def norm(weight):
        keras.utils.set_random_seed(0)
        model = keras_ae.build("contractive", 6, 2, hidden=[8], weight=weight)
        rows = draw(128, 6)
        model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
        model.fit(rows, epochs=10, verbose=0)
        x = tf.Variable(rows)
        with tf.GradientTape() as tape:
            z = model.encoder(x)
        return float(tf.reduce_sum(tf.square(tape.batch_jacobian(z, x))))

    assert norm(1.0) < 0.5 * norm(0.0)


def test_masks_hide_their_share_in_blocks_and_the_loss_is_there_alone():
    layer = MaskedRMSELoss(rate=0.3, patch=2, seed=0)
    mask = layer.hidden(np.zeros((400, 5, 4, 3), "float32")).numpy()
    assert abs(mask.mean() - 0.3) < 0.02
    assert (mask == mask[..., :1]).all()
    assert (mask[:, :2, :2] == mask[:, :1, :1]).all()
    assert (mask[:, 4] != mask[:, 3]).any()

    # A decoder of zeros: what is left is the size of x where it is hidden.
    keras.utils.set_random_seed(0)
    encoder, decoder = dense(6, 2), dense(2, 6, None)
    decoder.layers[1].kernel.assign(np.zeros((2, 6)))
    x, layer = draw(50, 6), MaskedRMSELoss(2.0, seed=3)
    layer.bind(encoder, decoder, None)
    layer(x, x, training=True)
    hidden = MaskedRMSELoss(seed=3).hidden(x).numpy()
    expected = 2 * np.sqrt((hidden * x**2).sum() / hidden.sum())
    np.testing.assert_allclose(float(layer.losses[0]), expected, **FLOAT32)


def test_masks_at_evaluation_are_the_same_each_time_and_what_is_shown_has_the_sums_of_a_whole_row():
    encoder, decoder = dense(6, 6, None), dense(6, 6, None)
    encoder.layers[1].kernel.assign(np.eye(6))
    # Each feature is the guess of the next one.
    decoder.layers[1].kernel.assign(np.roll(np.eye(6), 1, axis=1))
    x, layer = draw(50, 6), MaskedRMSELoss(rate=0.25, seed=0)
    layer.bind(encoder, decoder, None)
    found = []
    for _ in range(2):
        layer(x, x)
        found.append(float(layer.losses[0]))
    assert found[0] == found[1]
    hidden = layer.hidden(x, training=False).numpy()
    shown = np.roll(x * (1 - hidden) / 0.75, 1, axis=1)
    expected = np.sqrt((hidden * (x - shown) ** 2).sum() / hidden.sum())
    np.testing.assert_allclose(found[0], expected, **FLOAT32)


def test_top_k_keeps_the_largest():
    z = draw(9, 5)
    kept = TopK(2)(z).numpy()
    order = np.argsort(-np.abs(z), axis=1)
    expected = np.zeros_like(z)
    for row, best in enumerate(order[:, :2]):
        expected[row, best] = z[row, best]
    np.testing.assert_array_equal(kept, expected)


def test_capacity_rises_with_the_steps_of_training_alone():
    mean, log_var = draw(6, 3), draw(6, 3)
    kl = GaussianKLLoss()
    kl((mean, log_var))
    layer = CapacityKLLoss(2.0, capacity=40.0, steps=4)
    for training, allowed in ((True, 0), (False, 10), (True, 10), (True, 20), (True, 30), (True, 40), (True, 40)):
        layer((mean, log_var), training=training)
        assert float(layer.losses[-1]) == pytest.approx(2 * abs(float(kl.losses[0]) - allowed), rel=1e-5)


def test_importance_weights_are_those_of_scipy():
    x, mean, log_var, params = draw(3, 4), draw(3, 2), draw(3, 2), draw(15, 4)
    z = np.repeat(mean, 5, axis=0) + draw(15, 2)
    layer = ImportanceWeightedLoss(GaussianLoss())
    layer(x, (mean, log_var), z, params, training=True)
    log_w = stats.norm(params, 1).logpdf(np.repeat(x, 5, axis=0)).sum(-1) + stats.norm.logpdf(z).sum(-1)
    log_w -= stats.norm(np.repeat(mean, 5, 0), np.exp(np.repeat(log_var, 5, 0) / 2)).logpdf(z).sum(-1)
    expected = -logsumexp(log_w.reshape(3, 5), axis=1, b=1 / 5).mean()
    np.testing.assert_allclose(float(layer.losses[0]), expected, **FLOAT32)
    nll = -stats.norm(params, 1).logpdf(np.repeat(x, 5, axis=0)).sum(-1).mean()
    np.testing.assert_allclose(float(layer.likelihood.tracker.result()), nll, **FLOAT32)


def test_several_samples_are_rows_one_after_the_other():
    mean, log_var = draw(2, 3), np.full((2, 3), -20.0, "float32")
    z = Sampling(samples=3, seed=0)((mean, log_var), training=True).numpy()
    np.testing.assert_allclose(z, np.repeat(mean, 3, axis=0), atol=1e-3)
    assert Sampling(samples=3)((mean, log_var)).shape == (2, 3)


def test_the_vamp_prior_is_the_mixture_of_the_posteriors_of_its_inputs():
    keras.utils.set_random_seed(0)
    encoder = keras_ae.networks.NETWORKS["dense"].encoder((4,), 2, gaussian=True, hidden=[5])
    excite(encoder)
    layer, z = VampPriorLoss((4,), components=3), draw(6, 2)
    layer.bind(encoder, None, None)
    mean, log_var = (part.numpy() for part in encoder(layer.inputs.value))
    each = stats.norm(mean[None], np.exp(log_var / 2)[None]).logpdf(z[:, None]).sum(-1)
    np.testing.assert_allclose(layer.log_prob(z), logsumexp(each, axis=1, b=1 / 3), **FLOAT32)


def test_the_flow_prior_is_a_density():
    keras.utils.set_random_seed(0)
    layer = FlowPriorLoss(steps=2, hidden=8)
    layer.build(None, (None, 2))
    excite(layer)
    # A step is autoregressive: the determinant is that of the Jacobian.
    z = tf.Variable(draw(5, 2))
    with tf.GradientTape() as tape:
        u, log_det = layer.flow.transform(z)
    np.testing.assert_allclose(log_det, np.log(np.abs(np.linalg.det(tape.batch_jacobian(u, z).numpy()))), **FLOAT32)
    grid = np.linspace(-15, 15, 401, dtype="float32")
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2)
    total = np.exp(layer.log_prob(points).numpy().astype("float64")).sum() * (grid[1] - grid[0]) ** 2
    assert total == pytest.approx(1.0, abs=0.01)


def test_a_flow_in_the_decoder_is_an_inverse_autoregressive_posterior():
    keras.utils.set_random_seed(0)
    model = keras_ae.build("flow_vae", 6, 3, hidden=[8], linear=False, flow="posterior", steps=3, warm_up=0)
    flow = model.decoder.get_layer("flow")
    x, z = draw(4, 6), draw(4, 3)
    untouched = model.decoder(z)
    excite(flow)
    assert not np.allclose(untouched, model.decoder(z), atol=1e-3)
    # log q(u | x) - log p(u) of u = f(z), z drawn from N(mean, var): q(u | x) by the change of variables.
    mean, log_var = (part.numpy() for part in model.encoder(x))
    u = flow(z).numpy()
    jacobian = [np.linalg.det(jacobian_of(flow, row)) for row in z]
    log_q = stats.norm(mean, np.exp(log_var / 2)).logpdf(z).sum(-1) - np.log(np.abs(jacobian))
    term = next(layer for layer in model.regularizers if isinstance(layer, FlowPriorLoss))
    term((mean, log_var), z)
    assert float(term.tracker.result()) == pytest.approx((log_q - stats.norm.logpdf(u).sum(-1)).mean(), rel=1e-4)
    with pytest.raises(ValueError, match="must be a layer of the decoder"):
        FlowPriorLoss(of_decoder=True).bind(model.encoder, model.encoder, None)


def jacobian_of(function, row):
    """The Jacobian of a map of rows at one row."""
    row = tf.Variable(row[None])
    with tf.GradientTape() as tape:
        out = function(row)
    return tape.batch_jacobian(out, row).numpy()[0]


def test_the_hierarchical_prior_is_a_lower_bound_on_its_density():
    keras.utils.set_random_seed(0)
    layer = HierarchicalPriorLoss(top_dim=1, hidden=4, seed=0)
    layer.build(None, (None, 2))
    excite(layer)
    z = draw(1, 2)
    u = np.linspace(-8, 8, 2001, dtype="float32")[:, None]
    mean, log_var = np.split(layer.down(u).numpy(), 2, axis=-1)
    joint = stats.norm(mean, np.exp(log_var / 2)).logpdf(z).sum(-1) + stats.norm.logpdf(u[:, 0])
    exact = logsumexp(joint) + math.log(u[1, 0] - u[0, 0])
    bounds = layer.log_prob(np.repeat(z, 4000, axis=0)).numpy()
    # The weights exp(bound) are not averaged: by Jensen's inequality the mean stays below, up to its error.
    assert exact - 3.0 < bounds.mean() < exact + 4 * bounds.std() / math.sqrt(4000)
    estimates = np.exp(layer.log_estimate(np.repeat(z, 4000, axis=0)).numpy().astype("float64"))
    assert estimates.mean() == pytest.approx(math.exp(exact), abs=4 * estimates.std() / math.sqrt(4000))


def test_the_kl_from_a_learned_prior_comes_in_over_the_first_steps():
    posterior, z = (tf.constant(draw(5, 2)), tf.constant(draw(5, 2))), tf.constant(draw(5, 2))
    layer = FlowPriorLoss(2.0, warm_up=4)
    shares = []
    for _ in range(6):
        layer(posterior, z, training=True)
        shares.append(float(layer.losses[-1]) / (2.0 * float(layer.tracker.result())))
    assert shares == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1], abs=1e-6)
    again = FlowPriorLoss(2.0, warm_up=4)
    again(posterior, z)
    assert float(again.losses[-1]) == pytest.approx(2.0 * float(again.tracker.result()), rel=1e-6)


@pytest.mark.parametrize(
    ("layer", "tensors"),
    [(AdversarialPriorLoss, 1), (DensityRatioTCLoss, 1), (AdversarialReconstructionLoss, 2)],
)
def test_an_adversary_moves_the_critic_and_the_network_apart(layer, tensors):
    keras.utils.set_random_seed(0)
    layer, given = layer(weight=3.0, hidden=[6], seed=0), [tf.Variable(draw(20, 4)) for _ in range(tensors)]
    layer(*given)
    with tf.GradientTape(persistent=True) as tape:
        layer(*given)
        critic, network = layer.losses[-2:]
    weights = layer.trainable_variables
    assert [tuple(w.shape) for w in weights] == [(4, 6), (6,), (6, 1), (1,)]
    assert [tape.gradient(critic, tensor) for tensor in given] == [None] * tensors
    assert all(float(tf.reduce_sum(tf.abs(g))) > 0 for g in tape.gradient(critic, weights[:-1]))
    assert [tape.gradient(network, weight) for weight in weights] == [None] * len(weights)
    assert float(tf.reduce_sum(tf.abs(tape.gradient(network, given[-1])))) > 0


def test_a_trained_critic_tells_the_total_correlation_of_a_gaussian():
    keras.utils.set_random_seed(0)
    rho = 0.9
    z = RNG.multivariate_normal([0, 0], [[1, rho], [rho, 1]], 4000).astype("float32")
    layer = DensityRatioTCLoss(weight=1.0, hidden=[32, 32], seed=0)
    inputs = keras.Input((2,))
    model = keras.Model(inputs, layer(inputs))
    model.compile(keras.optimizers.Adam(3e-3), jit_compile=False)
    model.fit(z, batch_size=500, epochs=60, verbose=0)
    estimate = model.evaluate(z, batch_size=4000, verbose=0, return_dict=True)["total_correlation"]
    # -log(1 - rho^2) / 2 = 0.83 nats; a critic of this size is some tenths off.
    assert estimate == pytest.approx(-0.5 * math.log(1 - rho**2), abs=0.25)


@pytest.mark.parametrize(
    "layer",
    [
        JacobianLoss(0.3, "decoder", 2, seed=1),
        MaskedRMSELoss(0.3, 0.4, 2, seed=1),
        CapacityKLLoss(0.3, 4.0, 5),
        TopK(3),
        ImportanceWeightedLoss(GaussianLoss(0.5), 0.3),
        VampPriorLoss((4,), 0.3, 5, seed=1),
        HierarchicalPriorLoss(0.3, 2, 5, seed=1),
        FlowPriorLoss(0.3, 2, 5, 7),
        AutoregressiveFlow(2, 5),
        AdversarialPriorLoss(0.3, [4], seed=1),
        DensityRatioTCLoss(0.3, [4], seed=1),
        AdversarialReconstructionLoss(0.3, [4]),
        LadderSampling((3, 2), 5, seed=1),
        LadderKLLoss(0.3, 7, seed=1),
        Sampling(2, seed=1),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_keep_their_options(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("contractive", {"probes": 0}, r"probes.*0"),
        ("masked", {"rate": 1.0}, r"rate.*1.0"),
        ("masked", {"patch": 0}, r"patch.*0"),
        ("sparse", {"penalty": "top_k", "k": 5}, r"at most the number of latents, 4.*5"),
        ("beta_vae", {"capacity": -1.0}, r"capacity.*-1.0"),
        ("iwae", {"samples": 0}, r"samples.*0"),
        ("iwae", {"classes": ("a", "b")}, r"samples.*labels"),
        ("vamp_vae", {"components": 0}, r"components.*0"),
        ("flow_vae", {"steps": 0}, r"steps.*0"),
        ("flow_vae", {"flow": "both"}, r"flow.*both"),
        ("hvae", {"top_dims": 0}, r"top_dim.*0"),
        ("hvae", {"top_dims": [3, 2]}, r"one number.*\[3, 2\]"),
        ("hvae", {"inference": "upwards"}, r"inference.*upwards"),
        ("hvae", {"warm_up": -1}, r"warm_up.*-1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(recipe, options, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.build(recipe, 8, 4, **options)


def test_terms_that_need_a_part_say_so():
    network = keras_ae.networks.NETWORKS["dense"]
    with pytest.raises(ValueError, match=r"one input and one output.*2"):
        keras_ae.Autoencoder(
            network.encoder((4,), 2, gaussian=True),
            network.decoder((4,), 2),
            Sampling(),
            regularizers=[JacobianLoss()],
        )
    with pytest.raises(ValueError, match=r"Likelihood.*RMSELoss"):
        ImportanceWeightedLoss(RMSELoss())
