"""The client: REST against this package's server, gRPC against TF Serving's own messages; retries and deadlines."""

import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import grpc
import httpx
import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_ae import client as client_module
from keras_ae import protos, runtime
from keras_ae.client import Client
from keras_ae.errors import InputError, MissingExtra, ServiceError
from keras_ae.serving import Models, make_server
from keras_ae.serving.app import Application
from keras_ae.signatures import signatures

DIGITS = load_digits().data.astype("float32")


@pytest.fixture(scope="module")
def model(digits_artifact):
    return runtime.load(digits_artifact)


@pytest.fixture(scope="module")
def rest_address(digits_artifact):
    server = make_server(Application(Models([f"digits={digits_artifact}"])))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def grpc_address(model):
    """TF Serving's PredictionService, of its own messages, around the runtime."""
    import tensorflow as tf
    from tensorflow.core.protobuf import meta_graph_pb2
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802  (the service's name)
            if request.model_spec.name != "digits":
                context.abort(grpc.StatusCode.NOT_FOUND, f"Servable not found: {request.model_spec.name}")
            arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            for name, output in model.run(request.model_spec.signature_name, arrays).items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(output))
                if name == "p_value":  # TF Serving's other way of writing a tensor
                    response.outputs[name].ClearField("tensor_content")
                    response.outputs[name].float_val.extend(output.tolist())
            return response

        def GetModelMetadata(self, request, context):  # noqa: N802  (the service's name)
            held = get_model_metadata_pb2.SignatureDefMap()
            for name, sides in signatures(model.manifest).items():
                definition = meta_graph_pb2.SignatureDef()
                for side in ("inputs", "outputs"):
                    for key, of in sides[side].items():
                        info = getattr(definition, side)[key]
                        info.dtype = tf.as_dtype(of["dtype"]).as_datatype_enum
                        info.tensor_shape.CopyFrom(tf.TensorShape([None, *of["shape"]]).as_proto())
                held.signature_def[name].CopyFrom(definition)
            response = get_model_metadata_pb2.GetModelMetadataResponse()
            response.metadata["signature_def"].Pack(held)
            assert list(request.metadata_field) == ["signature_def"]
            return response

    server = grpc.server(ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


@pytest.fixture(params=["rest", "grpc"])
def digits(request):
    with Client(request.getfixturevalue(f"{request.param}_address"), "digits", protocol=request.param) as client:
        yield client


def test_it_and_the_runtime_say_which_model_they_are(rest_address, model):
    functions = "encode, decode, reconstruct, score, explain, classify, generate"
    assert repr(model) == f"Model(vae, x (64,), 8 latents: {functions})"
    with Client(rest_address, "digits", version=1) as digits:
        assert repr(digits) == f"Client({rest_address}, digits version 1)"  # no request is made for it
        assert list(digits.signatures)
        assert repr(digits) == f"Client({rest_address}, digits version 1: {functions})"


def test_it_gives_what_the_runtime_gives(digits, model):
    x = DIGITS[:5]
    close = {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(digits.encode(x), model.encode(x), **close)
    np.testing.assert_allclose(digits.decode(model.encode(x)), model.decode(model.encode(x)), **close)
    np.testing.assert_allclose(digits.reconstruct(x), model.reconstruct(x), **close)
    for name, values in digits.score(x).items():
        np.testing.assert_allclose(values, model.score(x)[name], **close)
    np.testing.assert_allclose(digits.classify(x), model.classify(x), **close)
    np.testing.assert_allclose(digits.generate(4, seed=3), model.generate(4, seed=3), **close)
    np.testing.assert_allclose(digits.generate(4, 7, seed=3), model.generate(4, 7, seed=3), **close)
    assert digits.signatures == signatures(model.manifest)


def test_rows_go_in_batches_and_other_dtypes_are_taken(rest_address, model):
    with Client(rest_address, "digits", version=1, batch_rows=7) as digits:
        np.testing.assert_allclose(digits.encode(DIGITS[:30].astype("int64")), model.encode(DIGITS[:30]), 1e-4, 1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.encode(np.zeros((2, 63))), r"`x` must have shape \(batch, 64\). Received: \(2, 63\)"),
        (lambda d: d.encode(np.zeros((0, 64))), r"Received: \(0, 64\)"),
        (lambda d: d.encode(np.full((1, 64), np.nan)), "`x` must be finite"),
        (lambda d: d.encode(np.full((1, 64), "a")), "`x` must be finite numbers"),
        (lambda d: d.run("embed", {"x": DIGITS[:1]}), "`function` must be one of encode.*'embed'"),
        (lambda d: d.run("encode", {"z": DIGITS[:1]}), "must have the inputs x. Received: z"),
        (lambda d: d.decode(np.zeros((1, 8)), y=1), "must have the inputs z. Received: z, label"),
        (lambda d: d.generate(0), "`n` must be at least 1"),
    ],
)
def test_what_can_not_be_is_refused_before_it_is_sent(digits, call, message):
    with pytest.raises(InputError, match=message):
        call(digits)


