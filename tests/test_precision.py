"""int8 and float16: kept where they are as good and as fast, refused with figures where not; p-values stay right."""

import json
import shutil

import keras
import numpy as np
import onnx
import pytest
from keras_ae.export import precision
from sklearn.datasets import load_digits

import keras_ae
from keras_ae import artifact, runtime, storage
from keras_ae.errors import ExportError, InputError

DIGITS = load_digits().data.astype("float32")
FUNCTIONS = ("encode", "decode", "reconstruct", "score", "generate")


def ratios(value):
    return {name: {"1": value, "64": value} for name in FUNCTIONS}


@pytest.fixture
def timed(monkeypatch):
    """Gives every graph the latency that is set here, relative to float32: decisions must not hang on this machine."""
    given = {"float32": 1.0, "static": 0.5, "dynamic": 0.6, "half": 0.9}

    def seconds(folders, inputs):
        assert set(inputs) >= set(FUNCTIONS)
        of_each = {name: {function: {"1": given[name], "64": given[name]} for function in inputs} for name in folders}
        return {name: {"seconds": ratio, "time_ratio": ratio} for name, ratio in of_each.items()}

    monkeypatch.setattr(precision, "_seconds", seconds)
    return given


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A model whose hidden layers are large enough for int8, its artifact, and the rows that calibrated it."""
    keras.utils.set_random_seed(0)
    model = keras_ae.build("vae", 64, 8, hidden=[512])
    train, calibration = DIGITS[:1200], DIGITS[1200:1500]
    keras_ae.training.start(model, train, keras_ae.data.fit_scaling(train))
    model.compile("adam", jit_compile=False)
    model.fit(train, epochs=15, verbose=0)
    model.calibrate(calibration)
    folder = tmp_path_factory.mktemp("wide") / "a"
    storage.save(model, folder, calibration)
    return model, folder, calibration


@pytest.mark.parametrize(
    ("name", "methods", "share"), [("int8", {"static", "dynamic"}, 0.6), ("float16", {"half"}, 0.7)]
)
def test_a_precision_is_written_beside_float32_with_what_was_measured(wide, tmp_path, timed, name, methods, share):
    model, folder, calibration = wide
    figures = precision.export_precision(folder, tmp_path, name, model, calibration)
    assert figures["method"] == min(methods, key=timed.get)
    assert set(figures["tried"]) == methods
    assert figures["rows"] == 300
    chosen = figures["tried"][figures["method"]]
    assert chosen["bytes"] < share * figures["float32"]["bytes"]
    assert abs(chosen["rmse_change"]) < 0.02
    assert figures["float32"]["rmse"] == pytest.approx(
        np.sqrt(np.mean((model.reconstruct(calibration) - calibration) ** 2)), rel=1e-3
    )
    json.dumps(figures)
    assert {path.stem for path in (tmp_path / "onnx" / name).glob("*.onnx")} == set(FUNCTIONS)
    weights = (tmp_path / "onnx" / name / "weights.bin").stat().st_size
    assert all(path.stat().st_size < weights / 4 for path in (tmp_path / "onnx" / name).glob("*.onnx"))
    for function in FUNCTIONS:
        path = tmp_path / "onnx" / name / f"{function}.onnx"
        onnx.checker.check_model(str(path), full_check=True)
        graphs = [
            onnx.load(p, load_external_data=False).graph for p in (path, folder / f"onnx/float32/{function}.onnx")
        ]
        described = [
            {(v.name, v.type.tensor_type.elem_type) for v in (*graph.input, *graph.output)} for graph in graphs
        ]
        assert described[0] == described[1]  # names and types of inputs and outputs


def test_int8_products_are_in_the_graph(wide, tmp_path, timed):
    model, folder, calibration = wide
    precision.export_precision(folder, tmp_path, "int8", model, calibration)
    graph = onnx.load(tmp_path / "onnx/int8/reconstruct.onnx").graph
    int8 = [t for t in graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 2]
    assert sorted(tuple(t.dims) for t in int8) == [(64, 512), (512, 64)]


@pytest.mark.parametrize(
    ("change", "size", "slow", "reason"),
    [
        (0.019, 0.3, {}, None),
        (-0.1, 0.3, {}, None),
        (0.021, 0.3, {}, "RMSE is 2.1 % above that of float32, and may be 2 %"),
        (float("nan"), 0.3, {}, "RMSE is nan %"),
        (0.0, 1.0, {}, "no smaller"),
        (0.0, 0.3, {"decode": {"1": 0.5, "64": 1.3}}, "decode takes 1.30 times as long as in float32 at batch 64"),
    ],
)
def test_what_is_worse_slower_or_no_smaller_is_refused(change, size, slow, reason):
    got = precision.judge(change, size, {**ratios(0.8), **slow})
    assert got is None if reason is None else reason in got


def test_an_odd_row_in_the_batch_counts_against_ranges_that_each_batch_sets():
    x = np.arange(1, 201, dtype="float32").reshape(100, 2)
    batches = list(precision._beside_an_odd_row(x))
    np.testing.assert_array_equal(np.concatenate([batch[:-1] for batch in batches]), x)
    assert all(len(batch) <= 64 for batch in batches)
    np.testing.assert_array_equal(batches[1][-1], [10, 20])
    (pixels,) = precision._beside_an_odd_row(np.full((3, 2), 200, "uint8"))
    np.testing.assert_array_equal(pixels[-1], [255, 255])


def test_p_values_are_those_of_the_graphs_own_scores(wide, tmp_path, timed):
    model, folder, calibration = wide
    copy = tmp_path / "a"
    shutil.copytree(folder, copy)
    storage.add_precision(copy, "int8", source=calibration)
    int8, float32 = runtime.load(copy, "int8"), runtime.load(copy)
    known = np.sort(np.concatenate([int8.score(row[None])["score"] for row in calibration]))
    fresh = DIGITS[1500:]
    got = int8.score(fresh)
    expected = (1 + (known[None] >= got["score"][:, None]).sum(1)) / (1 + len(known))
    np.testing.assert_allclose(got["p_value"], expected, atol=1e-6)
    assert not np.array_equal(known, model.p_value.calibration_scores)
    # Both are conformal p-values of nearly the same score: of a new row they differ by the ranks that it moves.
    assert np.abs(got["p_value"] - float32.score(fresh)["p_value"]).mean() < 0.02


def test_the_artifact_holds_the_precision_and_verify_compares_it(wide, tmp_path, timed):
    model, folder, calibration = wide
    copy = tmp_path / "a"
    shutil.copytree(folder, copy)
    result = storage.add_precision(copy, "int8", source=calibration)
    assert result["out"] == str(copy)
    manifest = artifact.verify_files(copy)
    assert manifest["precisions"]["int8"] == result["figures"]
    assert artifact.precisions(manifest) == ["float32", "int8"]
    x_hat = runtime.load(copy, precision="int8").reconstruct(calibration)
    change = np.sqrt(np.mean((x_hat - calibration) ** 2) / np.mean((model.reconstruct(calibration) - calibration) ** 2))
    assert 0.98 < change < 1.02
    assert set(storage.verify(copy)["precisions"]["int8"]) == set(FUNCTIONS)
    # As a graph that is worse than it was when its figures were taken.
    content = {k: v for k, v in manifest.items() if k not in ("format", "schema", "files", "manifest_sha256")}
    figures = content["precisions"]["int8"]
    figures["tried"][figures["method"]]["differences"]["encode"] /= 10
    artifact.write_manifest(copy, content)
    with pytest.raises(ExportError, match=r"int8 encode: must differ from Keras by .* at most"):
        storage.verify(copy)


def test_a_refused_precision_leaves_figures_and_is_not_loaded(wide, tmp_path, timed):
    _, folder, calibration = wide
    copy = tmp_path / "a"
    shutil.copytree(folder, copy)
    timed["half"] = 1.4
    with pytest.raises(ExportError, match=r"float16 is not worth it here: half: \w+ takes 1.40 times as long"):
        storage.add_precision(copy, "float16", source=calibration)
    figures = artifact.verify_files(copy)["precisions"]["float16"]
    assert figures["method"] is None
    assert figures["tried"]["half"]["time_ratio"]["encode"] == {"1": 1.4, "64": 1.4}
    assert not (copy / "onnx/float16").exists()
    with pytest.raises(InputError, match=r"float32. Received: 'float16', which was refused .*1.40 times as long"):
        runtime.load(copy, precision="float16")
    with pytest.raises(ExportError):
        storage.add_precision(copy, "float16", tmp_path / "out", calibration)
    assert not (tmp_path / "out").exists()


def test_a_precision_alone_goes_to_a_folder_of_its_own(wide, tmp_path, timed):
    _, folder, calibration = wide
    before = artifact.list_files(folder)
    storage.add_precision(folder, "int8", tmp_path / "out", calibration, single_file=True)
    assert artifact.list_files(tmp_path / "out") == sorted(f"onnx/int8/{name}.onnx" for name in FUNCTIONS)
    assert artifact.list_files(folder) == before


def test_rows_that_did_not_calibrate_the_model_are_refused(wide, tmp_path):
    _, folder, calibration = wide
    with pytest.raises(InputError, match=r"rows that calibrated the model.*Received: 297 rows"):
        storage.add_precision(folder, "int8", tmp_path / "out", DIGITS[1500:])
    with pytest.raises(InputError, match=r"must have shape \(None, 64\). Received: \(300, 63\)"):
        storage.add_precision(folder, "int8", tmp_path / "out", calibration[:, 1:])
    with pytest.raises(InputError, match="does not name what it was trained on"):
        storage.add_precision(folder, "int8", tmp_path / "out")
    with pytest.raises(InputError, match=r"int8, float16\. Received: 'int4'"):
        storage.add_precision(folder, "int4", tmp_path / "out", calibration)
    assert not (tmp_path / "out").exists()


def test_fit_measures_and_goes_on_where_a_precision_is_refused(tmp_path, timed):
    timed["half"] = 2.0
    fitted = keras_ae.fit(
        "digits",
        tmp_path / "a",
        epochs=0,
        latent_dim=8,
        hidden=[512],
        precisions=["int8", "float16"],
        report=False,
    )
    figures = fitted.manifest["precisions"]
    assert figures["int8"]["method"] == "static"
    assert figures["float16"]["method"] is None
    assert fitted.summary()["precisions"] == figures
    assert artifact.precisions(fitted.manifest) == ["float32", "int8"]
    # The manifest names the source, so that its calibration rows are found again.
    timed["half"] = 0.9
    storage.add_precision(tmp_path / "a", "float16")
    assert runtime.load(tmp_path / "a", "float16").encode(DIGITS[:2]).shape == (2, 8)
    for options in ({"precisions": ["int4"], "out": tmp_path / "b"}, {"precisions": ["int8"]}):
        with pytest.raises(InputError, match="precisions"):
            keras_ae.fit("digits", **options)


def test_raw_values_that_half_precision_can_not_hold_stay_in_float32(tmp_path, timed):
    rows = np.random.default_rng(0).normal(1e6, 1e5, size=(300, 64)).astype("float32")
    model = keras_ae.build("ae", 64, 4, hidden=[512])
    keras_ae.training.start(model, rows, keras_ae.data.fit_scaling(rows))
    model.fit_prior(rows)
    model.calibrate(rows)
    manifest = storage.save(model, tmp_path / "a", rows, precisions=["float16", "int8"])
    assert manifest["precisions"]["float16"]["method"] == "half"
    x_hat = runtime.load(tmp_path / "a", "float16").reconstruct(rows)
    np.testing.assert_allclose(x_hat, model.reconstruct(rows), rtol=5e-3)
    with pytest.raises(InputError, match="need `rows`"):
        storage.save(model, tmp_path / "b", precisions=["int8"])


@pytest.mark.slow
def test_images_are_quantized(tmp_path, timed):
    images = np.random.default_rng(0).integers(0, 256, size=(80, 12, 12), dtype="uint8")
    fitted = keras_ae.fit(
        images, tmp_path / "a", epochs=1, latent_dim=4, filters=[32, 128], precisions=["int8"], report=False
    )
    figures = fitted.manifest["precisions"]["int8"]
    assert {name: tried["reason"] for name, tried in figures["tried"].items()} == {"static": None, "dynamic": None}
    assert runtime.load(tmp_path / "a", "int8").score(images)["p_value"].shape == (80,)
