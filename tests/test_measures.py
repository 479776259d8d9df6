"""Each part of an evaluation alone, on cases whose answer is known beforehand."""

import warnings

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from keras_ae.evaluation import Number, evaluate
from keras_ae.evaluation.baselines import PCAMixture
from keras_ae.evaluation.components import Components
from keras_ae.evaluation.features import fit_features
from keras_ae.evaluation.fidelity import manifolds
from keras_ae.evaluation.neighbours import nearest, squared_distances
from keras_ae.evaluation.novelty import Novelty
from keras_ae.evaluation.numbers import bootstrap, proportion
from keras_ae.evaluation.representation import accuracies
from keras_ae.evaluation.rows import Units
from keras_ae.evaluation.verdict import _above, _below


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


# Numbers


def test_an_interval_that_is_centred_lies_about_the_value():
    """Resampling meets fewer different rows than there are: the draws alone would be 63 of 100."""
    number = bootstrap(lambda i: float(len(np.unique(i))), 100, seed=0, centred=True)
    assert number.value == 100
    assert 85 < number.low < 98
    assert 102 < number.high < 115


@pytest.mark.parametrize("drawn", [1.0, np.nan])
def test_what_is_not_defined_has_no_interval(drawn):
    answers = iter([np.nan, *[drawn] * 500])
    number = bootstrap(lambda i: next(answers), 10, seed=0)
    assert np.isnan(number.value)
    assert (number.low, number.high) == (None, None)
    answers = iter([2.0, *[np.nan] * 500])
    assert bootstrap(lambda i: next(answers), 10, seed=0) == Number(2.0)


def test_the_exact_interval_of_a_half():
    assert proportion(np.arange(10) < 5).bounds() == pytest.approx((0.187, 0.813), abs=1e-3)  # Clopper and Pearson
    assert proportion(np.arange(10) < 5).value == 0.5


def test_a_number_is_written_with_its_interval_where_it_has_one():
    assert str(Number(0.5, 0.25, 0.75)) == "0.5 [0.25, 0.75]"
    assert str(Number(0.5, 0.25)) == str(Number(0.5, None, 0.75)) == "0.5"


def test_intervals_that_overlap_are_neither_above_nor_below():
    row = {"model": Number(0.5, 0.4, 0.6), "low": Number(0.2, 0.1, 0.3), "high": Number(0.8, 0.55, 0.9)}
    row["wide"] = Number(0.5, 0.05, 1.0)
    assert _above(row, "model", ("low",))
    assert not _above(row, "model", ("low", "high"))
    assert not _below(row, "model", ("high",))
    assert _below(row, "low", ("model", "high"))
    assert not _below(row, "model", ("low", "high"))
    assert not _above(row, "wide", ("high",))
    assert not _below(row, "wide", ("low",))


# Distances


def test_equal_rows_have_no_distance_however_long_they_are():
    x = 1 + draw(600, 300)
    for part, squared in squared_distances(x, x):
        assert (squared[np.arange(len(squared)), np.arange(part.start, part.stop)] == 0).all()
    # Of other digits, as where they were scaled in another batch.
    assert nearest(x[:1] * np.float32(1 + 2e-6), x[:1])[1] == [0]
    moved = x.copy()
    moved[:, 0] += 10
    np.testing.assert_allclose(nearest(moved, x[:1])[1][0], 10, rtol=1e-3)


def test_rows_that_are_met_again_and_again_lie_in_each_others_balls():
    """Their balls have no radius."""
    x = np.repeat(draw(4, 3), 10, axis=0)
    found = manifolds(x, x, seed=0)
    assert [found[name].value for name in ("precision", "recall", "coverage")] == [1.0, 1.0, 1.0]
    assert found["density"].value == 2.0  # ten balls hold each, over k = 5


# Components and the baseline


@pytest.mark.parametrize(
    ("rows", "features", "asked", "width", "there"),
    [(15, 30, 1, 2, 2), (10, 30, 50, 2, 9), (45, 30, 3, 4, 4), (2, 5, 4, 1, 1), (900, 3, 8, 3, 3)],
)
def test_components_are_as_many_as_rows_tell_or_a_caller_asks_for(rows, features, asked, width, there):
    components = Components(draw(rows, features), asked, seed=0)
    assert (components.width, len(components.variances)) == (width, there)


def test_scaled_rows_go_back_to_the_units_of_the_data():
    x = 50 + 7 * draw(200, 4)
    units = Units.fit(x)
    np.testing.assert_allclose(units.undo(units(x)), x, rtol=1e-5)


