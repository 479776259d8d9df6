"""The runtime: NumPy in, NumPy out, without TensorFlow; what it refuses; how little it adds to ONNX Runtime."""

import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_ae import runtime
from keras_ae.errors import ArtifactError, InputError

DIGITS = load_digits().data.astype("float32")


@pytest.fixture(scope="module")
def model(digits_artifact):
    return runtime.load(digits_artifact)


def test_it_gives_what_keras_gives(model, digits_fitted):
    keras_model = digits_fitted.model
    np.testing.assert_allclose(model.encode(DIGITS), keras_model.encode(DIGITS), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.reconstruct(DIGITS), keras_model.reconstruct(DIGITS), rtol=1e-4, atol=1e-4)
    z = model.encode(DIGITS[:20])
    np.testing.assert_allclose(model.decode(z), model.reconstruct(DIGITS[:20]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.generate(9, seed=4), keras_model.generate(9, seed=4), rtol=1e-4, atol=1e-4)


def test_score_is_higher_for_what_is_no_digit(model, digits_fitted):
    normal = model.score(digits_fitted.splits.test)
    strange = model.score(np.random.default_rng(0).permuted(digits_fitted.splits.test, axis=1))
    assert np.median(strange["score"]) > np.quantile(normal["score"], 0.95)
    assert np.median(strange["p_value"]) < 0.05 < np.median(normal["p_value"])


def test_batches_give_what_one_call_gives(model, monkeypatch):
    whole = model.encode(DIGITS[:1000])
    monkeypatch.setattr(runtime, "_BATCH_ROWS", 7)
    np.testing.assert_allclose(model.encode(DIGITS[:1000]), whole, rtol=1e-5, atol=1e-5)
    assert model.score(DIGITS[:15])["p_value"].shape == (15,)


def test_generate_is_seeded_or_fresh(model):
    np.testing.assert_array_equal(model.generate(3, seed=1), model.generate(3, seed=1))
    assert not np.array_equal(model.generate(3), model.generate(3))


def test_other_dtypes_lists_and_strides_are_taken(model):
    expected = model.encode(DIGITS[:6])
    for other in (DIGITS[:6].astype("float64"), DIGITS[:6].astype("int64"), DIGITS[:6].tolist()):
        np.testing.assert_array_equal(model.encode(other), expected)
    np.testing.assert_array_equal(model.encode(DIGITS[:12:2]), model.encode(DIGITS[:12:2].copy()))


def broken(value):
    x = DIGITS[:4].copy()
    x[2, 5] = value
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((10, 63), "float32"), r"`x` must have shape \(batch, 64\). Received: \(10, 63\)."),
        (np.zeros(64, "float32"), r"\(batch, 64\). Received: \(64,\)"),
        (np.zeros((0, 64), "float32"), r"Received: \(0, 64\)"),
        (broken(np.nan), "row 2, column 5.*nan"),
        (broken(np.inf), "row 2, column 5.*inf"),
        (np.full((1, 64), 1e300), "row 0, column 0"),
        (np.full((2, 64), "a"), "must be numbers"),
    ],
)
def test_bad_rows_are_refused(model, x, message):
    with pytest.raises(InputError, match=message):
        model.score(x)


def test_large_finite_values_are_not_mistaken_for_infinite(model):
    assert np.isfinite(model.encode(np.full((1, 64), 1e25, "float32"))).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int4"}, "precision.*float32.*int4"),
        ({"batch_size": 0}, "batch_size"),
        ({"threads": 0}, "threads"),
    ],
)
def test_options_that_can_not_be_met_are_refused(digits_artifact, options, message):
    with pytest.raises(InputError, match=message):
        runtime.load(digits_artifact, **options)
    with pytest.raises(ArtifactError):
        runtime.load(digits_artifact.parent)


def test_threads_are_passed_on(digits_artifact):
    model = runtime.load(digits_artifact, threads=1)
    model.encode(DIGITS[:2])
    session, _ = model._sessions["encode"]
    assert session.session_options.intra_op_num_threads == 1


def test_a_call_costs_one_session_run_and_one_dictionary(model, monkeypatch):
    model.encode(DIGITS[:1])
    session, names = model._sessions["encode"]
    calls = []

    class Counting:
        def run(self, *args):
            calls.append(args)
            return session.run(*args)

    monkeypatch.setitem(model._sessions, "encode", (Counting(), names))
    row = DIGITS[:1]
    model.encode(row)
    assert len(calls) == 1
    assert calls[0][1]["x"] is row  # no copy on the way


def test_one_row_allocates_its_outputs_and_little_else(model):
    row = DIGITS[:1]
    model.encode(row)
    tracer = sys.gettrace()
    sys.settrace(None)  # that of coverage allocates, too
    tracemalloc.start()
    try:
        for _ in range(1000):  # until free lists are full
            model.encode(row)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            model.encode(row)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        model.encode(row)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        sys.settrace(tracer)
    assert after - before < 1_000  # bytes that as many calls leave behind
    # An array of 8 floats, a list and two dictionaries. A copy of the row alone would be 256 bytes more.
    assert peak - after < 1_000


def test_a_function_opens_one_session_and_hashes_its_files_once(digits_artifact, monkeypatch):
    opened, hashed = [], []
    sha256 = runtime.artifact.sha256
    monkeypatch.setattr(runtime.artifact, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    open_session = runtime.open_session
    monkeypatch.setattr(
        runtime, "open_session", lambda file, *rest: opened.append(file.stem) or open_session(file, *rest)
    )
    model = runtime.load(digits_artifact)
    assert (opened, hashed) == ([], [])
    for _ in range(3):
        model.encode(DIGITS[:1])
        model.score(DIGITS[:5])
        list(model.stream("encode", [DIGITS[:3], DIGITS[:4]]))
    assert opened == ["encode", "score"]
    assert hashed == ["weights.bin", "encode.onnx", "score.onnx"]


def test_any_function_runs_by_name_on_what_its_graph_takes(model):
    for function in model.manifest["functions"]:
        example = model.example(function, 3)
        assert all(len(output) == 3 for output in model.run(function, example).values())
    np.testing.assert_array_equal(model.run("encode", DIGITS[:2])["z"], model.encode(DIGITS[:2]))
    with pytest.raises(InputError, match=r"`epsilon` must have shape \(batch, [89]\)"):
        model.run("generate", DIGITS[:2])
    with pytest.raises(InputError, match=r"`function` must be one of encode.*'embed'"):
        model.run("embed", DIGITS[:2])


def test_it_runs_where_tensorflow_can_not_be_imported(digits_artifact):
    script = f"""
import sys
for name in ("tensorflow", "keras", "sklearn", "onnx", "tf2onnx"):
    sys.modules[name] = None
import numpy as np
from keras_ae import runtime
model = runtime.load({str(digits_artifact)!r})
print(model.score(np.zeros((2, 64)))["p_value"].shape, model.generate(3, seed=0).shape)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[0] == "(2,) (3, 64)", done.stderr
