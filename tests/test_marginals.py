"""Samples are rows that a table can have: their columns are distributed as in training, whole where it had whole
numbers alone."""

from dataclasses import replace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from keras_ae.export import Reference
from scipy.stats import ks_2samp, spearmanr

import keras_ae
from keras_ae import pipeline, runtime
from keras_ae.data import Rows, Schema, Source, fit_support, load_source
from keras_ae.data.columns import fit_columns, within_support
from keras_ae.errors import ExportError
from keras_ae.interface import standard_normal
from keras_ae.layers import Marginals
from keras_ae.sklearn import Generator

NAMES = ("price", "count", "stock", "share")
WHOLE = [False, True, True, False]


def goods(n=300, seed=0):
    """Prices and shares that are never below 0, counts, and whole numbers so large that float32 has few digits left."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    columns = (np.exp(1.5 * z), rng.poisson(np.exp(3 + z / 2)), np.rint(1e6 * z), 1 / (1 + np.exp(-2 * z)))
    return np.stack(columns, axis=1).astype("float32")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("support")
    np.savetxt(folder / "goods.csv", goods(), delimiter=",", header=",".join(NAMES), comments="")
    return pipeline.fit(folder / "goods.csv", folder / "goods", epochs=10, hidden=[16], report=False)


def are_whole(x):
    return (x == np.rint(x)).all(axis=0).tolist()


def check(x, seen):
    assert are_whole(x) == WHOLE
    assert (x >= seen.min(axis=0)).all()
    assert (x <= seen.max(axis=0)).all()


numbers = st.floats(-1e6, 1e6, width=32)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_the_nearest_row_that_a_table_can_have(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=6))
    rounded = np.array(data.draw(st.lists(st.booleans(), min_size=shape[1], max_size=shape[1])))
    seen = data.draw(arrays("float32", shape, elements=numbers))
    seen = np.where(rounded, np.rint(seen), seen)
    x = data.draw(arrays("float32", shape, elements=st.one_of(numbers, st.just(np.float32(np.nan)))))
    schema = fit_support(Schema.of_numbers([f"c{i}" for i in range(shape[1])]), seen)
    layer = Marginals(schema.describe(), noisy=False)
    near = np.array(layer(x))
    np.testing.assert_array_equal(near, layer(near))
    np.testing.assert_array_equal(layer(seen), seen)
    for i, column in enumerate(schema.columns):
        if column.is_discrete:  # the nearest number that there is
            gap = np.abs(x[:, [i]] - np.array(column.values, "float32")).min(axis=1)
            np.testing.assert_array_equal(np.abs(x[:, i] - near[:, i]), gap)
            near[:, i] = within_support(schema, x)[:, i]
    np.testing.assert_array_equal(near, within_support(schema, x))
    known = ~np.isnan(x)
    np.testing.assert_array_equal(np.isnan(near), ~known)
    whole = np.array([column.whole for column in schema.columns])
    low, high = seen.min(axis=0), seen.max(axis=0)
    clipped = np.clip(x, low, high)
    assert (np.abs(near - clipped)[known] <= np.broadcast_to(np.where(whole, 0.5, 0.0), shape)[known]).all()
    assert are_whole(np.where(known & whole, near, 0.0)) == [True] * shape[1]


def test_samples_of_numbers_are_such_rows_in_every_export(fitted):
    model, seen, n = runtime.load(fitted.artifact), fitted.splits.train, 500
    x = model.generate(n, seed=0)
    check(x, seen)
    assert len(np.unique(x[:, 1])) > 5
    keras_rows = fitted.model.generate(n, seed=0)
    check(keras_rows, seen)
    np.testing.assert_allclose(keras_rows, x, rtol=1e-4, atol=1.0)
    signature = tf.saved_model.load(str(fitted.artifact / "saved_model/1")).signatures["generate"]
    noise = standard_normal(n, fitted.model.epsilon_dim, seed=0)
    check(signature(epsilon=tf.constant(noise))["x"].numpy(), seen)
    loaded = keras_ae.storage.load(fitted.artifact)
    np.testing.assert_array_equal(loaded.generate(n, seed=0), keras_rows)
    # What is rebuilt is as the decoder says: its error is that of training.
    assert are_whole(model.reconstruct(fitted.splits.test)) == [False] * 4
    assert model.schema is None


@pytest.mark.parametrize("precision", ["int8", "float16"])
def test_graphs_of_other_precisions_give_such_rows_too(fitted, precision):
    import onnx
    import onnxruntime
    from keras_ae.export.quantization import METHODS, converted

    original = onnx.load(fitted.artifact / "onnx/float32/generate.onnx")
    noise = standard_normal(200, fitted.model.epsilon_dim, seed=0)
    for method in METHODS[precision].values():
        graph = converted(method, original, {"epsilon": noise})
        session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
        check(session.run(["x"], {"epsilon": noise})[0], fitted.splits.train)


def test_a_number_midway_between_two_whole_ones_may_go_to_either(fitted):
    model = fitted.model
    reference = Reference.of(model, fitted.splits.test)

    def said(count):
        rows = np.zeros((1, 4), "float32")
        rows[:, 1] = count
        return rows

    low, high = np.float32(-500), np.float32(500)
    for _ in range(100):  # what the decoder has to say for 20 or 21
        middle = (low + high) / 2
        is_less = np.asarray(model.marginals(said(middle), np.zeros((1, 4), "float32")))[0, 1] < 21
        low, high = (middle, high) if is_less else (low, middle)
    midway = {
        n: {name: np.where(np.arange(4) == 1, high if name == "said" else 0.0, part) for name, part in parts.items()}
        for n, parts in reference.said.items()
    }
    cases = []
    for name, inputs, outputs in reference.cases:
        if name == "generate":
            outputs = {"x": np.where(np.arange(4) == 1, np.float32(21), outputs["x"])}
        cases.append((name, inputs, outputs))
    reference = replace(reference, cases=cases, said=midway)

    def gives(count):
        def run(name, inputs):
            outputs = model.run(name, inputs)
            return (
                {"x": np.where(np.arange(4) == 1, np.float32(count), outputs["x"])} if name == "generate" else outputs
            )

        return run

    for count in (20, 21):
        figures = reference.compare("a runtime", gives(count))["generate"]
        assert figures["max_rel_diff"] <= 1e-5
    for count in (19, 20.5, 22):
        with pytest.raises(ExportError, match=r"generate, output x, .* must agree with Keras"):
            reference.compare("a runtime", gives(count))


def clinic(n=400, seed=0):
    """A rare flag, a code of three numbers, an amount that is mostly 0, and a number that is new in each row."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=n)
    flag = rng.random(n) < 0.1 + 0.1 * (z > 1)
    code = np.array([1, 4, 9.5])[np.digitize(z + 0.5 * rng.normal(size=n), [0, 1.5])]
    amount = np.where(z + rng.normal(size=n) < 0.8, 0.0, np.exp(z + 3))
    return np.stack([flag, code, amount, z], axis=1).astype("float32")


