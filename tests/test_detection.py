"""The anomaly score: its measures against independent formulas, its parts, its exports, its false alarms."""

import hypothesis.strategies as st
import keras
import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays
from keras_ae.export.to_onnx import convert
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import keras_ae
from keras_ae.functions import Graph
from keras_ae.layers import AnomalyScore
from keras_ae.layers.detection import MEASURES
from keras_ae.layers.neighbours import LocalOutlierFactor, Neighbours, share_of

RNG = np.random.default_rng(0)


def table(rows, seed=0):
    """Normal rows of six columns: two clusters, a product, a heavy tail, and a column of whole numbers."""
    rng = np.random.default_rng(seed)
    a, b, c = rng.normal(size=(3, rows))
    a += 4 * (rng.random(rows) < 0.3)
    columns = [a, 100 + 10 * b, a * b + 0.1 * rng.normal(size=rows), np.exp(1.5 * c), rng.integers(0, 5, rows), -a]
    return np.stack(columns, axis=1).astype("float32")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    return keras_ae.fit(
        table(1500), tmp_path_factory.mktemp("detector") / "a", epochs=15, hidden=[32], latent_dim=3, report=False
    )


def test_the_nearest_are_those_of_scikit_learn():
    bank, x = RNG.normal(size=(300, 4)).astype("float32"), RNG.normal(size=(50, 4)).astype("float32")
    layer = Neighbours(300, 4, range(1, 6))
    layer.build()
    layer.fit(bank)
    index, squares = (np.asarray(part) for part in layer(x))
    distance, expected = NearestNeighbors(n_neighbors=5).fit(bank).kneighbors(x)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(squares.sum(-1), distance**2, rtol=1e-4)
    some = Neighbours(300, 4, (1, 5, 400))
    some.build()
    some.fit(bank)
    farthest = NearestNeighbors(n_neighbors=300).fit(bank).kneighbors(x)[1][:, -1]
    np.testing.assert_array_equal(np.asarray(some(x)[0]), np.stack([*expected[:, [0, 4]].T, farthest], axis=1))
    np.testing.assert_allclose(some.typical(x)[:2], np.median(distance, axis=0)[[0, 4]], rtol=1e-4)
    one = Neighbours(1, 4, (1,))
    one.build()
    one.fit(bank[:1])
    np.testing.assert_array_equal(np.asarray(one(x)[0]), np.zeros((50, 1)))
    for which in ((), (0, 1), (5, 1)):
        with pytest.raises(ValueError, match="rising order"):
            Neighbours(3, 2, which)


KERNELS = ((4, 2), (16, 1))


def weighted_factor(bank, x, k, reached, power):
    """LOF with weights by a kernel, by loops over sorted distances."""

    def around(distances, skip):
        order = np.argsort(distances, kind="stable")[skip : skip + k]
        near = distances[order]
        weight = (1.000001 - (near / near[-1]) ** 2) ** power
        return order, near, weight / weight.sum()

    between = np.linalg.norm(bank[:, None] - bank[None], axis=-1)
    reach = np.sort(between, axis=1)[:, reached]
    reach = np.maximum(reach, np.quantile(reach, 0.01))
    density = []
    for row in between:
        order, near, weight = around(row, 1)
        density.append(1 / (weight * np.maximum(near, reach[order])).sum())
    factors = []
    for row in np.linalg.norm(x[:, None] - bank[None], axis=-1):
        order, near, weight = around(row, 0)
        factors.append((weight * np.maximum(near, reach[order])).sum() * (weight * np.array(density)[order]).sum())
    return np.array(factors)


def test_the_local_outlier_factor_is_that_of_its_definition_and_one_inside_the_data():
    bank, x = RNG.normal(size=(200, 3)), np.concatenate([RNG.normal(size=(40, 3)), [[9.0, 9, 9]]])
    layer = LocalOutlierFactor(200, 3)
    layer.build()
    layer.fit(bank.astype("float32"))
    factors, around = (np.asarray(part) for part in layer(x.astype("float32")))
    for factor, kernel in zip(factors.T, KERNELS, strict=True):
        np.testing.assert_allclose(factor, weighted_factor(bank, x, 16, *kernel), rtol=1e-3)
        assert 0.9 < np.median(factor) < 1.2
        assert factor[-1] == factor.max() > 3
    distance = NearestNeighbors(n_neighbors=16).fit(bank).kneighbors(x)[0]
    mean = np.sqrt(around.sum(axis=1))
    assert ((distance[:, 0] < mean) & (mean < distance[:, -1])).all()


