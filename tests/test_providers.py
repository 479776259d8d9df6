"""Where graphs run: providers in the order that is asked for, none replaced silently; fixed batches; CUDA."""

import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits

import keras_ae
from keras_ae import runtime, sessions
from keras_ae.errors import InputError

DIGITS = load_digits().data[:20].astype("float32")
HAS_CUDA = "cuda" in sessions.available()
without_cuda = pytest.mark.skipif(HAS_CUDA, reason="this ONNX Runtime has CUDA")


def gpu(test):
    return pytest.mark.gpu(pytest.mark.skipif(not HAS_CUDA, reason="this ONNX Runtime has no CUDA")(test))


@pytest.mark.parametrize("given", [None, "cpu", ["cpu"], ["CPUExecutionProvider"], [("cpu", {})]])
def test_a_provider_goes_by_either_name(digits_artifact, given):
    model = runtime.load(digits_artifact, providers=given)
    assert model.providers == ("cpu",)
    assert model.encode(DIGITS).shape == (20, 8)


@without_cuda
def test_what_is_not_installed_is_refused_with_the_package_that_has_it(digits_artifact):
    for given in ("cuda", ["cpu", "CUDAExecutionProvider"], ["tensorrt"]):
        with pytest.raises(InputError, match=r"cpu.*Received: (cuda|tensorrt)\. onnxruntime-gpu has it"):
            runtime.load(digits_artifact, providers=given)
    with pytest.raises(InputError, match=r"Received: openvino\. onnxruntime-openvino has it"):
        runtime.load(digits_artifact, providers=["openvino"])
    with pytest.raises(InputError, match=r"Received: tpu\.$"):
        runtime.load(digits_artifact, providers=["tpu"])
    with pytest.raises(InputError, match=r"at least one.*Received: none"):
        runtime.load(digits_artifact, providers=[])


@without_cuda
def test_automatic_says_what_it_chose(digits_artifact, caplog):
    with caplog.at_level(logging.INFO, "keras_ae"):
        model = runtime.load(digits_artifact, providers="auto")
    assert model.providers == ("cpu",)
    assert caplog.messages == ["providers: cpu, since the installed ONNX Runtime has no cuda"]


@without_cuda
def test_commands_take_a_provider_and_say_what_they_chose(run, digits_artifact, tmp_path):
    rows, out = tmp_path / "x.npy", tmp_path / "z.npy"
    np.save(rows, DIGITS)
    done = run("encode", digits_artifact, rows, "--out", out, "--provider", "auto")
    assert (done.exit_code, done.stderr) == (0, "note: runs on cpu\n")
    np.testing.assert_array_equal(np.load(out), runtime.load(digits_artifact).encode(DIGITS))
    done = run("score", digits_artifact, rows, "--out", out, "--provider", "cuda", "--provider", "cpu")
    assert done.exit_code == 2
    assert "onnxruntime-gpu has it" in " ".join(done.stderr.split())


def _pretends_to_have_cuda(monkeypatch):
    """As an onnxruntime-gpu whose provider does not load: it has CUDA, and gives a session on the CPU."""
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: names)
    open_on_cpu = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda file, options, providers, **_: open_on_cpu(file, options, providers=["CPUExecutionProvider"]),
    )


@without_cuda
@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc on PATH")
def test_a_session_on_another_provider_is_refused_by_the_library_that_is_missing(
    digits_artifact, monkeypatch, tmp_path, caplog
):
    capi = tmp_path / "capi"
    capi.mkdir()
    (tmp_path / "none.c").write_text("int none(void) { return 0; }\n")
    provider = capi / "libonnxruntime_providers_cuda.so"
    build = ["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", str(tmp_path / "none.c"), "-o"]
    subprocess.run([*build, tmp_path / "libneeded.so.12", "-Wl,-soname,libneeded.so.12"], check=True)
    subprocess.run([*build, provider, tmp_path / "libneeded.so.12"], check=True)
    (tmp_path / "libneeded.so.12").unlink()
    _pretends_to_have_cuda(monkeypatch)
    monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "__init__.py"))
    model = runtime.load(digits_artifact, providers=["cuda", "cpu"])
    assert model.providers == ("cuda", "cpu")
    with pytest.raises(InputError, match=r"Provider cuda could not start.*unasked: libneeded.so.12: cannot open"):
        model.encode(DIGITS)
    assert runtime.load(digits_artifact, providers="auto").providers == ("cpu",)
    assert "libneeded.so.12" in caplog.text  # a choice that came from a fault is a warning
    provider.unlink()
    with pytest.raises(InputError, match="a device or its driver is missing"):
        model.encode(DIGITS)


