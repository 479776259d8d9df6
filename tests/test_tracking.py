"""What a fit tells CSV, TensorBoard and MLflow, read back by their own libraries."""

import csv
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_ae
from keras_ae import runtime
from keras_ae.errors import InputError
from keras_ae.tracking.tracker import Tracker, tracker_of

DIGITS = load_digits().data.astype("float32")


class Told(Tracker):
    def __init__(self):
        super().__init__()
        self.events = []

    def started(self, asked, resumed):
        self.events.append("started")

    def on_epoch_end(self, epoch, logs=None):
        self.events.append(epoch)

    def finished(self, model, splits, manifest, artifact):
        self.events.append("finished")

    def failed(self):
        self.events.append("failed")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """A folder with what all of them were told of one fit, and what it gave back."""
    folder = tmp_path_factory.mktemp("tracked")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # a database would need all of mlflow
        fitted = keras_ae.fit(
            "digits",
            out=folder / "digits",
            recipe="ae",
            epochs=3,
            hidden=[8],
            latent_dim=4,
            report=False,
            track=["csv", "tensorboard", f"mlflow=file:{folder}/mlruns"],
        )
        yield folder, fitted


def test_csv_has_a_line_an_epoch(tracked):
    folder, fitted = tracked
    with (folder / "digits-csv.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == ["0", "1", "2"]
    for name, values in fitted.training.history.items():
        assert [float(line[name]) for line in lines] == pytest.approx(values), name


def test_tensorboard_has_terms_images_and_the_projector(tracked):
    from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    folder, fitted = tracked
    for part, key in (("train", "loss"), ("validation", "val_loss")):
        events = EventAccumulator(str(folder / "digits-tensorboard" / part), {TENSORS: 0})
        events.Reload()
        told = [(event.step, float(make_ndarray(event.tensor_proto))) for event in events.Tensors("loss")]
        assert [step for step, _ in told] == [1, 2, 3]
        assert [value for _, value in told] == pytest.approx(fitted.training.history[key])
        if part == "train":
            (image,) = events.Tensors("x above, AE(x) below")
            width, height, *pngs = make_ndarray(image.tensor_proto)
            assert (int(width), int(height), len(pngs)) == (8, 16, 8)
    z = np.loadtxt(folder / "digits-tensorboard/z.tsv")
    np.testing.assert_allclose(z, fitted.model.encode(fitted.splits.test), rtol=1e-4, atol=1e-5)
    labels = (folder / "digits-tensorboard/labels.tsv").read_text().split()
    assert labels == [str(label) for label in fitted.splits.labels["test"]]
    assert 'metadata_path: "labels.tsv"' in (folder / "digits-tensorboard/projector_config.pbtxt").read_text()


def test_mlflow_has_parameters_metrics_and_a_model_that_runs_without_tensorflow(tracked):
    import mlflow

    folder, fitted = tracked
    client = mlflow.MlflowClient(f"file:{folder}/mlruns")
    (run,) = client.search_runs(["0"])
    assert run.info.status == "FINISHED"
    assert run.data.params["recipe"] == "ae"
    assert run.data.params["options"] == '{"hidden": [8]}'
    assert run.data.metrics["rmse_test"] == pytest.approx(fitted.manifest["metrics"]["rmse_test"])
    losses = [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "loss")]
    assert losses == [(i + 1, pytest.approx(value)) for i, value in enumerate(fitted.training.history["loss"])]
    (model,) = client.search_logged_models(["0"])
    np.save(folder / "x.npy", DIGITS[:5])
    script = f"""
import sys
for name in ("tensorflow", "keras", "tf2onnx"):
    sys.modules[name] = None  # an import of it raises
import mlflow, numpy as np
model = mlflow.pyfunc.load_model({model.artifact_location!r})
x = np.load({str(folder / "x.npy")!r})
np.save({str(folder / "x_hat.npy")!r}, model.predict(x))
model.predict(x, params={{"function": "score"}}).to_csv({str(folder / "score.csv")!r}, index=False)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    artifact = runtime.load(fitted.artifact)
    np.testing.assert_allclose(np.load(folder / "x_hat.npy"), artifact.reconstruct(DIGITS[:5]), rtol=1e-5, atol=1e-4)
    scores = np.genfromtxt(folder / "score.csv", delimiter=",", names=True)
    np.testing.assert_allclose(scores["score"], artifact.score(DIGITS[:5])["score"], rtol=1e-5)


def test_a_fit_that_fails_is_told(tmp_path):
    told = Told()
    with pytest.raises(InputError):
        keras_ae.fit("digits", recipe="ae", no_such_option=1, track=[told])
    assert told.events == ["started", "failed"]


def test_trackers_have_names_and_places(tmp_path):
    with pytest.raises(InputError, match=r"`track` must be csv, tensorboard, mlflow, or NAME=PLACE. Received: 'wandb'"):
        tracker_of("wandb", tmp_path)
    with pytest.raises(InputError, match="`track` must say where, csv=PLACE, as there is no `out`"):
        tracker_of("csv", None)


def test_csv_goes_on_in_the_columns_that_are_there(tmp_path):
    path = tmp_path / "x.csv"
    for epoch, logs in enumerate([{"loss": 1.5, "val_loss": 2.5, "z": 3.5}, {"loss": 4.5, "z": 5.5}]):
        tracker = tracker_of(f"csv={path}", None)
        tracker.started({}, epoch > 0)
        tracker.on_train_begin()
        tracker.on_epoch_end(epoch, logs)
        tracker.on_train_end()
    assert path.read_text().split() == ["epoch,loss,val_loss,z", "0,1.5,2.5,3.5", "1,4.5,NA,5.5"]