def test_every_measure_rises_with_what_it_measures_and_the_score_is_the_sum_of_its_parts(fitted):
    model, x = fitted.model, table(300, seed=1)
    score, contribution = model.score(x)["score"], model.run("explain", x)["contribution"]
    assert contribution.shape == x.shape
    assert (contribution >= 0).all()
    np.testing.assert_allclose(contribution.sum(axis=1), score, rtol=1e-4)
    assert 0.4 < score.mean() < 1.2
    for column in (1, 3, 4):  # those that nothing else follows from
        wrong = x.copy()
        wrong[:, column] += 12 * x[:, column].std()
        higher, why = model.score(wrong)["score"], model.run("explain", wrong)["contribution"]
        assert (higher > score).mean() > 0.97
        assert (why.argmax(axis=1) == column).mean() > 0.7


def test_rows_that_break_a_relation_are_found_where_each_column_looks_normal(fitted):
    x, broken = table(600, seed=2), table(600, seed=3)
    broken[:, 5] = broken[::-1, 5]
    moved = np.abs(broken[:, 5] + broken[:, 0]) > 2
    scores = [fitted.model.score(part)["score"] for part in (x, broken[moved])]
    assert roc_auc_score(np.repeat([0, 1], [len(part) for part in scores]), np.concatenate(scores)) > 0.95


def test_false_alarms_on_fresh_rows_are_as_many_as_asked_for(fitted):
    p_value = fitted.model.score(table(4000, seed=4))["p_value"]
    calibration = fitted.manifest["calibration_rows"]
    for alpha in (0.05, 0.1):  # binomial error of the calibration rows and of the fresh ones
        error = np.sqrt(alpha * (1 - alpha) * (1 / calibration + 1 / 4000))
        assert abs((p_value <= alpha).mean() - alpha) < 3 * error + 1 / calibration


def test_the_runtime_scores_and_explains_as_keras_does_also_where_rows_are_equally_far(fitted):
    runtime = keras_ae.runtime.load(fitted.artifact)
    x = table(500, seed=5)
    x[:250] = np.round(x[:250])  # whole numbers: many neighbours at one distance
    for function in ("score", "explain"):
        for name, expected in fitted.model.run(function, x).items():
            np.testing.assert_allclose(runtime.run(function, x)[name], expected, rtol=1e-5, atol=1e-5)


def test_whole_numbers_and_copied_rows_agree_between_runtimes():
    x = RNG.integers(0, 4, (800, 5)).astype("float32")
    x[100:300] = x[0]
    layer = LocalOutlierFactor(800, 5)
    layer.build()
    layer.fit(x)
    inputs = keras.Input((5,), name="x")
    graph = Graph.of("density", keras.Model({"x": inputs}, {"factor": layer(inputs)[0]}))
    session = onnxruntime.InferenceSession(convert(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    query = RNG.integers(-1, 5, (300, 5)).astype("float32")
    expected = np.asarray(layer(query)[0])
    assert np.isfinite(expected).all()
    got = session.run(None, {"x": query})[0]
    assert (np.abs(got / expected - 1) < 1e-5).all()


@pytest.mark.parametrize(("levels", "columns"), [(2, 4), (2, 9), (3, 4), (10, 9)])
def test_the_last_digit_decides_nothing_where_rows_are_equal_or_equally_far(levels, columns):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1_000, 3)) @ rng.normal(size=(3, columns)) + rng.normal(size=(1_000, columns))
    x = np.clip(np.floor(levels / 2 + x * levels / 6), 0, levels - 1)
    x = x / x.std(axis=0)
    z = rng.normal(size=(1_000, 3))
    parts = [part.astype("float32") for part in (x, x + 0.3 * rng.normal(size=x.shape), z, -np.square(z).sum(axis=1))]
    layer = AnomalyScore.fitted([part[:600] for part in parts], [part[600:800] for part in parts])
    given = [part[800:] for part in parts]
    rounded = [given[0] * rng.uniform(1 - 2e-7, 1 + 2e-7, given[0].shape).astype("float32"), *given[1:]]
    for exactly, nearly in zip(layer(given), layer(rounded), strict=True):
        np.testing.assert_allclose(nearly, exactly, atol=1e-5 * max(np.max(exactly), layer.rounding))