def test_a_table_is_of_a_model_of_one(rest_address):
    with Client(rest_address, "digits") as client, pytest.raises(InputError, match="from a model of one"):
        client.generate_table(2)


def test_a_table_of_cells_is_for_rest(grpc_address):
    with (
        Client(grpc_address, "digits", protocol="grpc") as client,
        pytest.raises(InputError, match="keras-ae serve"),
    ):
        client.score({"colour": ["red"]})


def test_the_servers_reason_is_told(rest_address, grpc_address):
    with Client(rest_address, "other") as other, pytest.raises(InputError, match="No model 'other' is served"):
        other.encode(DIGITS[:1])
    with Client(rest_address, "digits") as digits, pytest.raises(InputError, match="finite numbers"):
        digits.decode(np.full((1, 8), 3e38))
    with (
        Client(grpc_address, "other", protocol="grpc") as other,
        pytest.raises(InputError, match="Servable not found: other"),
    ):
        other.encode(DIGITS[:1])


def test_arguments_out_of_range_are_refused():
    for options, message in (
        ({"protocol": "soap"}, "rest, grpc. Received: 'soap'"),
        ({"deadline": 0}, "`deadline`"),
        ({"retries": -1}, "`retries`"),
        ({"batch_rows": 0}, "`batch_rows`"),
    ):
        with pytest.raises(InputError, match=message):
            Client("http://127.0.0.1:1", "digits", **options)
    with pytest.raises(InputError, match="http://"):
        Client("127.0.0.1:1", "digits")


@pytest.mark.parametrize(("protocol", "package"), [("rest", "httpx"), ("grpc", "grpc")])
def test_a_missing_package_is_told(monkeypatch, protocol, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"keras-ae\[client\]"):
        Client("http://127.0.0.1:1", "digits", protocol=protocol)


# --- retries: a server that answers by a list, and a clock that stands still but for what is waited


