"""Workers of one machine: their ends are told apart, none is left behind, and a run goes on with fewer of them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_ae import runtime
from keras_ae.errors import InputError, WorkerLost
from keras_ae.workers import CLUSTER, run_workers, wait_for_workers

INDEX = "import json, os, sys, time; index = json.loads(os.environ['TF_CONFIG'])['task']['index']; "


def python(code):
    return [sys.executable, "-c", INDEX + code]


def test_each_worker_is_told_which_of_all_it_is(tmp_path):
    code = f"open(os.path.join({str(tmp_path)!r}, str(index)), 'w').write(os.environ['TF_CONFIG'])"
    assert run_workers(python(code), 3) == 0
    told = [json.loads((tmp_path / str(index)).read_text()) for index in range(3)]
    assert [one["task"] for one in told] == [{"type": "worker", "index": index} for index in range(3)]
    assert len(set(told[0]["cluster"]["worker"])) == 3
    assert all(one["cluster"] == told[0]["cluster"] for one in told)


def test_a_worker_that_fails_alone_is_heard(capfd, monkeypatch):
    monkeypatch.setattr("keras_ae.workers._PATIENCE", 0.2)
    code = "sys.exit('no room') if index == 1 else time.sleep(60)"
    assert run_workers(python(code), 2) == 1  # the first was waiting for ever, and is not left behind
    assert "no room" in capfd.readouterr().err


def test_a_worker_that_is_killed_ends_all(monkeypatch):
    monkeypatch.setattr("keras_ae.workers._PATIENCE", 0.2)
    with pytest.raises(WorkerLost, match=r"Worker 2 of 2 was killed \(SIGKILL\)"):
        run_workers(python("os.kill(os.getpid(), 9) if index else time.sleep(60)"), 2)


def test_sigterm_goes_to_all(tmp_path):
    code = f"open(os.path.join({str(tmp_path)!r}, str(index)), 'w').close(); time.sleep(60)"
    script = f"from keras_ae.workers import run_workers; run_workers({python(code)!r}, 2)"
    parent = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    while len(os.listdir(tmp_path)) < 2:
        time.sleep(0.05)
    parent.send_signal(signal.SIGTERM)
    assert "Worker 1 of 2 was killed (SIGTERM)" in parent.communicate(timeout=60)[1]


def cluster_of(index, *ports):
    return json.dumps(
        {"cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]}, "task": {"type": "worker", "index": index}}
    )


@pytest.fixture
def ports():
    with contextlib.ExitStack() as stack:
        free = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        return [one.getsockname()[1] for one in free]


def test_a_worker_that_does_not_come_up_is_named(monkeypatch, ports):
    monkeypatch.setenv(CLUSTER, cluster_of(1, *ports))
    with socket.create_server(("127.0.0.1", ports[0])):
        rule = rf"All 3 workers .* within 0.001 minutes .*no answer from 127.0.0.1:{ports[2]}\."
        with pytest.raises(WorkerLost, match=rule):
            wait_for_workers(0.001)
    assert WorkerLost.exit_code == 75


def test_workers_that_come_up_in_any_order_go_on_together(ports):
    # TensorFlow's server, which listens on, comes after.
    code = (
        "import socket, sys; from keras_ae.workers import wait_for_workers; wait_for_workers(); "
        "server = socket.create_server(('', int(sys.argv[1]))); print('all are up', flush=True); sys.stdin.read()"
    )
    with contextlib.ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", code, str(ports[index])],
                    env={**os.environ, CLUSTER: cluster_of(index, *ports)},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for index in (2, 0, 1)
        ]
        stack.callback(lambda: [worker.kill() for worker in workers])
        assert [worker.stdout.readline() for worker in workers] == ["all are up\n"] * 3


@pytest.mark.parametrize(
    "wrong", ["no JSON", "[]", '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 0}}']
)
def test_a_cluster_that_makes_no_sense_is_refused(monkeypatch, wrong):
    monkeypatch.setenv(CLUSTER, wrong)
    with pytest.raises(InputError, match="TF_CONFIG must be JSON"):
        wait_for_workers(0)


def test_an_address_that_is_taken_is_named(monkeypatch, ports):
    monkeypatch.setenv(CLUSTER, cluster_of(0, *ports))
    with socket.create_server(("", ports[0])), pytest.raises(InputError, match=r"must be free. Received: Address alr"):
        wait_for_workers(0)


@pytest.mark.slow
def test_a_run_whose_worker_is_killed_goes_on_with_one(tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(600, 12)).astype("float32"))
    options = [
        "--recipe=ae",
        "--latent-dim=2",
        "--option=hidden=[8]",
        "--epochs=12",
        "--checkpoint-minutes=0",
        "--no-report",
    ]

    def fit(out, *more):
        command = [sys.executable, "-m", "keras_ae", "fit", "x.npy", "--out", out, *options, *more]
        return subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)

    alone = fit("alone")
    alone.communicate()
    two = fit("two", "--workers", "2")
    while len([*tmp_path.glob("two.run/epoch-*")]) < 2:
        assert two.poll() is None
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(two.pid)], capture_output=True, text=True, check=True)
    os.kill(int(children.stdout.split()[-1]), signal.SIGKILL)
    said = two.communicate()[1]
    assert two.returncode == 75
    assert "Another worker has died" in said
    assert "Worker 2 of 2 was killed (SIGKILL)" in said
    again = fit("two", "--resume")
    assert "going on after epoch" in again.communicate()[1]
    one, other = (runtime.load(tmp_path / name).manifest["metrics"] for name in ("alone", "two"))
    for name, value in one.items():
        assert other[name] == pytest.approx(value, rel=1e-4), name
