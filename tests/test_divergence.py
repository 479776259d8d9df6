"""A loss that is no longer finite stops the run at that step, by name and rows, and leaves the last good weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ae
from keras_ae.divergence import Divergence
from keras_ae.errors import DivergenceError, InputError
from keras_ae.layers.losses import LossLayer

ROWS = np.random.default_rng(0).normal(size=(300, 12)).astype("float32")


class Unstable(LossLayer):
    """A term that is finite, and whose gradient is not where `power` is below 1 and z is 0."""

    reads = ("z",)

    def call(self, z):
        self.add_term(tf.reduce_mean(tf.pow(tf.nn.relu(z - 1e6), 0.5)), z)
        return z


def model(*regularizers, rate=1e-3, jit_compile=False):
    keras.utils.set_random_seed(0)
    x, z = keras.Input((12,)), keras.Input((3,))
    encoder = keras.Model(x, keras.layers.Dense(3)(keras.layers.Dense(8, activation="relu")(x)))
    decoder = keras.Model(z, keras.layers.Dense(12)(keras.layers.Dense(8, activation="relu")(z)))
    built = keras_ae.Autoencoder(encoder, decoder, regularizers=regularizers)
    built.compile(keras.optimizers.SGD(rate), jit_compile=jit_compile)
    return built


def fit(built, rows=ROWS, action="stop", epochs=2, **kwargs):
    divergence = Divergence(action)
    built.fit(rows, batch_size=32, epochs=epochs, callbacks=[divergence], shuffle=False, verbose=0, **kwargs)
    return divergence


def weights(built):
    return [w for w in built.get_weights() if np.issubdtype(w.dtype, np.floating)]


def are_finite(built):
    return all(np.isfinite(w).all() for w in built.encoder.get_weights() + built.decoder.get_weights())


def test_the_term_the_step_and_the_row_are_named_and_the_weights_are_those_before():
    rows = ROWS.copy()
    rows[[100, 290]] = 1e30  # in steps 4 and 10
    diverging = model(jit_compile=True)
    with pytest.raises(DivergenceError, match=r"rmse not finite in epoch 1, step 4, of training rows 100\.") as stopped:
        fit(diverging, rows)
    error = stopped.value
    assert (error.terms, error.epoch, error.step, error.rows) == (("rmse",), 1, 4, (100,))
    start = model().get_weights()
    for a, b in zip(diverging.get_weights(), start, strict=True):
        np.testing.assert_array_equal(a, b)  # one span: the copy is that of the beginning


def test_rows_are_named_by_their_place_in_what_was_given_however_they_are_shuffled():
    rows = ROWS.copy()
    rows[77] = 1e30
    with pytest.raises(DivergenceError) as stopped:
        model().fit(rows, batch_size=32, epochs=1, callbacks=[Divergence()], verbose=0)
    assert stopped.value.rows == (77,)


def test_a_gradient_that_is_not_finite_is_named_though_every_term_is():
    diverging = model(Unstable(name="unstable"))
    with pytest.raises(DivergenceError, match="gradient not finite in epoch 1, step 1") as stopped:
        fit(diverging, epochs=1)
    assert stopped.value.rows == tuple(range(32))  # no row does it alone in the loss
    assert are_finite(diverging)


def test_a_lower_learning_rate_learns_from_the_same_rows_and_goes_on():
    with pytest.raises(DivergenceError, match="rmse not finite"):
        fit(model(rate=1e10))
    again = model(rate=1e10)
    history = []
    record = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: history.append(logs["loss"]))
    divergence = Divergence("lower_learning_rate", factor=1e-6)
    again.fit(ROWS, batch_size=32, epochs=3, callbacks=[divergence, record], verbose=0)
    assert len(divergence.notes) == 2
    assert divergence.notes[-1].startswith("rmse not finite in epoch 1, step ")
    assert float(again.optimizer.learning_rate) == pytest.approx(1e-2)
    assert np.isfinite(history).all()
    assert history[-1] < history[0]
    assert int(again.optimizer.iterations) == 30  # as if nothing had happened


def test_after_some_cuts_it_stops():
    rows = ROWS.copy()
    rows[100] = np.float32(3e38)  # no rate helps
    diverging = model()
    with pytest.raises(DivergenceError, match=r"training rows 100 after 5 cuts of the learning rate"):
        fit(diverging, rows, "lower_learning_rate")
    assert are_finite(diverging)


def test_off_resident_rows_the_term_is_named_and_the_weights_of_the_epoch_before_come_back():
    rows = ROWS.copy()
    rows[100] = 1e30
    dataset = tf.data.Dataset.from_tensor_slices(rows).batch(32)
    diverging = model()
    diverging.compile("adam", jit_compile=False)
    with pytest.raises(DivergenceError, match=r"rmse not finite in epoch 1\. ") as stopped:
        diverging.fit(dataset, epochs=1, callbacks=[Divergence()], verbose=0)
    assert (stopped.value.step, stopped.value.rows) == (None, None)
    for a, b in zip(diverging.get_weights(), model().get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_that_does_not_diverge_is_as_without():
    alone, watched = model(), model()
    alone.fit(ROWS, batch_size=32, epochs=2, shuffle=False, verbose=0)
    fit(watched)
    for a, b in zip(watched.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_unknown_action_is_refused():
    with pytest.raises(InputError, match=r"one of stop, lower_learning_rate\. Received: 'hope'"):
        Divergence("hope")


class TooHighRate(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            self.model.optimizer.learning_rate.assign(1e30)


def test_fit_exports_nothing_where_the_loss_diverges(tmp_path):
    with pytest.raises(DivergenceError, match=r"rmse not finite in epoch 2, step \d") as stopped:
        keras_ae.fit(ROWS, tmp_path / "a", "ae", epochs=3, hidden=[8], latent_dim=2, callbacks=[TooHighRate()])
    assert stopped.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []
