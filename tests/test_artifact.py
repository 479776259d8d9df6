"""A changed byte is named, not run; a folder is replaced whole or not at all; no artifact holds code."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_ae
from keras_ae import artifact, runtime, storage
from keras_ae.errors import ArtifactError, ExportError, InputError


def contents(folder):
    """Every path below a folder, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def small(folder, **content):
    """A whole artifact of two small files."""
    (folder / "deep").mkdir(parents=True)
    (folder / "a.bin").write_bytes(bytes(range(40)))
    (folder / "deep" / "b.txt").write_text("hello\n")
    artifact.write_manifest(folder, content or {"name": "small", "note": "ünï"})
    return folder


@pytest.fixture
def copy(digits_artifact, tmp_path):
    return Path(shutil.copytree(digits_artifact, tmp_path / "copy"))


# Hashes


def test_a_whole_artifact_is_read_and_verified(tmp_path):
    folder = small(tmp_path / "a")
    manifest = artifact.verify_files(folder)
    assert manifest == artifact.read_manifest(folder)
    assert manifest["note"] == "ünï"
    assert set(manifest["files"]) == {"a.bin", "deep/b.txt"}
    assert manifest["files"]["a.bin"] == hashlib.sha256(bytes(range(40))).hexdigest()


def test_every_flipped_bit_of_a_manifest_is_noticed(tmp_path):
    folder = small(tmp_path / "a")
    path = folder / artifact.MANIFEST
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bits in (1, 2, 4, 7, 16, 32, 128):  # 7 makes a carriage return of a line feed
            path.write_bytes(whole[:position] + bytes([whole[position] ^ bits]) + whole[position + 1 :])
            with pytest.raises(ArtifactError, match=r"manifest\.json"):
                artifact.read_manifest(folder)
    path.write_bytes(whole)
    artifact.read_manifest(folder)


def test_every_flipped_byte_of_a_listed_file_is_noticed_and_the_file_named(tmp_path):
    folder = small(tmp_path / "a")
    for name in ("a.bin", "deep/b.txt"):
        whole = (folder / name).read_bytes()
        for position in range(len(whole)):
            (folder / name).write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(ArtifactError, match=rf"{name} was changed"):
                artifact.verify_files(folder)
        (folder / name).write_bytes(whole)


def test_a_flipped_byte_anywhere_in_a_trained_artifact_is_named(copy):
    random = np.random.default_rng(0)
    for name in artifact.list_files(copy):
        path = copy / name
        whole = path.read_bytes()
        for position in {0, len(whole) - 1, *random.integers(0, len(whole), 8).tolist()}:
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(ArtifactError, match=str(path)):
                artifact.verify_files(copy)
        path.write_bytes(whole)
    artifact.verify_files(copy)


@pytest.mark.parametrize("change", ["cut", "empty", "gone", "longer"])
@pytest.mark.parametrize(
    "name", ["manifest.json", "model.keras", "onnx/float32/encode.onnx", "onnx/float32/weights.bin"]
)
def test_a_file_that_was_cut_is_named(copy, name, change):
    path = copy / name
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "longer": whole + b"\n"}.get(change, b""))
    if change == "gone":
        path.unlink()
    with pytest.raises(
        ArtifactError, match="must hold manifest.json" if not path.exists() and "json" in name else name
    ):
        artifact.verify_files(copy)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("model.keras", keras_ae.load),
        ("onnx/float32/encode.onnx", lambda folder: runtime.load(folder).encode(np.zeros((1, 64), "float32"))),
        ("onnx/float32/weights.bin", lambda folder: runtime.load(folder).decode(np.zeros((1, 8), "float32"))),
    ],
)
def test_a_changed_file_is_refused_where_it_is_used(copy, name, use):
    use(copy)
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=rf"{name} was changed"):
        use(copy)


def test_a_file_that_the_manifest_does_not_list_is_named(copy):
    (copy / "onnx" / "extra.py").write_text("print('hello')")
    with pytest.raises(ArtifactError, match=r"does not list: onnx/extra\.py"):
        artifact.verify_files(copy)
    with pytest.raises(ArtifactError, match="holds no onnx/extra"):
        artifact.check_file(copy, "onnx/extra.py", artifact.read_manifest(copy))


def test_a_newer_schema_is_refused_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setattr(artifact, "SCHEMA", 7)
    folder = small(tmp_path / "a")
    assert artifact.read_manifest(folder)["schema"] == 7
    monkeypatch.undo()
    with pytest.raises(ArtifactError, match=r"schema of at most 1\. Received: 7; update"):
        artifact.read_manifest(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "3", '{"format": "keras_ae"}', "[" * 100_000, b"\xff\xfe{}"])
