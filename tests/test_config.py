"""The first hour: a config file for all that fit takes, a project that works as it stands, and what is missing here."""

import csv
import importlib.metadata
import json
import subprocess
import sys
import tomllib

import pytest

from keras_ae.config import config_of, read_config
from keras_ae.doctor import diagnose
from keras_ae.errors import InputError


def test_a_project_works_as_it_stands_and_its_config_comes_back(run, tmp_path, monkeypatch):
    code, out, _ = run("init", tmp_path / "orders")
    assert code == 0
    assert "next: make" in out
    monkeypatch.chdir(tmp_path / "orders")
    code, _, err = run("fit", "--config", "fit.toml", "--epochs", 20, "--option", "hidden=[32]", "--no-report")
    assert code == 0, err
    artifact = "saved_models/orders"
    assert run("score", artifact, "new.csv", "--out", "scores.csv")[0] == 0

    # As the Makefile does, with what `keras-ae` brings alone.
    assert "python -m unittest -q test_model\n" in (tmp_path / "orders/Makefile").read_text()
    tests = subprocess.run(
        [sys.executable, "-m", "unittest", "test_model"], capture_output=True, text=True, check=False
    )
    assert tests.returncode == 0, tests.stderr
    assert "Ran 2 tests" in tests.stderr

    code, out, _ = run("info", artifact, "--config")
    assert code == 0
    config = tomllib.loads(out)
    assert config["source"] == "orders.csv"
    assert (config["epochs"], config["seed"], config["options"]) == (20, 0, {"hidden": [32]})
    assert config["schema"]["zip"] == "categorical"
    (tmp_path / "again.toml").write_text(out)
    again = read_config(tmp_path / "again.toml", {*config} - {"options"})
    assert again["option"] == ["hidden=[32]"]
    assert json.loads(again["schema"]) == config["schema"]
    code, _, err = run("init", ".")
    assert code == 2
    assert "new or empty. Received: one that holds something" in err


def test_what_is_on_the_command_line_goes_before_the_file(run, tmp_path):
    (tmp_path / "fit.toml").write_text(f'source = "digits"\nout = "{tmp_path}/a"\nrecipe = "vea"\n')
    code, _, err = run("fit", "--config", tmp_path / "fit.toml", "--epochs", "0")
    assert (code, "'vea'" in err) == (2, True)
    code, _, err = run("fit", "gone.csv", "--recipe", "ae", "--config", tmp_path / "fit.toml")
    assert (code, "gone.csv" in err) == (2, True)


def test_a_config_tells_how_cells_are_read(tmp_path):
    given = {"day": {"kind": "datetime", "format": "%d/%m/%Y"}, "pay": {"kind": "numeric", "transform": "quantile"}}
    columns = [{"name": name, **of, "shift": 2.5} for name, of in given.items()]
    columns += [{"name": "zip", "kind": "categorical", "levels": ["a"]}]
    manifest = {"asked": {"options": {}}, "source": "x.csv", "table": {"columns": columns}}
    (tmp_path / "x.toml").write_text(config_of(manifest))
    again = read_config(tmp_path / "x.toml", ["source", "schema"])
    assert json.loads(again["schema"]) == {**given, "zip": "categorical"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("epoch = 3", "'epoch'"),
        ("epochs = ", "TOML"),
        ("options = [1]", r"\[options\] must be a table"),
        ("option = ['a=1']", "'option'"),
    ],
)
def test_a_config_of_no_use_is_refused(tmp_path, text, said):
    (tmp_path / "fit.toml").write_text(text)
    with pytest.raises(InputError, match=said):
        read_config(tmp_path / "fit.toml", ["epochs", "option", "config"])


def test_an_artifact_of_another_making_has_no_config():
    with pytest.raises(InputError, match="keras-ae fit"):
        config_of({"source": "digits"})


def test_the_doctor_names_versions_devices_and_what_is_missing(run, monkeypatch):
    found = diagnose(with_tensorflow=False)
    assert found.packages["numpy"]
    assert found.devices is None
    assert "CPUExecutionProvider" in found.providers
    assert found.extras["train"] == ()
    code, out, _ = run("doctor", "--no-tensorflow", "--json")
    assert code == 0
    assert json.loads(out)["packages"] == found.packages

    known = importlib.metadata.version

    def version(name):
        if name == "tensorflow":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.26.0" if name == "onnxruntime-gpu" else known(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    without = diagnose()
    assert any("onnxruntime and onnxruntime-gpu fill one folder" in note for note in without.notes)
    assert without.extras["train"] == ("tensorflow",)
    assert any("keras-ae[train]" in note for note in without.notes)
    assert "missing tensorflow" in str(without)


def test_a_projects_rows_are_what_its_page_says(tmp_path):
    from keras_ae.starter import start_project

    start_project(tmp_path / "new")
    with (tmp_path / "new/orders.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 600
    assert {row["kind"] for row in rows} == {"book", "garden", "music"}
    assert any(not row["age"] for row in rows)
