"""A run's folder: whole checkpoints or none, one run at a time, signals that wait for a checkpoint."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from keras_ae.errors import InputError, Interrupted
from keras_ae.runs import Run

OF = {"recipe": "vae", "seed": 3}


def save(run, epoch, step=0, **arrays):
    run.save(epoch, step, arrays or {"x": np.full(3, epoch, "float32")}, {"history": {"loss": [0.5, np.inf]}})


@pytest.fixture
def folder(tmp_path):
    """Of a run with checkpoints after two epochs, and after five steps of the third."""
    folder = tmp_path / "a.run"
    with Run(folder) as run:
        run.begin(OF)
        for epoch, step in ((1, 0), (2, 0), (2, 5)):
            save(run, epoch, step)
    return folder


def found(folder):
    with Run(folder) as run:
        run.begin(OF)
        return run.found, run.damaged


def test_the_newest_checkpoint_comes_back_as_it_was(folder):
    checkpoint, damaged = found(folder)
    assert (checkpoint.epoch, checkpoint.step, damaged) == (2, 5, [])
    assert checkpoint.values["history"] == {"loss": [0.5, np.inf]}
    np.testing.assert_array_equal(checkpoint.arrays["x"], np.full(3, 2, "float32"))
    assert checkpoint.arrays["x"].dtype == "float32"


def test_the_last_few_are_kept(tmp_path):
    with Run(tmp_path, keep=2) as run:
        run.begin(OF)
        for epoch in range(1, 6):
            save(run, epoch)
    assert [path.name[:12] for path in run.checkpoints()] == ["epoch-000005", "epoch-000004"]


@pytest.mark.parametrize("damage", ["a bit", "cut short", "empty"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(folder, damage):
    newest = Run(folder).checkpoints()[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes({"a bit": content, "cut short": content[:-10], "empty": b""}[damage])
    checkpoint, damaged = found(folder)
    assert (checkpoint.epoch, checkpoint.step) == (2, 0)
    assert damaged == [newest.name]


def test_where_none_is_whole_a_run_does_not_begin_anew_unasked(folder):
    for path in Run(folder).checkpoints():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"a whole checkpoint, or none. Received: epoch-000002.*damaged"):
        found(folder)
    with Run(folder, anew=True) as run:
        run.begin(OF)
        assert run.found is None
    assert not folder.exists()


def test_another_run_is_refused_by_what_differs(folder):
    with Run(folder) as run, pytest.raises(InputError, match=r"Received: seed 4, there 3; width 8, there null\."):
        run.begin({**OF, "seed": 4, "width": 8})
    assert len(run.checkpoints()) == 3


def test_two_runs_in_one_folder_are_refused(folder):
    with Run(folder), pytest.raises(InputError, match="one run at a time"), Run(folder):
        pass
    with Run(folder):  # the lock ends with the block
        pass


def test_a_folder_without_checkpoints_does_not_stay(tmp_path):
    with Run(tmp_path / "a.run"):
        assert (tmp_path / "a.run").is_dir()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("wrong", [{"minutes": -1}, {"steps": 0}, {"keep": 0}])
def test_numbers_that_make_no_sense_are_refused(tmp_path, wrong):
    with pytest.raises(InputError, match=f"Received: .*{next(iter(wrong))} {next(iter(wrong.values()))}"):
        Run(tmp_path, **wrong)


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a folder that nobody can write")
def test_a_folder_that_cannot_be_written_is_named():
    with pytest.raises(InputError, match=r"/proc/a.run could not be written"), Run("/proc/a.run"):
        pass


@contextlib.contextmanager
def small_disk(folder):
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"needs leave to mount a file system: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextlib.contextmanager
def small_files(folder):
    resource = pytest.importorskip("resource")  # not on Windows
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("limited", "why"), [(small_disk, "No space left on device"), (small_files, "File too large")])
def test_a_full_disk_is_told_and_the_earlier_checkpoint_stays(tmp_path, limited, why):
    with limited(tmp_path / "disk"):
        with Run(tmp_path / "disk/a.run") as run:
            run.begin(OF)
            save(run, 1)
            with pytest.raises(InputError, match=f"earlier ones are whole. Received: {why}"):
                save(run, 2, x=np.zeros(100_000))
            save(run, 3)
        checkpoint, damaged = found(run.folder)
        assert (checkpoint.epoch, damaged) == (3, [])
        assert len(os.listdir(run.folder)) == 2


def test_a_process_killed_inside_a_write_leaves_the_earlier_checkpoint(folder):
    program = f"""
        import os, signal
        import numpy as np
        from keras_ae.runs import Run
        os.fsync = lambda handle: os.kill(os.getpid(), signal.SIGKILL)
        with Run({str(folder)!r}) as run:
            run.begin({OF!r})
            run.save(3, 0, {{"x": np.zeros(1000)}}, {{}})
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(list(folder.glob("*.partial"))) == 1
    checkpoint, damaged = found(folder)
    assert (checkpoint.epoch, checkpoint.step, damaged) == (2, 5, [])
    assert sorted(os.listdir(folder)) == sorted(path.name for path in Run(folder).checkpoints())


def train(run, *signals):
    """What `fit` does with a run, in which signals come."""
    with run:
        run.begin(OF)
        run.training = True
        assert not run.due(1)
        for number in signals:
            os.kill(os.getpid(), number)
        assert run.due(1)
        save(run, 7)


@pytest.mark.parametrize(("number", "code", "name"), [(signal.SIGTERM, 75, "SIGTERM"), (signal.SIGINT, 130, "Ctrl-C")])
def test_in_training_a_signal_waits_for_the_next_checkpoint(tmp_path, number, code, name):
    before = signal.getsignal(number)
    run = Run(tmp_path, minutes=99)
    with pytest.raises(Interrupted, match=f"{name}.*until epoch 7.*--resume") as stopped:
        train(run, number)
    assert stopped.value.exit_code == code
    assert len(run.checkpoints()) == 1
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_wait(tmp_path):
    with pytest.raises(Interrupted, match="before the first checkpoint"):
        train(Run(tmp_path, minutes=99), signal.SIGINT, signal.SIGINT)


def test_outside_training_a_signal_stops_at_once(folder):
    with Run(folder) as run:
        run.begin(OF)
        with pytest.raises(Interrupted, match="until epoch 2 and 5 steps"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_no_handler_of_errors_keeps_a_signal_from_stopping_the_run(folder):
    with Run(folder) as run:
        run.begin(OF)
        with pytest.raises(Interrupted), contextlib.suppress(Exception):  # as TensorFlow while it traces
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_checkpoint_is_due_after_minutes_or_steps(tmp_path):
    assert not Run(tmp_path, minutes=99, steps=5).due(4)
    assert Run(tmp_path, minutes=99, steps=5).due(5)
    assert Run(tmp_path, minutes=0).due(0)
    assert not Run(tmp_path, minutes=99).due(10**9)
