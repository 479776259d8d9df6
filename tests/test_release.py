"""What is released: the wheel holds every module, and runs an artifact in an environment that has nothing else."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_ae import runtime

ROOT = Path(__file__).parents[1]
UV = str(Path(sys.executable).with_name("uv"))
_SCRIPT = """
import importlib.util, sys
import numpy as np
import keras_ae
from keras_ae import runtime

folder, artifact = sys.argv[1:]
assert "site-packages" in keras_ae.__file__, keras_ae.__file__
for name in ("tensorflow", "keras", "onnx", "sklearn", "pyarrow", "starlette", "httpx"):
    assert importlib.util.find_spec(name) is None, name
model = runtime.load(artifact)
given = np.load(f"{folder}/given.npz")
for function in model.signatures:
    inputs = {key.split(".")[1]: given[key] for key in given if key.startswith(f"{function}.")}
    for name, found in model.run(function, inputs).items():
        np.testing.assert_allclose(found, np.load(f"{folder}/{function}_{name}.npy"), rtol=1e-5, atol=1e-5)
try:
    model.encode(np.zeros((2, 63)))
except ValueError as error:
    assert "(batch, 64)" in str(error)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([UV, "build", "--quiet", "--out-dir", folder, ROOT], check=True)  # the wheel from the sdist
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_licence(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "keras_ae").rglob("*.py")}
    modules |= {f"keras_ae/export/{path.name}" for path in (ROOT / "export").glob("*.py")}
    assert modules - held == set()
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in held)
    assert {"keras_ae/py.typed", "keras_ae/report/page.css"} <= held
    if (ROOT / "keras_ae/web/index.html").exists():
        assert {"keras_ae/web/index.html", "keras_ae/web/licenses.txt"} <= held


@pytest.mark.slow
def test_the_wheel_runs_where_nothing_else_is(wheel, digits_artifact, tmp_path):
    environment = tmp_path / "empty"
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, environment], check=True)
    python = environment / "bin/python"
    subprocess.run([UV, "pip", "install", "--quiet", "--python", python, wheel], check=True)
    model = runtime.load(digits_artifact)
    given = {}
    for function in model.signatures:
        inputs = model._inputs(function, model.example(function, 5))
        given |= {f"{function}.{name}": array for name, array in inputs.items()}
        for name, array in model.run(function, inputs).items():
            np.save(tmp_path / f"{function}_{name}.npy", array)
    np.savez(tmp_path / "given.npz", **given)
    done = subprocess.run(
        [python, "-c", _SCRIPT, tmp_path, digits_artifact], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    np.savetxt(tmp_path / "rows.csv", load_digits().data[:5], delimiter=",")
    command = [environment / "bin/keras-ae", "score", digits_artifact, "rows.csv", "--out", "scores.csv"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "scores.csv").read_text().startswith("score,p_value\n")
    done = subprocess.run([*command[:1], "fit", "digits", "--out", "x"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "keras-ae[train]" in done.stderr


@pytest.mark.skipif(not (ROOT / "keras_ae/web/index.html").exists(), reason="the page is not built")
def test_the_page_brings_the_licences_of_what_it_is_made_of():
    packages = json.loads((ROOT / "web/package-lock.json").read_text())["packages"]
    shipped = {
        f"{folder.rpartition('node_modules/')[2]} {of['version']} ({of['license']})"
        for folder, of in packages.items()
        if folder and not {"dev", "optional", "peer"} & of.keys()
    }
    texts = (ROOT / "keras_ae/web/licenses.txt").read_text(encoding="utf-8")
    assert set(re.findall(r"^[@\w][\w@/.-]* [\d.]+ \([\w.-]+\)$", texts, re.MULTILINE)) == shipped
    assert "onnxruntime-web" in texts
    assert "Microsoft Corporation" in texts
