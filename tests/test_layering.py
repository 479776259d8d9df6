"""Arrows point one way, and what runs without TensorFlow imports without it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import keras_ae

PACKAGE = Path(keras_ae.__file__).parent
ROOT = PACKAGE.parent

# Each part may import those before it; what stands in one tuple must not import each other.
LAYERS = [
    ("errors", "processor", "progress", "quiet", "shuffling", "signatures", "streaming"),
    ("data", "workers"),
    ("replicas",),
    (
        "alarms",
        "artifact",
        "config",
        "doctor",
        "evaluation",
        "frames",
        "layers",
        "protos",
        "sessions",
        "views",
    ),
    ("interface", "parts"),
    (
        "composition",
        "families",
        "networks",
        "priors",
        "loop",
        "callbacks",
        "provenance",
        "runtime",
        "runs",
        "sharing",
        "starter",
        "state",
    ),
    ("functions", "likelihood", "recipes", "resident"),
    ("finishing",),
    ("bench", "client", "explore", "inputs", "judging", "models", "serving"),
    ("files", "monitoring"),
    ("export", "bfloat16", "report", "checkpoints", "divergence"),
    ("building", "labelling"),
    ("training", "tracking"),
    ("preparation",),
    ("storage",),
    ("pipeline",),
    ("estimator",),
    ("distributed", "sklearn"),
    ("cli",),
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
WITHOUT_TENSORFLOW = [
    f"keras_ae{name}"
    for name in (
        "",
        ".alarms",
        ".artifact",
        ".bench",
        ".cli",
        ".client",
        ".config",
        ".data",
        ".distributed",
        ".doctor",
        ".explore",
        ".files",
        ".inputs",
        ".monitoring",
        ".protos",
        ".recipes",
        ".runs",
        ".runtime",
        ".serving",
        ".sessions",
        ".starter",
    )
]


def _parts():
    for folder in (PACKAGE, ROOT / "export"):
        for path in folder.rglob("*.py"):
            inside = ("export",) if folder.name == "export" else path.relative_to(PACKAGE).parts
            yield path, inside[0].removesuffix(".py")


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "keras_ae":
            names = node.module.split(".")[1:2] or [alias.name for alias in node.names]
            yield from names
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("keras_ae."))


def test_every_file_belongs_to_a_layer():
    assert {part for _, part in _parts()} - set(RANK) == {"__init__", "__main__"}


@pytest.mark.parametrize(("path", "part"), [(p, n) for p, n in _parts() if n in RANK], ids=lambda v: str(v)[-30:])
def test_arrows_point_one_way(path, part):
    for imported in _imports(path):
        if imported in RANK and imported != part:
            assert RANK[imported] < RANK[part], f"{path.name} ({part}) imports {imported}"


def test_keras_loads_a_model_after_importing_the_package_alone(digits_artifact):
    script = f"""
import keras, keras_ae
import numpy as np
model = keras.models.load_model({str(digits_artifact / "model.keras")!r})
before = model.encode(np.ones((1, 64)))
assert np.isclose(float(model.optimizer.learning_rate), 1e-3)
model.fit(np.random.default_rng(0).random((64, 64), dtype="float32"), verbose=0)
print(type(model).__name__, np.array_equal(before, model.encode(np.ones((1, 64)))))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["Autoencoder", "False"], done.stderr


def test_what_runs_without_tensorflow_imports_without_it():
    script = f"""
import importlib, sys
for name in ("tensorflow", "keras", "sklearn", "onnx", "tf2onnx", "pyarrow", "PIL"):
    sys.modules[name] = None  # an import of it raises
for name in {WITHOUT_TENSORFLOW}:
    importlib.import_module(name)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
