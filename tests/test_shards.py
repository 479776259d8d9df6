"""Folders and globs of files of rows: one after the other, as one, and what is wrong with one of them is named."""

import os

import numpy as np
import pytest
from sklearn.datasets import load_digits

from keras_ae import runtime
from keras_ae.data import batches, read_rows, write_rows
from keras_ae.data.shards import batches_of, shards
from keras_ae.errors import InputError
from keras_ae.files import run_file

DIGITS = load_digits().data.astype("float32")
NAMES = tuple(f"p{i}" for i in range(64))
SIZE = 64 * 8 * 100  # bytes of 100 rows


@pytest.fixture(scope="module")
def model(digits_artifact):
    return runtime.load(digits_artifact)


def write(folder, x, parts, ending="parquet", columns=NAMES):
    folder.mkdir(exist_ok=True)
    for i, rows in enumerate(np.array_split(x, parts)):
        below = folder / f"day={i % 2}"
        below.mkdir(exist_ok=True)
        write_rows(below / f"part-{i:03d}.{ending}", {"x": rows}, columns)
    return folder


def in_order(x, parts):
    split = np.array_split(x, parts)
    return np.concatenate([*split[::2], *split[1::2]])


@pytest.mark.parametrize("ending", ["parquet", "csv", "npy"])
def test_a_folder_and_a_glob_give_what_one_file_gives(run, model, digits_artifact, tmp_path, ending):
    folder = write(tmp_path / "data", DIGITS[:500], 5, ending)
    (folder / "_SUCCESS").touch()
    (folder / "day=0/.part.crc").touch()
    expected = model.score(in_order(DIGITS[:500], 5))
    for source in (folder, folder / f"**/*.{ending}", folder / "day=*"):
        done = run("score", digits_artifact, source, "--out", tmp_path / "scores.npz")
        assert done.exit_code == 0, done.stderr
        with np.load(tmp_path / "scores.npz") as got:
            np.testing.assert_allclose(got["score"], expected["score"], rtol=1e-4)
    done = run("encode", digits_artifact, folder / "day=1", "--out", tmp_path / "z.parquet")
    assert done.exit_code == 0, done.stderr
    assert len(read_rows(tmp_path / "z.parquet").x) == 200


def test_a_name_with_the_characters_of_a_glob_is_a_file(model, tmp_path):
    np.save(tmp_path / "x[1].npy", DIGITS[:10])
    run_file(model, "encode", tmp_path / "x[1].npy", tmp_path / "z.npy")
    assert len(np.load(tmp_path / "z.npy")) == 10


BAD = {
    "unreachable": r"No such file: .*part-002.parquet",
    "empty": r"part-002.parquet is empty",
    "cut": r"part-002.parquet is not a readable table",
    "without rows": r"part-002.parquet holds no rows",
    "other columns": r"part-002.parquet misses column p0",
    "other kind": r"part-002.parquet, column p0: must be numeric. Received: string",
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_among_many_is_named_and_nothing_is_lost(model, spoil, tmp_path, monkeypatch, how):
    monkeypatch.setattr(model, "columns", NAMES)
    folder = write(tmp_path / "data", DIGITS[:500], 5)
    spoil(folder / "day=0/part-002.parquet", how)
    out = tmp_path / "z.npy"
    out.write_text("previous")
    with pytest.raises(InputError, match=BAD[how]):
        run_file(model, "encode", folder, out)
    assert out.read_text() == "previous"
    assert {path.name for path in tmp_path.iterdir()} == {"data", "z.npy"}


def test_files_of_other_shapes_endings_or_none_are_refused(model, tmp_path):
    folder = write(tmp_path / "data", DIGITS[:500], 5, "npy")
    np.save(folder / "day=1/part-004.npy", DIGITS[:100, :63])
    with pytest.raises(InputError, match=r"part-004.npy must have rows of shape \(64,\), as .*part-000.npy has"):
        run_file(model, "encode", folder, tmp_path / "z.npy")
    (folder / "notes.csv").write_text("a\n1\n")
    with pytest.raises(InputError, match=r"must hold files of one ending; .* Received: .csv, .npy"):
        shards(folder)
    (tmp_path / "none").mkdir()
    for source in (tmp_path / "none", tmp_path / "*.parquet"):
        with pytest.raises(InputError, match=r"must hold files that end in .npy, .* Received: none"):
            shards(source)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_can_not_be_read_is_named(tmp_path):
    folder = write(tmp_path / "data", DIGITS[:500], 5)
    (folder / "day=1").chmod(0)
    try:
        with pytest.raises(InputError, match="day=1 could not be read"):
            shards(folder)
    finally:
        (folder / "day=1").chmod(0o700)


def test_the_first_rows_come_before_another_file_is_opened(tmp_path, monkeypatch):
    folder = write(tmp_path / "data", DIGITS[:500], 5)
    for file in list(folder.rglob("*.parquet"))[1:]:
        file.write_bytes(b"not parquet")
    found = shards(folder)
    found[0].write_bytes(b"")
    write_rows(found[0], {"x": DIGITS[:10]}, NAMES)
    _, every = batches_of(found)
    file, rows = next(every)
    assert (file, len(rows.x)) == (found[0], 10)


def test_memory_does_not_grow_with_the_number_of_files(model, traced_peak, tmp_path, monkeypatch):
    monkeypatch.setattr(batches.read_batches, "__defaults__", (10 * SIZE, ()))

    def peak(parts):
        folder = write(tmp_path / f"of{parts}", np.tile(DIGITS[:1000], (parts, 1)), parts)
        return traced_peak(lambda: run_file(model, "encode", folder, tmp_path / "z.npy"))

    peak(1)  # imports
    assert peak(40) < 1.1 * peak(4)
