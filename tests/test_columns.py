"""Tables with categories, booleans, dates and missing cells: from raw cells to scores, and back to cells."""

import base64
import csv
import datetime
import json
import os
import re
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import jsonschema_rs
import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import keras_ae
from keras_ae import explore, pipeline, runtime, storage
from keras_ae.building import build
from keras_ae.client import Client
from keras_ae.data import Schema, fit_columns, infer, load_source
from keras_ae.data.cells import cells_of, read_cells
from keras_ae.data.columns import features, layout, piecewise, rows, without_missing
from keras_ae.errors import InputError
from keras_ae.judging import evaluate_artifact, judge
from keras_ae.layers import ColumnDraws, ColumnLoss, ColumnScaling, Marginals
from keras_ae.provenance import fitted_splits
from keras_ae.recipes import RECIPES
from keras_ae.report.observations import Observations
from keras_ae.report.worst import worst_rows
from keras_ae.serving import Models, calls, make_server, pages, rest, v2
from keras_ae.serving.app import Application

pd = pytest.importorskip("pandas")
COLOURS = ["red", "green", "blue"]


def orders(n=400, seed=0):
    """What goes together: a kind of order gives its amount, age, colour, member; some cells are missing."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    start = np.datetime64("2024-01-01T00:00")
    frame = pd.DataFrame(
        {
            "amount": np.exp(3.0 * rng.normal(size=n) + kind).round(4),
            "age": (30 + 15 * kind + rng.normal(0, 2, n)).round(),
            "colour": np.array(COLOURS)[kind],
            "member": np.where(kind > 0, "yes", "no"),
            "when": (start + rng.integers(0, 200 * 24 * 60, n).astype("timedelta64[m]")).astype(str),
            "key": [f"order {i}" for i in range(n)],
        }
    )
    frame.loc[rng.random(n) < 0.1, "age"] = np.nan
    frame.loc[rng.random(n) < 0.1, "colour"] = None
    return frame


@pytest.fixture(scope="session")
def orders_csv(tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / "orders.csv"
    orders().to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def orders_artifact(orders_csv):
    out = orders_csv.with_name("orders")
    pipeline.fit(orders_csv, out, epochs=30, latent_dim=4, hidden=[32])
    return out


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_kinds_follow_from_the_cells_of_any_source(orders_csv, tmp_path):
    source = load_source(orders_csv)
    schema = source.rows.schema
    kinds = {column.name: (column.kind, column.nullable) for column in schema.columns}
    assert kinds == {
        "amount": ("numeric", False),
        "age": ("numeric", True),
        "colour": ("categorical", True),
        "member": ("boolean", False),
        "when": ("datetime", False),
    }
    assert set(schema.columns[2].levels) == set(COLOURS)
    assert schema.dropped == ("key",)
    assert "key is left out" in source.rows.notes[0]
    orders().to_parquet(tmp_path / "orders.parquet")
    dated = orders().assign(when=pd.to_datetime(orders()["when"]))
    for other in (tmp_path / "orders.parquet", orders(), dated, {k: v.tolist() for k, v in orders().items()}):
        np.testing.assert_array_equal(load_source(other).rows.x, source.rows.x)
    assert Schema.of(json.loads(json.dumps(schema.describe()))).columns == schema.columns


def test_row_numbers_that_pandas_writes_are_no_column(orders_csv, tmp_path):
    source = load_source(orders_csv)
    orders().to_csv(tmp_path / "numbered.csv")
    orders().loc[:, ["amount"]].to_csv(tmp_path / "numbers.csv")
    numbered, numbers = (load_source(tmp_path / name).rows for name in ("numbered.csv", "numbers.csv"))
    assert numbered.schema.columns == source.rows.schema.columns
    assert "it has no name" in numbered.notes[0]
    assert numbers.columns == ("amount",)
    named = load_source(tmp_path / "numbers.csv", schema={"": {"kind": "numeric"}}).rows.schema
    assert Schema.of(named.describe()).names == ("", "amount")


def test_row_numbers_may_be_beside_what_is_scored(run, orders_artifact, orders_csv, tmp_path):
    orders().to_csv(tmp_path / "numbered.csv")
    for name in (orders_csv, tmp_path / "numbered.csv"):
        assert run("score", orders_artifact, name, "--out", tmp_path / f"{name.stem}.npz").exit_code == 0
    scores = [np.load(tmp_path / f"{name}.npz")["score"] for name in (orders_csv.stem, "numbered")]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2.5", "-3e2"], "numeric"),
        (["true", "False", "TRUE"], "boolean"),
        ([True, None, False], "boolean"),
        (["0", "1", "1"], "numeric"),
        (["2024-01-31", "2024-02-01", "2023-12-01"], "datetime"),
        ([datetime.date(2024, 1, 1), None], "datetime"),
        (["20240131", "20240201"], "numeric"),
        (["a", "b", "a"], "categorical"),
        (["1_0", "a", "1_0"], "categorical"),
    ],
)
def test_the_kind_of_a_column(cells, kind):
    assert infer(cells_of({"c": cells})).columns[0].kind == kind


def test_a_schema_says_what_cells_do_not():
    table = {"zip": [10115, 10117, 10115, 20095], "day": ["31.01.2024", "01.02.2024", "", "02.02.2024"], "id": "abcd"}
    table["id"] = list("abcd")
    given = {"zip": {"kind": "categorical"}, "day": {"kind": "datetime", "format": "%d.%m.%Y"}, "id": {"kind": "drop"}}
    source = load_source(table, schema=given)
    assert source.rows.columns == ("zip", "day")
    np.testing.assert_array_equal(source.rows.x[:, 0], [0, -1, 0, -1])  # a level that is met once is none
    np.testing.assert_array_equal(source.rows.x[:, 1], [2, 3, np.nan, 4])
    back = source.rows.schema.table(source.rows.x)
    assert back["day"].tolist() == ["31.01.2024", "01.02.2024", None, "02.02.2024"]
    assert back["zip"].tolist() == ["10115", None, "10115", None]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"zap": {"kind": "numeric"}}, "zap"),
        ({"a": {"kind": "number"}}, "number"),
        ({"a": {"type": "numeric"}}, "type"),
        ({"a": {"transform": "log"}}, "log"),
        ({"a": {"kind": "drop"}}, "a column to learn from"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(given, said):
    with pytest.raises(InputError, match=said):
        infer(cells_of({"a": [1, 2, 3]}), given)


def fitted_schema(frame):
    source = load_source(frame)
    return fit_columns(source.rows.schema, source.rows.x), source.rows.x


def test_features_are_what_they_say_and_go_back():
    schema, x = fitted_schema(orders())
    f, names = features(schema, x), layout(schema).names
    at = {name: i for i, name in enumerate(names)}
    assert schema.columns[0].transform == "quantile"  # exp of a normal of deviation 3
    middle = f[:, at["amount"]]
    assert abs(np.quantile(middle, [0.05, 0.5, 0.95]) - stats.norm.ppf([0.05, 0.5, 0.95])).max() < 0.1
    known = ~np.isnan(x[:, 2])
    levels = f[:, [at[f"colour={level}"] for level in schema.columns[2].levels]]
    np.testing.assert_array_equal(levels[known].argmax(axis=1), x[known, 2])
    np.testing.assert_array_equal(levels[known].sum(axis=1), 1)
    assert np.isnan(levels[~known]).all()
    np.testing.assert_array_equal(f[:, at["colour missing"]], ~known)
    when = [datetime.datetime.fromisoformat(cell) for cell in orders()["when"]]
    share = np.array([(moment.hour * 60 + moment.minute) / 1440 for moment in when])
    np.testing.assert_allclose(f[:, at["when: sin day"]], np.sin(2 * np.pi * share), atol=2e-3)
    week = np.array([moment.weekday() for moment in when]) + share
    np.testing.assert_allclose(f[:, at["when: cos week"]], np.cos(2 * np.pi * week / 7), atol=1e-3)

    complete = ~np.isnan(x).any(axis=1)
    np.testing.assert_allclose(rows(schema, f)[complete], x[complete], rtol=1e-4, atol=1e-3)


def test_a_density_of_features_is_one_of_raw_numbers_by_the_slopes_of_the_transforms():
    rng = np.random.default_rng(0)
    schema, x = fitted_schema(
        {"pay": np.exp(3 * rng.normal(size=400)), "age": rng.normal(40, 9, 400), "c": ["a", "b"] * 200}
    )
    assert [column.transform for column in schema.columns] == ["quantile", None, None]
    knots = np.array(schema.columns[0].knots[0])
    at = np.append(rng.uniform(0, 2, 200), [1e-9, 2 * knots[-1]])  # below all knots, between and above them
    row, numbers = (
        np.tile(x[0].astype("float64"), (len(at), 1)),
        [layout(schema).names.index(n) for n in ("pay", "age")],
    )
    row[:, 0] = at
    step = np.array([1e-6, 1e-3, 0.0])
    inside = np.searchsorted(knots, row[:, 0] + step[0]) == np.searchsorted(knots, row[:, 0])
    change = (features(schema, row + step) - features(schema, row))[:, numbers] / step[:2]
    expected = np.log(change).sum(axis=1)
    layer = ColumnScaling(schema.describe())
    np.testing.assert_allclose(layer.log_volume(row)[inside], expected[inside], atol=1e-3)
    row[:, 0] = np.nan
    np.testing.assert_allclose(layer.log_volume(row), -np.log(schema.columns[1].scale), rtol=1e-6)


def test_the_layer_gives_the_features_of_numpy_and_keeps_its_schema():
    schema, x = fitted_schema(orders())
    layer = ColumnScaling(schema.describe())
    same = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    x = layer.hard_rows(x)
    assert np.isnan(x).any()
    assert (x[:, 2] == -1).any()
    for each in (layer, same):
        np.testing.assert_allclose(each(x), features(schema, x), rtol=1e-5, atol=1e-6)
    f = np.random.default_rng(0).normal(size=(50, layer.layout.size)).astype("float32")
    np.testing.assert_allclose(layer(f, inverse=True), rows(schema, f), rtol=1e-5, atol=1e-4)
    summed = layer.by_raw(np.abs(f), None)
    np.testing.assert_allclose(np.sum(summed, axis=1), np.abs(f).sum(axis=1), rtol=1e-5)


def test_a_line_through_knots_is_numpys_and_goes_on():
    before, after = np.array([[0.0, 1.0, 3.0]]), np.array([[-1.0, 0.0, 5.0]])
    x = np.linspace(0, 3, 31)[:, None]
    np.testing.assert_allclose(piecewise(x, before, after)[:, 0], np.interp(x[:, 0], before[0], after[0]), atol=1e-6)
    np.testing.assert_allclose(piecewise(np.array([[-2.0], [5.0]]), before, after)[:, 0], [-3.0, 10.0])
    np.testing.assert_allclose(piecewise(piecewise(x, before, after), after, before), x, atol=1e-6)


def test_what_comes_after_training_is_no_outlier_for_that():
    schema, x = fitted_schema(orders())
    at = layout(schema).names.index("when")
    late = x.copy()
    late[:, 4] += 10_000.0
    assert features(schema, late)[:, at].max() <= 2.0


def test_the_likelihood_of_columns_is_that_of_scipy():
    rng = np.random.default_rng(0)
    layer = ColumnLoss(2, 1, (3, 2))
    layer.build((None, 8), (None, 8))
    layer.log_var.assign(np.log([0.25, 0.25]))
    params = rng.normal(size=(5, 8)).astype("float32") * 2
    x = np.concatenate([rng.normal(size=(5, 2)), [[0], [1], [1], [0], [1]]], axis=1)
    a, b = np.array([0, 2, 1, 1, 0]), np.array([1, 1, 0, 0, 1])
    x = np.concatenate([x, np.eye(3)[a], np.eye(2)[b]], axis=1).astype("float32")
    p = 1 / (1 + np.exp(-params[:, 2].astype("float64")))
    expected = stats.norm.logpdf(x[:, :2], params[:, :2], 0.5).sum(axis=1) + stats.bernoulli.logpmf(x[:, 2], p)
    for first, n, levels in ((3, 3, a), (6, 2, b)):
        logits = params[:, first : first + n].astype("float64")
        log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        expected += log_p[np.arange(5), levels]
    np.testing.assert_allclose(layer.log_prob(x, params), expected, rtol=1e-5)
    np.testing.assert_allclose(np.sum(layer.mean(params)[:, 3:6], axis=1), 1, rtol=1e-5)

    missing = x.copy()
    missing[:, 0], missing[:, 3:6] = np.nan, np.nan
    left = ColumnLoss(1, 1, (2,))
    left.build((None, 4), (None, 4))
    left.log_var.assign(np.log([0.25]))
    kept = [1, 2, 6, 7]
    np.testing.assert_allclose(layer.log_prob(missing, params), left.log_prob(x[:, kept], params[:, kept]), rtol=1e-5)
    given = tf.Variable(params * 1e3)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(layer.log_prob(missing, given))
    assert np.isfinite(tape.gradient(loss, given).numpy()).all()


def test_models_are_told_apart_by_their_errors_and_not_by_their_variances():
    x, params = np.random.default_rng(0).normal(size=(2, 200, 3)).astype("float32")
    x[::4, 1], x[:, 2] = np.nan, x[:, 2] > 0
    loss = ColumnLoss(2, 1)
    loss.build((None, 3), (None, 3))
    loss.log_var.assign([3.0, -3.0])
    deviation = np.sqrt(np.nanmean(np.square(x - params)[:, :2], axis=0))
    numbers = np.nan_to_num(stats.norm(params[:, :2], deviation).logpdf(x[:, :2])).sum(axis=1)
    p = 1.0 / (1.0 + np.exp(-params[:, 2].astype("float64")))
    expected = numbers + stats.bernoulli(p).logpmf(x[:, 2])
    np.testing.assert_allclose(loss.log_prob_at_mean(x, params), expected, atol=1e-4)
    loss(x, params)
    assert float(loss.tracker.result()) == pytest.approx(-expected.mean(), abs=1e-4)
    assert -float(np.mean(loss.log_prob(x, params))) > -expected.mean() + 1.0


def test_training_gets_away_from_its_start_where_cells_are_missing():
    """Noise of z and hidden cells make training rows look improbable: the start would be kept for it."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, 2))
    x = np.concatenate([z, np.tanh(2 * z), z[:, :1] * z[:, 1:]], axis=1)
    x[rng.random(x.shape) < 0.1] = np.nan
    table = pd.DataFrame(x, columns=list("abcde"))
    fitted = keras_ae.fit(table, hidden=[32], epochs=200)
    start = keras_ae.fit(table, hidden=[32], epochs=0)
    assert fitted.model.latent_dim == 2  # half the columns, whatever their flags
    assert fitted.training.best_epoch > 5
    after, before = (fit.manifest["metrics"]["rmse_test"] for fit in (fitted, start))
    assert after < 0.95 * before