def test_a_manifest_that_is_none_is_refused(tmp_path, text):
    (tmp_path / artifact.MANIFEST).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ArtifactError, match=r"manifest\.json is damaged"):
        artifact.read_manifest(tmp_path)


def test_what_is_no_folder_or_holds_no_manifest_is_no_artifact(tmp_path):
    (tmp_path / "file").touch()
    for name, said in {"": "is not an artifact", "file": "is not an artifact", "gone": "No such folder"}.items():
        with pytest.raises(ArtifactError, match=said):
            artifact.read_manifest(tmp_path / name)


def test_a_manifest_can_not_hold_what_json_has_no_word_for(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        artifact.write_manifest(tmp_path, {"metric": float("nan")})
    assert not (tmp_path / artifact.MANIFEST).exists()


# Writing whole


def fill(folder, name="new"):
    (folder / "a.bin").write_bytes(name.encode())
    artifact.write_manifest(folder, {"name": name})


def test_a_new_folder_appears_with_its_parents(tmp_path):
    target = tmp_path / "deep" / "er" / "a"
    with artifact.replacing(target) as folder:
        fill(folder)
        assert not target.exists()
    assert artifact.verify_files(target)["name"] == "new"
    assert os.listdir(target.parent) == ["a"]


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "where the system can't exchange"])
def test_an_artifact_is_replaced_and_nothing_of_it_stays(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(artifact, "_exchange", lambda a, b: False)
    target = small(tmp_path / "a")
    with artifact.replacing(target) as folder:
        fill(folder)
        assert artifact.verify_files(target)["name"] == "small"
    assert artifact.verify_files(target)["name"] == "new"
    assert os.listdir(tmp_path) == ["a"]


def test_an_empty_folder_and_a_damaged_artifact_may_be_replaced(tmp_path):
    (tmp_path / "empty").mkdir()
    (small(tmp_path / "damaged") / "a.bin").unlink()
    for name in ("empty", "damaged"):
        with artifact.replacing(tmp_path / name) as folder:
            fill(folder)
        assert artifact.verify_files(tmp_path / name)["name"] == "new"


def test_a_folder_has_the_rights_of_any_new_folder(tmp_path):
    (tmp_path / "other").mkdir()
    with artifact.replacing(tmp_path / "a") as folder:
        fill(folder)
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_link_goes_on_pointing_to_what_is_replaced(tmp_path):
    target, link = small(tmp_path / "v1"), tmp_path / "latest"
    link.symlink_to(target)
    with artifact.replacing(link) as folder:
        fill(folder)
    assert link.is_symlink()
    assert artifact.verify_files(target)["name"] == "new"
    assert sorted(os.listdir(tmp_path)) == ["latest", "v1"]


def test_a_second_writer_of_a_folder_is_refused_and_the_first_goes_on(tmp_path):
    with artifact.replacing(tmp_path / "a") as folder:
        with pytest.raises(InputError, match=r"a must be written by one run at a time"):
            artifact.replacing(tmp_path / "a").__enter__()
        with artifact.replacing(tmp_path / "b") as other:  # beside it, not in it
            fill(other)
        fill(folder)
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_what_a_killed_writer_left_is_removed_by_the_next_of_that_folder(tmp_path):
    program = f"""
import os, pathlib, signal
from keras_ae import artifact
left = [artifact.replacing(pathlib.Path({str(tmp_path)!r}, name)) for name in ("a", "a.b")]
for each in left:
    (each.__enter__() / "half.bin").write_bytes(b"half")
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert len(list(tmp_path.glob("*.partial"))) == 2
    with artifact.replacing(tmp_path / "a") as folder:  # no lock outlives its process
        fill(folder)
    assert artifact.verify_files(tmp_path / "a")["name"] == "new"
    (left,) = tmp_path.glob("*.partial")
    assert left.name.startswith(".a.b.")


FULL = OSError(errno.ENOSPC, "No space left on device")


def fail_while_replacing(target, error):
    with artifact.replacing(target) as folder:
        fill(folder)
        raise error


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(3), MemoryError(), FULL], ids=repr)
@pytest.mark.parametrize("previous", [True, False])
def test_whatever_ends_the_block_leaves_what_was_there(tmp_path, error, previous):
    target = tmp_path / "a"
    if previous:
        small(target)
    before = contents(tmp_path)
    with pytest.raises(InputError if error is FULL else type(error)) as caught:
        fail_while_replacing(target, error)
    assert contents(tmp_path) == before
    if error is FULL:
        assert str(caught.value) == f"{target} could not be written: No space left on device."


def test_a_rename_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    target = small(tmp_path / "a")
    before = contents(tmp_path)
    monkeypatch.setattr(artifact, "_exchange", lambda a, b: False)
    rename = Path.rename

    def fail(self, to):
        if self.suffix == ".partial":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(InputError, match="Input/output error"), artifact.replacing(target) as folder:
        fill(folder)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_text("mine"),
        lambda path: (path.mkdir(), (path / "thesis.tex").write_text("mine")),
        lambda path: (path.mkdir(), (path / "manifest.json").write_text('{"name": "a web page", "icons": []}')),
        lambda path: (path.mkdir(), (path / "manifest.json").write_text("not even json")),
    ],
    ids=["a file", "a folder", "a manifest of something else", "a manifest that is none"],
)
def test_what_is_not_an_artifact_is_not_replaced(tmp_path, make):
    make(tmp_path / "a")
    before = contents(tmp_path)
    with (
        pytest.raises(InputError, match="must be new, empty or an artifact"),
        artifact.replacing(tmp_path / "a") as folder,
    ):
        pytest.fail(f"began to write to {folder}")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["file/a", "file/deep/a", "n" * 300])
def test_a_target_that_can_not_be_is_refused_before_the_block(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="could not be written"), artifact.replacing(tmp_path / place) as folder:
        pytest.fail(f"began to write to {folder}")
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.skipif(
    not Path("/proc/self").is_dir(), reason="root may write to any folder but Linux's /proc, and tests may run as root"
)
def test_a_parent_that_takes_nothing_is_refused():
    with (
        pytest.raises(InputError, match=r"/proc/\S* could not be written"),
        artifact.replacing(Path("/proc/a")) as folder,
    ):
        pytest.fail(f"began to write to {folder}")


def test_a_full_disk_in_the_middle_of_saving_leaves_the_previous_artifact(digits_fitted, copy, monkeypatch):
    before = contents(copy.parent)

    def full(graphs, folder, reference):
        (folder / "onnx").mkdir()
        (folder / "onnx" / "half.onnx").write_bytes(b"half")
        raise FULL

    monkeypatch.setitem(storage.EXPORTERS, "onnx", full)
    with pytest.raises(InputError, match="No space left on device"):
        storage.save(digits_fitted.model, copy, digits_fitted.splits.test)
    assert contents(copy.parent) == before


# No code


@pytest.fixture
def with_code():
    x, z = keras.Input((6,)), keras.Input((2,))
    encoder = keras.Model(x, keras.layers.Dense(2)(keras.layers.Lambda(lambda t: t * 2)(x)))
    return keras_ae.Autoencoder(encoder, keras.Model(z, keras.layers.Dense(6)(z)))


def test_a_model_with_code_is_not_saved(with_code, tmp_path):
    with pytest.raises(ExportError, match=r"holds no code.*Lambda"):
        storage.save(with_code, tmp_path / "a")
    assert os.listdir(tmp_path) == []


def test_a_keras_file_with_code_is_not_loaded(with_code, tmp_path):
    with_code.save(tmp_path / "m.keras")
    with pytest.raises(ArtifactError, match=r"m\.keras could not be loaded"):
        keras_ae.load(tmp_path / "m.keras")


def test_a_keras_file_of_another_model_is_not_loaded(tmp_path):
    x = keras.Input((2,))
    keras.Model(x, keras.layers.Dense(1)(x)).save(tmp_path / "m.keras")
    with pytest.raises(ArtifactError, match="must hold a keras_ae Autoencoder"):
        keras_ae.load(tmp_path / "m.keras")


@pytest.mark.parametrize("content", [b"", b"not a zip", None], ids=["empty", "text", "cut"])
def test_a_keras_file_that_is_damaged_is_not_loaded(digits_artifact, tmp_path, content):
    path = tmp_path / "m.keras"
    path.write_bytes((digits_artifact / "model.keras").read_bytes()[:5000] if content is None else content)
    with pytest.raises(ArtifactError, match=r"m\.keras could not be loaded"):
        keras_ae.load(path)


def test_a_missing_keras_file_is_named(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        keras_ae.load(tmp_path / "m.keras")


def test_an_artifact_says_what_it_holds(digits_artifact):
    manifest = json.loads((digits_artifact / "manifest.json").read_text())
    assert set(manifest["files"]) == set(artifact.list_files(digits_artifact)) - {"manifest.json"}
    assert {"model.keras", "saved_model/1/saved_model.pb", "onnx/float32/weights.bin"} < set(manifest["files"])
    for function in ("encode", "decode", "reconstruct", "score", "generate"):
        assert f"onnx/float32/{function}.onnx" in manifest["files"]
