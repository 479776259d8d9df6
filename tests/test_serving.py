"""The HTTP server: both protocols beside the runtime, what is refused and how, new versions, and a graceful end."""

import asyncio
import contextlib
import json
import logging
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPResponse
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import schemathesis
import tritonclient.http as triton
from hypothesis import HealthCheck, given, settings
from sklearn.datasets import load_digits
from tritonclient.utils import InferenceServerException

from keras_ae import runtime
from keras_ae.data import Schema
from keras_ae.errors import ArtifactError, InputError
from keras_ae.serving import Limits, Models, app, calls, make_server, rest, serve, v2
from keras_ae.serving.app import Application
from keras_ae.serving.server import JsonLines
from keras_ae.serving.versions import Version

DIGITS = load_digits().data.astype("float32")
ROW = DIGITS[0].tolist()
PREDICT = "/v1/models/digits:predict"
INFER = "/v2/models/digits.encode/infer"


@contextlib.contextmanager
def running(models, limits=None, **options):
    """A server of its own in a thread: its address, its application and itself."""
    application = Application(models, limits, **options)
    server = make_server(application)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", application, server
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def artifact(digits_artifact, tmp_path_factory):
    return shutil.copytree(digits_artifact, tmp_path_factory.mktemp("served") / "digits")


@pytest.fixture(scope="module")
def model(artifact):
    return runtime.load(artifact)


@pytest.fixture(scope="module")
def address(artifact):
    with running(Models([artifact])) as (address, _, _):
        yield address


@pytest.fixture
def http(address):
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client


def predict(http, **content):
    response = http.post(PREDICT, json=content)
    assert response.status_code == 200, response.text
    return response.json()


def inputs_of(model, function, rows=5):
    example = model.example(function, rows)
    name = {"decode": "z", "generate": "epsilon"}.get(function, "x")
    return name, example if name != "x" else DIGITS[:rows]


# --- TF Serving's REST API


@pytest.mark.parametrize("function", ["encode", "decode", "reconstruct", "score", "generate"])
@pytest.mark.parametrize("rows", [1, 5])
def test_rows_and_columns_give_what_the_runtime_gives(http, model, function, rows):
    name, array = inputs_of(model, function, rows)
    expected = model.run(function, array)
    listed = array.tolist()
    for inputs in (listed, {name: listed}):
        outputs = predict(http, signature_name=function, inputs=inputs)["outputs"]
        named = outputs if isinstance(outputs, dict) else {next(iter(expected)): outputs}
        assert set(named) == set(expected)
        for key, values in named.items():
            np.testing.assert_allclose(np.asarray(values, "float32"), expected[key], rtol=1e-6)
    for instances in (listed, [{name: row} for row in listed]):
        predictions = predict(http, signature_name=function, instances=instances)["predictions"]
        assert len(predictions) == rows
        for i, row in enumerate(predictions):
            named = row if isinstance(row, dict) else {next(iter(expected)): row}
            for key, values in named.items():
                np.testing.assert_allclose(np.asarray(values, "float32"), expected[key][i], rtol=1e-6)


def test_the_default_signature_reconstructs(http, model):
    expected = model.reconstruct(DIGITS[:2])
    for named in ({}, {"signature_name": "serving_default"}, {"signature_name": ""}):
        np.testing.assert_allclose(predict(http, **named, instances=DIGITS[:2].tolist())["predictions"], expected, 1e-6)