def test_what_is_missing_is_compared_as_it_is_expected():
    scaling = ColumnScaling(
        fit_columns(Schema.of({"columns": [{"name": "a", "kind": "numeric"}]}), np.ones((2, 1))).describe()
    )
    observed, expected = scaling.comparable(tf.constant([[np.nan], [2.0]]), tf.constant([[3.0], [5.0]]))
    np.testing.assert_array_equal(observed, [[3.0], [2.0]])
    np.testing.assert_array_equal(expected, [[3.0], [5.0]])


def test_draws_are_those_of_the_distributions_and_missing_cells_those_of_the_rows():
    rng = np.random.default_rng(0)
    table = {"a": rng.normal(3, 2, 500), "b": rng.random(500) < 0.5, "c": rng.choice(list("xyz"), 500)}
    table["a"] = np.where(rng.random(500) < 0.3, np.nan, table["a"])
    table["c"] = np.where(np.isnan(table["a"]) & (rng.random(500) < 0.5), None, table["c"])
    schema, x = fitted_schema(table)
    layer = ColumnDraws(schema.describe(), draws=True)
    same = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    layer.build()
    assert same.numbers == layer.numbers == layout(schema).size == 7  # a, b, two flags, three levels

    said = np.isnan(x[:, [0, 2]]) * 1.5 - 2.0 + 0.1 * rng.normal(size=(500, 2))  # what hidden cells make of the logits
    params = np.zeros((500, 7), "float32")
    params[:, layer._flags] = said
    layer.fit(params, x)
    n, pick = 40_000, rng.integers(0, 500, 40_000)
    shares = [0.6, 0.3, 0.1]
    mean = np.tile(np.array([0.5, 0.2, 0, 0, *shares], "float32"), (n, 1))
    noise = rng.standard_normal((n, layer.numbers)).astype("float32")
    support = Marginals(schema.describe(), noisy=False)
    drawn = np.array(support(layer(mean, params[pick], np.array([0.7], "float32"), noise)))
    missing = np.isnan(drawn)
    np.testing.assert_allclose(missing.mean(axis=0), np.isnan(x).mean(axis=0), atol=0.02)
    assert np.corrcoef(missing[:, 0], np.isnan(x[pick, 0]))[0, 1] > 0.9
    whole = support(layer(mean, params[pick], np.array([0.7], "float32"), without_missing(schema, noise)))
    assert not np.isnan(whole).any()
    a = schema.columns[0]
    low, high = ((edge - a.shift) / a.scale for edge in a.bounds)
    inside = stats.truncnorm((low - 0.5) / 0.7, (high - 0.5) / 0.7, 0.5, 0.7)  # what is outside is at the bounds
    np.testing.assert_allclose(np.mean((whole[:, 0] - a.shift) / a.scale), inside.mean(), atol=0.02)
    np.testing.assert_allclose(np.mean(whole[:, 1]), 0.2, atol=0.01)
    np.testing.assert_allclose(np.bincount(np.array(whole[:, 2], int)) / n, shares, atol=0.01)


