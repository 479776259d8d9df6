"""Labels: what they may be, how missing ones spread, what is learned from them, and what is asked for by them."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import log_softmax
from sklearn.datasets import load_digits, make_moons
from typer.testing import CliRunner

import keras_ae
from keras_ae import runtime, storage
from keras_ae.cli import app
from keras_ae.data import fit_scaling, load_source, split
from keras_ae.data.labels import UNKNOWN, Classes, label_index
from keras_ae.data.spreading import spread_labels
from keras_ae.errors import InputError
from keras_ae.labelling import labels_of
from keras_ae.layers import CrossEntropyLoss, LogarithmicPool

DIGITS = load_digits()
X, Y = DIGITS.data.astype("float32"), DIGITS.target.astype("int32")
SMALL = {"epochs": 5, "latent_dim": 6, "hidden": [32]}


# What labels are


@pytest.mark.parametrize(
    ("labels", "names", "indices"),
    [
        ([3, 1, 3, 1, -1], ("1", "3"), [1, 0, 1, 0, -1]),
        ([1.0, 0.0, np.nan, 1.0, 0.0], ("0", "1"), [1, 0, -1, 1, 0]),
        (["b", "a", "", "a ", "b"], ("a", "b"), [1, 0, -1, 0, 1]),
        ([None, "x", "y", "x", "y"], ("x", "y"), [-1, 0, 1, 0, 1]),
        ([True, False, True, False], ("False", "True"), [1, 0, 1, 0]),
        ([b"u", b"v", b"u", b"v"], ("u", "v"), [0, 1, 0, 1]),
        ([10, 9, 10, 9], ("9", "10"), [1, 0, 1, 0]),
    ],
)
def test_labels_of_any_kind_become_indices_of_names(labels, names, indices):
    labels = np.array(labels, dtype=object) if None in labels else np.array(labels)
    classes = Classes.of(labels)
    assert classes.names == names
    np.testing.assert_array_equal(classes.index(labels), indices)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "float64", "bool", "Int64", "category", "str"])
def test_a_column_of_a_dataframe_in_any_dtype_holds_labels(dtype):
    y = pd.Series([1, 0, 1, 0, 1, 0], dtype="category") if dtype == "category" else pd.Series([1, 0] * 3).astype(dtype)
    source = load_source(pd.DataFrame({"a": np.arange(6.0), "y": y}), labels="y")
    classes = Classes.of(source.rows.y)
    assert classes.names == (("False", "True") if dtype == "bool" else ("0", "1"))
    np.testing.assert_array_equal(classes.index(source.rows.y), [1, 0] * 3)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 1, 1], "two classes or more. Received: only 1"),
        ([-1, -1], "none that is known"),
        ([0, 0, 1], "two labelled rows or more. Received: one row of '1'"),
        ([0.5, 0.5, 1, 1], r"whole numbers or text. Received: 0\.5"),
        (np.repeat(np.arange(1001), 2), "at most 1,000 classes. Received: 1,001"),
        ([[0, 1], [0, 1]], r"shape \(rows,\). Received: \(2, 2\)"),
    ],
)
def test_labels_that_make_no_classes_are_refused(labels, message):
    with pytest.raises(InputError, match=message):
        Classes.of(np.array(labels))


def test_a_label_of_no_known_class_is_named_with_its_row():
    with pytest.raises(InputError, match=r"classes a, b\. Received: 'c' in row 1"):
        Classes(("a", "b")).index(np.array(["a", "c"]))


def test_what_is_asked_for_is_a_name_an_index_or_one_for_each_row():
    names = ("cat", "dog")
    assert label_index("dog", 2, names).tolist() == [1, 1]
    assert label_index(0, 2, names).tolist() == [0, 0]
    assert label_index(["dog", 0, -1], 3, names).tolist() == [1, 0, -1]
    assert label_index(None, 2, names).tolist() == [UNKNOWN, UNKNOWN]
    for y, message in (
        ("cow", "cat, dog, or its index, 0 to 1. Received: 'cow'"),
        (2, "0 to 1. Received: 2"),
        (True, "Received: True"),
        (["cat"], "one a row: 2. Received: 1"),
    ):
        with pytest.raises(InputError, match=message):
            label_index(y, 2, names)
    with pytest.raises(InputError, match="model without classes"):
        label_index(0, 2, ())


# Missing labels


def test_labels_spread_along_neighbours_and_known_ones_stay():
    x, true = make_moons(600, noise=0.08, random_state=0)
    y = np.full(600, UNKNOWN)
    few = np.concatenate([np.flatnonzero(true == i)[:3] for i in (0, 1)])
    y[few] = true[few]
    spread = spread_labels(x, y)
    sure = spread.y != UNKNOWN
    assert sure.mean() >= 0.8  # the surest four fifths, and those that are as sure
    assert np.mean(spread.y[sure] == true[sure]) > 0.98
    np.testing.assert_array_equal(spread.y[few], true[few])
    assert spread.chance == 0.5


def test_labels_that_neighbours_do_not_tell_are_not_spread(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 5)).astype("float32")
    y = np.where(rng.random(400) < 0.5, rng.integers(0, 2, 400), -1)
    np.savez(tmp_path / "noise.npz", X=x, y=y)
    source = load_source(tmp_path / "noise.npz")
    splits = split(source, 0)
    spread = spread_labels(x, y)
    assert abs(spread.agreement - 0.5) < 0.2
    found = labels_of(source, splits, fit_scaling(splits.train), None, 0)
    if not spread.is_useful:
        np.testing.assert_array_equal(found.learned["train"], found.known["train"])
    assert len(found.notes) == 1
    assert "labels are missing" in found.notes[0]


def test_a_fit_with_few_labels_learns_from_the_rest_too(tmp_path):
    y = np.full(len(Y), UNKNOWN)
    few = np.concatenate([np.flatnonzero(i == Y)[:8] for i in range(10)])
    y[few] = Y[few]
    np.savez(tmp_path / "few.npz", X=X, y=y)
    fitted = keras_ae.fit(tmp_path / "few.npz", **{**SMALL, "epochs": 20})
    (note,) = [note for note in fitted.manifest["notes"] if "missing" in note]
    assert "from the " in note
    unknown = y == UNKNOWN
    # A classifier of the 80 labels alone, on pixels, knows less.
    from sklearn.linear_model import LogisticRegression

    alone = LogisticRegression(max_iter=1000).fit(X[few], Y[few]).score(X[unknown], Y[unknown])
    assert np.mean(fitted.model.classify(X[unknown]).argmax(1) == Y[unknown]) > alone


# What a fit does with them


@pytest.mark.parametrize(
    ("y", "message"),
    [(np.zeros(100, int), "only 0"), (np.linspace(0.1, 0.9, 100), "whole numbers"), (np.arange(100), "one row of")],
)
def test_labels_that_can_not_be_used_are_told_or_refused(tmp_path, y, message):
    np.savez(tmp_path / "a.npz", X=np.random.default_rng(0).normal(size=(100, 4)), y=y)
    fitted = keras_ae.fit(tmp_path / "a.npz", epochs=0, latent_dim=2, hidden=[4])
    assert fitted.model.classes == ()
    assert message in fitted.manifest["notes"][0]
    with pytest.raises(InputError, match=message):
        keras_ae.fit(tmp_path / "a.npz", tmp_path / "out", labels=True)
    assert not (tmp_path / "out").exists()


def test_labels_beside_an_array_are_learned():
    fitted = keras_ae.fit(X, labels=Y, **{**SMALL, "epochs": 0})
    assert fitted.model.classes == tuple("0123456789")
    assert fitted.manifest["labels_column"] is None


def test_labels_are_left_alone_where_they_are_not_wanted_or_not_there():
    model = keras_ae.fit("digits", labels=False, **{**SMALL, "epochs": 0}).model
    assert model.classes == ()
    with pytest.raises(ValueError, match="trained with labels"):
        model.classify(X[:2])
    with pytest.raises(InputError, match="a source that has some"):
        keras_ae.fit(X, labels=True)
    with pytest.raises(InputError, match="needs labels"):
        keras_ae.fit(X, recipe="cvae")


def test_a_fit_classifies_and_generates_what_is_asked_for(digits_fitted):
    model, metrics = digits_fitted.model, digits_fitted.manifest["metrics"]
    assert model.classes == tuple("0123456789")
    probability = model.classify(X)
    assert probability.shape == (len(X), 10)
    np.testing.assert_allclose(probability.sum(axis=1), 1, atol=1e-5)
    test = digits_fitted.splits.labels["test"]
    assert metrics["accuracy_test"] == np.mean(model.classify(digits_fitted.splits.test).argmax(1) == test) > 0.8
    assert 0 <= metrics["calibration_error_test"] < 0.2
    asked = np.arange(500) % 10
    from sklearn.neighbors import KNeighborsClassifier

    judge = KNeighborsClassifier(3).fit(X, Y)
    assert np.mean(judge.predict(model.generate(500, asked.tolist(), seed=0)) == asked) > 0.8
    drawn = np.bincount(judge.predict(model.generate(1000, seed=0)), minlength=10)
    assert drawn.min() > 30  # each class by its frequency, about a tenth
    np.testing.assert_array_equal(model.generate(3, "7", seed=1), model.generate(3, 7, seed=1))


def test_all_runtimes_classify_and_generate_alike(digits_fitted, digits_artifact, tmp_path):
    model = runtime.load(digits_artifact)
    assert model.classes == digits_fitted.model.classes
    np.testing.assert_allclose(model.classify(X[:50]), digits_fitted.model.classify(X[:50]), atol=1e-5)
    for y in (None, "3", [i % 10 for i in range(20)]):
        np.testing.assert_allclose(
            model.generate(20, y, seed=2), digits_fitted.model.generate(20, y, seed=2), rtol=1e-4, atol=1e-4
        )
    np.save(tmp_path / "x.npy", X[:9])
    run = CliRunner().invoke
    assert (
        run(app, ["classify", str(digits_artifact), str(tmp_path / "x.npy"), "-o", str(tmp_path / "p.csv")]).exit_code
        == 0
    )
    header, *lines = (tmp_path / "p.csv").read_text().splitlines()
    assert header == "0,1,2,3,4,5,6,7,8,9"
    np.testing.assert_allclose([list(map(float, line.split(","))) for line in lines], model.classify(X[:9]), atol=1e-6)
    arguments = ["generate", str(digits_artifact), "-n", "4", "--seed", "1", "--label"]
    assert run(app, [*arguments, "5", "-o", str(tmp_path / "g.npy")]).exit_code == 0
    np.testing.assert_array_equal(np.load(tmp_path / "g.npy"), model.generate(4, "5", seed=1))
    failed = run(app, [*arguments, "ten", "-o", str(tmp_path / "h.npy")])
    assert isinstance(failed.exception, InputError)
    assert "'ten'" in str(failed.exception)
    assert not (tmp_path / "h.npy").exists()


@pytest.mark.slow  # test_recipes has one, docs/labels.md another
@pytest.mark.parametrize("options", [{"recipe": "cvae"}, {"recipe": "ae", "conditional": True}])
def test_bayes_rule_alone_classifies_by_a_decoder_that_is_told_the_label(options, tmp_path):
    fitted = keras_ae.fit("digits", tmp_path / "a", report=False, **SMALL, **options)
    assert fitted.manifest["metrics"]["accuracy_test"] > 0.8
    model = runtime.load(tmp_path / "a")
    np.testing.assert_allclose(model.classify(X[:20]), fitted.model.classify(X[:20]), atol=1e-5)
    z = model.encode(X[:4])
    assert not np.allclose(model.decode(z, "1"), model.decode(z, "2"))
    np.testing.assert_allclose(model.decode(z, "1"), fitted.model.decode(z, "1"), rtol=1e-4, atol=1e-4)
    storage.verify(tmp_path / "a")


# Layers


def test_cross_entropy_is_that_of_the_rows_whose_label_is_known():
    rng = np.random.default_rng(0)
    logits, z = rng.normal(size=(6, 4)).astype("float32"), np.zeros((6, 2), "float32")
    label = np.array([0, -1, 3, 2, -1, 1], "int32")
    layer = CrossEntropyLoss(2.0)
    np.testing.assert_array_equal(layer(label, logits, z), z)
    known = label >= 0
    expected = -log_softmax(logits[known].astype("float64"), axis=1)[np.arange(4), label[known]].mean()
    assert float(layer.losses[0]) == pytest.approx(2 * expected, rel=1e-5)
    none = CrossEntropyLoss()
    none(np.full(6, -1, "int32"), logits, z)
    assert float(none.losses[0]) == 0.0


def test_the_pool_finds_temperatures_and_ignores_noise():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(4000, 3)) * 2
    y = np.array([rng.choice(3, p=row) for row in np.exp(log_softmax(true, axis=1))])
    sharp = LogarithmicPool(1)
    sharp.build()
    sharp.fit([4 * true], y)
    assert float(sharp.shares[0]) == pytest.approx(0.25, rel=0.1)
    both = LogarithmicPool(2)
    both.build()
    both.fit([true, rng.normal(size=true.shape)], y)
    np.testing.assert_allclose(both.shares, [1, 0], atol=0.1)
    pooled = np.asarray(both([true.astype("float32"), true.astype("float32")]))
    np.testing.assert_allclose(pooled, np.asarray(both.shares).sum() * log_softmax(true, axis=1), rtol=1e-4, atol=1e-4)


def test_few_rows_move_the_pool_little_and_rows_that_were_all_right_do_not_make_it_sure():
    y = np.arange(10) % 2
    right, guess = np.where(y[:, None] == np.arange(2), 0.0, -4.0), np.zeros((10, 2))
    pool = LogarithmicPool(2)
    pool.build()
    pool.fit([right, guess], y)
    weight = float(pool.shares[0])
    p = 1 / (1 + np.exp(4 * weight))  # of the wrong class; at the optimum both slopes are one
    assert 10 * 4 * p == pytest.approx((weight - 0.5) / 0.5**2, rel=1e-3)
    assert 0.5 < weight < 1
    assert float(pool.shares[1]) == pytest.approx(0.5, abs=1e-4)  # nothing tells of it
    pool.fit([np.where(right < 0, -np.inf, right), guess], y)
    assert np.isfinite(pool.shares).all()


# Labels in tables


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    """A table of four measurements and a kind, as .csv and .parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from sklearn.datasets import load_iris

    data = load_iris()
    folder = tmp_path_factory.mktemp("iris")
    kinds = [str(data.target_names[i]) for i in data.target]
    kinds[3] = ""
    lines = [f"{a},{b},{kind},{c},{d}" for (a, b, c, d), kind in zip(data.data, kinds, strict=True)]
    (folder / "iris.csv").write_text("\n".join(["a,b,kind,c,d", *lines]) + "\n")
    columns = dict(zip("abcd", data.data.T, strict=True)) | {"kind": [kind or None for kind in kinds]}
    pq.write_table(pa.table(columns), folder / "iris.parquet")
    return folder


