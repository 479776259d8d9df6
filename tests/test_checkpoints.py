"""A run that was killed goes on, and ends with the weights of one that was not."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ae
from keras_ae import resident
from keras_ae.callbacks import BestWeights, CosineDecay
from keras_ae.checkpoints import Checkpoints
from keras_ae.divergence import Divergence
from keras_ae.errors import InputError, Interrupted
from keras_ae.loop import SpanCallback
from keras_ae.runs import Run

EPOCHS = 6
ROWS = np.random.default_rng(0).normal(size=(300, 12)).astype("float32")  # 10 steps an epoch, the last one short


class Signal(SpanCallback):
    """Sends this process a signal at the end of a span of steps."""

    def __init__(self, span, number=signal.SIGTERM):
        super().__init__()
        self.span, self.number = span, number

    def on_train_batch_end(self, batch, logs=None):
        self.span -= 1
        if self.span == 0:
            os.kill(os.getpid(), self.number)


def train(run=None, *callbacks, epochs=EPOCHS, hidden=16, patience=1):
    """A model with noise, and all that decides how it is trained: a schedule, cuts of the rate, early stopping."""
    keras.utils.set_random_seed(3)
    model = keras_ae.build("vae", 12, 3, hidden=[hidden], linear=False)
    model.compile(keras.optimizers.AdamW(1e-2), jit_compile=False)
    best = BestWeights("val_nll", patience=patience)
    plateau = keras.callbacks.ReduceLROnPlateau("kl", patience=1, mode="max")
    stopping = keras.callbacks.EarlyStopping("kl", patience=4 * patience, mode="max", restore_best_weights=True)
    others = [CosineDecay(epochs), best, plateau, stopping, *callbacks, Divergence()]
    checkpoints = []
    if run is not None:
        run.begin({"seed": 3})
        checkpoints = [Checkpoints(run, epochs, others)]
    model.fit(
        ROWS,
        batch_size=32,
        epochs=epochs,
        validation_data=ROWS[:50],
        validation_freq=2,
        callbacks=[*others, *checkpoints],
        initial_epoch=checkpoints[0].initial_epoch if checkpoints else 0,
        verbose=0,
    )
    return model, best


def assert_same(ours, expected):
    (model, best), (expected_model, expected_best) = ours, expected
    for a, b in zip(model.get_weights(), expected_model.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    history = expected_model.history.history
    assert list(model.history.history) == list(history)
    for name, values in history.items():
        np.testing.assert_allclose(model.history.history[name], values, rtol=1e-6, err_msg=name)
    assert (best.best_epoch, best._made) == (expected_best.best_epoch, expected_best._made)
    assert float(model.optimizer.learning_rate) == pytest.approx(float(expected_model.optimizer.learning_rate))
    assert int(model.optimizer.iterations) == int(expected_model.optimizer.iterations)


def interrupt(run, span):
    with run:
        train(run, Signal(span))


@pytest.fixture(scope="module")
def uninterrupted():
    return train()


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """The folder of a run with checkpoints after three epochs and within the next; to be copied."""
    folder = tmp_path_factory.mktemp("runs") / "a.run"
    with pytest.raises(Interrupted, match="SIGTERM"):
        interrupt(Run(folder, minutes=0, steps=4), 3 * 3 + 2)
    return folder


@pytest.fixture
def folder(interrupted, tmp_path):
    return Path(shutil.copytree(interrupted, tmp_path / "a.run"))


def test_a_run_goes_on_in_the_middle_of_an_epoch(folder, uninterrupted):
    names = [path.name[:27] for path in Run(folder).checkpoints()]
    assert names == ["epoch-000003-step-000000008", "epoch-000003-step-000000004", "epoch-000003-step-000000000"]
    with Run(folder) as run:  # another length of spans is the same training
        resumed = train(run, Signal(-1))
    assert_same(resumed, uninterrupted)


def test_a_run_goes_on_at_the_end_of_an_epoch_where_the_newest_checkpoint_is_damaged(folder, uninterrupted):
    for path in Run(folder).checkpoints()[:2]:
        path.write_bytes(path.read_bytes()[:-100])
    with Run(folder) as run:
        resumed = train(run, Signal(-1))
    assert len(run.damaged) == 2
    assert_same(resumed, uninterrupted)


def test_rows_that_are_not_resident_go_on_in_the_middle_of_an_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(resident, "_MOST_BYTES", 0)
    with pytest.raises(Interrupted, match="until epoch 2 and 5 steps of the next"):
        interrupt(Run(tmp_path / "a.run", minutes=99), 2 * 10 + 5)
    with Run(tmp_path / "a.run") as run:
        resumed = train(run, Signal(-1))
    assert_same(resumed, train())


def test_a_run_that_ended_trains_no_more(folder, uninterrupted):
    with Run(folder) as run:
        ended, _ = train(run, Signal(-1))
    with Run(folder) as run:
        again = train(run, Signal(-1))
    assert run.found.epoch == len(ended.history.history["loss"])
    assert_same(again, uninterrupted)


def test_the_variables_of_another_model_are_refused(folder):
    with Run(folder) as run, pytest.raises(InputError, match="the variables of this model"):
        train(run, Signal(-1), hidden=8)


def killed_often(folder, kills, epochs, seed):
    """Trains with a checkpoint at each span, in one process after another, each killed at a moment by chance, every
    other one inside a write; the last one ends. Gives how many were killed inside a write.

    TensorFlow is imported once, here, and used in the children alone: it has no threads yet that a fork would lose.
    """
    chance = random.Random(seed)
    folder.mkdir()
    inside = 0
    for life in range(kills + 1):
        child = os.fork()
        if child == 0:
            with Run(folder / "a.run", minutes=0, steps=4) as run:
                np.savez(folder / "resumed.npz", *train(run, epochs=epochs, patience=epochs)[0].get_weights())
            os._exit(0)
        if life < kills:
            inside += _kill(child, folder / "a.run", chance.random(), within_a_write=life % 2 == 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == (-signal.SIGKILL if life < kills else 0), f"process {life}"
    child = os.fork()
    if child == 0:
        np.savez(folder / "uninterrupted.npz", *train(epochs=epochs, patience=epochs)[0].get_weights())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return inside


def _kill(child, run, share, within_a_write):
    """Kills a child after it has written a checkpoint, at a moment by chance."""
    before = set(run.glob("*.npz"))
    while not set(run.glob("*.npz")) - before:
        time.sleep(0.01)  # the two share a core
    time.sleep(0.2 * share)
    while within_a_write and not list(run.glob("*.partial")):
        pass
    os.kill(child, signal.SIGKILL)
    return bool(list(run.glob("*.partial")))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.parametrize(("kills", "epochs"), [(2, 20), pytest.param(20, 400, marks=pytest.mark.slow)])
def test_killed_at_moments_by_chance_a_run_ends_as_one_that_was_not(tmp_path, kills, epochs):
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path / "a"), str(kills), str(epochs)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) >= kills // 2 // 2  # inside a write
    with np.load(tmp_path / "a/resumed.npz") as resumed, np.load(tmp_path / "a/uninterrupted.npz") as expected:
        assert len(resumed.files) > 10
        for name in expected.files:
            np.testing.assert_allclose(resumed[name], expected[name], rtol=0, atol=1e-6)


if __name__ == "__main__":
    print(killed_often(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), seed=0))
