"""Rows that stand apart, which may be anomalies among training rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import keras_ae
from keras_ae.data.trimming import standing_apart
from keras_ae.errors import InputError
from keras_ae.sklearn import AnomalyDetector


def contaminated(rng: np.random.Generator, wrong: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Two normal groups, and anomalies that are a tight group of their own; in columns of very different scale."""
    normal = rng.normal(size=(600, 3)) + np.repeat([[0, 0, 0], [8, 0, 0]], 300, axis=0)
    group = 0.1 * rng.normal(size=(wrong, 3)) + [4, 5, 5]
    return np.concatenate([normal, group]) * [1, 1e4, 1e-4], np.repeat([False, True], [600, wrong])


def test_a_tight_group_of_anomalies_stands_apart_though_each_has_near_neighbours():
    x, wrong = contaminated(np.random.default_rng(0))
    apart = standing_apart(x, 0.05)
    assert apart[wrong].all()
    assert apart.sum() == 3 * len(x) * 5 // 100
    np.testing.assert_array_equal(apart, standing_apart(x, 0.05))


def test_single_anomalies_stand_apart_too():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(size=(400, 2)), rng.uniform(6, 12, size=(8, 2)) * rng.choice([-1, 1], (8, 2))])
    assert standing_apart(x, 0.02)[400:].all()


def test_a_class_of_digits_that_is_rare_stands_apart():
    x, y = load_digits(return_X_y=True)
    rare = np.flatnonzero(y == 0)[:40]
    x = np.concatenate([x[y != 0], x[rare]])
    apart = standing_apart(x, 40 / len(x))
    assert apart[-40:].mean() > 0.8
    images = standing_apart(x.reshape(-1, 8, 8), 40 / len(x))
    assert images[-40:].mean() > 0.8


def test_more_rows_than_are_grouped_are_as_their_neighbours():
    x, wrong = contaminated(np.random.default_rng(2))
    many, of = np.tile(x, (10, 1)), np.tile(wrong, 10)
    many += 1e-3 * np.random.default_rng(3).normal(size=many.shape) * x.std(axis=0)
    apart = standing_apart(many, 0.06)
    assert apart[of].mean() > 0.95


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.integers(1, 3), st.floats(0.001, 0.5), st.booleans())
def test_at_most_half_are_left_out_whatever_the_rows(rows, features, share, gaps):
    x = np.random.default_rng(rows).normal(size=(rows, features))
    if gaps:
        x[:, 0] = np.nan
    apart = standing_apart(x, share)
    assert apart.sum() == int(min(3 * share, 0.5) * rows + 1e-9)


def test_a_fit_leaves_them_out_and_says_so():
    x, wrong = contaminated(np.random.default_rng(4))
    fitted = keras_ae.fit(x.astype("float32"), contamination=0.05, epochs=2, report=False)
    splits = fitted.splits
    left = fitted.manifest["rows_left_out"]
    assert left == int(0.15 * (len(x) - len(splits.calibration) - len(splits.test)))
    assert len(splits.train) + len(splits.validation) + left == len(x) - len(splits.calibration) - len(splits.test)
    assert any("stand apart" in note for note in fitted.manifest["notes"])
    group = {row.tobytes() for row in x[wrong].astype("float32")}
    assert not any(row.tobytes() in group for row in splits.train)
    # Anomalies are among the calibration rows, and have no part in the p-values.
    kept = fitted.model.p_value.calibration_scores
    assert len(kept) == len(splits.calibration) - int(0.05 * len(splits.calibration) + 1)
    with pytest.raises(InputError, match="`contamination` must be in"):
        keras_ae.fit(x, contamination=0.7)


def test_a_group_of_anomalies_in_training_is_found_and_false_alarms_stay_rare():
    rng = np.random.default_rng(5)
    x, wrong = contaminated(rng)
    detector = AnomalyDetector(contamination=float(wrong.mean()), epochs=3, random_state=0).fit(x)
    fresh, anomalous = contaminated(np.random.default_rng(6), 200)
    assert roc_auc_score(anomalous, -detector.score_samples(fresh)) > 0.97
    # 600 normal rows; beside binomial error, 0.02, those few that were taken for anomalies.
    assert np.mean(detector.p_values(fresh[~anomalous]) <= 0.05) < 0.12
    unaware = AnomalyDetector(epochs=3, random_state=0).fit(x)
    assert roc_auc_score(anomalous, -unaware.score_samples(fresh)) < 0.9