def test_noise_beyond_what_float32_tells_from_a_share_of_1_draws_what_is_most_probable():
    schema, _ = fitted_schema({"c": list("xyzzyx")})
    layer = ColumnDraws(schema.describe(), draws=True)
    layer.build()
    mean = np.array([[0.1, 0.6, 0.3]], "float32")
    for noise in (-40.0, 40.0):
        drawn = layer(mean, np.zeros_like(mean), np.zeros(0, "float32"), np.full((1, 3), noise, "float32"))
        assert int(np.asarray(drawn)[0, 0]) == 1


def test_no_row_is_drawn_of_which_all_is_missing():
    x = np.array([[1, np.nan], [np.nan, 2], [3, 4]] * 5, "float32")
    schema = fit_columns(Schema.of_numbers("ab"), x)
    schema = Schema(tuple(replace(column, nullable=True) for column in schema.columns))
    layer = ColumnDraws(schema.describe(), draws=False)
    layer.build()
    assert layer.numbers == 2
    noise = np.random.default_rng(0).normal(size=(1000, 2)).astype("float32")
    drawn = np.array(layer(np.zeros((1000, 4)), np.zeros((1000, 4), "float32"), None, noise))
    assert not np.isnan(drawn).all(axis=1).any()
    assert np.isnan(drawn).any(axis=0).all()


