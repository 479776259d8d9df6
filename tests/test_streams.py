"""Files larger than a batch: read, computed and written in step, with errors that name the row of the file."""

import subprocess
import threading

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

from keras_ae import runtime
from keras_ae.data import batches, read_batches, read_rows, write_batches, write_rows
from keras_ae.data.batches import ahead
from keras_ae.errors import InputError
from keras_ae.files import run_file

DIGITS = load_digits().data.astype("float32")
NAMES = tuple(f"p{i}" for i in range(64))
SIZE = 64 * 8 * 100  # bytes of 100 rows
STREAMED = ("npy", "csv", "parquet")


@pytest.fixture(scope="module")
def model(digits_artifact):
    return runtime.load(digits_artifact)


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(batches.read_batches, "__defaults__", (SIZE, ()))


def write(path, x, columns=NAMES):
    write_rows(path, {"x": x}, columns)
    return path


@pytest.mark.parametrize("ending", STREAMED)
def test_batches_are_the_rows_of_the_file(tmp_path, ending):
    path = write(tmp_path / f"x.{ending}", DIGITS)
    total, parts = read_batches(path, SIZE)
    parts = list(parts)
    assert total == (None if ending == "csv" else len(DIGITS))
    assert [len(part.x) for part in parts] == [100] * 17 + [97]
    np.testing.assert_array_equal(np.concatenate([part.x for part in parts]), DIGITS)
    assert {part.columns for part in parts} == {None if ending == "npy" else NAMES}


def test_images_keep_their_shape_and_type_in_batches(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, size=(300, 8, 8), dtype="uint8")
    np.save(tmp_path / "x.npy", images)
    _, parts = read_batches(tmp_path / "x.npy", SIZE // 8)
    np.testing.assert_array_equal(np.concatenate([part.x for part in parts]), images)
    write(tmp_path / "x.parquet", images.astype("float32"))
    _, parts = read_batches(tmp_path / "x.parquet", SIZE)
    np.testing.assert_array_equal(np.concatenate([part.x for part in parts]), images)


@pytest.mark.parametrize("ending", [*STREAMED, "npz"])
def test_what_is_written_in_batches_is_what_is_written_whole(tmp_path, ending):
    results = {"z": DIGITS[:, :3], "score": DIGITS[:, 5]}
    shown = {"z": results["z"]} if ending == "npy" else results
    write_rows(tmp_path / f"whole.{ending}", shown)
    write_batches(
        tmp_path / f"parts.{ending}",
        ({name: array[i : i + 100] for name, array in shown.items()} for i in range(0, len(DIGITS), 100)),
    )
    whole, parts = (read_rows(tmp_path / f"{name}.{ending}") for name in ("whole", "parts"))
    np.testing.assert_array_equal(parts.x, whole.x)
    assert parts.columns == whole.columns
    if ending in ("npy", "csv"):
        assert (tmp_path / f"whole.{ending}").read_bytes() == (tmp_path / f"parts.{ending}").read_bytes()
    if ending == "parquet":
        assert pq.ParquetFile(tmp_path / "parts.parquet").num_row_groups == 18


@pytest.mark.parametrize("ending", STREAMED)
@pytest.mark.parametrize("function", ["encode", "reconstruct", "score"])
def test_a_file_of_several_batches_gives_what_an_array_gives(model, tmp_path, small_batches, ending, function):
    told = []
    source = write(tmp_path / f"x.{ending}", DIGITS)
    run_file(model, function, source, tmp_path / f"out.{ending}", lambda *rows: told.append(rows))
    got = read_rows(tmp_path / f"out.{ending}").x
    expected = getattr(model, function)(DIGITS)
    expected = np.column_stack([*expected.values()]) if isinstance(expected, dict) else expected
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    assert [done for done, _ in told] == [*range(100, 1701, 100), 1797]
    assert {total for _, total in told} == {None if ending == "csv" else 1797}


def spoiled(column=7, row=1234):
    x = DIGITS.copy()
    x[row, column] = np.nan
    return x


@pytest.mark.parametrize("ending", STREAMED)
def test_an_error_names_the_row_of_the_file_and_leaves_what_was_there(model, tmp_path, small_batches, ending):
    source = tmp_path / f"x.{ending}"
    write(source, spoiled())
    out = tmp_path / f"out.{ending}"
    out.write_text("previous")
    column = "7" if ending == "npy" else "p7"
    with pytest.raises(InputError, match=rf"x.{ending}, row 1234, column {column}: .*nan \(1 such row in rows 1200 to"):
        run_file(model, "score", source, out)
    assert out.read_text() == "previous"
    assert {path.name for path in tmp_path.iterdir()} == {source.name, out.name}


def test_a_bad_cell_far_into_a_csv_is_named_by_its_line(model, tmp_path, small_batches):
    source = write(tmp_path / "x.csv", DIGITS)
    lines = source.read_text().splitlines()
    for line, cells, message in (
        (1500, lines[1500].replace(",", ",x,", 1), "line 1501: must have 64 columns. Received: 65"),
        (
            1500,
            "n/a" + lines[1500][lines[1500].index(",") :],
            "line 1501, column p0: must be a number. Received: 'n/a'",
        ),
        (1600, "1,2", "line 1601: must have 64 columns. Received: 2"),
    ):
        source.write_text("\n".join([*lines[:line], cells, *lines[line + 1 :]]))
        with pytest.raises(InputError, match=message):
            run_file(model, "encode", source, tmp_path / "z.npy")
        assert not (tmp_path / "z.npy").exists()


def test_columns_of_every_batch_are_matched_by_name(model, tmp_path, small_batches, monkeypatch):
    monkeypatch.setattr(model, "columns", NAMES)
    write(tmp_path / "x.csv", DIGITS[:, ::-1], NAMES[::-1])
    run_file(model, "encode", tmp_path / "x.csv", tmp_path / "z.npy")
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), model.encode(DIGITS), rtol=1e-4, atol=1e-4)
    write(tmp_path / "few.csv", DIGITS[:, 1:], NAMES[1:])
    with pytest.raises(InputError, match="misses column p0"):
        run_file(model, "encode", tmp_path / "few.csv", tmp_path / "z.npy")