def test_a_provider_that_computes_something_else_is_refused(digits_artifact, monkeypatch):
    model = runtime.load(digits_artifact)
    _, names = model._open("score")
    model.providers = ("openvino",)

    class Wrong:
        def run(self, asked, inputs, _):
            held = runtime.load(digits_artifact).run("score", inputs)
            return [held[name] * (1.01 if name == "score" else 1) for name in asked]

    with pytest.raises(InputError, match=r"Provider openvino must give for score what the CPU gives\. Its `score`"):
        model._check_agreement("score", Wrong(), names, 7)
    monkeypatch.setattr(Wrong, "run", lambda *_: [np.full(7, np.nan)] * len(names))
    with pytest.raises(InputError, match="nan"):
        model._check_agreement("score", Wrong(), names, 7)


def test_a_provider_may_round_what_lies_midway_to_either_side_but_not_a_column(tmp_path):
    rng = np.random.default_rng(0)
    table = np.stack([rng.normal(3, 1, 200), rng.poisson(4, 200)], axis=1)
    np.savetxt(tmp_path / "sales.csv", table, delimiter=",", header="price,count", comments="")
    artifact = keras_ae.fit(tmp_path / "sales.csv", tmp_path / "sales", epochs=0, hidden=[4], report=False).artifact
    model = runtime.load(artifact)
    _, names = model._open("generate")
    model.providers = ("openvino",)

    class Rounds:
        def __init__(self, *cells):
            self.cells = cells

        def run(self, asked, inputs, _):
            x = np.array(runtime.load(artifact).run("generate", inputs)["x"])
            for cell in self.cells:
                x[cell] += 1
            return [x]

    model._check_agreement("generate", Rounds(), names, 7)
    model._check_agreement("generate", Rounds((2, 1)), names, 7)
    for wrong in [((2, 1), (3, 1)), ((slice(None), 1),), ((2, 0),)]:  # two rows, all rows, a price
        with pytest.raises(InputError, match="Provider openvino must give for generate"):
            model._check_agreement("generate", Rounds(*wrong), names, 7)


def _is_the_same_in_batches_of(size, model, usual):
    # More than two calls: CUDA records a graph in one of them.
    for start in (0, 3, 5):
        rows = DIGITS[start : start + size]
        np.testing.assert_allclose(model.encode(rows), usual.encode(rows), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(model.score(rows)["score"], usual.score(rows)["score"], rtol=1e-4)
    first = model.encode(DIGITS[:size])
    model.encode(DIGITS[size : 2 * size])
    np.testing.assert_allclose(first, usual.encode(DIGITS[:size]), rtol=1e-4, atol=1e-4)  # is not a view of a buffer
    np.testing.assert_allclose(model.encode(DIGITS), usual.encode(DIGITS), rtol=1e-4, atol=1e-4)  # of another size
    labels = ["3"] * size
    np.testing.assert_allclose(
        model.generate(size, labels, seed=1), usual.generate(size, labels, seed=1), rtol=1e-3, atol=1e-3
    )


def test_a_fixed_batch_gives_what_any_other_gives(digits_artifact):
    model = runtime.load(digits_artifact, batch_size=4)
    _is_the_same_in_batches_of(4, model, runtime.load(digits_artifact))
    assert isinstance(model._fixed["encode"][0], sessions.FixedBatch)
    with pytest.raises(InputError, match="row 0, column 0"):
        model.encode(np.full((4, 64), np.nan))


@gpu
@pytest.mark.parametrize("batch_size", [None, 4])
def test_cuda_gives_what_the_cpu_gives(digits_artifact, batch_size):
    model = runtime.load(digits_artifact, providers=["cuda", "cpu"], batch_size=batch_size)
    _is_the_same_in_batches_of(4, model, runtime.load(digits_artifact))
    assert runtime.load(digits_artifact, providers="auto").providers == ("cuda", "cpu")


@pytest.mark.slow
def test_one_environment_has_one_cuda(tmp_path):
    """TensorFlow and ONNX Runtime share CUDA 12 up to onnxruntime-gpu 1.26; later ones bring CUDA 13 beside it."""

    def packages(runtime_version):
        wanted = tmp_path / "wanted.txt"
        wanted.write_text(f"tensorflow[and-cuda]>=2.21\nonnxruntime-gpu[cuda,cudnn]=={runtime_version}\n")
        command = [Path(sys.executable).with_name("uv"), "pip", "compile", "--quiet", "--no-header", wanted]
        done = subprocess.run(
            [*command, "--python-platform", "linux", "--python-version", "3.11"],
            capture_output=True,
            text=True,
            check=True,
        )
        return {line.split("==")[0] for line in done.stdout.splitlines() if line.startswith("nvidia-cudnn")}

    assert packages("1.26.*") == {"nvidia-cudnn-cu12"}
    assert packages("1.30.*") == {"nvidia-cudnn-cu12", "nvidia-cudnn-cu13"}
