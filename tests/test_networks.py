"""Every network on odd shapes: it builds, learns, gives back what it takes, and leaves for ONNX."""

import keras
import numpy as np
import onnxruntime
import pytest
from keras_ae.export import graphs_of
from keras_ae.export.to_onnx import convert

import keras_ae
from keras_ae.networks import NETWORKS

RNG = np.random.default_rng(0)
CASES = [
    ("dense", (7, 5), {"hidden": [8, 6], "norm": "layer", "dropout": 0.1, "residual": True}),
    ("dense", (9,), {"hidden": [8], "norm": "batch"}),
    ("tabular", (9,), {"hidden": [8], "embedding": 3}),
    ("conv", (5, 4, 3), {"filters": [3, 4]}),
    pytest.param("resnet", (13, 2), {"filters": [4, 3], "blocks": 1}, marks=pytest.mark.slow),
    pytest.param("resnet", (7, 5), {"filters": [4], "blocks": 2}, marks=pytest.mark.slow),
    ("resnet", (5, 4, 3, 2), {"filters": [4], "blocks": 1}),
    pytest.param("transformer", (13,), {"patch": 4, "width": 8, "depth": 1, "heads": 2}, marks=pytest.mark.slow),
    ("transformer", (7, 5, 3), {"patch": 3, "width": 8, "depth": 1, "heads": 2}),
    ("tcn", (11, 2), {"filters": 3}),
    ("lstm", (7, 3), {"units": [6]}),
    ("gru", (9,), {"units": [5, 4]}),
    ("linear", (7, 5), {}),
]


def test_every_network_has_a_case():
    assert {name for name, *_ in CASES if isinstance(name, str)} == set(NETWORKS)


@pytest.mark.parametrize(
    ("network", "shape", "options"), CASES, ids=lambda v: str(v) if isinstance(v, str | tuple) else ""
)
def test_a_network_learns_and_leaves(network, shape, options):
    keras.utils.set_random_seed(0)
    # Rows on a line: one latent is enough. Without the linear path the rest has to find it.
    rows = (RNG.normal(size=(64, 1)) * RNG.normal(size=(1, int(np.prod(shape))))).reshape(64, *shape).astype("float32")
    model = keras_ae.build("ae", shape, 2, network, **options, **({} if network == "linear" else {"linear": False}))
    # An epoch of one call: XLA takes longer to compile than these steps do.
    model.compile(keras.optimizers.Adam(1e-2), jit_compile=False)
    losses = model.fit(rows, batch_size=16, epochs=30, verbose=0).history["loss"]
    assert losses[-1] < 0.95 * losses[0]
    graph = convert(graphs_of(model)["reconstruct"])
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    for batch in (1, 7):
        x_hat = model.reconstruct(rows[:batch])
        assert x_hat.shape == (batch, *shape)
        np.testing.assert_allclose(session.run(["x_hat"], {"x": rows[:batch]})[0], x_hat, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", ["dense", "conv", "resnet", "transformer", "tcn", "gru", "linear"])
def test_a_decoder_gives_a_feature_several_parameters(network):
    keras.utils.set_random_seed(0)
    decoder = NETWORKS[network].decoder((9, 2), 3, parameters=2)
    assert decoder.output_shape == (None, 9, 2, 2)


def test_a_column_of_a_table_has_an_embedding_of_its_own():
    columns = (0, 1, 1, 1, 2, 2)
    encoder = NETWORKS["tabular"].encoder((6,), 2, embedding=5, hidden=[4], columns=columns)
    embedding = encoder.get_layer("embedding")
    assert embedding.made == [0] * 5 + [1] * 3 + [2] * 5  # of a number, of three levels, of a number with its flag
    x = RNG.normal(size=(1, 6)).astype("float32")
    other = x + np.array([0, 1, 1, 1, 0, 0], "float32")
    changed = np.flatnonzero(np.asarray(embedding(x) != embedding(other))[0])
    assert changed.tolist() == [5, 6, 7]
    same = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(encoder))
    same.set_weights(encoder.get_weights())
    np.testing.assert_allclose(same(x), encoder(x))
    with pytest.raises(ValueError, match=r"of a table must be \(features,\)"):
        NETWORKS["tabular"].encoder((6, 2), 2)


def test_a_network_that_was_saved_is_the_same(tmp_path):
    model = keras_ae.build("vae", (7, 5), 2, "transformer", patch=3, width=4, depth=1, heads=1)
    x = RNG.normal(size=(3, 7, 5)).astype("float32")
    for weight in model.trainable_variables:  # a correction that starts at zero would hide a difference
        weight.assign(np.asarray(weight) + RNG.normal(size=weight.shape) * 0.1)
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(again.reconstruct(x), model.reconstruct(x), rtol=1e-6)


@pytest.mark.parametrize(
    ("network", "shape", "options", "message"),
    [
        ("dense", (9,), {"norm": "group"}, "norm.*group"),
        ("dense", (9,), {"dropout": 1.0}, "dropout.*1.0"),
        ("resnet", (7, 5), {"blocks": 0}, "blocks.*0"),
        ("resnet", (2, 2, 2, 2, 2), {}, "1 to 3 spatial axes"),
        ("transformer", (9,), {"width": 9, "heads": 2}, "multiple.*9 and 2"),
        ("tcn", (9,), {"kernel_size": 1}, "kernel_size.*1"),
        ("lstm", (4, 4, 4), {}, r"\(steps, channels\).*\(4, 4, 4\)"),
        ("gru", (9,), {"units": []}, "units"),
        ("gru", (9,), {"cell": "lstm"}, "Unknown option 'cell'"),
    ],
)
def test_options_that_make_no_sense_are_refused(network, shape, options, message):
    with pytest.raises(ValueError, match=message):
        keras_ae.build("ae", shape, 2, network, **options)