def test_status_versions_and_metadata(http):
    (status,) = http.get("/v1/models/digits").json()["model_version_status"]
    assert status == {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    assert http.get("/v1/models/digits/versions/1").json() == {"model_version_status": [status]}
    about = http.get("/v1/models/digits/versions/1/metadata").json()
    assert about["model_spec"] == {"name": "digits", "signature_name": "", "version": "1"}
    signatures = about["metadata"]["signature_def"]["signature_def"]
    assert signatures["serving_default"]["outputs"] == signatures["reconstruct"]["outputs"]
    (size, features) = signatures["encode"]["inputs"]["x"]["tensor_shape"]["dim"]
    assert (size["size"], features["size"], signatures["encode"]["inputs"]["x"]["dtype"]) == ("-1", "64", "DT_FLOAT")
    answer = http.post("/v1/models/digits/versions/1:predict", json={"signature_name": "encode", "instances": [ROW]})
    assert answer.status_code == 200


def test_generate_takes_a_number_and_a_seed(http, model):
    for seed in (0, 2**40):
        rows = predict(http, signature_name="generate", inputs={"n": 3, "seed": seed})["outputs"]
        np.testing.assert_allclose(np.asarray(rows, "float32"), model.generate(3, seed=seed), rtol=1e-6)
    fresh = [predict(http, signature_name="generate", inputs={"n": 1})["outputs"] for _ in range(2)]
    assert fresh[0] != fresh[1]


def test_calls_that_come_together_are_computed_together_and_told_apart(address, model, monkeypatch):
    sizes = []
    run = calls.Call.run
    monkeypatch.setattr(calls.Call, "run", lambda call: sizes.append(call.rows) or run(call))

    async def ask_all():
        bodies = [{"signature_name": "score", "instances": DIGITS[i : i + 1 + i % 3].tolist()} for i in range(30)]
        bodies[7] = {"signature_name": "score", "instances": [[0] * 63]}
        bodies[9] = {"signature_name": "decode", "instances": [[3e38] * 8]}
        async with httpx.AsyncClient(base_url=address, timeout=30) as client:
            return await asyncio.gather(*(client.post(PREDICT, json=body) for body in bodies))

    for _ in range(20):  # until some do come together
        answers = asyncio.run(ask_all())
        for i, answer in enumerate(answers):
            assert answer.status_code == (400 if i in (7, 9) else 200)
            if answer.status_code == 200:
                expected = model.score(DIGITS[i : i + 1 + i % 3])["score"]
                got = np.float32([row["score"] for row in answer.json()["predictions"]])
                np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert "(batch, 64)" in answers[7].json()["error"]
        assert "finite" in answers[9].json()["error"]
        if max(sizes) > 3:
            return
    raise AssertionError("no two calls were computed together")


# --- the Open Inference Protocol


def infer(http, function, **content):
    response = http.post(f"/v2/models/digits.{function}/infer", json=content)
    assert response.status_code == 200, response.text
    return {output["name"]: output for output in response.json()["outputs"]}


@pytest.mark.parametrize("function", ["encode", "decode", "score", "generate"])
def test_tensors_give_what_the_runtime_gives(http, model, function):
    name, array = inputs_of(model, function)
    tensor = {"name": name, "shape": array.shape, "datatype": "FP32"}
    for data in (array.ravel().tolist(), array.tolist()):
        outputs = infer(http, function, inputs=[{**tensor, "data": data}])
        for key, expected in model.run(function, array).items():
            assert (outputs[key]["datatype"], outputs[key]["shape"]) == ("FP32", list(expected.shape))
            np.testing.assert_allclose(np.float32(outputs[key]["data"]), expected.ravel(), rtol=1e-6)


@pytest.mark.parametrize("in_binary", [True, False])
@pytest.mark.parametrize("out_binary", [True, False])
def test_the_triton_client_works(address, model, in_binary, out_binary):
    client = triton.InferenceServerClient(address.removeprefix("http://"))
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits.score")
    assert not client.is_model_ready("other")
    assert client.get_server_metadata()["name"] == "keras-ae"
    assert client.get_model_metadata("digits.score", "1")["inputs"] == [
        {"name": "x", "datatype": "FP32", "shape": [-1, 64]}
    ]
    assert {"name": "digits", "version": "1", "state": "READY", "reason": ""} in client.get_model_repository_index()
    tensor = triton.InferInput("x", [7, 64], "FP32").set_data_from_numpy(DIGITS[:7], binary_data=in_binary)
    wanted = [triton.InferRequestedOutput("p_value", binary_data=out_binary)]
    answer = client.infer("digits.score", [tensor], outputs=wanted, request_id="seven")
    np.testing.assert_allclose(answer.as_numpy("p_value"), model.score(DIGITS[:7])["p_value"], rtol=1e-6)
    assert (answer.get_response()["id"], answer.as_numpy("score")) == ("seven", None)
    everything = client.infer("digits", [tensor])
    np.testing.assert_allclose(everything.as_numpy("x_hat"), model.reconstruct(DIGITS[:7]), rtol=1e-6)
    with pytest.raises(InferenceServerException, match=r"must have shape \(batch, 64\)"):
        client.infer("digits.score", [triton.InferInput("x", [7, 2], "FP32").set_data_from_numpy(DIGITS[:7, :2])])
    client.close()


def test_other_number_types_are_taken(address, model):
    client = triton.InferenceServerClient(address.removeprefix("http://"))
    for dtype, datatype in (("float64", "FP64"), ("int64", "INT64"), ("uint8", "UINT8"), ("float16", "FP16")):
        tensor = triton.InferInput("x", [2, 64], datatype).set_data_from_numpy(DIGITS[:2].astype(dtype))
        np.testing.assert_array_equal(client.infer("digits.encode", [tensor]).as_numpy("z"), model.encode(DIGITS[:2]))
    client.close()


def test_generate_takes_parameters(http, model):
    outputs = infer(http, "generate", parameters={"n": 2, "seed": 5}, id="a")
    np.testing.assert_allclose(np.float32(outputs["x"]["data"]), model.generate(2, seed=5).ravel(), rtol=1e-6)


def test_rows_of_numbers_that_come_by_the_names_of_columns_go_back_by_them():
    schema = Schema.of_numbers(("a", "b"))
    model = SimpleNamespace(
        manifest={"columns": ["a", "b"]},
        columns=schema.names,
        ignored=(),
        schema_of_table=lambda: schema,
        table=schema.table,
        run=lambda function, arrays: {"x_hat": 2 * arrays["x"]},
    )
    of = {"shape": [2], "dtype": "float32"}
    known = {"reconstruct": {"inputs": {"x": of}, "outputs": {"x_hat": of}}}
    version = Version("numbers", "1", model, known, {"reconstruct": 0.0}, {"reconstruct": 2}, (0, 0, 0))
    for sent, expected in (
        ({"instances": [{"b": 1, "a": 2}]}, {"predictions": [{"a": 4.0, "b": 2.0}]}),
        ({"instances": [[2, 1]]}, {"predictions": [[4.0, 2.0]]}),
    ):
        call, by_rows = rest.read(version, json.dumps(sent).encode(), 10)
        assert json.loads(rest.write(call, call.run(), by_rows)) == expected


# --- labels: the artifact at hand has none


class Recorder:
    """Stands for a model with classes: gives back what it gets."""

    manifest = {"classes": ["cat", "dog"]}  # noqa: RUF012
    sequences = None

    def run(self, function, arrays):
        return {"x": arrays["label"].astype("float32")}


@pytest.fixture
def labelled():
    z, label = {"shape": [2], "dtype": "float32"}, {"shape": [], "dtype": "int32"}
    known = {
        "generate": {"inputs": {"epsilon": z, "label": label}, "outputs": {"x": label}},
        "reconstruct": {"inputs": {"z": z, "label": label}, "outputs": {"x": label}},
    }
    return Version("pets", "1", Recorder(), known, dict.fromkeys(known, 0.0), dict.fromkeys(known, 1), (0, 0, 0))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"epsilon": [[0, 0], [1, 1]]}, [-1, -1]),
        ({"epsilon": [[0, 0], [1, 1]], "label": ["dog", "cat"]}, [1, 0]),
        ({"epsilon": [[0, 0], [1, 1]], "label": [1, -1]}, [1, -1]),
        ({"epsilon": [[0, 0], [1, 1]], "label": "dog"}, [1, 1]),
        ({"n": 3, "label": "dog"}, [1, 1, 1]),
        ({"n": 2, "seed": 1, "label": [0, "dog"]}, [0, 1]),
        ({"n": 1}, [-1]),
    ],
)
def test_labels_go_by_name_or_index_or_are_left_out(labelled, given, expected):
    call = calls.prepare(labelled, "generate", given, 10)
    assert call.arrays["label"].dtype == np.int32
    np.testing.assert_array_equal(call.run()["x"], expected)


