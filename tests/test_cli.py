"""The command line as a user meets it: files in, files out, and one line on stderr for each mistake."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import keras_ae
from keras_ae import cli, runs
from keras_ae.data import read_rows, write_rows

COLUMNS = ("age", "height", "weight", "pulse")
FIT = ("--epochs", 2, "--latent-dim", 2, "--option", "hidden=[8]", "--seed", 7, "--no-report")
ENDINGS = ("npy", "npz", "csv", "parquet")


def table(rows=200, seed=0):
    """Four columns of two hidden causes, and some noise."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(rows, 2)) @ [[1.0, 2, 0, 1], [0, 1, 3, -1]] + 0.1 * random.normal(size=(rows, 4))
    return (mixed + np.array([40, 170, 70, 60])).astype("float32")


def contents(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture
def done(run):
    """Runs a command that must succeed; gives its stdout."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert code == 0, err
        return out

    return call


@pytest.fixture
def refused(run):
    """Runs a command that must be refused: exit 2, nothing on stdout and one line on stderr, which it gives."""

    def call(*arguments):
        code, out, err = run(*arguments)
        assert (code, out) == (2, ""), err
        (line,) = err.splitlines()
        assert line.startswith("keras-ae: ")
        return line

    return call


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A CSV with a header; a fitted artifact of it beside it, and what `fit --json` printed."""
    folder = tmp_path_factory.mktemp("people")
    write_rows(folder / "people.csv", {"x": table()}, COLUMNS)
    return folder / "people.csv"


@pytest.fixture(scope="session")
def people_fit(people):
    """Fitted through the command line in this process; what `fit --json` printed on stdout."""
    out = people.parent / "artifact"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["keras-ae", "fit", str(people), "--out", str(out), "--json", *map(str, FIT)])
        printed = []
        patch.setattr(cli.typer, "echo", lambda text, err=False: err or printed.append(text))
        with pytest.raises(SystemExit) as exit_:
            cli.main()
    assert not exit_.value.code
    return printed


@pytest.fixture(scope="session")
def artifact(people, people_fit):
    return people.parent / "artifact"


# fit


def test_fit_prints_one_json_object_with_all_figures(people, people_fit, artifact):
    (text,) = people_fit
    summary = json.loads(text)
    assert summary["artifact"] == str(artifact)
    assert summary["recipe"] == "vae"
    assert summary["latent_dim"] == 2
    assert summary["seconds"] > 0
    assert set(summary["metrics"]) == {"rmse_train", "rmse_validation", "rmse_test", "rmse_test_pca"}
    assert all(value > 0 for value in summary["metrics"].values())
    assert {name: part["rows"] for name, part in summary["splits"].items()} == {
        "train": 140,
        "validation": 20,
        "calibration": 20,
        "test": 20,
    }
    assert set(summary["exports"]) == {"saved_model", "onnx"}
    for figures in summary["exports"].values():
        assert 0 <= figures["max_abs_diff"] < 1e-2  # of weights near 70, at 1e-5 relative
        assert set(figures["functions"]) == {"encode", "decode", "reconstruct", "score", "explain", "generate"}


def test_an_interrupted_fit_goes_on_when_asked_and_gives_the_same_metrics(
    people, people_fit, tmp_path, run, monkeypatch
):
    fit = ("fit", people, "--out", tmp_path / "a", "--json", *FIT)
    with monkeypatch.context() as patch:
        due = runs.Run.due
        patch.setattr(runs.Run, "due", lambda *args: os.kill(os.getpid(), signal.SIGTERM) or due(*args))
        code, out, err = run(*fit)
    assert (code, out) == (75, "")
    assert re.search(
        r"^keras-ae: Stopped by SIGTERM; \S+a.run holds .* until epoch .*--resume goes on", err, re.MULTILINE
    )
    assert os.listdir(tmp_path) == ["a.run"]

    code, out, err = run(*fit)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"keras-ae: \S+a.run holds checkpoints .* --resume .* --no-resume .*\n", err)
    code, out, err = run(*fit, "--resume", "--batch-size", 5)
    assert (code, out) == (2, "")
    assert "batch_size 5, there null" in err

    code, out, err = run(*fit, "--resume")
    assert code == 0
    assert "going on after epoch" in err
    first, again = json.loads(people_fit[0]), json.loads(out)
    assert again["metrics"] == first["metrics"]
    assert again["splits"] == first["splits"]
    assert os.listdir(tmp_path) == ["a"]