def test_the_density_of_the_baseline_is_that_of_probabilistic_pca():
    x = draw(4_000, 5) * np.array([3, 1, 1, 1, 1], "float32")
    baseline = PCAMixture(Components(x, 1, 0), x, 1, 1, 0)
    values, axes = np.linalg.eigh(np.cov(x, rowvar=False))
    kept = axes[:, -1:] * np.sqrt(values[-1] - values[:-1].mean())
    normal = multivariate_normal(x.mean(axis=0), kept @ kept.T + values[:-1].mean() * np.eye(5))
    np.testing.assert_allclose(baseline.nll(x[:200]), -normal.logpdf(x[:200]), rtol=1e-3)


def test_the_baseline_has_a_density_where_a_component_has_hardly_any_variance():
    """Of two blocks of equal rows a Gaussian's covariance would be singular."""
    x = np.repeat(np.array([[0.0, 0.0], [10.0, 1.0]], "float32"), 50, axis=0)
    baseline = PCAMixture(Components(x, 2, 0), x, 2, 2, 0)
    variance = 1e-4 * float(baseline._components.variances[:2].mean())
    np.testing.assert_allclose(baseline.nll(x), np.log(2) + np.log(2 * np.pi * variance), atol=1e-3)


# Features


def test_features_have_a_variance_of_one_together_and_are_learned_where_there_are_classes():
    x, y = draw(600, 6), np.repeat([0, 1], 300)
    x[y == 1] += 2
    components = Components(x, 2, 0)
    plain, learned = fit_features(x, None, components, 0), fit_features(x, y, components, 0)
    assert (plain.learned, learned.learned) == (False, True)
    assert fit_features(x, np.zeros(600), components, 0).learned is False  # one class has nothing to tell
    for features in (plain, learned):
        assert features.of(x).var(axis=0).sum() == pytest.approx(1, rel=1e-3)
    assert (learned.of(x) >= 0).all()  # behind rectifiers
    alike = np.linalg.norm(learned.of(x[:10]).mean(0) - learned.of(x[10:300]).mean(0))
    assert np.linalg.norm(learned.of(x[:300]).mean(0) - learned.of(x[300:]).mean(0)) > 3 * alike


# Novelty


def test_a_cell_needs_rows_enough_to_say_something():
    """Of 60 reference rows there are three cells, one of which three candidates lie in: it has no part in C_T."""
    centres = np.repeat(np.array([[0, 0], [100, 0], [0, 100]], "float32"), 20, axis=0)
    train, reference, held_out = (centres + draw(60, 2, seed=seed) for seed in (1, 2, 3))
    novelty = Novelty(train, reference, held_out, seed=0)
    assert len(np.unique(novelty._reference_cell)) == 3
    many = held_out[:40]
    far = held_out[40:43] + 1  # in the third cell, and farther from X
    alone, both = (
        novelty.measure(rows, np.arange(len(rows)))[1]["c_t"].value for rows in (many, np.concatenate([many, far]))
    )
    assert both == alone


def test_cells_are_at_most_as_many_as_different_rows():
    train = np.repeat(draw(2, 6), 100, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of clusters without rows
        assert Novelty(train, draw(80, 6), draw(40, 6), seed=0)._cells.n_clusters == 2
        assert Novelty(draw(100, 6), draw(30, 6), draw(40, 6), seed=0)._cells.n_clusters == 1


# Representation


def test_classes_that_lie_apart_are_told_and_noise_is_not():
    y = np.arange(400) % 2
    apart = draw(400, 3) + 20 * y[:, None]
    told = accuracies((apart[:200], apart[200:]), (y[:200], y[200:]), seed=0)
    assert [number.value for number in told.values()] == [1.0, 1.0]
    noise = draw(400, 3)
    guessed = accuracies((noise[:200], noise[200:]), (y[:200], y[200:]), seed=0)
    assert all(0.35 < number.value < 0.65 for number in guessed.values())


# What is compared with what


def test_rows_are_compared_once_each_and_no_more_than_there_are():
    train, test, samples = draw(60, 3), draw(40, 3, seed=1), draw(25, 3, seed=2)
    found = evaluate(train, test, samples, latent_dim=1, metrics=["novelty"])
    assert found.settings["rows"] == 20  # half of the test rows stand on the other side
    for column in ("model", "held_out", "copies", "baseline"):
        assert len(np.unique(found.neighbours[column].rows)) == 20
    assert evaluate(train, test, latent_dim=1, reconstructed=(train, test)).settings["rows"] == 0


def test_ten_rows_of_a_kind_are_enough():
    rows = draw(10, 3)
    found = evaluate(rows, draw(10, 3, seed=1), latent_dim=1, max_rows=10, reconstructed=(rows, rows))
    assert found.settings["held_out_rows"] == 10