def test_the_start_gives_the_means_that_it_should():
    layer = ColumnLoss(1, 1, (3,))
    mean = np.array([0.3, 0.2, 0.5, 0.3, 0.2], "float32")
    params, slope = layer.link(mean)
    np.testing.assert_allclose(layer.mean(params[None])[0], mean, rtol=1e-5)
    change = np.array([0.1, 0.01, 0.01, -0.02, 0.01], "float32")
    np.testing.assert_allclose(layer.mean((params + slope * change)[None])[0], mean + change, atol=1e-3)


def test_raw_cells_go_in_and_scores_come_out(run, orders_artifact, orders_csv, tmp_path):
    model = runtime.load(orders_artifact)
    table = orders()
    x = model.rows(table)
    scores = model.score(table)
    np.testing.assert_array_equal(scores["score"], model.score(x)["score"])
    keras_model = storage.load(orders_artifact)
    np.testing.assert_allclose(keras_model.score(x)["score"], scores["score"], rtol=1e-4)
    assert run("score", orders_artifact, orders_csv, "--out", tmp_path / "s.csv").exit_code == 0
    np.testing.assert_allclose([float(row["score"]) for row in read(tmp_path / "s.csv")], scores["score"], rtol=1e-6)

    explained = model.explain(table)
    assert list(explained.columns) == list(model.columns)
    np.testing.assert_allclose(explained.sum(axis=1), scores["score"], rtol=1e-4)
    odd = table.assign(colour="red", age=90)
    assert model.score(odd)["score"].mean() > scores["score"].mean() + 0.2
    assert model.explain(odd)["age"].mean() > explained["age"].mean()

    whole = model.reconstruct(table)
    assert list(whole.columns) == list(model.columns)
    kinds = dict(zip(("no", "yes"), ({"red"}, {"green", "blue"}), strict=True))
    agree = [row.colour in kinds[row.member] for row in whole.itertuples()]
    assert np.mean(agree) > 0.9
    made = pd.DataFrame(model.table(model.generate(2000, seed=0)))
    assert set(made["colour"].dropna()) == set(COLOURS)
    assert set(made["member"]) == {"no", "yes"}
    assert made["amount"].between(table["amount"].min(), table["amount"].max() * (1 + 1e-6)).all()
    assert (made["age"].dropna() % 1 == 0).all()
    np.testing.assert_allclose(made.isna().mean(), table[made.columns].isna().mean(), atol=0.05)
    for missing in (True, False):
        drawn = model.generate(200, seed=3, missing=missing)
        assert np.isnan(drawn).any() == missing
        np.testing.assert_allclose(keras_model.generate(200, seed=3, missing=missing), drawn, rtol=1e-4)
    out = tmp_path / "made.csv"
    for option, empty in (("--missing", True), ("--no-missing", False)):
        assert run("generate", orders_artifact, "-n", "50", "--seed", "0", "--out", out, option).exit_code == 0
        assert any(not row["colour"] for row in read(out)) is empty


@pytest.fixture(scope="module")
def served(orders_artifact):
    return Models([orders_artifact]).find("orders")


