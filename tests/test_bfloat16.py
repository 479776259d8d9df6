"""Training in bfloat16 is refused where it would be slow; what it leaves is float32. And what the processor says."""

import keras
import numpy as np
import pandas as pd
import pytest

import keras_ae
from keras_ae import bfloat16, pipeline, processor
from keras_ae.errors import InputError
from keras_ae.functions import functions_of

OPTIONS = {"latent_dim": 4, "epochs": 8, "hidden": [32]}


def test_it_is_refused_on_a_processor_that_does_not_multiply_in_it(monkeypatch, tmp_path):
    monkeypatch.setattr(bfloat16, "cpu_flags", lambda: {"avx2", "fma"})
    with pytest.raises(InputError, match="avx512_bf16"):
        keras_ae.fit("digits", tmp_path / "a", dtype="bfloat16", **OPTIONS)
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(bfloat16, "cpu_flags", lambda: {"avx512_bf16"})
    bfloat16.check_bfloat16()


def test_an_unknown_dtype_is_named():
    with pytest.raises(InputError, match=r"float32, bfloat16\. Received: 'half'"):
        keras_ae.fit("digits", dtype="half", **OPTIONS)


@pytest.fixture
def mixed():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(before)


def test_a_fit_and_all_functions_are_float32_whatever_the_global_policy(mixed):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=200), "b": rng.choice(list("xy"), 200), "y": rng.integers(0, 2, 200)})
    table.loc[::5, "a"] = np.nan
    fitted = keras_ae.fit(table, labels="y", epochs=0, latent_dim=2, hidden=[8])
    model, x = fitted.model, fitted.splits.test[:10]
    layers = [layer for layer in model._flatten_layers() if not isinstance(layer, keras.layers.InputLayer)]
    assert {layer.dtype_policy.name for layer in layers if layer is not model} == {"float32"}
    noise = rng.normal(size=(10, model.epsilon_dim)).astype("float32")
    given = {"x": x, "z": noise[:, :2], "epsilon": noise, "label": np.full(10, -1, "int32")}
    given = {name: {key: given[key] for key in graph.signature["inputs"]} for name, graph in model.graphs().items()}
    found = {name: model.run(name, inputs) for name, inputs in given.items()}
    keras.config.set_dtype_policy("float32")
    for name, function in functions_of(model).items():
        for output, values in function(given[name], training=False).items():
            np.testing.assert_allclose(found[name][output], values, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_what_it_leaves_is_float32_and_nearly_as_good(monkeypatch, xla):
    monkeypatch.setattr(pipeline, "check_bfloat16", lambda: None)
    half = keras_ae.fit("digits", dtype="bfloat16", **OPTIONS)
    full = keras_ae.fit("digits", **OPTIONS)
    assert half.manifest["training"]["dtype"] == "bfloat16"
    assert {layer.dtype_policy.name for layer in half.model._flatten_layers()} == {"float32"}
    assert {variable.dtype for variable in half.model.trainable_variables} == {"float32"}
    rmse, reference = (fitted.manifest["metrics"]["rmse_test"] for fitted in (half, full))
    assert rmse == pytest.approx(reference, rel=0.02)
    history = half.model.fit(half.splits.train, epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])


def test_products_are_in_bfloat16_and_losses_in_float32():
    model = keras_ae.build("vae", 8, 2, hidden=[16], dtype="mixed_bfloat16")
    assert model.encoder.layers[-1].compute_dtype == "bfloat16"
    assert model.reconstruction.compute_dtype == "float32"
    assert model(np.zeros((3, 8), "float32")).dtype == "float32"


def test_the_cache_is_a_folder_for_each_kind_of_processor(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = processor.compilation_cache()
    assert folder is not None
    assert folder.parent == tmp_path / "keras_ae"
    assert folder.is_dir()
    monkeypatch.setattr(processor, "cpu_flags", lambda: {"other"})
    assert processor.compilation_cache() not in (folder, None)


@pytest.mark.parametrize("place", ["file/below", "with blank"])
def test_no_cache_where_xla_could_not_write_one(monkeypatch, tmp_path, place):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place))
    assert processor.compilation_cache() is None


def test_the_processor_has_a_name():
    assert processor.cpu_name()
    assert processor.cpu_name() == processor.cpu_name().strip()