@pytest.fixture
def scripted(monkeypatch):
    now = [0.0]
    state = SimpleNamespace(answers=[], waits=[], timeouts=[])

    def answer(request):
        state.timeouts.append(request.extensions["timeout"]["read"])
        found = state.answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def sleep(seconds):
        state.waits.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(client_module, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(client_module.random, "uniform", lambda low, high: high)

    def make(*answers, **options):
        state.answers = list(answers)
        made = Client("http://nowhere", "digits", **options)
        made._transport._http = httpx.Client(base_url="http://nowhere", transport=httpx.MockTransport(answer))
        made._signatures = {"encode": {"inputs": {"x": {"shape": [2], "dtype": "float32"}}, "outputs": {"z": {}}}}
        return made

    return make, state


X = np.ones((1, 2))
GOOD = httpx.Response(200, json={"outputs": [[1.0]]})


def refusal(status, **headers):
    return httpx.Response(status, json={"error": "busy"}, headers=headers)


def test_it_tries_again_after_growing_waits_within_its_deadline(scripted):
    make, state = scripted
    client = make(httpx.ConnectError("down"), refusal(503), httpx.ReadError("reset"), GOOD, deadline=10)
    np.testing.assert_array_equal(client.encode(X), [[1.0]])
    assert state.waits == [0.1, 0.2, 0.4]
    assert state.timeouts == pytest.approx([10, 9.9, 9.7, 9.3])


def test_it_waits_as_long_as_the_server_says(scripted):
    make, state = scripted
    make(refusal(429, **{"Retry-After": "2"}), GOOD).encode(X)
    assert state.waits == [2.0]


@pytest.mark.parametrize(
    ("answers", "options", "waits"),
    [
        ([refusal(503)] * 4, {"retries": 3}, [0.1, 0.2, 0.4]),
        ([refusal(503)], {"retries": 0}, []),
        ([refusal(429, **{"Retry-After": "60"})], {"deadline": 10}, []),  # which no answer could keep
        ([httpx.ReadTimeout("slow")] * 9, {"retries": 8, "deadline": 0.5}, [0.1, 0.2]),
    ],
)
def test_it_gives_up(scripted, answers, options, waits):
    make, state = scripted
    with pytest.raises(ServiceError, match=r"No answer in \d tries"):
        make(*answers, **options).encode(X)
    assert state.waits == waits


@pytest.mark.parametrize(("status", "error"), [(400, InputError), (404, InputError), (500, ServiceError)])
def test_what_would_not_change_is_asked_once(scripted, status, error):
    make, state = scripted
    with pytest.raises(error, match="busy"):
        make(refusal(status), GOOD).encode(X)
    assert len(state.answers) == 1


def test_no_server_is_a_service_error():
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for protocol, address in (("rest", f"http://127.0.0.1:{port}"), ("grpc", f"127.0.0.1:{port}")):
        with (
            Client(address, "digits", protocol=protocol, retries=1, deadline=5) as client,
            pytest.raises(ServiceError, match="No answer in"),
        ):
            client.encode(DIGITS[:1])


# --- the messages


def test_messages_are_those_of_tf_serving():
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    inputs = {
        "x": DIGITS[:2],
        "label": np.array([1, -1], "int32"),
        "pixels": np.arange(6, dtype="uint8").reshape(1, 2, 3),
    }
    ours = protos.predict_request("digits", 3, "encode", inputs)
    theirs = predict_pb2.PredictRequest.FromString(ours.SerializeToString())
    assert (theirs.model_spec.name, theirs.model_spec.signature_name) == ("digits", "encode")
    assert theirs.model_spec.version.value == 3
    for name, array in inputs.items():
        np.testing.assert_array_equal(tf.make_ndarray(theirs.inputs[name]), array)
    assert protos.message("PredictRequest").FromString(theirs.SerializeToString()) == ours
    newest = protos.predict_request("digits", None, "encode", inputs)
    assert not predict_pb2.PredictRequest.FromString(newest.SerializeToString()).model_spec.HasField("version")
    log = protos.message("PredictionLog")()
    log.predict_log.request.CopyFrom(ours)
    assert prediction_log_pb2.PredictionLog.FromString(log.SerializeToString()).predict_log.request == theirs
    with pytest.raises(InputError, match=r"must be of float32, int32, uint8\. Received: float64"):
        protos.tensor(np.zeros(2))


def test_tensors_are_read_however_they_are_written():
    import tensorflow as tf

    for array in (DIGITS[:3], np.full((2, 3), 1.5, "float32"), np.array([[7]], "int32")):
        written = tf.make_tensor_proto(array)
        if array.dtype == np.int32:  # one value goes into a field of its own type
            written.ClearField("int_val")
            written.tensor_content = array.tobytes()
        ours = protos.message("Tensor").FromString(written.SerializeToString())
        np.testing.assert_array_equal(protos.array(ours), array)
    one_for_all = protos.message("Tensor")(dtype=1, float_val=[1.0, 2.0])
    for size in (2, 2):
        one_for_all.tensor_shape.dim.add(size=size)
    np.testing.assert_array_equal(protos.array(one_for_all), [[1, 2], [2, 2]])
    with pytest.raises(ValueError, match="DataType 7"):
        protos.array(protos.message("Tensor")(dtype=7))


def test_labels_fill_up_or_are_repeated(scripted):
    make, _ = scripted
    client = make()
    wanted = {"epsilon": {"shape": [2], "dtype": "float32"}, "label": {"shape": [], "dtype": "int32"}}
    epsilon = np.zeros((3, 2))
    for given, expected in (
        ({}, [-1, -1, -1]),
        ({"label": 2}, [2, 2, 2]),
        ({"label": [0, 1, 2]}, [0, 1, 2]),
        ({"label": "dog"}, ["dog"] * 3),
    ):
        assert client._arrays(wanted, "generate", {"epsilon": epsilon, **given})["label"].tolist() == expected
    with pytest.raises(InputError, match="one a row: 3"):
        client._arrays(wanted, "generate", {"epsilon": epsilon, "label": [1]})


def test_the_order_of_a_signatures_inputs_does_not_matter(rest_address, model):
    with Client(rest_address, "digits") as digits:
        for function in digits.signatures.values():
            function["inputs"] = dict(reversed(function["inputs"].items()))
        assert next(iter(digits.signatures["generate"]["inputs"])) == "label"
        np.testing.assert_allclose(digits.generate(4, 7, seed=3), model.generate(4, 7, seed=3), 1e-5, 1e-5)