def test_fit_tells_stages_and_notes_on_stderr_and_figures_on_stdout(tmp_path, run):
    x = table(100)
    x[:, 1] = 5
    x[50:] = x[:50]
    write_rows(tmp_path / "x.csv", {"x": x}, COLUMNS)
    # Three latents for what varies in three columns: no error is left, which exports must agree about too.
    code, out, err = run("fit", tmp_path / "x.csv", "--out", tmp_path / "a", "--recipe", "linear", "--latent-dim", 3)
    assert code == 0, err
    assert re.search(r"RMSE on unseen rows +[\d.e-]+ \(PCA: [\d.e-]+\)", out)
    assert "keras-ae info" in out
    assert f"{tmp_path / 'a' / 'report.html'}\n" in out
    assert "a: report" in (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "training linear on 70 rows of 4 columns: 4 numeric\n" in err
    assert "note: 1 constant column in the training rows: height" in err
    assert re.search(r"note: \d+ of 10 test rows also occur in an earlier split", err)
    assert "files unchanged" in run("verify", tmp_path / "a").stdout


# Running an artifact


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_function_writes_each_kind_of_file(artifact, people, tmp_path, done, ending):
    model = keras_ae.runtime.load(artifact)
    x = table()
    z = model.encode(x)
    write_rows(tmp_path / "z.npy", {"z": z})
    score = model.score(x)
    expected = {
        "encode": (people, z, ("z0", "z1")),
        "decode": (tmp_path / "z.npy", model.decode(z), COLUMNS),
        "reconstruct": (people, model.reconstruct(x), COLUMNS),
        "score": (people, np.column_stack([score["score"], score["p_value"]]), ("score", "p_value")),
    }
    for function, (source, values, columns) in expected.items():
        out = tmp_path / f"{function}.{ending}"
        assert done(function, artifact, source, "--out", out) == ""
        if ending == "npz" and function == "score":
            with np.load(out) as arrays:
                np.testing.assert_array_equal(np.column_stack([arrays["score"], arrays["p_value"]]), values)
            continue
        rows = read_rows(out)
        np.testing.assert_array_equal(rows.x, values)
        if ending in ("csv", "parquet"):
            assert rows.columns == columns
    assert ((score["p_value"] > 0) & (score["p_value"] <= 1)).all()


@pytest.mark.parametrize("ending", ENDINGS)
def test_generate_gives_the_same_rows_for_the_same_seed(artifact, tmp_path, done, ending):
    first, again, other = (tmp_path / f"{name}.{ending}" for name in ("first", "again", "other"))
    for out, seed in ((first, 3), (again, 3), (other, 4)):
        done("generate", artifact, "--n", 5, "--seed", seed, "--out", out)
    assert read_rows(first).x.shape == (5, 4)
    np.testing.assert_array_equal(read_rows(first).x, read_rows(again).x)
    assert not np.array_equal(read_rows(first).x, read_rows(other).x)


def test_keras_and_the_command_line_generate_the_same_rows(artifact, tmp_path, done):
    done("generate", artifact, "-n", 6, "--seed", 1, "-o", tmp_path / "x.npy")
    model = keras_ae.load(artifact)
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), model.generate(6, seed=1), rtol=1e-5)