ROWS = [
    {"amount": 3.5, "age": 31, "colour": "red", "member": "no", "when": "2024-02-01T09:30"},
    {"amount": 40, "age": None, "colour": None, "member": True, "when": "2024-03-01"},
    {"amount": "8.25", "age": 61, "colour": "never seen", "member": "yes", "when": "2024-03-01T00:00"},
]
COLUMNS = {name: [row[name] for row in ROWS] for name in ROWS[0]}


def scores_of(call):
    assert call.rows == 3
    return call.run()["score"]


def test_a_served_table_takes_its_cells_by_the_names_of_columns(served, orders_artifact):
    expected = runtime.load(orders_artifact).score({name: np.array(c, object) for name, c in COLUMNS.items()})["score"]
    for request in ({"instances": ROWS}, {"inputs": COLUMNS}, {"inputs": {**COLUMNS, "key": ["a", "b", "c"]}}):
        call, _ = rest.read(served, json.dumps({**request, "signature_name": "score"}).encode(), 10)
        np.testing.assert_array_equal(scores_of(call), expected)
    # Without names they are what the graph takes: codes, days, and null for what is missing.
    codes = runtime.load(orders_artifact).rows({name: np.array(c, object) for name, c in COLUMNS.items()})
    held = [[None if cell != cell else cell for cell in row] for row in codes.tolist()]
    call, _ = rest.read(served, json.dumps({"signature_name": "score", "instances": held}).encode(), 10)
    np.testing.assert_array_equal(scores_of(call), expected)
    texts = {name: ["" if cell is None else str(cell).lower() for cell in cells] for name, cells in COLUMNS.items()}
    texts["age"], texts["colour"] = [31, None, 61], ["red", None, "never seen"]
    tensors = [
        {"name": name, "shape": [3, 1], "datatype": "FP64" if name == "age" else "BYTES", "data": cells}
        for name, cells in texts.items()
    ]
    asked = v2.Request(served, "score", json.dumps({"inputs": tensors}).encode(), None, 10)
    np.testing.assert_array_equal(scores_of(asked.call), expected)
    ages = np.array([31, np.nan, 61]).tobytes()
    held = {"name": "age", "shape": [3, 1], "datatype": "FP64", "parameters": {"binary_data_size": len(ages)}}
    head = json.dumps({"inputs": [held if one["name"] == "age" else one for one in tensors]}).encode()
    asked = v2.Request(served, "score", head + ages, str(len(head)).encode(), 10)
    np.testing.assert_array_equal(scores_of(asked.call), expected)


def test_rows_of_a_table_go_back_in_words(served, orders_artifact):
    def answered(request):
        call, by_rows = rest.read(served, json.dumps(request).encode(), 10)
        return json.loads(rest.write(call, call.run(), by_rows))

    model = runtime.load(orders_artifact)
    whole = model.reconstruct(pd.DataFrame(ROWS))
    by_rows = answered({"instances": ROWS})["predictions"]
    assert [row["colour"] for row in by_rows] == whole["colour"].tolist()
    assert [row["when"] for row in by_rows] == whole["when"].tolist()
    assert answered({"inputs": COLUMNS})["outputs"]["member"] == whole["member"].tolist()
    made = answered({"signature_name": "generate", "inputs": {"n": 10, "seed": 0}})["outputs"]
    assert set(made["colour"]) <= {*COLOURS, None}
    assert None in [*made["colour"], *made["age"]]
    made = answered({"signature_name": "generate", "inputs": {"n": 10, "seed": 0, "missing": False}})["outputs"]
    assert None not in [*made["colour"], *made["age"]]
    with pytest.raises(InputError, match="`missing` must be true or false"):
        answered({"signature_name": "generate", "inputs": {"n": 1, "missing": 3}})


def test_tensors_of_a_table_go_back_in_words(served, orders_artifact):
    from tritonclient.utils import deserialize_bytes_tensor

    def answered(**asked):
        request = {"inputs": [], "parameters": {"n": 10, "seed": 0}, **asked}
        read = v2.Request(served, "generate", json.dumps(request).encode(), None, 10)
        body, length = read.write(read.call.run())
        return {one["name"]: one for one in json.loads(body[:length])["outputs"]}, body[length or len(body) :]

    model = runtime.load(orders_artifact)
    rows = model.generate(10, seed=0)
    cells = {name: column.tolist() for name, column in model.table(rows).items()}
    words = [cell or "" for cell in cells["colour"]]
    made, _ = answered()
    assert {name: one["datatype"] for name, one in made.items()} == {
        name: "FP32" if name in ("amount", "age") else "BYTES" for name in model.columns
    }
    assert made["colour"]["data"] == words
    assert "" in words
    np.testing.assert_allclose(np.array(made["age"]["data"], float), cells["age"])
    asked = [{"name": "colour", "parameters": {"binary_data": True}}, {"name": "x"}]
    made, binary = answered(outputs=asked)
    assert [text.decode() for text in deserialize_bytes_tensor(binary)] == words
    np.testing.assert_allclose(np.array(made["x"]["data"], float).reshape(rows.shape), rows)  # codes, where asked for
    with pytest.raises(InputError, match="must be of amount"):
        answered(outputs=[{"name": "other"}])