def test_labels_in_rows_and_tensors(labelled):
    rows = json.dumps({"signature_name": "generate", "instances": [{"epsilon": [0, 0], "label": "dog"}] * 2})
    call, by_rows = rest.read(labelled, rows.encode(), 10)
    assert (call.arrays["label"].tolist(), by_rows) == ([1, 1], True)
    plain, _ = rest.read(labelled, json.dumps({"instances": [[0, 0]]}).encode(), 10)
    assert plain.arrays["label"].tolist() == [-1]
    texts = b"".join(len(text).to_bytes(4, "little") + text for text in (b"dog", b"cat"))
    epsilon = {"name": "epsilon", "shape": [2, 2], "datatype": "FP32", "data": [0, 0, 0, 0]}
    label = {"name": "label", "shape": [2], "datatype": "BYTES"}
    head = json.dumps({"inputs": [epsilon, {**label, "parameters": {"binary_data_size": len(texts)}}]}).encode()
    asked = v2.Request(labelled, "generate", head + texts, str(len(head)).encode(), 10)
    assert asked.call.arrays["label"].tolist() == [1, 0]
    text = json.dumps({"inputs": [epsilon, {**label, "data": ["cat", "dog"]}]}).encode()
    assert v2.Request(labelled, "generate", text, None, 10).call.arrays["label"].tolist() == [0, 1]