def test_contributions_agree_between_runtimes_where_rows_are_copies_or_equally_far():
    x = RNG.integers(0, 4, (900, 5)).astype("float32")
    parts = [x, x + 0.1, x[:, :2], -np.square(x).sum(axis=1)]
    layer = AnomalyScore.fitted([part[:600] for part in parts], [part[600:700] for part in parts])
    names = ("x", "x_hat", "z", "log_prior")
    inputs = [keras.Input(part.shape[1:], name=name) for name, part in zip(names, parts, strict=True)]
    score, contribution = layer(inputs)
    assert (score.shape, contribution.shape) == ((None,), (None, 5))
    named = {tensor.name: tensor for tensor in inputs}
    model = keras.Model(named, {"score": score, "contribution": contribution})
    graph = Graph.of("score", model)
    session = onnxruntime.InferenceSession(convert(graph).SerializeToString(), providers=["CPUExecutionProvider"])
    query = dict(zip(names, [part[700:] for part in parts], strict=True))
    expected = {name: np.asarray(part) for name, part in model(query).items()}
    for name, got in zip(expected, session.run(list(expected), query), strict=True):
        np.testing.assert_allclose(got, expected[name], rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(arrays("float32", (3, 6), elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)))
def test_scores_are_finite_far_beyond_any_data(fitted, x):
    score, contribution = fitted.model.score(x)["score"], fitted.model.run("explain", x)["contribution"]
    assert np.isfinite(score).all()
    assert (score >= 0).all()
    assert np.isfinite(contribution).all()


def test_a_few_rows_are_enough_and_more_are_sampled():
    distances, densities = [f"distance_{k}" for k in (1, 2, 5, 10)], ["density_4", "density_16"]
    assert list(MEASURES) == ["error", "prior", *distances, *densities]
    model = keras_ae.build("linear", 3, 2)
    for rows, kept in ((9, 18), (3000, 2048)):
        x = RNG.normal(size=(rows, 3)).astype("float32")
        model.fit_detector(x, x[:300])
        assert model.detector.rows == kept
        assert np.isfinite(model.score(x[:5])["score"]).all()


def test_an_error_of_a_hundredth_counts_and_one_of_a_ten_thousandth_is_none():
    x, noise = RNG.normal(size=(2, 600, 4)).astype("float32")
    own, least = np.square(1e-2 * noise[300:]).mean(axis=0), 1e-6 * np.square(x[300:]).mean()
    for size, variance in ((1e-2, own), (1e-4, least)):
        parts = [x, x - np.float32(size) * noise, x[:, :2], -np.square(x).sum(axis=1)]
        layer = AnomalyScore.fitted([part[:300] for part in parts], [part[300:] for part in parts])
        np.testing.assert_allclose(layer.variance, np.broadcast_to(variance, 4), rtol=1e-3)


def weighted_squares(bank, x):
    """Mean squared differences from 16 neighbours in each coordinate, by Epanechnikov's kernel."""
    distance, index = NearestNeighbors(n_neighbors=16).fit(bank).kneighbors(x)
    weight = 1.000001 - (distance / distance[:, -1:]) ** 2
    weight /= weight.sum(axis=1, keepdims=True)
    return np.einsum("rk,rkn->rn", weight, np.square(x[:, None] - bank[index]))