def test_without_a_seed_rows_are_new_each_time(artifact, tmp_path, done):
    for name in ("a.npy", "b.npy"):
        done("generate", artifact, "--n", 3, "--out", tmp_path / name)
    assert not np.array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_are_found_by_name_in_any_order(artifact, people, tmp_path, done, ending):
    done("encode", artifact, people, "--out", tmp_path / "z.npy")
    write_rows(tmp_path / f"mixed.{ending}", {"x": table()[:, ::-1]}, COLUMNS[::-1])
    done("encode", artifact, tmp_path / f"mixed.{ending}", "--out", tmp_path / "mixed.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "mixed.npy"), np.load(tmp_path / "z.npy"))


def test_a_column_that_misses_or_is_new_is_named(artifact, tmp_path, refused):
    write_rows(tmp_path / "few.csv", {"x": table()[:, :3]}, COLUMNS[:3])
    assert "misses column pulse" in refused("encode", artifact, tmp_path / "few.csv", "--out", tmp_path / "z.npy")
    more = np.column_stack([table(), table()[:, 0]])
    write_rows(tmp_path / "more.csv", {"x": more}, (*COLUMNS, "shoe"))
    assert re.search(r"has.* column shoe", refused("encode", artifact, tmp_path / "more.csv", "-o", tmp_path / "z.npy"))
    assert not (tmp_path / "z.npy").exists()


# info, verify, export, recipes


def test_functions_of_labels_need_a_model_that_learned_some(artifact, people, tmp_path, refused):
    for arguments in (("classify", artifact, people), ("generate", artifact, "-n", 2, "--label", 1)):
        assert "trained with labels" in refused(*arguments, "--out", tmp_path / "p.npy")


def test_info_shows_the_manifest(artifact, done):
    out = done("info", artifact)
    for words in ("float32 (batch, 4)", "age, height, weight, pulse", "rmse_test ", "onnx", "saved_model", "encode"):
        assert words in out
    assert json.loads(done("info", artifact, "--json")) == json.loads((artifact / "manifest.json").read_text())


def test_verify_compares_the_exports_again(digits_artifact, done):
    assert "files unchanged" in done("verify", digits_artifact)
    result = json.loads(done("verify", digits_artifact, "--json"))
    assert result["files"] == len(json.loads((digits_artifact / "manifest.json").read_text())["files"])
    for kind in ("saved_model", "onnx"):
        assert result["exports"][kind]["max_rel_diff"] <= 1e-5


def test_verify_names_what_was_changed(artifact, tmp_path, refused):
    copy = Path(shutil.copytree(artifact, tmp_path / "copy"))
    with (copy / "onnx/float32/score.onnx").open("ab") as file:
        file.write(b"\0")
    assert "score.onnx was changed" in refused("verify", copy)


def test_onnx_is_exported_into_a_folder_of_its_own_and_a_single_file_runs_alone(digits_artifact, tmp_path, done):
    result = json.loads(
        done("export", digits_artifact, "--to", "onnx", "--single-file", "--out", tmp_path / "o", "--json")
    )
    assert result["export"]["max_rel_diff"] <= 1e-5
    folder = tmp_path / "o/onnx/float32"
    assert {path.suffix for path in folder.iterdir()} == {".onnx"}
    x = read_digits()[:5]
    alone = (folder / "reconstruct.onnx").rename(tmp_path / "alone.onnx")
    shutil.rmtree(folder)
    (x_hat,) = onnxruntime.InferenceSession(alone).run(None, {"x": x})
    # Graphs may be fused another way with their weights inside: float32 of pixels up to 16.
    np.testing.assert_allclose(x_hat, keras_ae.runtime.load(digits_artifact).reconstruct(x), rtol=1e-5, atol=1e-5)


def read_digits():
    return keras_ae.data.load_source("digits").rows.x


def test_a_saved_model_is_exported_beside_the_artifact_by_default(artifact, tmp_path, done):
    import tensorflow as tf

    copy = Path(shutil.copytree(artifact, tmp_path / "a"))
    assert "saved_model agrees with Keras" in done("export", copy, "--to", "saved_model")
    loaded = tf.saved_model.load(str(tmp_path / "a-saved_model" / "saved_model" / "1"))
    z = loaded.signatures["encode"](x=tf.constant(table()))["z"]
    np.testing.assert_allclose(z, keras_ae.runtime.load(artifact).encode(table()), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_precision_that_is_refused_is_noted_and_the_fit_goes_on(people, tmp_path, run):
    code, out, err = run("fit", people, "--out", tmp_path / "a", "--precision", "int8", *FIT)
    assert code == 0
    assert "note: no int8: static: its files are no smaller than those of float32" in err
    assert "int8" not in out
    assert re.search(r"int8 +refused: static: its files are no smaller", run("info", tmp_path / "a")[1])
    before = contents(tmp_path)
    options = ("--precision", "int8", "--source", people, "--out", tmp_path / "o")
    code, out, err = run("export", tmp_path / "a", "--to", "onnx", *options)
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("keras-ae: int8 is not worth it here: static: its files")
    assert contents(tmp_path) == before


def test_a_precision_is_added_to_the_artifact_and_shown(digits_artifact, tmp_path, done, monkeypatch):
    from keras_ae.export import precision

    functions = json.loads(done("info", digits_artifact, "--json"))["functions"]
    even = {name: {"1": 0.5, "64": 0.25} for name in functions}
    monkeypatch.setattr(
        precision, "_seconds", lambda folders, _: {f: {"seconds": even, "time_ratio": even} for f in folders}
    )
    copy = Path(shutil.copytree(digits_artifact, tmp_path / "a"))
    shown = "2.0 times as fast as float32 for one row and 4.0 times for 64"
    assert shown in done("export", copy, "--to", "onnx", "--precision", "float16")
    assert shown in done("info", copy)
    assert "float16" in done("verify", copy)


def test_every_recipe_is_listed_with_its_paper(done):
    from keras_ae.recipes import RECIPES

    lines = done("recipes").splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    listed = json.loads(done("recipes", "--json"))
    assert listed["vae"]["paper"] in lines[list(RECIPES).index("vae")]
    assert "beta" in listed["beta_vae"]["options"]


def test_recipes_are_known_without_tensorflow(done, refused, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # an import of it raises
    assert done("recipes").startswith("ae ")
    assert "'vea'" in refused("fit", "digits", "--recipe", "vea", "--out", tmp_path / "a")


def test_version_and_help_are_told(run):
    assert run("--version") == (0, f"keras-ae {keras_ae.__version__}\n", "")
    code, out, err = run("--help")
    assert (code, err) == (0, "")
    for command in ("fit", "recipes", "info", "verify", "encode", "decode", "reconstruct", "score", "generate"):
        assert re.search(rf"^  {command} ", out, re.MULTILINE)
    assert "...\n" not in out.partition("Commands:")[2]  # each line is whole
    assert run()[1] == out


# What is refused


def write(path, x, columns=None):
    write_rows(path, {"x": x}, columns)
    return path


def with_nan(x):
    x[2, 1] = np.nan
    return x


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["fit"], ["Missing argument", "source"]),
        (["fit", "digits"], ["Missing option", "--out"]),
        (["fit", "digits", "--out", "a", "--epoch", "3"], ["No such option", "--epoch"]),
        (["fit", "digits", "--out", "a", "--epochs", "three"], ["--epochs", "three"]),
        (["fit", "digits", "--out", "a", "--epochs", "-1"], ["`epochs`", "-1"]),
        (["fit", "digits", "--out", "a", "--batch-size", "0"], ["`batch_size`", "0"]),
        (["fit", "digits", "--out", "a", "--latent-dim", "0"], ["`latent_dim`", "0"]),
        (["fit", "digits", "--out", "a", "--latent-dim", "65"], ["`latent_dim`", "64", "65"]),
        (["fit", "digits", "--out", "a", "--seed", "-1"], ["--seed", "greater than or equal to 0", "Received: -1."]),
        (["fit", "digits", "--out", "a", "--recipe", "gan"], ["recipe", "'gan'", "vae"]),
        (["fit", "digits", "--out", "a", "--network", "mlp"], ["network", "'mlp'", "dense"]),
        (["fit", "digits", "--out", "a", "--option", "bta=2"], ["option", "'bta'", "beta"]),
        (["fit", "digits", "--out", "a", "--option", "beta"], ["NAME=VALUE", "'beta'"]),
        (["fit", "digits", "--out", "a", "--option", "hidden=five"], ["whole numbers", "'five'"]),
        (["fit", "digits", "--out", "a", "--option", "seed=5"], ["--option", "'seed'"]),
        (["fit", "digits", "--out", "a", "--option", "callbacks=[]"], ["--option", "'callbacks'"]),
        (
            ["fit", "digits", "--out", "a", "--on-divergence", "hope"],
            ["on_divergence", "'hope'", "lower_learning_rate"],
        ),
        (["fit", "digits", "--out", "a", "--checkpoint-steps", "0"], ["--checkpoint-steps", "0"]),
        (["fit", "digitz", "--out", "a"], ["digitz", "digits"]),
        (["fit", "digits", "--out", "file"], ["new, empty or an artifact", "file"]),
        (["fit", "digits", "--out", "file/a"], ["could not be written", "file/a"]),
        (["fit", "digits", "--out", "other"], ["new, empty or an artifact", "other"]),
        (["fit", "one.csv", "--out", "a"], ["one.csv", "at least 10 rows", "1"]),
        (["fit", "same.csv", "--out", "a"], ["same.csv", "differ", "20"]),
        (["encode", "ARTIFACT", "nan.csv", "--out", "z.npy"], ["nan.csv", "row 2", "column height", "finite"]),
        (["fit", "text.csv", "--out", "a"], ["text.csv", "line 22", "column b", "'x'"]),
        (["fit", "text.csv", "--out", "a", "--drop", "c"], ["text.csv", "column 'c'", "a, b"]),
        (["fit", "text.csv", "--out", "a", "--schema", "file"], ["text.csv", "line 22"]),
        (["fit", "text.csv", "--out", "a", "--schema", "text.csv"], ["text.csv", "JSON"]),
        (["fit", "text.csv", "--out", "a", "--stride", "2"], ["--window"]),
        (["fit", "one.csv", "--out", "a", "--window", "30"], ["30 rows in a row"]),
        (["fit", "digits", "--out", "a", "--drop", "c"], ["of a table"]),
        (["fit", "header.csv", "--out", "a"], ["header.csv", "no rows"]),
        (["fit", "negative.npy", "--out", "a", "--recipe", "kl_ae"], ["kl_ae", "at least 0", "row 3"]),
        (["fit", "other", "--out", "a"], ["other must hold files", ".png"]),
        (["encode", "ARTIFACT", "wide.npy", "--out", "z.npy"], ["(batch, 4)", "(20, 5)"]),
        (["decode", "ARTIFACT", "wide.npy", "--out", "x.npy"], ["(batch, 2)", "(20, 5)"]),
        (["encode", "ARTIFACT", "nan.npy", "--out", "z.npy"], ["nan.npy", "row 2", "column 1"]),
        (["encode", "ARTIFACT", "gone.npy", "--out", "z.npy"], ["No such file", "gone.npy"]),
        (["encode", "ARTIFACT", "text.txt", "--out", "z.npy"], ["must end in", "text.txt"]),
        (["encode", "ARTIFACT", "folder.csv", "--out", "z.npy"], ["folder.csv must hold files", ".parquet"]),
        (["score", "ARTIFACT", "good.npy", "--out", "z.xlsx"], ["must end in", "z.xlsx"]),
        (["score", "ARTIFACT", "good.npy", "--out", "gone/z.npy"], ["No such folder", "gone"]),
        (["score", "ARTIFACT", "good.npy", "--out", "folder.csv"], ["could not be written", "folder.csv"]),
        (["score", "ARTIFACT", "good.npy", "--engine", "ray"], ["--out", "a folder"]),
        (["generate", "ARTIFACT", "--n", "0", "--out", "x.npy"], ["`n`", "at least 1", "0"]),
        (["generate", "ARTIFACT", "--n", "2", "--seed", "-3", "--out", "x.npy"], ["--seed", "-3"]),
        (["generate", "other", "--n", "2", "--out", "x.npy"], ["other is not an artifact"]),
        (["encode", "gone", "good.npy", "--out", "z.npy"], ["No such folder: gone."]),
        (["info", "other"], ["other is not an artifact", "manifest.json"]),
        (["info", "file"], ["file is not an artifact", "folder"]),
        (["info", "page"], ["manifest.json is damaged, or not of"]),
        (["verify", "other"], ["other is not an artifact"]),
        (["export", "other", "--to", "onnx", "--out", "a"], ["other is not an artifact"]),
        (["export", "ARTIFACT", "--to", "coreml"], ["--to", "coreml"]),
        (["export", "ARTIFACT", "--to", "onnx", "--out", "other"], ["new or empty", "other"]),
        (["export", "ARTIFACT", "--to", "saved_model", "--precision", "int8"], ["--precision", "--to onnx"]),
        (["export", "ARTIFACT", "--to", "onnx", "--source", "digits"], ["--source", "--precision"]),
        (["export", "ARTIFACT", "--to", "onnx", "--precision", "int4"], ["--precision", "int4"]),
        (
            ["export", "ARTIFACT", "--to", "onnx", "--precision", "int8", "--source", "good.npy"],
            ["calibrated the model"],
        ),
        (["export", "ARTIFACT", "--to", "onnx", "--precision", "int8", "--single-file"], ["alone", "`out`"]),
        (["fit", "digits", "--out", "a", "--precision", "int4"], ["--precision", "int4"]),
        (["bench", "other"], ["other is not an artifact"]),
        (["bench", "ARTIFACT", "--chart", "speeds.txt"], [".svg", "speeds.txt"]),
        (["publish"], ["No such command", "publish"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and "-" in " ".join(value) else None,
)
def test_bad_input_is_refused_in_one_line(artifact, tmp_path, monkeypatch, refused, arguments, named):
    monkeypatch.chdir(tmp_path)
    write(Path("good.npy"), table(20))
    write(Path("wide.npy"), np.ones((20, 5), "float32"))
    write(Path("nan.npy"), with_nan(table(20)))
    write(Path("nan.csv"), with_nan(table(20)), COLUMNS)
    write(Path("one.csv"), table(1), COLUMNS)
    write(Path("same.csv"), np.ones((20, 2), "float32"))
    Path("text.csv").write_text("a,b\n" + "1,2\n" * 20 + "3,x\n")
    Path("header.csv").write_text("a,b\n")
    negative = np.ones((20, 3), "float32")
    negative[3, 2] = -1
    write(Path("negative.npy"), negative)
    for path in ("file", "text.txt", "other/notes.md", "page/manifest.json", "folder.csv/x"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).write_text("{}")
    before = contents(tmp_path)
    line = refused(*[artifact if word == "ARTIFACT" else word for word in arguments])
    for words in named:
        assert words in line
    assert contents(tmp_path) == before


@pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="a disk that is really full, without filling one: only Linux has /dev/full"
)
def test_a_full_disk_is_told_in_one_line(artifact, people, refused):
    link = people.parent / ".z.npy.partial"
    link.symlink_to("/dev/full")
    assert "No space left" in refused("encode", artifact, people, "--out", people.parent / "z.npy")
    assert not (people.parent / "z.npy").exists()
    assert not link.is_symlink()


def test_an_error_of_the_system_is_one_line_and_no_traceback(artifact, people, run, tmp_path):
    code, out, err = run("encode", artifact, "n" * 300 + ".csv", "--out", tmp_path / "z.npy")
    assert code in (1, 2)
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "name too long" in err


# Other processes


def environment():
    return {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}


def test_python_m_keras_ae_is_the_command_line():
    result = subprocess.run(
        [sys.executable, "-m", "keras_ae", "--help"], capture_output=True, text=True, env=environment(), check=False
    )
    assert result.returncode == 0
    assert result.stdout.startswith("Usage: ")
    assert result.stderr == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to all of a console, the tests too")
def test_ctrl_c_in_the_middle_of_fit_leaves_the_previous_artifact(digits_artifact, tmp_path):
    previous = Path(shutil.copytree(digits_artifact, tmp_path / "a"))
    before = contents(tmp_path)
    command = [sys.executable, "-m", "keras_ae", "fit", "digits", "--out", str(previous), "--epochs", "100000"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
        # A shell starts what runs in its background with SIGINT ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("training vae on")
            assert any(path.suffix == ".partial" for path in tmp_path.iterdir())
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    said = "keras-ae: Stopped by Ctrl-C before the first checkpoint; nothing was changed.\n"
    assert (process.returncode, out, err) == (130, "", said)
    assert contents(tmp_path) == before


def test_without_a_file_results_go_to_the_screen(artifact, people, tmp_path, run):
    for command in (["score", artifact, people], ["generate", artifact, "--n", 3, "--seed", 1]):
        assert run(*command, "--out", tmp_path / "file.csv").exit_code == 0
        assert run(*command) == (0, (tmp_path / "file.csv").read_text(), "")


def test_csv_results_are_read_by_any_reader_of_csv(artifact, people, tmp_path, done):
    done("score", artifact, people, "--out", tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 200
    np.testing.assert_array_equal(
        np.array([float(row["score"]) for row in rows], "float32"),
        keras_ae.runtime.load(artifact).score(table())["score"],
    )
