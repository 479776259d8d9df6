"""What each function of an artifact takes and gives, by name: shapes and dtypes, from its manifest."""

import math
from typing import Any

DEFAULT = "reconstruct"
"""The function of a request that names none, as `serving_default` of a SavedModel is."""
DEFAULT_NAMES = ("", "serving_default")
"""What TF Serving's clients call that function."""
TF_TYPES = {"float32": "DT_FLOAT", "int32": "DT_INT32", "uint8": "DT_UINT8"}
"""What TF Serving calls the dtypes of tensors."""

Signatures = dict[str, dict[str, dict[str, dict[str, Any]]]]
"""{function: {"inputs" or "outputs": {name: {"shape": without the batch, "dtype": ...}}}}"""


def signatures(manifest: dict[str, Any]) -> Signatures:
    """The signatures of the functions that a manifest names."""
    x = {"shape": list(manifest["input"]["shape"]), "dtype": manifest["input"]["dtype"]}
    x_hat, z, row = _float32(manifest["input"]["shape"]), _float32(manifest["latent_shape"]), _float32([])
    noise = _float32([manifest.get("epsilon_dim", math.prod(manifest["latent_shape"]))])
    classes = manifest.get("classes") or []
    label = {"label": {"shape": [], "dtype": "int32"}} if classes else {}
    every: Signatures = {
        "encode": {"inputs": {"x": x}, "outputs": {"z": z}},
        "decode": {"inputs": {"z": z, **(label if manifest.get("conditional") else {})}, "outputs": {"x": x_hat}},
        "reconstruct": {"inputs": {"x": x}, "outputs": {"x_hat": x_hat}},
        "score": {
            "inputs": {"x": x},
            "outputs": {"score": row, **({"p_value": row} if manifest.get("calibration_rows") else {})},
        },
        "explain": {"inputs": {"x": x}, "outputs": {"contribution": x_hat}},
        "classify": {"inputs": {"x": x}, "outputs": {"probability": _float32([len(classes)])}},
        "generate": {"inputs": {"epsilon": noise, **label}, "outputs": {"x": x_hat}},
    }
    return {name: every[name] for name in manifest["functions"]}


def _float32(shape: list[int]) -> dict[str, Any]:
    return {"shape": list(shape), "dtype": "float32"}
