"""Folders for TF Serving, run by TensorFlow's C++ loader, the one that TF Serving uses, beside the runtime."""

import ctypes
import json
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml
from google.protobuf import text_format
from keras_ae.export.tf_serving import export_tf_serving
from sklearn.datasets import load_digits
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2
from typer.testing import CliRunner

from keras_ae import runtime
from keras_ae.cli import app
from keras_ae.client import Client
from keras_ae.errors import ArtifactError, InputError

DIGITS = load_digits().data.astype("float32")
FUNCTIONS = ("encode", "decode", "reconstruct", "score", "explain", "classify", "generate")
WARM_UP = "assets.extra/tf_serving_warmup_requests"


class _Output(ctypes.Structure):
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("length", ctypes.c_size_t),
        ("deallocator", ctypes.c_void_p),
    ]


class Session:
    """A SavedModel in TensorFlow's C API, without its Python."""

    def __init__(self, folder):
        (library,) = Path(tf.__file__).parent.glob("libtensorflow_cc.so.2")
        self._c = ctypes.CDLL(str(library))
        for name in (
            "TF_NewStatus",
            "TF_NewGraph",
            "TF_NewSessionOptions",
            "TF_NewBuffer",
            "TF_LoadSessionFromSavedModel",
            "TF_GraphOperationByName",
            "TF_AllocateTensor",
            "TF_TensorData",
        ):
            getattr(self._c, name).restype = ctypes.c_void_p
        self._c.TF_Message.restype = ctypes.c_char_p
        self._c.TF_TensorByteSize.restype = ctypes.c_size_t
        self._c.TF_Dim.restype = ctypes.c_int64
        self._status = ctypes.c_void_p(self._c.TF_NewStatus())
        self._graph = ctypes.c_void_p(self._c.TF_NewGraph())
        options = ctypes.c_void_p(self._c.TF_NewSessionOptions())
        buffer = ctypes.c_void_p(self._c.TF_NewBuffer())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self._session = ctypes.c_void_p(
            self._c.TF_LoadSessionFromSavedModel(
                options, None, str(folder).encode(), tags, 1, self._graph, buffer, self._status
            )
        )
        self._check()
        held = ctypes.cast(buffer, ctypes.POINTER(_Buffer)).contents
        meta = meta_graph_pb2.MetaGraphDef.FromString(ctypes.string_at(held.data, held.length))
        self.signatures = dict(meta.signature_def)

    def run(self, signature, inputs):
        definition = self.signatures[signature]
        assert set(inputs) == set(definition.inputs)
        names = list(definition.outputs)
        feeds = (_Output * len(inputs))(*(self._output(definition.inputs[name].name) for name in inputs))
        values = (ctypes.c_void_p * len(inputs))(*(self._tensor(array) for array in inputs.values()))
        fetches = (_Output * len(names))(*(self._output(definition.outputs[name].name) for name in names))
        results = (ctypes.c_void_p * len(names))()
        self._c.TF_SessionRun(
            self._session, None, feeds, values, len(inputs), fetches, results, len(names), None, 0, None, self._status
        )
        self._check()
        return {name: self._array(ctypes.c_void_p(result)) for name, result in zip(names, results, strict=True)}

    def _check(self):
        assert self._c.TF_GetCode(self._status) == 0, self._c.TF_Message(self._status)

    def _output(self, name):
        operation, index = name.split(":")
        return _Output(self._c.TF_GraphOperationByName(self._graph, operation.encode()), int(index))

    def _tensor(self, array):
        kind = {"float32": 1, "int32": 3}[array.dtype.name]
        dims = (ctypes.c_int64 * array.ndim)(*array.shape)
        made = self._c.TF_AllocateTensor(kind, dims, array.ndim, ctypes.c_size_t(array.nbytes))
        ctypes.memmove(self._c.TF_TensorData(ctypes.c_void_p(made)), array.tobytes(), array.nbytes)
        return made

    def _array(self, tensor):
        shape = [self._c.TF_Dim(tensor, i) for i in range(self._c.TF_NumDims(tensor))]
        data = ctypes.string_at(self._c.TF_TensorData(tensor), self._c.TF_TensorByteSize(tensor))
        return np.frombuffer(data, "float32").reshape(shape)


@pytest.fixture(scope="module")
def models(digits_artifact, tmp_path_factory):
    out = tmp_path_factory.mktemp("tf_serving") / "models"
    assert export_tf_serving(digits_artifact, out)["version"] == 1
    return out


@pytest.fixture(scope="module")
def session(models):
    return Session(models / "digits/1")


@pytest.fixture(scope="module")
def model(digits_artifact):
    return runtime.load(digits_artifact)