def test_the_document_of_a_served_table_tells_its_columns(orders_artifact):
    models = Models([orders_artifact])
    posted = pages.openapi(models, 10)["paths"]["/v1/models/orders:predict"]["post"]["requestBody"]
    form = posted["content"]["application/json"]["schema"]
    for request in ({"instances": ROWS}, {"inputs": COLUMNS}):
        assert jsonschema_rs.is_valid(form, {"signature_name": "score", **request})
        assert not jsonschema_rs.is_valid(form, {"signature_name": "generate", **request})
    assert "amount, age, colour, member, when" in pages.html(models)
    assert '"instances": [{"amount": ..., "age": ..., "colour": ...,' in pages.html(models)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"amount": ["much", 1, 2]}, "row 0, column amount: must be a finite number. Received: 'much'"),
        ({"amount": [1, None, 2]}, "row 1, column amount: must be a finite number. Received: none"),
        ({"when": ["2024-01-01", "2024-01-01", "soon"]}, "row 2, column when: must be a date.*'soon'"),
        ({"member": [0, 1, 2]}, "row 2, column member: must be true or false. Received: 2"),
        ({"age": [1, 2]}, "columns .* of one size"),
        ({"age": [[1], [2], [3]]}, "Column age must be a list of cells"),
        ({"age": 3}, "Column age must be a list of cells"),
        ({"weight": [1, 2, 3]}, "column weight"),
        ({"age": [], "amount": [1]}, "1 to 10 rows"),
    ],
)
def test_cells_that_a_served_table_can_not_use_are_told_by_row_and_column(served, given, said):
    with pytest.raises(InputError, match=said):
        calls.prepare(served, "score", {**COLUMNS, **given}, 10)
    with pytest.raises(InputError, match="misses column age"):
        calls.prepare(served, "score", {name: COLUMNS[name] for name in COLUMNS if name != "age"}, 10)
    with pytest.raises(InputError, match="Words and dates go by the names of their columns"):
        calls.prepare(served, "score", {"x": [list(row.values()) for row in ROWS]}, 10)


def test_the_client_sends_a_table_as_it_is(orders_artifact):
    frame = pd.DataFrame(ROWS[:2] * 3)
    frame["when"] = pd.to_datetime(frame["when"], format="ISO8601")
    model = runtime.load(orders_artifact)
    expected = model.score(frame)["score"]
    server = make_server(Application(Models([orders_artifact])))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(address, "orders", batch_rows=4) as client:
            np.testing.assert_allclose(client.score(frame)["score"], expected, rtol=1e-6)
            np.testing.assert_allclose(client.score(frame.to_dict("list"))["score"], expected, rtol=1e-6)
            pd.testing.assert_frame_equal(client.reconstruct(frame), model.reconstruct(frame), check_dtype=False)
            pd.testing.assert_frame_equal(client.explain(frame), model.explain(frame), check_dtype=False, rtol=1e-3)
            drawn = client.generate_table(40, seed=0)
            for name, column in model.table(model.generate(40, seed=0)).items():
                np.testing.assert_array_equal(drawn[name], column)
            assert None in drawn["colour"]
            assert None not in client.generate_table(40, seed=0, missing=False)["colour"]
            with pytest.raises(InputError, match="at least one row"):
                client.score(frame[:0])
            with pytest.raises(InputError, match="row 1, column amount"):
                client.score(frame.assign(amount=[1, np.nan] * 3))
            with pytest.raises(InputError, match="row 0, column amount: must be finite"):
                client.score(frame.assign(amount=np.inf))
        server.should_exit = True
        thread.join()


def test_a_page_without_rows_has_ranges_of_columns_whose_cells_may_be_missing(orders_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(explore, "_BUILT", tmp_path / "built")
    (tmp_path / "built").mkdir()
    (tmp_path / "built/index.html").write_text("")
    page = explore.write_page(orders_artifact, tmp_path / "page", rows=False)
    features = json.loads((page.folder / "data.json").read_text())["features"]
    assert features.pop("in_deviations")  # codes, days and amounts have no unit in common
    for name, held in features.items():
        assert np.isfinite(np.frombuffer(base64.b64decode(held), "<f4")).all(), name


def test_node_takes_the_words_of_a_table(node, orders_artifact, tmp_path):
    def node_on(path):
        elsewhere = {**os.environ, "TZ": "America/New_York"}  # a time without zone is one of UTC all the same
        command = [*node, orders_artifact, path]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=elsewhere)

    model = runtime.load(orders_artifact)
    cells = {
        "when": ["2024-02-01T09:30", "2024-02-01", "2024-03-01T00:00+02:00", "2024-02-01 09:30"],
        "colour": ["red", "", "never, seen", "#N/A"],
        "amount": ["3.5", "1e3", "-2", "3.5"],
        "member": ["yes", "no", "Yes", "yes"],
        "age": ["31", "NA", "61", "."],
        "further": ['a "quoted" one', "", "\n", ""],
    }
    path = tmp_path / "orders.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(cells), *zip(*cells.values(), strict=True)])
    done = node_on(path)
    assert done.returncode == 0, done.stderr
    found = [float(row["score"]) for row in csv.DictReader(done.stdout.splitlines())]
    expected = model.score({name: np.array(c, object) for name, c in cells.items() if name != "further"})["score"]
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    path.write_text(path.read_text().replace("1e3", "much"))
    assert "row 1, column amount: 'much'" in node_on(path).stderr


def test_the_report_says_categories_and_dates_in_words(orders_artifact):
    page = (orders_artifact / "report.html").read_text()
    worst = page[page.index("Worst rows") :]
    assert re.search(r"colour <b>\d+%</b><small>(red|green|blue|missing); AE\(x\) (red|green|blue)</small>", worst)
    assert re.search(r"when <b>\d+%</b><small>2024-\d\d-\d\dT", worst)