@pytest.fixture(scope="module")
def fitted_linear(iris):
    return keras_ae.fit(iris / "iris.csv", iris / "csv", "linear", labels="kind", latent_dim=2, report=False)


@pytest.mark.parametrize("ending", ["csv", pytest.param("parquet", marks=pytest.mark.slow)])
def test_a_column_of_labels_is_no_feature_and_may_stay_in_the_file(fitted_linear, iris, tmp_path, ending):
    source, options = iris / f"iris.{ending}", {"latent_dim": 2, "hidden": [16], "report": False}
    fitted = fitted_linear if ending == "csv" else keras_ae.fit(source, iris / ending, labels="kind", **options)
    assert fitted.manifest["columns"] == ["a", "b", "c", "d"]
    assert fitted.model.classes == ("setosa", "versicolor", "virginica")
    assert fitted.manifest["metrics"]["accuracy_test"] > 0.7
    assert any("1 of 135 labels" in note or "labels are missing" in note for note in fitted.manifest["notes"])
    arguments = ["classify", str(fitted.artifact), str(source), "-o", str(tmp_path / "p.npy")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert np.load(tmp_path / "p.npy").shape == (150, 3)
    from keras_ae.judging import evaluate_artifact

    assert "knn_accuracy" not in evaluate_artifact(fitted.artifact, source, max_rows=20).numbers  # one is missing


def test_bayes_rule_alone_classifies_where_only_the_prior_knows_the_label(fitted_linear):
    assert fitted_linear.manifest["metrics"]["accuracy_test"] > 0.8
    model, x = runtime.load(fitted_linear.artifact), fitted_linear.splits.train[:20]
    np.testing.assert_allclose(model.classify(x), fitted_linear.model.classify(x), atol=1e-5)
    with pytest.raises(InputError, match="trained with labels"):
        model.decode(model.encode(x), "setosa")
    storage.verify(fitted_linear.artifact)


@pytest.mark.parametrize(
    ("name", "labels", "message"),
    [
        ("iris.csv", "species", "a column 'species' for labels. Received: a, b, kind, c, d"),
        ("iris.parquet", "species", "a column 'species' for labels"),
        ("digits", "kind", "a column of a table"),
    ],
)
def test_a_column_that_is_not_there_is_named(iris, name, labels, message):
    source = iris / name if "." in name else name
    with pytest.raises(InputError, match=message):
        load_source(source, labels)


def test_a_column_of_text_that_is_no_label_is_a_category(iris):
    schema = load_source(iris / "iris.csv").rows.schema
    assert [column.kind for column in schema.columns].count("categorical") == 1


def test_labels_of_a_file_without_names_and_of_an_npz(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n3,4\n")
    with pytest.raises(InputError, match="numbers in its first line"):
        load_source(tmp_path / "a.csv", "kind")
    (tmp_path / "b.csv").write_text("kind\na\nb\n")
    with pytest.raises(InputError, match="a column beside kind"):
        load_source(tmp_path / "b.csv", "kind")
    np.savez(tmp_path / "a.npz", X=np.ones((3, 2)), kind=np.array(["u", "v", "u"]))
    assert load_source(tmp_path / "a.npz", "kind").rows.y.tolist() == ["u", "v", "u"]
    with pytest.raises(InputError, match=r"an array 'other' of labels. Received: X, kind"):
        load_source(tmp_path / "a.npz", "other")
    np.save(tmp_path / "a.npy", np.ones((3, 2)))
    with pytest.raises(InputError, match="Labels need columns"):
        load_source(tmp_path / "a.npy", "kind")