def test_an_answer_has_a_most_of_values(labelled):
    labelled.values["generate"] = calls.MOST_VALUES // 3
    assert calls.prepare(labelled, "generate", {"n": 3}, 10).rows == 3
    with pytest.raises(InputError, match=r"`n` must be 1 to 3\. Received: 4"):
        calls.prepare(labelled, "generate", {"n": 4}, 10)


@pytest.mark.parametrize("label", ["cow", 2, -2, 0.5, True, ["dog"], {}, [["dog"], ["dog"]], [None, None]])
def test_labels_that_are_no_class_are_refused(labelled, label):
    with pytest.raises(InputError, match="`label` must be"):
        calls.prepare(labelled, "generate", {"epsilon": [[0, 0], [1, 1]], "label": label}, 10)


# --- what is refused


def tensor(**changes):
    return {"inputs": [{"name": "x", "shape": [1, 64], "datatype": "FP32", "data": ROW, **changes}]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must be JSON"),
        (b'{"instances": [', "must be JSON"),
        (b"\xff\xfe", "must be JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b"[" * 100_000, "must be JSON"),
        (b'{"instances": ' + b"[" * 500 + b"]" * 500 + b"}", "must be numbers"),
        (b'{"instances": [[NaN]]}', "must be JSON"),
        (b'{"instances": [[' + b"9" * 5000 + b"]]}", "numbers|JSON|shape"),
        ({}, "either `instances` or `inputs`"),
        ({"instances": [ROW], "inputs": [ROW]}, "either `instances` or `inputs`"),
        ({"instances": []}, "at least one"),
        ({"instances": {}}, "list of rows"),
        ({"inputs": []}, "1 to 4,096 rows"),
        ({"inputs": 5}, "1 to 4,096 rows"),
        ({"inputs": None}, "must be numbers"),
        ({"inputs": "x"}, "must be numbers"),
        ({"instances": [ROW[:63]]}, r"must have shape \(batch, 64\). Received: \(1, 63\)"),
        ({"instances": [ROW, ROW[:5]]}, "as many in each row"),
        ({"instances": [["1.5"] * 64]}, "must be numbers"),
        ({"instances": [[None] * 64]}, "must be numbers"),
        ({"instances": [{"x": ROW}, {"y": ROW}]}, "same keys"),
        ({"instances": [{"x": ROW}, ROW]}, "same keys"),
        ({"instances": [{}]}, "must have the inputs x"),
        ({"instances": [{"b64": "AAAA"}]}, "must have the inputs x. Received: b64"),
        ({"inputs": {"x": [ROW], "y": [ROW]}}, "must have the inputs x. Received: x, y"),
        ({"inputs": {"x": {"x": ROW}}}, "must be numbers"),
        ({"instances": [[1e300] * 64]}, "row 0, column 0"),
        ({"instances": [[3e38] * 8], "signature_name": "decode"}, "finite"),
        ({"instances": [ROW] * 4097}, "1 to 4,096 rows in one request. Received: 4,097"),
        ({"signature_name": 5, "instances": [ROW]}, "must be text"),
        ({"signature_name": ["encode"], "instances": [ROW]}, "must be text"),
        ({"signature_name": "generate", "inputs": {"n": 0}}, "`n` must be 1 to 4,096"),
        ({"signature_name": "generate", "inputs": {"n": 10**9}}, "`n` must be 1 to 4,096"),
        ({"signature_name": "generate", "inputs": {"n": True}}, "`n` must be"),
        ({"signature_name": "generate", "inputs": {"n": "2"}}, "`n` must be"),
        ({"signature_name": "generate", "inputs": {"n": 2, "seed": -1}}, "`seed` must be"),
        ({"signature_name": "generate", "inputs": {"n": 2, "seed": 0.5}}, "`seed` must be"),
        ({"signature_name": "generate", "inputs": {"n": 2, "epsilon": [[0] * 8]}}, "either `epsilon` or `n`"),
        ({"signature_name": "generate", "inputs": {"n": 2, "label": "a"}}, "must be a class"),
        ({"signature_name": "generate", "inputs": {"seed": 2}}, "must have the inputs epsilon"),
    ],
)
def test_malformed_predictions_are_400(http, content, message):
    content = content if isinstance(content, bytes) else json.dumps(content).encode()
    response = http.post(PREDICT, content=content)
    assert (response.status_code, list(response.json())) == (400, ["error"])
    assert re.search(message, response.json()["error"]), response.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "must have the inputs x. Received: none"),
        ({"inputs": {}}, "list of objects"),
        ({"inputs": [5]}, "list of objects"),
        ({"inputs": [{"shape": [1]}]}, "each with a `name`"),
        ({"inputs": [{"name": 5}]}, "each with a `name`"),
        ({"inputs": tensor()["inputs"] * 2}, "given once"),
        (tensor(shape=None), "must have a `shape`"),
        (tensor(shape=[-1, 64]), "must have a `shape`"),
        (tensor(shape=[2.0, 32]), "must have a `shape`"),
        (tensor(shape=[1] * 20), "must have a `shape`"),
        (tensor(shape=[2**40, 2**40]), "must have a `shape`"),
        (tensor(shape=[2**30] * 16), "values of its shape"),
        (tensor(shape=[2, 64]), "128 values of its shape. Received: 64"),
        (tensor(shape=[64, 1]), r"\(batch, 64\). Received: \(64, 1\)"),
        (tensor(datatype="FP8"), "`datatype`, one of"),
        (tensor(datatype=["FP32"]), "`datatype`, one of"),
        (tensor(datatype="BYTES"), "`x` must"),
        (tensor(data="abc"), "`data`, a list"),
        (tensor(data=[ROW, [1]]), "must be numbers"),
        (tensor(data=["a"] * 64), "must be numbers"),
        (tensor(name="y"), "must have the inputs x. Received: y"),
        (tensor(parameters=[]), "`parameters` must be an object"),
        (tensor(parameters={"binary_data_size": 8}), "as many bytes"),
        (tensor(parameters={"binary_data_size": -8}), "as many bytes"),
        (tensor(parameters={"binary_data_size": "8"}), "as many bytes"),
        ({**tensor(), "id": 5}, "`id` must be text"),
        ({**tensor(), "parameters": 5}, "`parameters` must be an object"),
        ({**tensor(), "outputs": [{"name": "x_hat"}]}, "`outputs` must be of z. Received: 'x_hat'"),
        ({**tensor(), "outputs": {"z": 1}}, "`outputs` must be a list"),
    ],
)
def test_malformed_inferences_are_400(http, content, message):
    response = http.post(INFER, json=content)
    assert (response.status_code, list(response.json())) == (400, ["error"])
    assert re.search(message, response.json()["error"]), response.text


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 30, "100000"])
def test_wrong_lengths_of_the_json_are_400(http, length):
    response = http.post(INFER, content=json.dumps(tensor()), headers={"Inference-Header-Content-Length": length})
    assert response.status_code == 400
    assert "Inference-Header-Content-Length" in response.json()["error"]


