"""The fast path of `fit` is Keras's: same numbers, same callbacks; it neither traces nor copies more than it must."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_ae
from keras_ae import resident

X = np.random.default_rng(0).normal(size=(300, 12)).astype("float32")


def model(recipe="vae", seed=0, jit_compile=False, **compile_options):  # compiling takes seconds
    keras.utils.set_random_seed(seed)
    model = keras_ae.build(recipe, 12, 3, hidden=[16], linear=False)
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=jit_compile, **compile_options)
    return model


@pytest.mark.parametrize(
    ("recipe", "jit_compile"), [("ae", True), ("vae", False), pytest.param("vae", True, marks=pytest.mark.slow)]
)
def test_it_gives_the_loss_curve_of_plain_keras_on_the_same_batches(recipe, jit_compile):
    fast = model(recipe, jit_compile=jit_compile)
    curve = fast.fit(X, batch_size=64, epochs=3, shuffle=False, validation_data=X[:50], verbose=0).history
    plain = model(recipe)  # not compiled: noise is the same either way
    expected = keras.Model.fit(
        plain, X, batch_size=64, epochs=3, shuffle=False, validation_data=(X[:50],), verbose=0
    ).history
    assert set(curve) == set(expected)
    for name in curve:
        np.testing.assert_allclose(curve[name], expected[name], rtol=1e-4, err_msg=name)


def test_every_row_is_seen_once_an_epoch_in_an_order_that_follows_from_the_seed():
    orders = []
    for seed in (0, 0, 1):
        fast = model("ae", seed=seed)
        seen = []
        record = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs, m=fast, s=seen: s.append(m._rows.order.numpy())
        )
        fast.fit(X, batch_size=64, epochs=2, callbacks=[record], verbose=0)
        for order in seen:
            assert sorted(order) == list(range(len(X)))
        assert not np.array_equal(*seen)
        orders.append(np.stack(seen))
    np.testing.assert_array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])


def test_rows_that_are_too_many_to_stay_are_visited_in_the_same_order(monkeypatch):
    stays = model()
    stays.fit(X, batch_size=64, epochs=3, validation_data=X[:50], verbose=0)
    monkeypatch.setattr(resident, "_MOST_BYTES", 0)
    streamed = model()
    monkeypatch.setattr(streamed._rows, "put", None)
    streamed.fit(X, batch_size=64, epochs=3, validation_data=X[:50], verbose=0)
    for name, values in stays.history.history.items():
        np.testing.assert_allclose(streamed.history.history[name], values, rtol=1e-4, err_msg=name)


class Batches(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.begun, self.ended = [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.begun.append(batch)

    def on_train_batch_end(self, batch, logs=None):
        self.ended.append((batch, float(logs["loss"])))


def test_a_callback_that_looks_at_batches_sees_each():
    batches = Batches()
    model().fit(X, batch_size=64, epochs=2, callbacks=[batches], verbose=0)
    assert batches.begun == [0, 1, 2, 3, 4] * 2
    assert [batch for batch, _ in batches.ended] == batches.begun
    assert all(np.isfinite(loss) for _, loss in batches.ended)


def test_steps_per_execution_of_compile_is_respected():
    fast = model(steps_per_execution=2)
    batches = Batches()
    fast.fit(X, batch_size=64, epochs=1, callbacks=[batches], verbose=0)
    assert batches.begun == [0, 2, 4]


@pytest.mark.parametrize(("jit_compile", "most"), [(False, 1), (True, 2)])  # XLA's batches, and the short one without
def test_the_step_is_traced_no_more_often_than_there_are_graphs(jit_compile, most):
    fast = model(jit_compile=jit_compile)
    traces = []
    step = fast.train_step
    fast.train_step = lambda data: traces.append(1) or step(data)
    fast.fit(X, batch_size=64, epochs=2, validation_data=X[:50], verbose=0)
    assert len(traces) == most


def test_a_second_fit_traces_nothing_again():
    fast = model()
    traces = []
    step = fast.train_step
    fast.train_step = lambda data: traces.append(1) or step(data)
    fast.fit(X, batch_size=64, epochs=2, validation_data=X[:50], verbose=0)
    first = len(traces)
    assert first > 0
    fast.fit(X, batch_size=64, epochs=2, validation_data=X[:50], verbose=0)
    fast.fit(X[:290], batch_size=64, epochs=1, validation_data=X[:50], verbose=0)
    assert len(traces) == first


def test_an_epoch_copies_no_rows_and_calls_the_compiled_graph_once():
    fast = model()
    fast.fit(X, batch_size=64, epochs=1, verbose=0)
    calls, copies = [], []
    run = fast.train_function
    fast.train_function = lambda iterator: calls.append(1) or run(iterator)
    put = fast._rows.put
    fast._rows.put = lambda name, x: copies.append(name) or put(name, x)
    fast.fit(X, batch_size=64, epochs=7, verbose=0)
    assert len(calls) == 7
    assert copies == ["train"]


def test_a_later_fit_on_other_rows_learns_those():
    fast = model("ae")
    fast.fit(X, batch_size=64, epochs=1, verbose=0)
    other = np.full((300, 12), 7, "float32")
    fast.fit(other, batch_size=64, epochs=60, verbose=0)
    assert abs(fast.reconstruct(other) - 7).mean() < 0.5


def test_data_sets_and_generators_train_as_in_keras():
    dataset = tf.data.Dataset.from_tensor_slices(X).batch(64)
    fast = model("ae")
    curve = fast.fit(dataset, epochs=2, validation_data=dataset, verbose=0).history
    expected = model("ae").fit(X, batch_size=64, epochs=2, shuffle=False, verbose=0).history
    np.testing.assert_allclose(curve["loss"], expected["loss"], rtol=1e-4)
    assert len(curve["val_loss"]) == 2


def test_memory_of_the_rows_is_given_back_after_fit_and_evaluate():
    fast = model("ae")
    fast.fit(X, batch_size=64, epochs=1, validation_data=X, verbose=0)
    fast.evaluate(X, verbose=0)
    held = [rows for of_split in fast._rows.variables.values() for rows in of_split.values()]
    assert [len(rows.numpy()) for rows in [*held, fast._rows.order]] == [0, 0, 0]


def test_a_callback_may_evaluate_other_rows_while_fit_goes_on():
    seen = []

    def look(epoch, logs):
        seen.append(fast.evaluate(X[:100], verbose=0))

    fast = model("ae")
    look_on = keras.callbacks.LambdaCallback(on_epoch_end=look)
    history = fast.fit(X, batch_size=64, epochs=3, validation_data=X[:50], callbacks=[look_on], verbose=0).history
    alone = model("ae").fit(X, batch_size=64, epochs=3, validation_data=X[:50], verbose=0).history
    assert history == alone
    assert len(seen) == 3
    assert np.isfinite(seen).all()
    assert len(fast._rows.variables["validation"]["x"].numpy()) == 0


@pytest.mark.parametrize("dtype", ["float64", "float16", "int64"])
def test_rows_of_another_dtype_are_taken_as_keras_takes_them(dtype):
    whole = np.round(X * 3)  # that every dtype holds
    fast = model("ae")
    first = fast.fit(whole, batch_size=64, epochs=1, shuffle=False, verbose=0).history["loss"]
    second = fast.fit(whole.astype(dtype), batch_size=64, epochs=1, shuffle=False, verbose=0).history["loss"]
    both = model("ae").fit(whole, batch_size=64, epochs=2, shuffle=False, verbose=0).history["loss"]
    np.testing.assert_allclose([*first, *second], both, rtol=1e-6)


def test_evaluate_agrees_with_keras_on_rows_that_fill_no_batch():
    fast = model("vae")
    values = fast.evaluate(X, batch_size=128, verbose=0, return_dict=True)
    expected = keras.Model.evaluate(model("vae"), X, batch_size=128, verbose=0, return_dict=True)
    assert values == pytest.approx(expected, rel=1e-5)


def test_validation_that_keras_runs_itself_is_whole():
    validation = tf.data.Dataset.from_tensor_slices(X).batch(1)
    fast = model("ae")
    for _ in range(2):
        history = fast.fit(X, batch_size=64, epochs=1, validation_data=validation, verbose=0).history
        rows = keras.Model.evaluate(fast, X, batch_size=300, verbose=0, return_dict=True)
        assert history["val_loss"][0] == pytest.approx(rows["loss"], rel=0.1)


def test_a_model_that_overrides_the_step_trains_in_the_loop():
    class TwoOptimizers(keras_ae.Autoencoder):
        """Adversarial recipes need two: here one for each half."""

        def compile(self, optimizer="adam", **kwargs):
            super().compile(optimizer, **kwargs)
            self.second = keras.optimizers.SGD(1e-2)

        def train_step(self, data):
            with tf.GradientTape(persistent=True) as tape:
                self(data, training=True)
                loss = sum(self.losses)
            self._loss_tracker.update_state(loss)
            for optimizer, half in ((self.optimizer, self.encoder), (self.second, self.decoder)):
                weights = half.trainable_variables
                optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return self.get_metrics_result()

    keras.utils.set_random_seed(0)
    plain = keras_ae.build("ae", 12, 3, hidden=[16], linear=False)
    two = TwoOptimizers(plain.encoder, plain.decoder)
    two.compile("adam", jit_compile=False)
    before = [w.copy() for w in two.get_weights()]
    history = two.fit(X, batch_size=64, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert sum(not np.array_equal(a, b) for a, b in zip(before, two.get_weights(), strict=True)) > 4


def test_time_to_the_first_step_is_told():
    fast = model("ae")
    assert fast.seconds_to_first_step is None
    fast.fit(X, batch_size=64, epochs=1, verbose=0)
    assert 0 < fast.seconds_to_first_step < 600


def test_rows_are_no_part_of_a_saved_model(tmp_path):
    fast = model("ae")
    fast.fit(np.tile(X, (200, 1)), batch_size=512, epochs=1, validation_data=X, verbose=0)
    fast.save(tmp_path / "m.keras")
    assert (tmp_path / "m.keras").stat().st_size < X.nbytes * 20
    assert all(w.shape[0] < 10_000 for w in fast.get_weights() if w.ndim)


def test_convolutions_are_not_jit_compiled_unless_asked(xla):
    conv = keras_ae.build("ae", (8, 8), 2, filters=[2])
    conv.compile("adam")
    assert conv.jit_compile is False
    conv.compile("adam", jit_compile=True)
    assert conv.jit_compile is True
    assert model(jit_compile="auto").jit_compile is True
