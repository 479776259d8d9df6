import importlib
import math
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a module of the benchmarks, which are scripts and no package, and forgets it afterwards."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent == BENCHMARKS:
            del sys.modules[name]


def test_products_are_those_of_a_training_step(load):
    """TensorFlow counts the multiplications of the traced gradient as many."""
    import keras
    import tensorflow as tf
    from tensorflow.python.profiler import model_analyzer, option_builder

    import keras_ae

    cases = load("cases")
    batch, features, hidden, latents = 8, 40, 12, 3
    model = keras_ae.build("vae", features, latents, hidden=[hidden], linear=False)

    @tf.function(input_signature=[tf.TensorSpec((batch, features))])
    def gradients(x):
        with tf.GradientTape() as tape:
            model(x, training=True)
            loss = keras.ops.sum(model.losses)
        return tape.gradient(loss, model.trainable_variables)

    graph = gradients.get_concrete_function().graph
    options = option_builder.ProfileOptionBuilder.float_operation()
    options = option_builder.ProfileOptionBuilder(options).with_empty_output().with_node_names().build()
    counted = model_analyzer.profile(graph, options={**options, "account_type_regexes": ["MatMul"]})
    assert cases.operations(cases.products(features, hidden, latents, batch)) == counted.total_float_ops


def test_a_row_of_the_dense_case_costs_what_the_formula_says(load):
    cases = load("cases")
    layers = 784 * 512 + 2 * 512 * 16 + 16 * 512 + 512 * 784
    assert cases.operations(cases.products(784, 512, 16, 1)) == 2 * (3 * layers - 784 * 512)


def test_the_loss_that_peers_are_held_to_is_the_package_s(load):
    import keras_ae

    protocol = load("protocol")
    x = np.random.default_rng(0).random((50, 6), dtype="float32")
    model = keras_ae.build("vae", 6, 2, hidden=[5])
    model.compile("adam")
    mean, log_var = (part.numpy() for part in model.encoder(x))
    ours = protocol.negative_elbo(x, mean, log_var, model.decoder(mean).numpy())
    assert ours == pytest.approx(model.evaluate(x, batch_size=50, verbose=0, return_dict=True)["loss"], rel=1e-5)


@pytest.mark.parametrize("shape", [(64,), (784,), (28, 28)])
def test_generated_rows_are_what_a_case_asks_for(load, shape):
    train, held_out = load("cases").rows_of(shape, 300, 100, None)
    assert train.shape == (300, *shape)
    assert held_out.shape == (100, *shape)
    assert train.dtype == np.float32
    assert train.min() >= 0
    assert train.max() <= 1
    assert len(np.unique(train.reshape(300, -1), axis=0)) == 300


def test_rows_come_from_a_file_of_images(load, tmp_path):
    images = np.arange(4 * 784, dtype="uint8").reshape(4, 28, 28)
    np.savez(tmp_path / "images.npz", x_train=images, x_test=images[:1])
    train, held_out = load("cases").rows_of((784,), 3, 10, tmp_path / "images.npz")
    np.testing.assert_allclose(train, images[:3].reshape(3, 784) / 255, rtol=1e-6)
    assert held_out.shape == (1, 784)


def test_the_table_of_families_has_a_likelihood_where_there_is_one(load):
    results = {"ae": {"rmse_test": 1.0}, "vae": {"rmse_test": 2.0, "nll": 3.0, "PCA + mixture nll": 4.0}}
    ae, vae, _, baseline = load("families").table(results).splitlines()[2:]
    assert ae.startswith("| `ae` | 1.00 |  |")
    assert vae.startswith("| `vae` | 2.00 | 3 |")
    assert baseline.startswith("| *PCA + mixture* |  | 4 |")
    assert load("families").codes_used(results) == ""
    used = load("families").codes_used({**results, "vq_vae": {"rmse_test": 1.0, "codes_used": 0.915}})
    assert used.endswith("share of the codebook: 92% by `vq_vae`.\n")


def test_figures(load):
    report = load("report")
    assert report.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert report.spread([3.0, 1.0, 2.0]) == "2.00 (1.00 to 3.00)"
    assert report.seconds_to(0.0, [10.0, 20.0, 30.0], [4.0, 1.0, -1.0]) == 25.0
    assert report.seconds_to(5.0, [10.0, 20.0], [4.0, 1.0]) == 10.0
    assert math.isnan(report.seconds_to(0.0, [10.0, 20.0], [4.0, 1.0]))


def test_exponents_of_a_power_law(load):
    measured = load("scaling").exponents([1, 4, 16], [3.0, 3.0 * 4**1.5, 3.0 * 16**1.5])
    assert measured == pytest.approx({"all": 1.5, "last": 1.5})


WORKER = f"""
import sys
sys.path.insert(0, {str(BENCHMARKS)!r})
import numpy as np
from protocol import Peer, serve

def prepare(case, x):
    print("chatter of a library")
    trained = []
    def forward(rows):
        return rows[:, :1], np.full((len(rows), 1), float(sum(trained))), rows
    return Peer(case["size"] + x.size, {{"peer": "1"}}, trained.append, forward, np.asarray, np.matmul)

serve(prepare)
"""


def test_a_worker_answers_until_it_ends(load, tmp_path):
    protocol = load("protocol")
    (tmp_path / "worker.py").write_text(WORKER)
    rows = tmp_path / "rows.npy"
    np.save(rows, np.zeros((3, 2), "float32"))
    case = {"size": 10, "rows": str(rows), "held_out": str(rows)}
    log = tmp_path / "log"
    with protocol.Worker(sys.executable, str(tmp_path / "worker.py"), case, log) as worker:
        assert worker.ready["parameters"] == 16
        assert worker.ask("train", 2)["seconds"] >= 0
        assert worker.ask("validate")["loss"] == -math.inf  # an exact reconstruction
        assert worker.ask("multiply", [(2, 3, 4)], 5)["seconds"] > 0
    assert worker.process.returncode == 0
    assert "chatter" in log.read_text()
    with pytest.raises(RuntimeError, match="the reason is in"):
        protocol.Worker(sys.executable, str(tmp_path / "worker.py"), {"size": 10}, log)
    assert "KeyError" in log.read_text()
