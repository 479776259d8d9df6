"""An artifact judged against the rows that it was trained on: the split is that of `fit`, and no other rows will do."""

import json

import numpy as np
import pytest
from sklearn.datasets import load_digits
from typer.testing import CliRunner

from keras_ae.cli import app
from keras_ae.data import load_source, split
from keras_ae.errors import InputError
from keras_ae.judging import evaluate_artifact
from keras_ae.provenance import fitted_splits


def test_the_command_judges_an_artifact_on_its_own_splits(digits_artifact):
    result = CliRunner().invoke(app, ["evaluate", str(digits_artifact), "--max-rows", "60", "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout.splitlines()[-1])
    manifest = json.loads((digits_artifact / "manifest.json").read_text())
    numbers = found["numbers"]
    # The same rows, through ONNX Runtime and not through Keras.
    assert numbers["rmse_test"]["model"]["value"] == pytest.approx(manifest["metrics"]["rmse_test"], rel=1e-4)
    assert numbers["rmse_train"]["model"]["value"] == pytest.approx(manifest["metrics"]["rmse_train"], rel=1e-4)
    assert found["settings"]["rows"] <= 60
    assert numbers["copied"]["copies"]["value"] == 1.0
    assert set(found["verdict"]) == {"drawn_from_data", "different_from_training"}
    assert np.isfinite(numbers["nll"]["model"]["value"])  # nats, by importance sampling in Keras
    assert numbers["knn_accuracy"]["model"]["value"] > 0.5


def test_other_rows_than_those_trained_on_are_refused(digits_artifact):
    changed = load_digits().data.astype("float32")
    changed[0, 0] += 1
    with pytest.raises(InputError, match="unchanged"):
        evaluate_artifact(digits_artifact, changed)


def test_rows_that_are_not_here_any_more_must_be_named(digits_artifact):
    manifest = json.loads((digits_artifact / "manifest.json").read_text())
    with pytest.raises(InputError, match=r"No such file: orders.csv. What .*digits was trained on must be named"):
        fitted_splits(digits_artifact, manifest | {"source": "orders.csv"})
    with pytest.raises(InputError, match=r"No such file: gone.csv.$"):
        fitted_splits(digits_artifact, manifest, "gone.csv")


def test_labels_stay_with_their_rows():
    source = load_source("digits")
    splits = split(source, 3)
    assert splits.labels is not None
    for name, rows in splits.parts().items():
        for row, label in zip(rows[:5], splits.labels[name][:5], strict=True):
            same = np.flatnonzero((source.rows.x == row).all(axis=1))
            assert label in source.rows.y[same]
        assert len(rows) == len(splits.labels[name])