def shares(x):
    """Of flags, of codes and of amounts of 0."""
    return [x[:, 0].mean(), *(np.mean(x[:, 1] == code) for code in (1, 4, 9.5)), np.mean(x[:, 2] == 0)]


def test_numbers_that_are_met_again_and_again_are_as_frequent_in_samples():
    seen = clinic()
    schema = fit_support(Schema.of_numbers(("flag", "code", "amount", "z")), seen)
    assert [column.values for column in schema.columns] == [(0, 1), (1, 4, 9.5), (0,), ()]
    assert [column.is_discrete for column in schema.columns] == [True, True, False, False]
    drawn = np.random.default_rng(1).normal(3, 2, size=(4_000, 4)).astype("float32")
    layer = Marginals(schema.describe(), noisy=False)
    layer.build()
    layer.fit(drawn, seen)
    x = np.array(layer(drawn))
    np.testing.assert_allclose(shares(x), shares(seen), atol=1e-3)
    assert np.isin(x[:, 1], [1, 4, 9.5]).all()
    order = np.argsort(drawn, axis=0)
    assert (np.diff(np.take_along_axis(x, order, axis=0), axis=0) >= 0).all()  # ranks stay
    assert np.isnan(layer(np.full((1, 4), np.nan, "float32"))).all()