@pytest.mark.parametrize(
    ("size", "sent", "message"),
    [(256, 255, "as many bytes"), (255, 255, "the 256 bytes of its shape"), (256, 300, "all 300 binary bytes")],
)
def test_binary_tensors_of_a_wrong_size_are_400(http, size, sent, message):
    head = tensor(parameters={"binary_data_size": size})
    del head["inputs"][0]["data"]
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    response = http.post(INFER, content=text + bytes(sent), headers=headers)
    assert response.status_code == 400
    assert re.search(message, response.json()["error"])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1/models/other:predict", 404),
        ("POST", "/v1/models/digits/versions/2:predict", 404),
        ("POST", "/v1/models/digits/versions/1e3:predict", 404),
        ("POST", "/v1/models/..%2f..%2fetc%2fpasswd:predict", 404),
        ("POST", "/v1/models/%2e%2e:predict", 404),
        ("GET", "/v1/models/..%2f..%2fetc", 404),
        ("GET", "/v1/models/digits/versions/..%2f1", 404),
        ("GET", "/v1/models/digits/versions/9", 404),
        ("GET", "/v2/models/..%2fdigits", 404),
        ("GET", "/v2/models/digits.other", 404),
        ("POST", "/v2/models/digits.other/infer", 404),
        ("POST", "/v2/models/%00/infer", 404),
        ("GET", "/v2/models/other/ready", 404),
        ("GET", "/nothing", 404),
        ("GET", PREDICT, 405),
        ("DELETE", INFER, 405),
        ("POST", "/v1/models/digits", 405),
        ("POST", "/v1/models/digits:classify", 400),
        ("POST", "/v1/models/digits:regress", 400),
    ],
)
def test_what_is_not_here_is_told(http, method, path, status):
    response = http.request(method, path, json={} if method == "POST" else None)
    assert (response.status_code, list(response.json())) == (status, ["error"]), response.text


