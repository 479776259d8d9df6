"""Several replicas train as one does: on two devices of a process, and in two processes."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROWS = np.random.default_rng(0).normal(size=(300, 12)).astype("float32")  # the last batch is short
STREAMED = np.random.default_rng(1).normal(size=(1_700, 6)) @ np.random.default_rng(2).normal(size=(6, 12))
RECIPES = ("ae", "rae_l2")  # a root over the batch; several terms


def fitted(recipe):
    import keras

    import keras_ae

    keras.utils.set_random_seed(0)
    model = keras_ae.build(recipe, 12, 3, hidden=[16], linear=False)
    model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    rows = {"batch_size": 64, "shuffle": False, "validation_data": ROWS[:64]}
    history = model.fit(ROWS, epochs=3, verbose=0, **rows).history
    weights = {weight.path: weight.numpy() for weight in model.trainable_weights}
    return {**weights, **{name: np.array(values) for name, values in history.items()}}


def fitted_stream(folder, strategy, resume=None):
    """The weights after a `fit` of files under a strategy."""
    import keras_ae

    options = {"epochs": 3, "hidden": [8], "latent_dim": 2, "batch_size": 64, "seed": 3}
    fitted = keras_ae.fit(folder, None, "ae", stream=True, strategy=strategy, resume=resume, **options)
    assert fitted.manifest["stream"]["rows"] == len(STREAMED)
    return {weight.path: weight.numpy() for weight in fitted.model.trainable_weights}


def on_two_devices(out):
    import tensorflow as tf

    import keras_ae
    from keras_ae.layers.draws import normal

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for recipe in RECIPES:
        np.savez(out / f"{recipe}-one.npz", **fitted(recipe))
        with strategy.scope():
            np.savez(out / f"{recipe}-two.npz", **fitted(recipe))
    import keras

    with strategy.scope():
        seed_generator = keras.random.SeedGenerator(0)
    drawn = strategy.run(lambda: normal((4,), seed_generator))
    np.savez(out / "noise.npz", *[part.numpy() for part in strategy.experimental_local_results(drawn)])
    keras_ae.fit(ROWS, out / "artifact", "vae", epochs=2, hidden=[8], latent_dim=2, strategy=strategy)

    from keras_ae.runs import Run

    (out / "files").mkdir()
    for i, part in enumerate(np.split(STREAMED, [50, 700, 900, 1_400])):
        names = ",".join(f"c{k}" for k in range(12))
        np.savetxt(out / f"files/{i}.csv", part, delimiter=",", header=names, comments="")
    np.savez(out / "stream-one.npz", **fitted_stream(out / "files", tf.distribute.MirroredStrategy(["CPU:0"])))
    run = Run(out / "run", minutes=99, steps=10, keep=9)
    np.savez(out / "stream-two.npz", **fitted_stream(out / "files", strategy, run))
    inside = [path for path in run.checkpoints() if path.name.startswith("epoch-000001-step-0000000")]
    for path in run.checkpoints():
        if path != inside[0]:
            path.unlink()
    assert int(inside[0].name[18:27]) > 0
    np.savez(out / "stream-resumed.npz", **fitted_stream(out / "files", strategy, run))


def as_worker(out, index, files):
    import tensorflow as tf

    import keras_ae

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        np.savez(out / f"worker-{index}.npz", **fitted("ae"))
    keras_ae.fit(ROWS, out / "artifact", "ae", epochs=2, hidden=[8], latent_dim=2, strategy=strategy)
    np.savez(out / f"stream-{index}.npz", **fitted_stream(files, strategy))


def start(*arguments, **variables):
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **variables}
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(processes):
    try:
        for process in processes:
            said, _ = process.communicate(timeout=400)
            assert process.returncode == 0, said
    finally:
        for process in processes:
            process.kill()


def assert_agree(one, two):
    assert list(one.files) == list(two.files)
    for name in one.files:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-4, atol=1e-4, err_msg=name)


@pytest.fixture(scope="module")
def devices(tmp_path_factory):
    """What one and two devices of a process of its own made; TensorFlow makes devices once."""
    out = tmp_path_factory.mktemp("devices")
    ended([start("devices", out)])
    return out


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_two_devices_train_as_one(devices, recipe):
    with np.load(devices / f"{recipe}-one.npz") as one, np.load(devices / f"{recipe}-two.npz") as two:
        assert_agree(one, two)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["two", "resumed"])
def test_two_devices_learn_from_a_stream_as_one_does(devices, name):
    with np.load(devices / "stream-one.npz") as one, np.load(devices / f"stream-{name}.npz") as two:
        assert_agree(one, two)


@pytest.mark.slow
def test_devices_draw_noise_of_their_own(devices):
    with np.load(devices / "noise.npz") as noise:
        a, b = (noise[name] for name in noise.files)
    assert np.abs(a - b).min() > 1e-3


@pytest.mark.slow
def test_what_two_devices_trained_is_an_artifact_like_any(devices):
    import keras_ae

    assert keras_ae.runtime.load(devices / "artifact").reconstruct(ROWS).shape == ROWS.shape


@pytest.mark.slow
def test_two_workers_train_as_one_and_the_first_writes(devices, tmp_path):
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    workers = [
        start(
            "worker",
            tmp_path,
            i,
            devices / "files",
            TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}),
        )
        for i in range(2)
    ]
    ended(workers)
    with np.load(devices / "ae-one.npz") as one:
        for i in range(2):
            with np.load(tmp_path / f"worker-{i}.npz") as two:
                assert_agree(one, two)
    with np.load(devices / "stream-one.npz") as one:
        for i in range(2):
            with np.load(tmp_path / f"stream-{i}.npz") as two:
                assert_agree(one, two)
    made = ["artifact", "stream-0.npz", "stream-1.npz", "worker-0.npz", "worker-1.npz"]
    assert sorted(os.listdir(tmp_path)) == made


if __name__ == "__main__":
    what, folder, *index = sys.argv[1:]
    on_two_devices(Path(folder)) if what == "devices" else as_worker(Path(folder), *index)