@pytest.mark.slow
@pytest.mark.parametrize("words", [False, True])
def test_samples_of_every_export_have_such_numbers(tmp_path, words):
    fitted = pipeline.fit(visits(words), tmp_path / "clinic", epochs=0, hidden=[8], report=False)  # compares exports
    model = runtime.load(fitted.artifact)
    x = model.generate(2_000, seed=1)
    np.testing.assert_allclose(shares(x), shares(fitted.splits.train), atol=0.03)
    loaded = keras_ae.load(fitted.artifact)
    np.testing.assert_array_equal(loaded.generate(500, seed=2)[:, :2], model.generate(500, seed=2)[:, :2])


def visits(words):
    frame = pd.DataFrame(clinic(), columns=["flag", "code", "amount", "z"])
    return frame.assign(kind=np.where(frame["z"] > 0, "a", "b")) if words else frame


def test_samples_beside_words_have_such_numbers():
    fitted = pipeline.fit(visits(words=True), epochs=0, hidden=[8])
    np.testing.assert_allclose(shares(fitted.model.generate(2_000, seed=1)), shares(fitted.splits.train), atol=0.03)


def test_a_code_is_the_nearest_one_before_anything_was_learned_too():
    schema = fit_support(Schema.of_numbers(("flag", "code", "amount", "z")), clinic())
    layer = Marginals(schema.describe(), noisy=False)
    x = np.array([[-3, -5, 0, 0], [0.6, 5, 0, 0], [9, 50, 0, 0]], "float32")
    np.testing.assert_array_equal(np.asarray(layer(x))[:, :2], [[0, 1], [1, 4], [1, 9.5]])


def test_a_cell_has_the_distribution_of_training_and_the_correlation_of_what_is_said_with_it():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4_000, 2))
    told, untold = np.exp(z[:, 0]), rng.gamma(2.0, size=4_000)
    seen = np.stack([told, untold], axis=1).astype("float32")
    # Of the first column the rank is said, of the second nothing.
    said = np.stack([0.1 * z[:, 0] + 5, z[:, 1]], axis=1).astype("float32")
    layer = Marginals(fit_support(Schema.of_numbers(("told", "untold")), seen).describe(), noisy=True)
    layer.build()
    layer.fit(said, seen, said)
    new = rng.normal(size=(4_000, 2))
    x = np.asarray(layer((0.1 * new + [5, 0]).astype("float32") * [1, 10], rng.normal(size=(4_000, 2))))
    for i in range(2):
        assert ks_2samp(x[:, i], seen[:, i]).statistic < 0.04
    assert spearmanr(x[:, 0], new[:, 0]).statistic > 0.99
    assert abs(spearmanr(x[:, 1], new[:, 1]).statistic) < 0.05
    assert np.isnan(layer(np.full((1, 2), np.nan, "float32"), np.zeros((1, 2), "float32"))).all()


def test_a_column_of_which_the_decoder_always_says_the_same_is_drawn_all_the_same():
    rng = np.random.default_rng(0)
    seen, said = rng.gamma(2.0, size=(1_000, 1)).astype("float32"), np.full((1_000, 1), 2.0, "float32")
    for noisy in (False, True):
        layer = Marginals(fit_support(Schema.of_numbers(("x",)), seen).describe(), noisy=noisy)
        layer.build()
        layer.fit(said, seen, said if noisy else None)
        x = np.asarray(layer(said, rng.normal(size=(1_000, 1))))[:, 0]
        assert ks_2samp(x, seen[:, 0]).statistic < 0.08 if noisy else (x == 2).all()


