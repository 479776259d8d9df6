"""What functions take and give by the manifest, beside the graphs themselves."""

import onnxruntime
import pytest

from keras_ae.artifact import read_manifest
from keras_ae.signatures import DEFAULT, signatures

_TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8", "tensor(int32)": "int32"}


def test_they_are_those_of_the_graphs(digits_artifact):
    manifest = read_manifest(digits_artifact)
    known = signatures(manifest)
    assert list(known) == manifest["functions"]
    for function, sides in known.items():
        session = onnxruntime.InferenceSession(digits_artifact / f"onnx/float32/{function}.onnx")
        for side, tensors in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
            assert sides[side] == {
                tensor.name: {"shape": tensor.shape[1:], "dtype": _TYPES[tensor.type]} for tensor in tensors
            }


@pytest.fixture
def older():
    return {
        "input": {"shape": [8, 8], "dtype": "uint8"},
        "latent_shape": [2, 3],
        "calibration_rows": 0,
        "functions": ["encode", "decode", "reconstruct", "score", "generate"],
    }


def test_an_older_manifest_gives_them_too(older):
    known = signatures(older)
    assert known[DEFAULT]["inputs"] == {"x": {"shape": [8, 8], "dtype": "uint8"}}
    assert known[DEFAULT]["outputs"] == {"x_hat": {"shape": [8, 8], "dtype": "float32"}}
    assert known["generate"]["inputs"] == {"epsilon": {"shape": [6], "dtype": "float32"}}
    assert list(known["score"]["outputs"]) == ["score"]


def test_labels_are_where_there_are_classes(older):
    labelled = {**older, "classes": ["a", "b"], "functions": [*older["functions"], "classify"], "epsilon_dim": 9}
    known = signatures(labelled)
    label = {"shape": [], "dtype": "int32"}
    assert known["generate"]["inputs"] == {"epsilon": {"shape": [9], "dtype": "float32"}, "label": label}
    assert known["classify"]["outputs"] == {"probability": {"shape": [2], "dtype": "float32"}}
    assert list(known["decode"]["inputs"]) == ["z"]
    assert signatures({**labelled, "conditional": True})["decode"]["inputs"]["label"] == label
