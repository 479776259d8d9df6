"""Programs of docs/deploy.md in other languages: the page shows the very files; they give what the runtime gives."""

import csv
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from sklearn.datasets import load_digits

from keras_ae import runtime
from keras_ae.data.cells import MISSING
from keras_ae.data.values import FALSE, TRUE

ROOT = Path(__file__).parents[1]
PROGRAMS = ROOT / "examples/deploy"
DIGITS = load_digits().data[:1100].astype("float32")  # more than one batch
HEADERS = [folder for parent in ("/usr", "/usr/local") if (folder := Path(parent, "include/onnxruntime")).is_dir()]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    np.savetxt(path, DIGITS, delimiter=",", fmt="%g", header=",".join(f"pixel {i}" for i in range(64)), comments="")
    return path


@pytest.fixture(scope="module")
def cpp(tmp_path_factory):
    if shutil.which("g++") is None or not HEADERS:
        pytest.skip("no g++, or no headers of ONNX Runtime (Debian's libonnxruntime-dev)")
    folder = tmp_path_factory.mktemp("cpp")
    (shared,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    library = folder / "libonnxruntime.so.1"
    library.symlink_to(shared)
    warnings = ["-Wall", "-Wextra", "-Werror"]
    build = ["g++", "-std=c++17", *warnings, f"-I{HEADERS[0]}", PROGRAMS / "run.cc", library, f"-Wl,-rpath,{folder}"]
    subprocess.run([*build, "-o", folder / "run"], check=True)
    return [folder / "run"]


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", ["node", "cpp"])
def test_a_program_gives_what_the_runtime_gives(program, request, digits_artifact, rows):
    command = request.getfixturevalue(program)
    model = runtime.load(digits_artifact)
    done = run(*command, digits_artifact, rows)
    assert done.returncode == 0, done.stderr
    header, *lines = csv.reader(done.stdout.splitlines())
    assert header == ["score", "p_value"]
    expected = model.score(DIGITS)
    np.testing.assert_allclose(np.array(lines, float), np.stack([expected[k] for k in header], axis=1), rtol=1e-4)
    header, *lines = csv.reader(run(*command, digits_artifact, rows, "encode").stdout.splitlines())
    assert header == [f"z_{i}" for i in range(8)]
    np.testing.assert_allclose(np.array(lines, float), model.encode(DIGITS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("program", ["node", "cpp"])
def test_a_program_says_what_it_can_not_use(program, request, digits_artifact, tmp_path):
    command = request.getfixturevalue(program)
    bad = tmp_path / "bad.csv"
    cells = [["1"] * 64, ["1"] * 63 + ["much"]]
    bad.write_text("\n".join(",".join(row) for row in cells))
    done = run(*command, digits_artifact, bad)
    assert (done.returncode, done.stdout) == (2, "")
    assert "bad.csv, " in done.stderr
    bad.write_text("")
    assert "holds no rows" in run(*command, digits_artifact, bad).stderr
    assert "usage" in run(*command).stderr
    assert run(*command, digits_artifact, bad, "generate").returncode == 2


@pytest.mark.parametrize("program", ["examples/deploy/run.mjs", "web/src/cells.ts"])
def test_programs_know_the_words_that_python_knows(program):
    text = (ROOT / program).read_text(encoding="utf-8")
    for name, known in (("MISSING", MISSING), ("TRUE", TRUE), ("FALSE", FALSE)):
        assert set(json.loads(re.search(rf"const {name} = new Set\((\[.*\])\)", text)[1])) == known


def test_the_page_shows_the_very_files():
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    for name, language in (("run.mjs", "js"), ("run.cc", "cpp"), ("package.json", "json")):
        assert f"```{language}\n{(PROGRAMS / name).read_text(encoding='utf-8')}```" in page, name