@pytest.mark.parametrize("masked", [False, True])
def test_the_score_is_that_of_its_definition_and_held_out_rows_join_the_bank_once_they_have_standardized_it(masked):
    x, error = RNG.normal(size=(2, 180, 3)) * [1.0, 2.0, 0.5]
    if masked:
        x[::3, 1], x[::4, 2] = np.nan, np.nan
    parts = [x, x + 0.2 * error, RNG.normal(size=(180, 2)), RNG.normal(size=180)]
    parts[1][np.isnan(x)] = 3.0  # of no interest
    parts = [part.astype("float32") for part in parts]
    train, held_out, new = ([part[rows] for part in parts] for rows in np.split(np.arange(180), [60, 120]))
    layer = AnomalyScore.fitted(train, held_out, masked=masked)

    points = [np.nan_to_num(part[0].astype("float64")) for part in (train, held_out, new)]
    squares = [np.square(part[0].astype("float64") - part[1]) for part in (train, held_out, new)]
    units = points[0].std(axis=0) / np.sqrt(points[0].var(axis=0).mean())
    variance = np.nanmean(squares[1], axis=0)
    ranks = [0, 1, 4, 9]
    to_neighbours = NearestNeighbors(n_neighbors=10).fit(points[0] / units).kneighbors(points[1] / units)[0][:, ranks]
    near = 0.1 * np.median(to_neighbours, axis=0)

    def measures(part, bank):
        distance = NearestNeighbors(n_neighbors=10).fit(bank / units).kneighbors(points[part] / units)[0][:, ranks]
        roots = bank / np.sqrt(units), points[part] / np.sqrt(units)
        columns = [np.sqrt(np.nanmean(squares[part] / variance, axis=1) + 0.01)]
        columns += [np.sqrt(1 + 2 * np.maximum(train[3].max() - (held_out, new)[part - 1][3], 0))]
        columns += [*np.sqrt(distance**2 + near**2).T, *(weighted_factor(*roots, 16, *kernel) for kernel in KERNELS)]
        return np.log(np.stack(columns, axis=1))

    expected = measures(1, points[0])
    lowest = np.quantile(expected, 0.01, axis=0)
    raised = np.maximum(expected, lowest)
    bank = np.concatenate(points[:2])
    standard = (np.maximum(measures(2, bank), lowest) - raised.mean(axis=0)) / raised.std(axis=0)
    added = np.logaddexp(0, standard) / 8

    def share(part, floor=0.0):
        return (part + floor) / (part + floor).sum(axis=1, keepdims=True)

    floor = 0.01 * ~np.isnan(squares[2])
    of_error = share(np.nan_to_num(squares[2] / variance), floor)
    of_distance = share(weighted_squares(bank / np.sqrt(units), points[2] / np.sqrt(units)) / units)
    of_density = share(of_distance * units)
    of_measures = [of_error] * 2 + [of_distance] * 4 + [of_density] * 2
    contributions = sum(added[:, [i]] * part for i, part in enumerate(of_measures))
    assert layer.rows == 120
    # The zeros of missing values are dithered where densities are compared.
    tolerance = {"rtol": 1e-2, "atol": 1e-3} if masked else {"rtol": 2e-4, "atol": 2e-5}
    np.testing.assert_allclose(layer(new)[0], added.sum(axis=1), **tolerance)
    np.testing.assert_allclose(layer(new)[1], contributions, **tolerance)
    # Without a bank error and prior are left, standardized as before.
    alone = AnomalyScore.fitted(train, held_out, keep_rows=False, masked=masked)
    assert alone.rows == 0
    np.testing.assert_allclose(alone(new)[0], 4 * added[:, :2].sum(axis=1), rtol=1e-4)
    np.testing.assert_allclose(alone(new)[1], 4 * added[:, :2].sum(axis=1)[:, None] * of_error, rtol=1e-4, atol=1e-6)


def test_a_distance_that_is_none_is_one_of_how_far_rows_are_from_their_mean_where_they_are_copies():
    x = RNG.integers(0, 3, (400, 2)).astype("float32") * np.array([1, 10], "float32")
    parts = [x, x + 0.1, x, -np.square(x).sum(axis=1)]
    layer = AnomalyScore.fitted(parts, parts)
    units = x.std(axis=0) / np.sqrt(x.var(axis=0).mean())
    np.testing.assert_allclose(layer.near, np.full(4, 1e-3 * np.sqrt((x / units).var(axis=0).sum())), rtol=1e-4)


def test_rows_that_are_all_alike_have_a_finite_density_and_equal_shares():
    layer = LocalOutlierFactor(40, 3)
    layer.build()
    layer.fit(np.ones((40, 3), "float32"))
    assert np.isfinite(layer.density).all()
    np.testing.assert_array_equal(share_of(np.zeros((2, 4), "float32")), np.full((2, 4), 0.25))


def test_more_than_256_features_are_compared_by_latents():
    parts = [RNG.normal(size=(50, n)).astype("float32") for n in (300, 300, 4)] + [RNG.normal(size=50)]
    layer = AnomalyScore.fitted(parts, parts)
    assert layer.nearest.coordinates == 4
    score, contribution = layer([part[:5].astype("float32") for part in parts])
    np.testing.assert_allclose(np.asarray(contribution).sum(axis=1), np.asarray(score), rtol=1e-4)


def test_a_column_counts_as_one_however_many_features_tell_it():
    a, b, error_a, error_b = RNG.normal(size=(4, 400))

    def parts(*pairs):
        x, error = (np.stack(columns, axis=1) for columns in zip(*pairs, strict=True))
        return [part.astype("float32") for part in (x, x - error, x[:, :1], -np.square(a))]

    def scores(of, columns=None):
        layer = AnomalyScore.fitted([part[:200] for part in of], [part[200:300] for part in of], columns=columns)
        return np.asarray(layer([part[300:] for part in of])[0])

    one = scores(parts((a, error_a), (np.sqrt(3) * b, error_b)))
    three = parts((a, error_a), *[(b, error_b)] * 3)
    np.testing.assert_allclose(scores(three, [0, 1, 1, 1]), one, rtol=1e-3)
    assert np.abs(scores(three) / one - 1).max() > 0.05