def records(folder):
    for record in tf.data.TFRecordDataset(str(folder / WARM_UP)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        assert log.WhichOneof("log_type") == "predict_log"
        yield log.predict_log.request


@pytest.mark.parametrize("rows", [1, 64])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_signature_agrees_with_the_runtime(session, model, function, rows):
    inputs = {name: DIGITS[:rows] if name == "x" else model.example(function, rows) for name in ("x", "z", "epsilon")}
    inputs["label"] = np.arange(rows, dtype="int32") % 11 - 1
    inputs = {name: inputs[name] for name in session.signatures[function].inputs}
    expected = model.run(function, inputs)
    got = session.run(function, inputs)
    assert set(got) == set(expected)
    for key, values in expected.items():
        # Relative to the largest value; a p-value moves by a step where a score ties with one of the calibration.
        tolerance = 1e-5 * max(1.0, float(np.abs(values).max())) if key != "p_value" else 1e-2
        np.testing.assert_allclose(got[key], values, rtol=0, atol=tolerance)


def test_the_default_signature_reconstructs(session):
    x = DIGITS[:3]
    (default,) = session.run("serving_default", {"x": x}).values()
    np.testing.assert_array_equal(default, session.run("reconstruct", {"x": x})["x_hat"])
    assert set(session.signatures) >= {*FUNCTIONS, "serving_default"}


def test_warm_up_records_run_and_reach_every_signature(models, session):
    reached = []
    for request in records(models / "digits/1"):
        inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        (rows,) = {len(array) for array in inputs.values()}
        reached.append((request.model_spec.signature_name, rows))
        assert request.model_spec.name == "digits"
        for output in session.run(request.model_spec.signature_name, inputs).values():
            assert len(output) == rows
            assert np.isfinite(output).all()
    expected = [(name, rows) for name in (*FUNCTIONS, "serving_default") for rows in (1, 64)]
    assert sorted(reached) == sorted(expected)
    assert len(reached) <= 1000  # TF Serving refuses a model with more


def test_configuration_is_what_tf_serving_parses(models, digits_artifact):
    other = models.parent / "two"
    export_tf_serving(digits_artifact, other, name="b")
    export_tf_serving(digits_artifact, other, name="a")
    config = text_format.Parse((other / "models.config").read_text(), model_server_config_pb2.ModelServerConfig())
    assert [(one.name, one.base_path, one.model_platform) for one in config.model_config_list.config] == [
        ("a", "/models/a", "tensorflow"),
        ("b", "/models/b", "tensorflow"),
    ]
    compose = yaml.safe_load((other / "compose.yaml").read_text())["services"]["serving"]
    assert compose["image"] == f"tensorflow/serving:{tf.__version__}"
    assert ".:/models:ro" in compose["volumes"]
    deployment, service = yaml.safe_load_all((other / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"] == compose["command"]
    for flag in compose["command"]:
        name, _, value = flag.partition("=")
        if value.startswith("/models/"):
            assert (other / value.removeprefix("/models/")).is_file(), name
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} == {port["name"] for port in container["ports"]}


def test_versions_are_added_and_pruned(digits_artifact, tmp_path):
    out = tmp_path / "models"
    for version in (1, 2, 3):
        assert export_tf_serving(digits_artifact, out)["version"] == version
    (out / "compose.yaml").write_text("mine")
    assert export_tf_serving(digits_artifact, out, keep=2) == {
        "out": str(out),
        "model": "digits",
        "version": 4,
        "removed": [2, 1],
    }
    assert sorted(path.name for path in (out / "digits").iterdir()) == ["3", "4"]
    assert (out / "compose.yaml").read_text() == "mine"


def test_a_failed_export_leaves_no_version(digits_artifact, tmp_path, monkeypatch):
    out = tmp_path / "models"
    damaged = shutil.copytree(digits_artifact, tmp_path / "digits")
    (damaged / "saved_model/1/saved_model.pb").write_bytes(b"damaged")
    with pytest.raises(ArtifactError, match=r"saved_model\.pb was changed"):
        export_tf_serving(damaged, out)
    assert list((out / "digits").iterdir()) == []
    for options, message in (({"name": "a/b"}, "letters"), ({"name": "-"}, "letters"), ({"keep": 0}, "`keep`")):
        with pytest.raises(InputError, match=message):
            export_tf_serving(digits_artifact, out, **options)


def test_the_command_exports(digits_artifact, tmp_path):
    arguments = ["export", str(digits_artifact), "--to", "tf_serving", "--out", str(tmp_path / "m"), "--name", "d"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(done.stdout)["version"] == 1
    done = CliRunner().invoke(app, [*arguments, "--keep", "1"])
    assert "d version 2; removed 1" in done.stdout
    for wrong in (["--to", "onnx", "--keep", "1"], ["--to", "onnx", "--name", "d"]):
        done = CliRunner().invoke(app, ["export", str(digits_artifact), *wrong])
        assert isinstance(done.exception, InputError)


@pytest.mark.skipif(shutil.which("tensorflow_model_server") is None, reason="no tensorflow_model_server on PATH")
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_real_server_serves_it(models, model, protocol):
    ports = {}
    for kind in ("grpc", "rest"):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports[kind] = free.getsockname()[1]
    command = [
        "tensorflow_model_server",
        f"--port={ports['grpc']}",
        f"--rest_api_port={ports['rest']}",
        "--model_name=digits",
        f"--model_base_path={models / 'digits'}",
        "--enable_batching=true",
        f"--batching_parameters_file={models / 'batching.config'}",
    ]
    address = {"grpc": f"127.0.0.1:{ports['grpc']}", "rest": f"http://127.0.0.1:{ports['rest']}"}[protocol]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            with Client(address, "digits", protocol=protocol, deadline=60, retries=100) as digits:
                for rows in (1, 64):
                    np.testing.assert_allclose(digits.encode(DIGITS[:rows]), model.encode(DIGITS[:rows]), 1e-4, 1e-5)
                np.testing.assert_allclose(digits.generate(3, seed=0), model.generate(3, seed=0), 1e-4, 1e-4)
        finally:
            process.terminate()