def test_missing_cells_are_filled_by_what_goes_with_the_rest(run, orders_artifact, orders_csv, tmp_path):
    model = runtime.load(orders_artifact)
    truth = orders(300, seed=1).dropna().reset_index(drop=True)
    holes = truth.assign(age=np.where(np.arange(len(truth)) % 2, np.nan, truth["age"]))
    filled = model.impute(holes)
    known = holes["age"].notna()
    assert (filled["age"][known] == truth["age"][known]).all()
    error = np.sqrt(np.mean(np.square(filled["age"][~known].astype(float) - truth["age"][~known])))
    assert error < 0.5 * truth["age"].std()
    coloured = model.impute(truth.assign(colour=[None] * len(truth)))
    assert (coloured["colour"] == truth["colour"]).mean() > 0.6

    out = tmp_path / "filled.csv"
    done = run("impute", orders_artifact, orders_csv, "--out", out, "--json")
    assert done.exit_code == 0, done.stderr
    before, after = read(orders_csv), read(out)
    assert json.loads(done.stdout)["filled"] == {c: sum(not row[c] for row in before) for c in ("age", "colour")}
    assert all(row["age"] and row["colour"] for row in after)
    assert [row["key"] for row in after] == [row["key"] for row in before]
    holes.to_csv(tmp_path / "holes.csv", index=False)  # whose first age is missing
    assert run("impute", orders_artifact, tmp_path / "holes.csv", "--out", tmp_path / "filled.parquet").exit_code == 0
    ages = pd.read_parquet(tmp_path / "filled.parquet")["age"].astype(float)
    np.testing.assert_allclose(ages, filled["age"].astype(float), rtol=1e-5)


def test_files_of_a_table_are_one_table_whatever_the_order_of_their_columns(run, orders_artifact, orders_csv, tmp_path):
    whole = pd.read_csv(orders_csv, dtype=str, keep_default_na=False)
    (tmp_path / "parts/of").mkdir(parents=True)
    whole[:200].to_csv(tmp_path / "parts/a.csv", index=False)
    whole[200:][whole.columns[::-1]].to_csv(tmp_path / "parts/of/b.csv", index=False)
    for command, out in (("score", "scores.csv"), ("impute", "filled.csv")):
        texts = []
        for source in (orders_csv, tmp_path / "parts"):
            done = run(command, orders_artifact, source, "--out", tmp_path / out)
            assert done.exit_code == 0, done.stderr
            texts.append((tmp_path / out).read_text())
        assert texts[0] == texts[1]
    whole.drop(columns="key").to_csv(tmp_path / "parts/of/b.csv", index=False)
    done = run("impute", orders_artifact, tmp_path / "parts", "--out", tmp_path / "filled.csv")
    assert done.exit_code == 2
    assert "b.csv must have the columns of " in done.stderr
    assert "misses key" in done.stderr


def broken(path, orders_csv, *lines):
    path.write_text("\n".join([*orders_csv.read_text().splitlines()[:5], *lines]) + "\n")
    return path


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("5.0,abc,red,yes,2024-05-05,k", "line 6, column age: must be a finite number. Received: 'abc'"),
        ("inf,40,red,yes,2024-05-05,k", "line 6, column amount: must be a finite number. Received: 'inf'"),
        (",40,red,yes,2024-05-05,k", "line 6, column amount: must be a finite number. Received: none"),
        ("5.0,40,red,perhaps,2024-05-05,k", "line 6, column member: must be true or false. Received: 'perhaps'"),
        ("5.0,40,red,yes,05/05/24,k", "line 6, column when: must be a date or time"),
        ("5.0,40,red", "line 6: must have 6 columns. Received: 3"),
    ],
)
def test_a_cell_of_no_use_is_named_or_skipped(run, orders_artifact, orders_csv, tmp_path, line, said):
    source = broken(tmp_path / "new.csv", orders_csv, line, "5.0,40,purple,yes,2024-05-05,k")
    stopped = run("score", orders_artifact, source, "--out", tmp_path / "s.csv")
    assert stopped.exit_code == 2
    assert said in stopped.stderr
    assert not (tmp_path / "s.csv").exists()
    skipped = run(
        "score", orders_artifact, source, "--out", tmp_path / "s.csv", "--on-error", "skip", "--alpha", "0.05"
    )
    assert skipped.exit_code == 0
    assert said in skipped.stderr
    scores = read(tmp_path / "s.csv")
    assert [row["score"] for row in scores].count("nan") == 1
    assert scores[4] == {"score": "nan", "p_value": "nan", "anomaly": "nan"}
    assert float(scores[5]["score"]) > 0


def test_columns_that_are_not_those_trained_on_are_named(run, orders_artifact, tmp_path):
    for frame, said in (
        (orders().drop(columns="age"), "misses column age"),
        (orders().assign(extra=1), "has, beyond those trained on, column extra"),
    ):
        frame.to_csv(tmp_path / "new.csv", index=False)
        done = run("score", orders_artifact, tmp_path / "new.csv", "--out", tmp_path / "s.csv")
        assert done.exit_code == 2
        assert said in done.stderr
    model = runtime.load(orders_artifact)
    x = model.rows(orders())
    for row, said in (([np.nan] * 5, "a value in some column"), ([np.inf, 1, 1, 1, 1], "column amount: must be a fin")):
        with pytest.raises(InputError, match=said):
            model.score(np.array([*x[:2], row], "float32"))


def test_a_fit_drops_columns_and_skips_rows_when_told(run, orders_csv, tmp_path):
    source = broken(
        tmp_path / "new.csv", orders_csv, *orders_csv.read_text().splitlines()[5:], "a,40,red,no,2024-05-05,k"
    )
    done = run("fit", source, "--out", tmp_path / "a", "--epochs", "1")
    assert done.exit_code == 2
    assert "column amount: must be a finite number. Received: 'a'" in done.stderr
    arguments = "--drop when --drop member --on-error skip --option hidden=[8] --epochs 0 --no-report"
    done = run("fit", source, "--out", tmp_path / "a", *arguments.split())
    assert done.exit_code == 0, done.stderr
    assert "1 of 401 rows were skipped" in done.stderr
    assert " rows of 3 columns: 2 numeric, 1 categorical\n" in done.stderr
    assert re.search(r"^  table +3 columns: 2 numeric, 1 categorical; left out: key, when, member$", done.stdout, re.M)
    manifest = json.loads((tmp_path / "a/manifest.json").read_text())
    assert manifest["columns"] == ["amount", "age", "colour"]
    assert run("score", tmp_path / "a", orders_csv, "--out", tmp_path / "s.csv").exit_code == 0
    assert len(read(tmp_path / "s.csv")) == 400


