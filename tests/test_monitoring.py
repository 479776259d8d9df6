"""Alarms from p-values, and whether new rows still look like those of training."""

import json
import re

import numpy as np
import pytest
from scipy.stats import false_discovery_control
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from keras_ae.alarms import alarms, alarms_of_batch
from keras_ae.cli import app
from keras_ae.errors import InputError
from keras_ae.monitoring import REFERENCE, monitor, sampled

DIGITS = load_digits().data.astype("float32")
RNG = np.random.default_rng(0)


def test_alarms_are_as_many_as_asked_for_and_of_a_batch_those_of_benjamini_and_hochberg():
    p_value = np.concatenate([RNG.random(900), RNG.random(100) * 1e-3])
    assert alarms(p_value, 0.05).sum() == (p_value <= 0.05).sum()
    for rate in (0.01, 0.1, 0.3):
        np.testing.assert_array_equal(alarms_of_batch(p_value, rate), false_discovery_control(p_value) <= rate)
    assert alarms_of_batch(RNG.random(50) * 0.5 + 0.5, 0.1).sum() == 0
    assert alarms_of_batch(np.empty(0), 0.1).shape == (0,)
    for wrong in (0, 1, -0.1, 2):
        with pytest.raises(InputError, match=r"in \(0, 1\). Received"):
            alarms(p_value, wrong)
        with pytest.raises(InputError, match=r"in \(0, 1\). Received"):
            alarms_of_batch(p_value, wrong)


def test_what_changed_is_found_and_what_did_not_is_left_alone(digits_fitted):
    path, test = digits_fitted.artifact, digits_fitted.splits.test
    same = monitor(path, test)
    assert same.found == ()
    assert (same.rows, same.reference_rows) == (len(test), len(digits_fitted.splits.calibration))
    assert str(same).startswith("no change found")
    assert f"{same.alarms:.1%} of the new rows" in str(same)

    moved = test.copy()
    moved[:, 20] += 6
    found = monitor(path, moved)
    assert {"column 20"} <= {s.of for s in found.found}
    assert re.search(r"column 20 +distance 0\.\d+  p = ", str(found))
    # Each column as it was, and no row as any: only what sees columns together finds it.
    mixed = np.stack([RNG.permutation(column) for column in test.T], axis=1)
    found = monitor(path, mixed)
    by_name = {s.of for s in found.found}
    assert {"score", "latents"} <= by_name
    assert re.search(r"latents +AUC +0\.\d+  p = ", str(found))
    assert not any(name.startswith("column") for name in by_name)


def test_monitor_says_by_its_exit_code_whether_something_changed(digits_artifact, digits_fitted, tmp_path):
    np.save(tmp_path / "same.npy", digits_fitted.splits.test)
    np.save(tmp_path / "dark.npy", digits_fitted.splits.test * 0.5)
    same = CliRunner().invoke(app, ["monitor", str(digits_artifact), str(tmp_path / "same.npy"), "--json"])
    assert same.exit_code == 0, same.output
    assert json.loads(same.stdout.splitlines()[-1])["found"] == []
    dark = CliRunner().invoke(app, ["monitor", str(digits_artifact), str(tmp_path / "dark.npy"), "--json"])
    assert dark.exit_code == 3
    assert "latents" in json.loads(dark.stdout.splitlines()[-1])["found"]


def test_monitor_refuses_few_rows_a_wrong_level_and_keeps_rows_that_were_not_trained_on(digits_fitted):
    with pytest.raises(InputError, match=r"at least 20 rows to compare. Received: 3"):
        monitor(digits_fitted.artifact, DIGITS[:3])
    with pytest.raises(InputError, match=r"`level` must be in \(0, 1\). Received: 1"):
        monitor(digits_fitted.artifact, DIGITS, level=1)
    with np.load(digits_fitted.artifact / REFERENCE) as file:
        kept = {row.tobytes() for row in file["x"]}
    assert kept <= {row.tobytes() for row in digits_fitted.splits.calibration}
    assert not kept & {row.tobytes() for row in digits_fitted.splits.train}


@pytest.mark.parametrize("option", [("--alpha", "0.1"), ("--fdr", "0.5")])
def test_score_adds_a_column_of_alarms(option, digits_artifact, tmp_path):
    rows = np.concatenate([DIGITS[:50], np.full((30, 64), 16, "float32")])
    np.save(tmp_path / "x.npy", rows)
    done = CliRunner().invoke(
        app, ["score", str(digits_artifact), str(tmp_path / "x.npy"), "-o", str(tmp_path / "s.csv"), *option]
    )
    assert done.exit_code == 0, done.output
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert lines[0] == "score,p_value,anomaly"
    found = np.array([float(line.split(",")[2]) for line in lines[1:]])
    assert found[50:].all()
    assert found[:50].mean() < 0.4


def test_rows_of_batches_are_drawn_alike_and_no_more_are_held():
    batches = [np.arange(start, start + 100)[:, None] for start in range(0, 10_000, 100)]
    counts = np.zeros(100)
    for seed in range(200):
        drawn = sampled(iter(batches), 50, seed)
        assert len(drawn) == 50
        assert (np.diff(drawn[:, 0]) > 0).all()
        np.add.at(counts, drawn[:, 0] // 100, 1)
    # Of 10,000 draws each batch has a hundredth; the sum of squares is chi-squared with 99 degrees of freedom.
    assert np.sum((counts - 100) ** 2 / 100) < 160
    np.testing.assert_array_equal(sampled(iter(batches[:2]), 500), np.concatenate(batches[:2]))
