"""On a Ray cluster of two worker processes, one of which dies in the middle: nothing is lost, nothing comes twice."""

import functools
import os
import signal
import socket
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits
from starlette.testclient import TestClient

import keras_ae
from keras_ae import distributed, runtime
from keras_ae.client import Client
from keras_ae.errors import InputError, ServiceError
from keras_ae.serving import Models
from keras_ae.serving.app import Application

ray = pytest.importorskip("ray")
DIGITS = load_digits().data.astype("float32")
FILES, ROWS = 12, 4000


@pytest.fixture(scope="module")
def cluster():
    ray.init(
        num_cpus=6, include_dashboard=False, log_to_driver=False, logging_level="error", object_store_memory=200 << 20
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A folder of parquet files with digits, drawn again and again, each row with its number as a key."""
    folder = tmp_path_factory.mktemp("rows")
    index = np.random.default_rng(0).integers(0, len(DIGITS), FILES * ROWS)
    for i in range(FILES):
        part = slice(i * ROWS, (i + 1) * ROWS)
        columns = dict(zip([f"p{j}" for j in range(64)], DIGITS[index[part]].T, strict=True))
        pq.write_table(pa.table({"id": np.arange(part.start, part.stop), **columns}), folder / f"part-{i:03d}.parquet")
    return folder, index


def processes(title):
    """Titles by id of the processes whose title begins so; one that ended meanwhile is none."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if (said := path.read_text()).startswith(title):
                found[int(path.parent.name)] = said
        except OSError:
            continue
    return found


@contextmanager
def killing(victim, pause):
    """Kills the process that `victim()` names as soon as it names one, while the block runs."""
    killed, ended = [], threading.Event()

    def watch():
        while not ended.is_set() and not killed:
            if (one := victim()) is not None:
                os.kill(one, signal.SIGKILL)
                killed.append(one)
            time.sleep(pause)

    killer = threading.Thread(target=watch)
    killer.start()
    try:
        yield
    finally:
        ended.set()
        killer.join()
    assert killed


def test_files_are_scored_by_two_workers_one_of_which_dies(cluster, digits_artifact, rows, tmp_path):
    folder, index = rows

    def at_work():
        return next((pid for pid, title in processes("ray::MapWorker").items() if "submit" in title), None)

    with killing(at_work, 0.02):
        done = distributed.run_files(
            digits_artifact, "score", folder, tmp_path / "scores", workers=2, keys=["id"], alpha=0.05, batch_rows=500
        )
    assert done == FILES * ROWS
    scores = pq.read_table(tmp_path / "scores")
    assert scores.column("id").to_pylist() == list(range(FILES * ROWS))  # the order of the input, each row once
    expected = runtime.load(digits_artifact).score(DIGITS)
    np.testing.assert_allclose(scores.column("score").to_numpy(), expected["score"][index], rtol=1e-3)
    np.testing.assert_array_equal(scores.column("anomaly").to_numpy(), scores.column("p_value").to_numpy() <= 0.05)
    assert os.listdir(tmp_path) == ["scores"]
    assert {path.suffix for path in (tmp_path / "scores").iterdir()} == {".parquet"}


def test_what_a_worker_refuses_is_told_and_nothing_is_written(cluster, digits_artifact, rows, tmp_path):
    folder, _ = rows
    with pytest.raises(InputError, match=r"part-000.parquet: `x` must be 64 columns of numbers. Received: id, p0"):
        distributed.run_files(digits_artifact, "encode", folder / "part-000.parquet", tmp_path / "z", workers=1)
    assert os.listdir(tmp_path) == []


@pytest.fixture(scope="module")
def served(cluster, digits_artifact):
    """The address of two replicas that serve the digits."""
    from ray import serve

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(distributed.serve_app(f"digits={digits_artifact}", replicas=2))
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def test_calls_are_answered_by_two_replicas_one_of_which_dies(served, digits_artifact):
    expected = runtime.load(digits_artifact).score(DIGITS)["score"]
    rows, calls = 200, 100  # large enough for some to be on their way when the replica dies
    replicas = list(processes("ray::ServeReplica"))
    assert len(replicas) == 2

    def call(i):
        if i == calls // 4:
            os.kill(replicas[0], signal.SIGKILL)
        with Client(served, "digits", deadline=60.0, retries=100) as client:
            return client.score(DIGITS[i : i + rows])["score"]

    with ThreadPoolExecutor(8) as threads:
        for i, answer in enumerate(threads.map(call, range(calls))):
            np.testing.assert_allclose(answer, expected[i : i + rows], rtol=1e-3)


def test_its_api_is_that_of_the_server(served, digits_artifact):
    models = Models([f"digits={digits_artifact}"])
    here = TestClient(Application(models))
    for path in ("/v1/models/digits", "/v1/models/digits/metadata", "/v2/models/digits.score", "/v2/health/ready"):
        assert httpx.get(served + path).json() == here.get(path).json()
    body = {"signature_name": "score", "instances": [[0.0] * 63]}
    answer, other = (
        at("/v1/models/digits:predict", json=body) for at in (httpx.Client(base_url=served).post, here.post)
    )
    assert (answer.status_code, answer.json()) == (other.status_code, other.json())
    assert answer.status_code == 400
    assert httpx.get(f"{served}/v1/models/none").status_code == 404


def test_replicas_are_counted():
    with pytest.raises(InputError, match="`replicas` must be at least 1"):
        distributed.serve_app("saved_models/digits", replicas=(3, 2))


@pytest.mark.slow
def test_two_workers_train_one_of_which_dies(cluster, tmp_path):
    x = np.random.default_rng(0).normal(size=(600, 12)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    options = {"recipe": "ae", "hidden": [8], "latent_dim": 2, "report": False}

    def second():
        workers = list(processes("ray::RayTrainWorker"))
        checkpoints = list(tmp_path.glob("runs/model/*checkpoint*/*.npz"))
        return workers[1] if len(workers) == 2 and len(checkpoints) >= 3 else None

    with killing(second, 0.05):
        out = distributed.ray_fit(
            tmp_path / "x.npy", tmp_path / "model", storage=tmp_path / "runs", minutes=0, epochs=12, **options
        )
    manifest = runtime.load(out).manifest
    assert any("went on after epoch" in note for note in manifest["notes"])
    alone = keras_ae.fit(x, epochs=12, **options)
    for name, value in alone.manifest["metrics"].items():
        assert manifest["metrics"][name] == pytest.approx(value, rel=1e-3), name


def test_options_that_are_rays_own_are_refused():
    with pytest.raises(InputError, match="`resume` is what `ray_fit` decides"):
        distributed.ray_fit("digits", "model", resume="run")


@pytest.mark.slow
def test_a_search_finds_the_larger_latent_and_goes_on(cluster, tmp_path, capfd):
    search = {"latent_dim": [1, 8], "hidden": [[8], "none"]}
    options = {"recipe": "ae", "epochs": 2, "labels": False}
    told = []
    asked = {
        "trials": 6,
        "workers": 3,
        "seed": 1,
        "progress": lambda what, share: told.append((what, share)),
        **options,
    }
    done = distributed.tune("digits", tmp_path / "search", search, **asked)
    assert len(done) == 6
    assert [share for _, share in told] == [None, 0.0, *(i / 6 for i in range(1, 7))]
    assert told[-1][0] == f"6 of 6 trials, best rmse {done[0].value:.4g}"
    values = {(trial.options["latent_dim"], str(trial.options["hidden"])): trial.value for trial in done}
    assert done[0].options == {"latent_dim": 8, "hidden": [8]}
    assert values[8, "[8]"] < values[1, "[8]"]
    assert all((trial.value is None) == (trial.options["hidden"] == "none") for trial in done)
    assert "`hidden` must be" in done[-1].error
    best = tomllib.loads((tmp_path / "search/best.toml").read_text())
    assert (best["source"], best["recipe"], best["latent_dim"]) == ("digits", "ae", 8)
    told.clear()
    again = distributed.tune("digits", tmp_path / "search", search, resume=True, **asked)
    assert [trial.value for trial in again] == [trial.value for trial in done]
    assert told[-1][0] == f"6 of 6 trials, best rmse {done[0].value:.4g}"  # those that failed ran again
    assert capfd.readouterr().out == ""  # Ray's own tables
    with pytest.raises(InputError, match=r"gone on with as it began. Received: trials 7, there 6"):
        distributed.tune("digits", tmp_path / "search", search, trials=7, seed=1, resume=True, **options)


class Dies(keras.callbacks.Callback):
    """Dies once, after the third epoch."""

    def __init__(self, marker):
        super().__init__()
        self.marker, self.began = marker, []

    def on_epoch_begin(self, epoch, logs=None):
        self.began.append(epoch)
        if epoch == 3 and not self.marker.exists():
            self.marker.touch()
            raise ConnectionError("the machine is gone")


def test_a_trial_that_was_interrupted_goes_on_inside(tmp_path, monkeypatch):
    from keras_ae.distributed import tuning

    monkeypatch.setattr(tuning, "Run", functools.partial(tuning.Run, minutes=0))
    dies = Dies(tmp_path / "died")
    options = {"recipe": "ae", "epochs": 5, "labels": False, "hidden": [4], "callbacks": [dies]}
    fixed = {"source": "digits", "objective": "rmse", "seed": 0, "options": options, "checkpoints": str(tmp_path / "c")}
    with pytest.raises(ConnectionError):
        tuning.fit_trial({"latent_dim": 2}, fixed, "one")
    assert dies.began == [0, 1, 2, 3]
    found = tuning.fit_trial({"latent_dim": 2}, fixed, "one")
    assert dies.began == [0, 1, 2, 3, 3, 4]
    assert found == tuning.fit_trial({"latent_dim": 2}, fixed, "another")
    assert os.listdir(tmp_path / "c") == []


def test_a_cluster_that_does_not_start_is_told_with_what_helps(tmp_path, monkeypatch):
    def overloaded(**options):
        raise Exception("The current node timed out during startup.")  # what Ray raises after its 30 s

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", overloaded)
    with pytest.raises(ServiceError, match=r"within 30 s.*try again, or .*Received: The current node timed out"):
        distributed.tune("digits", tmp_path / "search", {"latent_dim": [2]})


@pytest.mark.parametrize("values", [[], "1", "2..1", "0..1:log", "a..b", "1..2:exp", 3])
def test_a_search_is_in_a_list_or_a_range(values, tmp_path):
    with pytest.raises(InputError, match=r"'latent_dim'.*(must be searched in a list|a logarithm needs)"):
        distributed.tune("digits", tmp_path / "search", {"latent_dim": values})
    assert os.listdir(tmp_path) == []