def test_numbers_alone_stay_an_array_whatever_they_come_in(tmp_path):
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 3)), columns=list("abc"))
    frame.assign(id=[f"row {i}" for i in range(50)]).to_csv(tmp_path / "x.csv", index=False)
    source = load_source(tmp_path / "x.csv", drop=["id"])
    assert source.rows.schema.is_plain
    assert np.isfinite(source.rows.x).all()
    np.testing.assert_allclose(load_source(frame).rows.x, source.rows.x, rtol=1e-6)
    assert [c.kind for c in infer(read_cells(tmp_path / "x.csv", ["id"])).columns] == ["numeric"] * 3


def test_drift_is_seen_in_categories_and_in_what_is_missing(run, orders_artifact, tmp_path):
    orders(300, seed=2).to_csv(tmp_path / "same.csv", index=False)
    assert run("monitor", orders_artifact, tmp_path / "same.csv").exit_code == 0
    orders(300, seed=2).assign(age=np.nan).to_csv(tmp_path / "gone.csv", index=False)
    done = run("monitor", orders_artifact, tmp_path / "gone.csv")
    assert done.exit_code == 3
    assert "age" in done.stdout
    assert "p-value of at most" not in done.stdout  # which 40 calibration rows can't give


def test_a_table_is_evaluated_by_its_features(orders_artifact, orders_csv):
    found = evaluate_artifact(orders_artifact, orders_csv, max_rows=100)
    rmse = found.numbers["rmse_test"]
    assert rmse["model"].value < 1.1 * rmse["baseline"].value
    assert {"frechet", "coverage", "c_t"} <= set(found.numbers)


def test_the_worst_rows_are_shown_as_they_were_missing_cells_and_all(orders_artifact, orders_csv):
    model = runtime.load(orders_artifact)
    splits = fitted_splits(orders_artifact, model.manifest, orders_csv)
    amount, age = (model.schema.names.index(name) for name in ("amount", "age"))
    splits.test[0, amount], splits.test[0, age] = 1e6, np.nan
    judged = judge(model, splits, 20, 0, lambda what, share: None, most=40)
    assert not np.isnan(judged.splits.test).any()
    assert np.isnan(judged.given.test).any()
    judged.given.test[:1] = splits.test[0]
    text = worst_rows(model, judged, Observations(model, splits.train))
    worst = text.partition("<tbody>")[2].partition("</tr>")[0]
    assert re.findall(r"<span>(\w+) <b>", worst)[0] == "amount"
    assert "missing; AE(x)" in worst
    assert "nan;" not in text
    assert "1e+06; AE(x)" in worst or "1,000,000" in worst
    scores = model.score(judged.given.test)["score"]
    assert f">{judged.test_rows[scores.argmax()]:,}</th>" in worst


REFUSE_TABLES = ("kl_ae", "masked", "student_t", "vae_gan")
TAKES_NO_LABELS = ("iwae", "miwae")


def test_the_recipes_that_refuse_tables_are_those_that_the_documents_name():
    root = Path(__file__).parents[1]
    for page in ("docs/recipes.md", "docs/tables.md"):
        text = (root / page).read_text()
        refuse = text[text.index("refuse ") :].split("\n\n")[0]
        assert set(re.findall(r"`(\w+)`", refuse)) == set(REFUSE_TABLES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_takes_tables_or_says_why_not(recipe):
    schema, _ = fitted_schema(orders(60).drop(columns="key"))
    classes = ("a", "b") if RECIPES[recipe].conditional else ()
    if recipe in REFUSE_TABLES:
        with pytest.raises(ValueError, match=r"RMSE or a likelihood of real numbers, such as vae\. Received: "):
            build(recipe, 5, 3, schema=schema)
        return
    assert build(recipe, 5, 3, classes=classes, schema=schema).draws is not None


@pytest.mark.parametrize(
    "recipe", ["cvae", *(pytest.param(r, marks=pytest.mark.slow) for r in RECIPES if r not in (*REFUSE_TABLES, "cvae"))]
)
def test_a_recipe_is_fitted_to_a_table(recipe):
    frame = orders(200)
    frame["label"] = np.where(frame["member"] == "yes", "a", "b")
    source = load_source(frame, labels="label", drop=["key"])
    hidden = {} if recipe == "linear" else {"hidden": [8]}
    labels = False if recipe in TAKES_NO_LABELS else None
    fitted = pipeline.fit(source, recipe=recipe, epochs=2, latent_dim=4, labels=labels, **hidden)
    x = source.rows.x
    assert np.isfinite(fitted.model.score(x)["score"]).all()
    assert fitted.model.reconstruct(x).shape == x.shape
    assert not np.isnan(fitted.model.impute(x)).any()
    missing = np.isnan(fitted.model.generate(2000, seed=0)).mean(axis=0)
    np.testing.assert_allclose(missing, np.isnan(fitted.splits.train).mean(axis=0), atol=0.06)


def test_what_is_no_table_takes_no_schema():
    with pytest.raises(InputError, match="of a table"):
        load_source("digits", drop=["a"])
    with pytest.raises(InputError, match="must have a column 'z'"):
        load_source({"a": [1, 2]}, labels="z")
    assert keras_ae.__version__