def test_a_stream_runs_any_batches_and_counts_rows_through_them(model):
    got = list(model.stream("encode", np.split(DIGITS[:1554], [1, 51, 1551])))
    assert [len(part["z"]) for part in got] == [1, 50, 1500, 3]
    np.testing.assert_allclose(
        np.concatenate([part["z"] for part in got]), model.encode(DIGITS[:1554]), rtol=1e-4, atol=1e-4
    )
    with pytest.raises(InputError, match=r"x, row 1234, column 7"):
        list(model.stream("score", np.split(spoiled(), [1000, 1300])))
    with pytest.raises(InputError, match=r"`function` must be one of encode, .*'embed'"):
        list(model.stream("embed", [DIGITS]))


def test_items_are_made_ahead_in_one_thread_and_no_further_than_asked():
    made, threads = [], set()

    def items():
        for i in range(10):
            made.append(i)
            threads.add(threading.current_thread())
            yield i

    ready = ahead(items(), depth=2)
    assert next(ready) == 0
    assert list(ready) == list(range(1, 10))
    assert made == list(range(10))
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    made.clear()
    early = ahead(items(), depth=2)
    assert [next(early), next(early)] == [0, 1]
    early.close()
    assert len(made) <= 4
    assert not any(thread.is_alive() for thread in threads)


def test_what_fails_in_the_thread_is_raised_in_its_turn():
    def items():
        yield 1
        raise OSError("gone")

    ready = ahead(items())
    assert next(ready) == 1
    with pytest.raises(OSError, match="gone"):
        next(ready)


@pytest.mark.parametrize("ending", STREAMED)
def test_memory_does_not_grow_with_the_file(model, traced_peak, tmp_path, small_batches, ending):
    def peak(repeats):
        source = write(tmp_path / f"x.{ending}", np.tile(DIGITS[:500], (repeats, 1)))
        return traced_peak(lambda: run_file(model, "encode", source, tmp_path / f"z.{ending}"))

    peak(2)  # imports
    assert peak(16) < 2 * peak(4)


def test_a_cut_or_strange_npy_is_refused(model, tmp_path, small_batches):
    path = tmp_path / "x.npy"
    np.save(path, DIGITS)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"x.npy is not a readable .npy of numbers: it was cut"):
        read_batches(path)
    path.write_bytes(b"nonsense" * 10_000)
    with pytest.raises(InputError, match=r"x.npy is not a readable .npy"):
        read_batches(path)
    np.save(path, np.asfortranarray(DIGITS))
    total, parts = read_batches(path)
    assert total == 1797
    np.testing.assert_array_equal(next(parts).x, DIGITS)


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet"])
def test_a_file_system_that_can_not_be_written_is_told(tmp_path, ending):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", tmp_path], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"needs leave to mount a file system: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(InputError, match=rf"x.{ending} could not be written: .*Read-only file system"):
            write(tmp_path / f"x.{ending}", DIGITS[:10])
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)