def test_compressed_bodies_are_415(http):
    assert http.post(PREDICT, content=b"", headers={"Content-Encoding": "gzip"}).status_code == 415


def test_another_signature_is_404(http):
    response = http.post(PREDICT, json={"signature_name": "embed", "instances": [ROW]})
    assert response.status_code == 404
    assert "It has: encode, decode" in response.json()["error"]


def test_a_fault_of_the_server_is_500_without_its_trace(artifact, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("secret")

    with running(Models([artifact])) as (address, _, _), caplog.at_level(logging.ERROR):
        monkeypatch.setattr(app.rest, "write", fail)
        response = httpx.post(address + PREDICT, json={"instances": [ROW]})
    assert response.status_code == 500
    assert "secret" not in response.text
    assert "secret" in caplog.text


# --- limits


@pytest.fixture
def gate(monkeypatch):
    """Computing waits, in a thread of the pool, until it is set; `entered` tells how many wait."""

    class Gate(threading.Event):
        entered = threading.Semaphore(0)

    gate = Gate()
    run = calls.Call.run

    def wait(call):
        gate.entered.release()
        gate.wait(30)
        return run(call)

    monkeypatch.setattr(calls.Call, "run", wait)
    monkeypatch.setattr(app, "_AT_ONCE", 0.0)
    yield gate
    gate.set()


def test_past_its_requests_it_answers_429_and_says_when_to_come_again(artifact, gate, caplog):
    ask = {"instances": [ROW]}
    with (
        running(Models([artifact]), Limits(requests=2, threads=2)) as (address, application, _),
        ThreadPoolExecutor(2) as threads,
    ):
        waiting = [threads.submit(httpx.post, address + PREDICT, json=ask, timeout=30) for _ in range(2)]
        for _ in waiting:
            gate.entered.acquire()
        for _ in range(3):
            refused = httpx.post(address + PREDICT, json=ask)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            application._next_refusal = math.inf  # a second that does not end
        assert [record.refused for record in caplog.records if hasattr(record, "refused")] == [1]
        assert httpx.get(address + "/v2/health/live").status_code == 200  # which is no computing
        gate.set()
        assert [one.result().status_code for one in waiting] == [200, 200]
        assert httpx.post(address + PREDICT, json=ask).status_code == 200


def test_what_takes_too_long_is_504(artifact, gate):
    with running(Models([artifact]), Limits(seconds=1.0)) as (address, _, _):
        response = httpx.post(address + PREDICT, json={"instances": [ROW]})
        assert (response.status_code, response.json()) == (
            504,
            {"error": "The answer must be computed within 1 s."},
        )
        gate.set()
        assert httpx.post(address + PREDICT, json={"instances": [ROW]}).status_code == 200


def test_large_bodies_are_413_with_and_without_a_length(artifact):
    with running(Models([artifact]), Limits(body_bytes=1000)) as (address, _, _):
        for content in (b" " * 1001, iter([b" " * 600, b" " * 600])):
            response = httpx.post(address + PREDICT, content=content)
            assert (response.status_code, response.headers["connection"]) == (413, "close")
        assert httpx.post(address + PREDICT, content=b" " * 1000).status_code == 400


def test_slow_and_truncated_requests_end(artifact):
    with running(Models([artifact]), Limits(seconds=1.0)) as (address, _, _):
        port = int(address.rsplit(":", 1)[1])
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n".encode()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
            slow.sendall(head + b"{")
            response = HTTPResponse(slow)
            response.begin()
            assert response.status == 408
            assert json.loads(response.read()) == {"error": "The request must come within 1 s."}
        for sent, answered in ((b"", b""), (b"POST / HT", b"HTTP/1.1 408 "), (head[:-4], b"HTTP/1.1 408 ")):
            with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
                silent.sendall(sent)
                assert silent.recv(13) == answered
        with socket.create_connection(("127.0.0.1", port), timeout=30) as truncated:
            truncated.sendall(head + b"{")
        assert httpx.get(address + "/v2/health/ready").status_code == 200


@pytest.mark.parametrize("name", ["body_bytes", "rows", "requests", "seconds", "threads"])
def test_limits_are_positive(name):
    with pytest.raises(InputError, match=f"`{name}` must be positive"):
        Limits(**{name: 0})


# --- versions


def hammered(address, stop, statuses):
    with httpx.Client(base_url=address) as client:
        while not stop.is_set():
            statuses.append(client.post(PREDICT, json={"signature_name": "encode", "instances": [ROW]}).status_code)


def until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come to be")


def test_versions_come_and_go_without_a_failed_request(digits_artifact, tmp_path):
    folder = tmp_path / "digits"
    shutil.copytree(digits_artifact, folder / "1")
    stop, statuses = threading.Event(), []
    with running(Models([folder]), reload_seconds=0.05) as (address, application, _):

        def served():
            status = httpx.get(f"{address}/v1/models/digits").json()["model_version_status"]
            return [one["version"] for one in status]

        threads = [threading.Thread(target=hammered, args=(address, stop, statuses)) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for version in ("2", "10"):
                shutil.copytree(digits_artifact, tmp_path / "new")
                (tmp_path / "new").rename(folder / version)
                until(lambda version=version: served()[0] == version)
            assert served() == ["10", "2"]  # the newest two, by number
            replaced = application.models.find("digits")
            shutil.copytree(digits_artifact, tmp_path / "new")
            shutil.rmtree(folder / "10")
            (tmp_path / "new").rename(folder / "10")
            until(lambda: application.models.find("digits") is not replaced)
            shutil.rmtree(folder / "10")
            until(lambda: served() == ["2", "1"])
            folder.rename(tmp_path / "gone")
            until(lambda: "missing" in httpx.get(f"{address}/metrics").text)
            assert served() == ["2", "1"]  # the last ones stay
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert set(statuses) == {200}
    assert len(statuses) > 20


def test_a_damaged_version_is_left_out_and_told_once(digits_artifact, tmp_path, caplog):
    folder = tmp_path / "digits"
    shutil.copytree(digits_artifact, folder / "1")
    with running(Models([folder]), reload_seconds=0.02) as (address, application, _), caplog.at_level(logging.WARNING):
        shutil.copytree(digits_artifact, tmp_path / "new")
        (tmp_path / "new/onnx/float32/weights.bin").write_bytes(b"damaged")
        (tmp_path / "new").rename(folder / "2")
        tries = application._loads.labels("digits", "not loaded")
        until(lambda: tries._value.get() >= 3)
        assert application.models.find("digits").number == "1"
        assert httpx.post(address + PREDICT, json={"instances": [ROW]}).status_code == 200
    told = [record for record in caplog.records if record.getMessage() == "not loaded"]
    assert len(told) == 1
    assert "weights.bin was changed" in told[0].error


def test_a_damaged_version_takes_no_place(digits_artifact, tmp_path):
    shutil.copytree(digits_artifact, tmp_path / "digits/1")
    models = Models([tmp_path / "digits"], keep=1)
    shutil.copytree(digits_artifact, tmp_path / "digits/2")
    (tmp_path / "digits/2/manifest.json").write_text("{}")
    for _ in range(2):
        ((event, details),) = models.refresh()
        assert (event, details["version"], models.find("digits").number) == ("not loaded", "2", "1")


def test_a_replaced_artifact_is_loaded_anew(digits_artifact, tmp_path):
    from keras_ae.artifact import replacing

    folder = shutil.copytree(digits_artifact, tmp_path / "digits")
    models = Models([folder])
    before = models.find("digits")
    assert models.refresh() == []
    with replacing(folder) as new:
        shutil.copytree(digits_artifact, new, dirs_exist_ok=True)
    assert models.refresh() == [("loaded", {"model": "digits", "version": "1"})]
    assert models.find("digits") is not before
    np.testing.assert_array_equal(before.model.encode(DIGITS[:2]), models.find("digits").model.encode(DIGITS[:2]))


def test_names_of_models(digits_artifact, tmp_path):
    models = Models([f"a.b={digits_artifact}", digits_artifact])
    assert list(models.loaded) == ["a.b", "digits"]
    assert models.find_function("a.b") == (models.find("a.b"), "reconstruct")
    assert models.find_function("a.b.score") == (models.find("a.b"), "score")
    with pytest.raises(InputError, match="'digits' twice"):
        Models([digits_artifact, digits_artifact])
    with pytest.raises(InputError, match="must be of letters"):
        Models([f"a/b={digits_artifact}"])
    with pytest.raises(ArtifactError, match="neither an artifact"):
        Models([tmp_path])
    with pytest.raises(ArtifactError, match="No such folder"):
        Models([tmp_path / "gone"])
    with pytest.raises(InputError, match=r"`precision` must be one that .* holds: float32"):
        Models([digits_artifact], precision="int8")


# --- the rest of the house


def test_what_is_in_flight_is_finished_before_the_end(artifact, gate):
    with (
        running(Models([artifact])) as (address, _, server),
        ThreadPoolExecutor(1) as threads,
    ):
        waiting = threads.submit(httpx.post, address + PREDICT, json={"instances": [ROW]}, timeout=30)
        gate.entered.acquire()
        server.should_exit = True
        port = int(address.rsplit(":", 1)[1])
        until(lambda: not accepts(port))
        gate.set()
        assert waiting.result().status_code == 200


def accepts(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/health/live", timeout=1).status_code == 200
    except httpx.TransportError:
        return False


def test_metrics_count_by_model_function_protocol_and_status(artifact):
    with running(Models([artifact])) as (address, _, _):
        for content in ({"signature_name": "score", "instances": [ROW] * 3}, {"instances": 5}):
            httpx.post(address + PREDICT, json=content)
        httpx.post(address + INFER, json=tensor())
        text = httpx.get(address + "/metrics").text
    for line in (
        'keras_ae_requests_total{function="score",model="digits",protocol="rest",status="200"} 1.0',
        'keras_ae_rows_total{function="score",model="digits",protocol="rest"} 3.0',
        'keras_ae_request_seconds_count{function="encode",model="digits",protocol="v2"} 1.0',
        'keras_ae_requests_total{function="",model="",protocol="rest",status="400"} 1.0',
        "keras_ae_requests_in_flight 0.0",
    ):
        assert line in text
    assert "process_resident_memory_bytes" in text


def test_the_page_stands_alone_and_tells_every_function(http):
    response = http.get("/")
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    assert "src=" not in response.text
    assert "//" not in response.text.replace("http://HOST", "")
    for function in ("encode", "decode", "reconstruct", "score", "generate"):
        assert f"<code>{function}</code>" in response.text


def test_logs_are_json_lines():
    record = logging.LogRecord("a", logging.WARNING, "", 0, "request", (), None)
    record.status, record.path = 400, "/a\nb"
    line = JsonLines().format(record)
    assert "\n" not in line
    content = json.loads(line)
    assert (content["event"], content["level"], content["status"]) == ("request", "warning", 400)
    try:
        raise ValueError("why")
    except ValueError:
        record.exc_info = sys.exc_info()
    assert "ValueError: why" in json.loads(JsonLines().format(record))["traceback"]


def test_a_port_that_is_taken_is_refused(artifact):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="must be free"):
        serve(Models([artifact]), port=taken.getsockname()[1])


def test_the_command_serves_without_tensorflow_until_sigterm(artifact):
    script = f"""
import sys
for name in ("tensorflow", "keras", "sklearn", "onnx", "tf2onnx", "google.protobuf", "httpx"):
    sys.modules[name] = None
from keras_ae.cli import main
sys.argv = ["keras-ae", "serve", "named={artifact}", "--port", "0", "--log-requests"]
main()
"""
    with subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True) as process:
        started = json.loads(process.stderr.readline())
        assert (started["event"], started["models"]) == ("serving", ["named/1"])
        response = httpx.post(started["address"] + "/v1/models/named:predict", json={"instances": [ROW]})
        assert response.status_code == 200
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in process.stderr.read().splitlines()]
    assert [line["event"] for line in lines] == ["request", "stopped"]
    assert (lines[0]["status"], lines[0]["rows"]) == (200, 1)
    assert process.returncode == 0


def test_the_command_says_which_extra_it_misses(artifact):
    script = f"import sys; sys.modules['starlette'] = None; sys.argv = ['keras-ae', 'serve', {str(artifact)!r}]\n"
    command = [sys.executable, "-c", f"{script}from keras_ae.cli import main\nmain()"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "pip install 'keras-ae[serve]'" in done.stderr) == (2, True), done.stderr


# --- its own description


@pytest.fixture(scope="module")
def api(address):
    return schemathesis.openapi.from_url(f"{address}/openapi.json")


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_it_does_what_its_openapi_document_says(api, mode):
    # Not that all the document allows is taken: v2's data must also be as many as its shape says.
    held = [
        schemathesis.checks.CHECKS.get_one(name)
        for name in (
            "not_a_server_error",
            "status_code_conformance",
            "content_type_conformance",
            "response_schema_conformance",
        )
    ]
    statuses = set()
    for result in api.get_all_operations():
        operation = result.ok()
        if "/versions/" in operation.path or (mode.is_negative and not operation.body):
            continue

        @given(operation.as_strategy(generation_mode=mode))
        @settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def check(case):
            statuses.add(case.call_and_validate(checks=held).status_code)

        check()
    assert statuses >= ({400} if mode.is_negative else {200})
