"""Exports agree with Keras, and what does not is refused with the op and the layer."""

import shutil

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from keras_ae.export import Reference, export_onnx, graphs_of
from keras_ae.export.to_onnx import FOLDER

import keras_ae
from keras_ae import storage
from keras_ae.errors import ExportError, InputError
from keras_ae.recipes import RECIPES

RNG = np.random.default_rng(0)


def make(recipe="vae", shape=(12,), network=None, **options):
    keras.utils.set_random_seed(0)
    small = {"filters": [2, 3]} if len(shape) > 1 else {"hidden": [8]}
    options = {**({} if RECIPES[recipe].network else small), **options}
    classes = ("a", "b") if RECIPES[recipe].conditional else ()
    model = keras_ae.build(recipe, shape, 3, network, classes=classes, **options)
    rows = RNG.gamma(2.0, size=(40, *shape)).astype("float32") * 50
    if hasattr(model.scaling, "set_statistics"):
        model.scaling.set_statistics(rows.mean(0), rows.std(0))
    for weight in model.trainable_variables:  # a correction that starts at zero would hide its errors
        weight.assign(np.asarray(weight) + RNG.normal(size=weight.shape) * 0.1)
    model.fit_prior(rows, y=np.arange(40) % 2 if classes else None)
    model.calibrate(rows)
    return model, rows


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A model, rows, and the folder of its artifact; not to be changed: copy it first."""
    model, rows = make()
    folder = tmp_path_factory.mktemp("exported") / "a"
    storage.save(model, folder, rows)
    return model, rows, folder


# One recipe for each form of what leaves; the others differ in what they learn by.
FORMS = ("ae", "vae", "cvae", "kl_ae", "fsq", "residual_vq", "gumbel", "svae", "linear")


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [(r, (12,)) for r in FORMS]
    + [("vae", (7, 5))]
    + [pytest.param(r, (12,), marks=pytest.mark.slow) for r in RECIPES if r not in FORMS]
    + [pytest.param(r, s, marks=pytest.mark.slow) for r, s in (("vae", (9, 3, 2)), ("kl_ae", (7, 5)), ("ae", (40, 2)))],
)
def test_every_form_leaves_with_parity(recipe, shape, tmp_path):
    model, rows = make(recipe, shape)
    manifest = storage.save(model, tmp_path / "a", rows)
    for figures in manifest["exports"].values():
        assert set(figures["functions"]) == set(model.functions()) >= {"encode", "decode", "reconstruct", "generate"}
        assert 0 <= figures["max_rel_diff"] <= 1e-5
    runtime = keras_ae.runtime.load(tmp_path / "a")
    np.testing.assert_allclose(runtime.reconstruct(rows), model.reconstruct(rows), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(runtime.generate(5, seed=3), model.generate(5, seed=3), rtol=1e-4, atol=1e-3)


def test_saved_model_has_one_named_signature_per_function(exported):
    model, rows, folder = exported
    signatures = tf.saved_model.load(str(folder / "saved_model/1")).signatures
    assert set(signatures) == {"encode", "decode", "reconstruct", "score", "generate"}
    out = signatures["score"](x=tf.constant(rows[:5]))
    assert set(out) == {"score", "p_value"}
    np.testing.assert_allclose(out["score"], model.score(rows[:5])["score"], rtol=1e-5)


def test_onnx_has_named_inputs_and_outputs_dynamic_batch_and_one_copy_of_the_weights(exported):
    model, _, folder = exported
    io = {}
    for path in (folder / FOLDER).glob("*.onnx"):
        graph = onnx.load(path, load_external_data=False).graph
        io[path.stem] = ([i.name for i in graph.input], sorted(o.name for o in graph.output))
        assert all(i.type.tensor_type.shape.dim[0].dim_value == 0 for i in graph.input)
    assert io == {
        "encode": (["x"], ["z"]),
        "decode": (["z"], ["x"]),
        "reconstruct": (["x"], ["x_hat"]),
        "score": (["x"], ["p_value", "score"]),
        "generate": (["epsilon"], ["x"]),
    }
    weights = sum(v.value.shape.num_elements() * 4 for v in model.encoder.weights + model.decoder.weights)
    assert (folder / FOLDER / "weights.bin").stat().st_size < 1.5 * weights + 9000  # and 8 kB of calibration scores


def test_single_files_run_alone(exported, tmp_path):
    model, rows, folder = exported
    storage.export(folder, "onnx", tmp_path / "out", single_file=True)
    alone = tmp_path / "alone.onnx"
    (tmp_path / "out" / FOLDER / "encode.onnx").rename(alone)
    session = onnxruntime.InferenceSession(alone, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["z"], {"x": rows})[0], model.encode(rows), rtol=1e-4, atol=1e-5)


def test_uint8_pixels_go_in_as_they_are_and_come_back_in_their_units(tmp_path):
    images = RNG.integers(0, 256, size=(60, 6, 5), dtype="uint8")
    fitted = keras_ae.fit(images, tmp_path / "a", epochs=0, latent_dim=2, filters=[2], report=False)
    assert fitted.manifest["input"] == {"shape": [6, 5], "dtype": "uint8"}
    runtime = keras_ae.runtime.load(tmp_path / "a")
    x_hat = runtime.reconstruct(images)
    assert 50 < x_hat.mean() < 200
    np.testing.assert_allclose(runtime.reconstruct(images.astype("float64")), x_hat)
    for wrong in (images - 0.5, images.astype("int32") + 300):
        with pytest.raises(InputError, match="whole numbers that uint8 holds"):
            runtime.reconstruct(wrong)


def test_parity_catches_a_difference_noise_that_is_ignored_and_a_lost_output():
    model, rows = make()
    reference = Reference.of(model, rows[:7])
    assert reference.compare("Keras", model.run)["score"]["max_rel_diff"] == 0.0

    def off(name, array):
        return {k: v * (1 + 3e-5 * (name == "decode")) for k, v in model.run(name, array).items()}

    with pytest.raises(ExportError, match=r"decode, output x, batch 1.*1e-05"):
        reference.compare("test", off)

    def rows_of(inputs):
        return len(next(iter(inputs.values())))

    frozen = {name: out for name, inputs, out in reference.cases if rows_of(inputs) == 7}
    by_batch = {(name, rows_of(inputs)): out for name, inputs, out in reference.cases}
    with pytest.raises(ExportError, match="same sample for different noise"):
        reference.compare("test", lambda name, inputs: by_batch.get((name, rows_of(inputs)), frozen[name]))
    with pytest.raises(ExportError, match=r"score must give.*Received: \['score'\]"):
        reference.compare("test", lambda n, a: {k: v for k, v in model.run(n, a).items() if k != "p_value"})


def test_parity_is_relative_to_each_feature():
    model, rows = make()
    scale = np.full(12, 1.0, "float32")
    scale[0] = 1e6
    model.scaling.set_statistics(np.zeros(12, "float32"), scale)
    model._graphs.clear()
    reference = Reference.of(model, rows[:7])

    def off(name, array):
        out = model.run(name, array)
        if name == "reconstruct":
            out["x_hat"][:, 5] += 1e-2  # a millionth of feature 0, a hundredth of its own
        return out

    with pytest.raises(ExportError, match="reconstruct, output x_hat"):
        reference.compare("test", off)


@keras.saving.register_keras_serializable(package="tests")
class Fourier(keras.layers.Layer):
    def call(self, x):
        return tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64)))


def test_an_op_that_onnx_does_not_know_is_named_with_its_layer_and_nothing_is_left(tmp_path):
    x = keras.Input((8,), name="x")
    encoder = keras.Model(x, keras.layers.Dense(2)(Fourier(name="spectrum")(x)))
    z = keras.Input((2,), name="z")
    model = keras_ae.Autoencoder(encoder, keras.Model(z, keras.layers.Dense(8)(z)))
    with pytest.raises(ExportError, match=r"encode holds ops that ONNX does not know: FFT \(layer .*spectrum"):
        storage.save(model, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_conversion_that_fails_says_which_function(tmp_path, monkeypatch):
    model, rows = make()
    monkeypatch.setattr("tf2onnx.convert.from_function", lambda *a, **k: 1 / 0)
    with pytest.raises(ExportError, match="encode could not be converted to ONNX: ZeroDivisionError"):
        export_onnx(graphs_of(model), tmp_path, Reference.of(model, rows[:7]))


def test_verify_finds_an_export_that_no_longer_agrees(exported, tmp_path):
    folder = shutil.copytree(exported[2], tmp_path / "a")
    other, rows = make("ae")
    storage.save(other, tmp_path / "b", rows)
    # Swapped with its hash: the bytes are "unchanged", the function is another model's.
    from keras_ae import artifact

    (tmp_path / "b" / FOLDER / "encode.onnx").replace(folder / FOLDER / "encode.onnx")
    (tmp_path / "b" / FOLDER / "weights.bin").replace(folder / FOLDER / "weights.bin")
    manifest = artifact.read_manifest(folder)
    drop = ("format", "schema", "files", "manifest_sha256")
    artifact.write_manifest(folder, {k: v for k, v in manifest.items() if k not in drop})
    with pytest.raises(ExportError, match="ONNX"):
        storage.verify(folder)


OTHER_ACTIVATIONS = ("silu", "elu", "leaky_relu", "softplus", "selu", "tanh")


@pytest.mark.parametrize(
    "activation",
    ["gelu", "mish", *(pytest.param(name, marks=pytest.mark.slow) for name in OTHER_ACTIVATIONS)],
)
def test_activations_leave(activation, tmp_path):
    model, rows = make("ae", hidden=[8], activation=activation)
    figures = export_onnx(graphs_of(model), tmp_path, Reference.of(model, rows[:7]))
    assert set(figures) == {"encode", "decode", "reconstruct", "score", "generate"}
