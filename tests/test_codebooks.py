"""Codebooks and categories against NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from scipy.special import softmax

import keras_ae
from keras_ae.layers import CategoricalKLLoss, CommitmentLoss, GumbelSoftmax, VectorQuantizer
from keras_ae.layers.codebooks import categories_of

RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype("float32")


def quantize(x, codebook):
    """Stage after stage, group after group, row after row."""
    stages, groups, _, dim = codebook.shape
    left, index = x.reshape(len(x), groups, dim).astype("float64"), np.zeros((stages, len(x), groups), int)
    total = np.zeros_like(left)
    for s in range(stages):
        for r in range(len(x)):
            for g in range(groups):
                index[s, r, g] = np.square(codebook[s, g] - left[r, g]).sum(axis=1).argmin()
                total[r, g] += codebook[s, g, index[s, r, g]]
        left = x.reshape(left.shape) - total
    return total.reshape(x.shape), index


@pytest.mark.parametrize("stages", [1, 3])
def test_codes_are_the_nearest_of_each_stage_and_group(stages):
    layer, x = VectorQuantizer(8, 2, stages, seed=0), draw(20, 6)
    z = layer(x)
    expected, index = quantize(x, layer.codebook.numpy())
    np.testing.assert_allclose(z, expected, atol=1e-5)
    np.testing.assert_allclose(layer.nearest_code(x), expected, atol=1e-5)
    entropies = [stats.entropy(np.bincount(index[s, :, g], minlength=8)) for s in range(stages) for g in range(3)]
    assert float(layer.coded(x)[1]) == pytest.approx(np.exp(entropies).mean(), rel=1e-5)


def test_a_codebook_follows_the_running_mean_of_what_it_codes():
    layer, x = VectorQuantizer(4, 2, decay=0.5, revive=0.0, seed=0), draw(50, 2)
    layer.build((None, 2))
    before = layer.codebook.numpy()[0, 0]
    _, index = quantize(x, layer.codebook.numpy())
    layer(x, training=True)
    for code in range(4):
        of_code = x[index[0, :, 0] == code]
        count = 0.5 * 1 + 0.5 * len(of_code)
        expected = (0.5 * before[code] + 0.5 * of_code.sum(axis=0)) / count
        np.testing.assert_allclose(layer.codebook.numpy()[0, 0, code], expected, atol=1e-5)


def test_a_code_that_nothing_uses_moves_to_a_row():
    layer, x = VectorQuantizer(4, 2, decay=0.0, seed=0), draw(50, 2)
    layer.build((None, 2))
    book = layer.codebook.numpy()
    book[0, 0, 3] = 100.0
    layer.codebook.assign(book)
    layer(x, training=True)
    assert np.abs(x - layer.codebook.numpy()[0, 0, 3]).sum(axis=1).min() < 1e-6


def test_a_code_is_used_too_little_below_a_share_of_its_due():
    x = np.repeat(np.float32([[0.0, 0], [10, 0], [0, 10], [10, 10]]), [27, 7, 5, 11], axis=0)
    layer = VectorQuantizer(4, 2, decay=0.0, revive=0.5, seed=0)
    layer.build((None, 2))
    layer.codebook.assign(np.unique(x, axis=0)[[0, 2, 1, 3]][None, None] + 1)
    layer(x, training=True)
    # Each is due 12.5 of 50 rows; the third alone has fewer than half of that.
    np.testing.assert_allclose(layer.counts.numpy()[0, 0], [27, 7, 12.5, 11])
    np.testing.assert_allclose(layer.codebook.numpy()[0, 0, [0, 1, 3]], [[0, 0], [10, 0], [10, 10]], atol=1e-5)


@pytest.mark.parametrize("ema", [True, False])
def test_the_gradient_passes_through_and_only_a_gradient_codebook_has_one(ema):
    layer, loss, x = VectorQuantizer(4, 2, ema=ema, seed=0), CommitmentLoss(0.25), tf.Variable(draw(9, 4))
    loss.bind(None, None, layer)
    layer.build((None, 4))
    with tf.GradientTape(persistent=True) as tape:
        z = layer(x)
        passed = tf.reduce_sum(3.0 * z)
        loss(x, z)
        total = sum(loss.losses)
    np.testing.assert_array_equal(tape.gradient(passed, x), np.full((9, 4), 3.0))
    distance = x.numpy() - z.numpy()
    assert float(total) == pytest.approx((0.25 if ema else 1.25) * np.square(distance).mean(), rel=1e-5)
    np.testing.assert_allclose(tape.gradient(total, x), 0.25 * 2 * distance / 36, atol=1e-6)
    pull = tape.gradient(total, layer.codebook.value)
    assert pull is None if ema else float(tf.reduce_sum(tf.abs(pull))) > 0


def test_categories_are_drawn_by_their_probability():
    logits = draw(1, 6)
    layer = GumbelSoftmax(3, temperature=0.1, seed=0)
    drawn = layer(np.repeat(logits, 20_000, axis=0), training=True).numpy().reshape(-1, 2, 3)
    np.testing.assert_allclose(drawn.sum(axis=-1), 1.0, rtol=1e-5)
    p = softmax(logits.reshape(2, 3), axis=-1)
    # Gumbel-max: the highest is distributed as the categories; five standard errors of a share of 20,000 rows.
    share = np.stack([(drawn.argmax(-1) == c).mean(axis=0) for c in range(3)], axis=-1)
    assert (np.abs(share - p) < 5 * np.sqrt(p * (1 - p) / 20_000)).all()
    np.testing.assert_array_equal(layer(logits).numpy().reshape(2, 3), np.eye(3)[p.argmax(axis=-1)])


def test_variables_have_by_default_as_many_categories_as_tell_most():
    for n in range(2, 41):
        states = {c: c ** (n // c) for c in range(2, n + 1) if n % c == 0}
        assert states[categories_of(n, None)] == max(states.values())


def test_the_kl_of_categories_is_from_the_uniform_distribution():
    logits, loss = draw(7, 6), CategoricalKLLoss(2.0, 3)
    loss(logits)
    q = softmax(logits.reshape(7, 2, 3).astype("float64"), axis=-1)
    expected = 2 * stats.entropy(q, np.full(3, 1 / 3)[None, None], axis=-1).sum(axis=1).mean()
    assert float(loss.losses[0]) == pytest.approx(expected, rel=1e-5)


def test_what_a_codebook_generates_is_decoded_from_codes():
    keras.utils.set_random_seed(0)
    model = keras_ae.build("vq_vae", 16, 2, codes=3, hidden=[8])
    assert len(np.unique(model.generate(300, seed=0).round(5), axis=0)) == 3
    model = keras_ae.build("gumbel", 16, 4, categories=2, hidden=[8])
    assert len(np.unique(model.generate(300, seed=0).round(5), axis=0)) == 4


def test_layers_keep_their_options():
    for layer in (
        VectorQuantizer(8, 3, 2, ema=False, decay=0.9, revive=0.1, seed=1),
        CommitmentLoss(0.5),
        GumbelSoftmax(4, 0.7, seed=2),
        CategoricalKLLoss(0.5, 4),
    ):
        config = keras.saving.serialize_keras_object(layer)
        assert keras.saving.deserialize_keras_object(config).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("vq_vae", {"codes": 1}, "codes.*1"),
        ("vq_vae", {"code_dim": 3}, "code_dim.*divide the 4 latents.*3"),
        ("vq_vae", {"revive": 1.0}, "revive.*1.0"),
        ("residual_vq", {"stages": 0}, "stages.*0"),
        ("gumbel", {"categories": 3}, "divide the 4 latents.*3"),
        ("gumbel", {"temperature": 0.0}, "temperature.*0.0"),
    ],
)
def test_options_that_make_no_sense_are_refused(recipe, options, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.build(recipe, 16, 4, **options)


def test_a_commitment_needs_a_codebook():
    network = keras_ae.networks.NETWORKS["dense"]
    with pytest.raises(ValueError, match=r"VectorQuantizer.*None"):
        keras_ae.Autoencoder(network.encoder((4,), 2), network.decoder((4,), 2), regularizers=[CommitmentLoss()])