def test_flags_that_are_told_are_not_drawn_about_what_is_said():
    rng = np.random.default_rng(0)
    z = rng.normal(size=2_000)
    seen = np.stack([z > 1, rng.random(2_000) < 0.3], axis=1).astype("float32")
    said = np.stack([1 / (1 + np.exp(-9 * (z - 1))), z], axis=1).astype("float32")
    layer = Marginals(fit_support(Schema.of_numbers(("told", "untold")), seen).describe(), noisy=True)
    layer.build()
    layer.fit(said, seen, said)
    x = np.asarray(layer(said, rng.normal(size=(2_000, 2))))
    assert np.mean(x[:, 0] == seen[:, 0]) > 0.98
    assert abs(np.corrcoef(x[:, 1], z)[0, 1]) < 0.1
    np.testing.assert_allclose(x.mean(axis=0), seen.mean(axis=0), atol=0.03)


def test_what_is_no_table_stays_as_the_decoder_says(fitted):
    x = goods()
    arrays_alone = pipeline.fit(x, epochs=0, hidden=[8]).model
    assert arrays_alone.marginals is None
    assert keras_ae.build("vae", (8, 4), 2, filters=[2]).marginals is None
    config = fitted.model.get_config()
    assert isinstance(fitted.model.marginals, Marginals)
    assert keras_ae.Autoencoder.from_config({k: v for k, v in config.items() if k != "marginals"}).marginals is None


def test_tables_of_every_kind_have_whole_numbers_in_the_graph():
    x = goods()
    kinds = {**dict(zip(NAMES, x.T, strict=True)), "colour": np.where(x[:, 0] > 1, "red", "blue")}
    model = pipeline.fit(kinds, epochs=0, hidden=[8]).model
    drawn = model.generate(300, seed=0)
    check(drawn[:, :4], x)
    twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert twin.marginals.schema == model.marginals.schema == model.draws.schema


def test_kl_ae_gives_such_rows_too():
    x = np.abs(goods())
    source = load_source(dict(zip(NAMES, x.T, strict=True)))
    fitted = pipeline.fit(source, recipe="kl_ae", epochs=0, hidden=[8])
    drawn = fitted.model.generate(300, seed=0)
    check(drawn, fitted.splits.train)
    assert len(np.unique(drawn[:, 2])) > 50


def test_a_schema_may_ask_for_normal_quantiles_of_a_table_of_numbers():
    x = goods()
    of = {"price": {"kind": "numeric", "transform": "quantile"}, "stock": {"kind": "numeric", "transform": "linear"}}
    fitted = pipeline.fit(load_source(dict(zip(NAMES, x.T, strict=True)), schema=of), epochs=0, hidden=[8])
    assert [column.transform for column in fitted.model.scaling.schema.columns] == ["quantile", None, "linear", None]
    check(fitted.model.generate(300, seed=0), fitted.splits.train)


@pytest.mark.parametrize("price", [{"transform": "linear"}, {"transform": "quantile"}])
def test_a_table_of_numbers_is_one_where_a_transform_can_not_be_had(price):
    x = goods()[:, :2]
    x[:, 0] = x[:, 0] if price["transform"] == "linear" else 1.0  # which has no quantiles
    fitted = fit_columns(load_source({"price": x[:, 0], "count": x[:, 1]}, schema={"price": price}).rows.schema, x)
    assert not fitted.is_plain


def test_estimators_take_arrays_as_tables():
    x = goods()
    generator = Generator(epochs=0, options={"hidden": [8]}, random_state=0).fit(x)
    check(generator.sample(300, random_state=0), x)


def test_the_bounds_of_a_source_are_those_of_its_training_rows():
    x = goods()
    source = Source("goods", Rows(x, columns=NAMES))
    splits = pipeline.fit(source, epochs=0, hidden=[8])
    bounds = [column.bounds for column in splits.model.marginals.schema.columns]
    np.testing.assert_array_equal(
        np.array(bounds).T, [splits.splits.train.min(axis=0), splits.splits.train.max(axis=0)]
    )
