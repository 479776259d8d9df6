"""Files in and out, each mistake named; splits; the scaling against NumPy."""

import contextlib
import errno
import hashlib
import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.sparse
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from keras_ae.data import Rows, Source, fit_scaling, load_source, read_rows, split, write_rows
from keras_ae.data.arrow import table_of_files
from keras_ae.data.batches import read_batches
from keras_ae.data.cells import read_cells
from keras_ae.data.schema import Schema
from keras_ae.errors import InputError

TABLE = np.array([[1, -2.5, 3e-7], [4, 5, 6]], "float32")
FILES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


def file_of(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path, read=read_rows):
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert path.name in message
    return message


def source(x, test=None):
    return Source("here", Rows(x), None if test is None else Rows(test))


# Readers


def test_npy_is_read_as_float32(tmp_path):
    np.save(tmp_path / "x.npy", TABLE.astype("float64"))
    rows = read_rows(tmp_path / "x.npy")
    assert rows.x.dtype == np.float32
    np.testing.assert_array_equal(rows.x, TABLE)
    assert rows.y is None
    assert rows.columns is None


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int64", "float16", ">f8"])
def test_other_numbers_become_float32_with_their_values(tmp_path, dtype):
    x = np.array([[0, 1], [1, 0]], dtype)
    np.save(tmp_path / "x.npy", x)
    rows = read_rows(tmp_path / "x.npy")
    assert rows.x.dtype == np.float32
    np.testing.assert_array_equal(rows.x, x.astype("float64"))


def test_uint8_stays_uint8(tmp_path):
    np.save(tmp_path / "x.npy", np.full((2, 3, 3), 255, "uint8"))
    rows = read_rows(tmp_path / "x.npy")
    assert rows.x.dtype == np.uint8
    assert rows.x.max() == 255


@pytest.mark.parametrize("key", ["X", "x", "z", "whatever"])
def test_npz_gives_its_rows_and_labels(tmp_path, key):
    labels = {} if key == "whatever" else {"y": np.array(["a", "b"])}
    np.savez(tmp_path / "x.npz", **{key: TABLE}, **labels)
    rows = read_rows(tmp_path / "x.npz")
    np.testing.assert_array_equal(rows.x, TABLE)
    assert (list(rows.y) == ["a", "b"]) if labels else rows.y is None


def test_npz_gives_the_array_asked_for(tmp_path):
    np.savez(tmp_path / "x.npz", X=TABLE, other=TABLE + 1)
    np.testing.assert_array_equal(read_rows(tmp_path / "x.npz", "other").x, TABLE + 1)
    assert "'third'" in refusal(tmp_path / "x.npz", lambda path: read_rows(path, "third"))


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("1,-2.5,3e-7\n4,5,6\n", None),
        ("a, b ,c\n1,-2.5,3e-7\n4,5,6\n", ("a", "b", "c")),
        ('\ufeffa,"b,b",c\r\n1,"-2.5",3e-7\r\n\r\n4,5,6', ("a", "b,b", "c")),
        ("\n\na,#b,c\n1,-2.5,3e-7\n4,5,6\n", ("a", "#b", "c")),
        ('a,"b\nb",c\n1,-2.5,3e-7\n4,5,6\n', ("a", "b\nb", "c")),
    ],
    ids=["no header", "header", "byte order mark, quotes, blank line", "blank lines first", "line break in a name"],
)
def test_csv_is_read_with_and_without_a_header(tmp_path, text, columns):
    rows = read_rows(file_of(tmp_path, "x.csv", text))
    np.testing.assert_array_equal(rows.x, TABLE)
    assert rows.x.dtype == np.float32
    assert rows.columns == columns


@pytest.mark.parametrize(
    "text",
    [
        "a;b, m;c\n1;-2,5;3e-7\n4;5,0;6\n",
        "a;b, m;c\r\n1,0;-2.5;3e-7\r\n\r\n4;5;6",
        '"a";"b, m";"c"\n"1";"-2,5";"3e-7"\n"4";"5";"6"\n',
        "a\tb, m\tc\n1\t-2.5\t3e-7\n4\t5\t6\n",
        "a|b, m|c\n1|-2.5|3e-7\n4|5|6\n",
    ],
    ids=["decimal commas", "some of them", "quotes", "tabs", "bars"],
)
@pytest.mark.parametrize("ending", ["csv", "TSV"])
def test_what_separates_the_cells_of_a_csv_is_seen(tmp_path, text, ending):
    path = file_of(tmp_path, f"x.{ending}", text)
    assert read_rows(path).columns == ("a", "b, m", "c")
    np.testing.assert_array_equal(read_rows(path).x, TABLE)
    x, problems = Schema.of_numbers(("a", "b, m", "c")).encode(read_cells(path))
    assert not problems
    np.testing.assert_array_equal(x, TABLE)
    table = table_of_files("x", [path])
    (cells,) = table.cells(table.units[0], list(table.columns))
    np.testing.assert_array_equal(np.stack(list(cells.columns.values()), axis=1).astype("float32"), TABLE)
    _, batches = read_batches(path, size=1, without=("a",))
    np.testing.assert_array_equal(np.concatenate([rows.x for rows in batches]), TABLE[:, 1:])


def test_numbers_between_semicolons_need_no_header(tmp_path):
    rows = read_rows(file_of(tmp_path, "x.csv", "1,0;-2,5;3e-7\n4;5;6\n"))
    assert rows.columns is None
    np.testing.assert_array_equal(rows.x, TABLE)


def test_a_csv_of_one_column_keeps_its_axis(tmp_path):
    assert read_rows(file_of(tmp_path, "x.csv", "a\n1\n2\n3\n")).x.shape == (3, 1)


def test_parquet_of_mixed_numbers_is_read_by_column(tmp_path):
    columns = {
        "i": pa.array([1, 2**60], pa.int64()),
        "f": pa.array([0.5, -1.5], pa.float64()),
        "h": pa.array(np.array([0.25, 4], "float16")),
        "b": pa.array([True, False]),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    rows = read_rows(tmp_path / "x.parquet")
    assert rows.columns == ("i", "f", "h", "b")
    np.testing.assert_array_equal(rows.x, np.array([[1, 0.5, 0.25, 1], [2**60, -1.5, 4, 0]], "float32"))


def test_a_keras_npz_brings_its_own_test_rows(tmp_path):
    x, x_test = np.arange(24, dtype="uint8").reshape(12, 2), np.zeros((3, 2), "uint8")
    np.savez(tmp_path / "k.npz", x_train=x, y_train=np.arange(12), x_test=x_test, y_test=np.arange(3))
    data = load_source(tmp_path / "k.npz")
    np.testing.assert_array_equal(data.rows.x, x)
    np.testing.assert_array_equal(data.rows.y, np.arange(12))
    np.testing.assert_array_equal(data.test.x, x_test)
    np.testing.assert_array_equal(split(data, 0).test, x_test)


@pytest.mark.parametrize(
    ("arrays", "names"),
    [
        ({"x_train": np.ones((12, 2)), "x_test": np.ones((3, 4))}, "(12, 2) and (3, 4)"),
        ({"x_train": np.ones((12, 2)), "x_test": np.ones((3, 2)), "y_train": np.ones(5)}, "5 labels, 12 rows"),
        ({"x_train": np.ones((12, 2)), "x_test": np.array([[1, np.nan]])}, "x_test, row 0, column 1"),
    ],
)
def test_a_keras_npz_that_does_not_fit_together_is_refused(tmp_path, arrays, names):
    np.savez(tmp_path / "k.npz", **arrays)
    assert names in refusal(tmp_path / "k.npz", load_source)


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    data = load_source("digits")
    np.testing.assert_array_equal(data.rows.x, load_digits().data)
    np.testing.assert_array_equal(data.rows.y, load_digits().target)
    assert data.rows.x.dtype == np.float32


@pytest.mark.parametrize(
    "of",
    [np.asarray, np.ndarray.tolist, tf.constant, pd.DataFrame, lambda x: x.astype(object), lambda x: x.astype(str)],
)
def test_an_array_or_what_stands_for_one_is_a_source(of):
    np.testing.assert_allclose(load_source(of(TABLE)).rows.x, TABLE, rtol=1e-6)


@pytest.mark.parametrize("of", [np.asarray, lambda x: np.ma.masked_invalid(x), lambda x: np.where(x == x, x, None)])
def test_an_array_of_numbers_some_of_which_are_missing_is_a_table(of):
    x = np.where(np.arange(60).reshape(20, 3) % 7 == 0, np.nan, np.arange(60.0).reshape(20, 3) ** 2)
    rows = load_source(of(x)).rows
    assert rows.columns == ("x0", "x1", "x2")
    np.testing.assert_array_equal(rows.x, x)


def test_a_structured_array_is_a_table():
    rows = load_source(np.array([(1.5, "u"), (2.5, "v"), (1, "u"), (3, "v")], [("a", "f8"), ("b", "U1")])).rows
    assert [column.kind for column in rows.schema.columns] == ["numeric", "categorical"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (scipy.sparse.csr_array(TABLE), r"dense\. Received: csr_array; `\.toarray\(\)`"),
        ((TABLE, np.arange(2)), r"fit\(x, labels=y\)"),
        (iter(TABLE), "a DataFrame.*Received: iterator"),
        (tf.data.Dataset.from_tensor_slices(TABLE), "Received: _TensorSliceDataset"),
        (pd.DataFrame(TABLE, columns=list("aba")), "name of its own. Received: 'a' more than once"),
        (pd.Series([1.0, 2.0]), r"one feature \(rows, 1\)"),
    ],
)
def test_what_stands_for_no_array_is_refused_with_the_way_out(wrong, message):
    with pytest.raises(InputError, match=message):
        load_source(wrong)


def test_labels_go_beside_what_is_in_memory(tmp_path):
    for x in (TABLE, pd.DataFrame(TABLE), TABLE.tolist()):
        data = load_source(x, labels=["u", "v"])
        assert data.rows.y.tolist() == ["u", "v"]
        assert data.labels is None
    with pytest.raises(InputError, match=r"shape \(2,\), one a row. Received: \(3,\)"):
        load_source(TABLE, labels=[1, 2, 3])
    words = pd.DataFrame({"a": [1.0, 2, 3], "b": ["1", "2", "x"]})
    with pytest.raises(InputError, match="all learned from"):
        load_source(words, labels=[0, 1, 0], schema={"b": {"kind": "numeric"}}, skip=True)


def test_a_line_of_cells_in_the_place_of_names_is_noted(tmp_path):
    cells = "\n".join(f"{i / 7},{'uv'[i % 2]}" for i in range(1, 20))
    (note,) = load_source(file_of(tmp_path, "x.csv", cells)).rows.notes
    assert "0.14285714285714285" in note
    assert load_source(file_of(tmp_path, "y.csv", "a,b\n" + cells)).rows.notes == ()


# Folders of images


def picture(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def test_grey_images_are_labelled_by_their_folders(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 4), "uint8")
    for name, image in zip(["cat/1.png", "cat/2.PNG", "dog/deep/3.bmp"], images, strict=True):
        picture(tmp_path / name, image)
    rows = load_source(tmp_path).rows
    assert rows.x.dtype == np.uint8
    np.testing.assert_array_equal(rows.x, images)
    assert list(rows.y) == ["cat", "cat", "dog"]


def test_one_colour_image_makes_all_three_channels_and_loose_files_have_no_labels(tmp_path):
    grey, colour = np.full((5, 4), 7, "uint8"), np.arange(60, dtype="uint8").reshape(5, 4, 3)
    picture(tmp_path / "a.png", grey)
    picture(tmp_path / "b.png", colour)
    rows = load_source(tmp_path).rows
    np.testing.assert_array_equal(rows.x, [np.repeat(grey[..., None], 3, axis=-1), colour])
    assert rows.y is None


def test_images_of_two_sizes_are_refused_by_name(tmp_path):
    picture(tmp_path / "a.png", np.zeros((5, 4), "uint8"))
    picture(tmp_path / "b.png", np.zeros((4, 5), "uint8"))
    with pytest.raises(InputError, match=r"one size.*a\.png of \(5, 4\).*b\.png of \(4, 5\)"):
        load_source(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an image", "cut"], ids=["empty", "text", "cut"])
def test_an_image_that_is_none_is_named(tmp_path, content):
    if content == "cut":
        buffer = io.BytesIO()
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), "uint8")).save(buffer, "png")
        content = buffer.getvalue()[:900]
    picture(tmp_path / "a.png", np.zeros((40, 40), "uint8"))
    assert "not a readable image" in refusal(
        file_of(tmp_path, "b.png", content), read=lambda path: load_source(path.parent)
    )


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_an_image_deeper_than_8_bits_is_refused_and_not_clipped(tmp_path, dtype):
    picture(tmp_path / "a.tif", (1000 * np.arange(16).reshape(4, 4)).astype(dtype))
    with pytest.raises(InputError, match=r"a\.tif must have 8 bits"):
        load_source(tmp_path)


@given(position=st.integers(0, 60), bits=st.integers(1, 255))
@FILES
def test_a_damaged_image_is_refused_or_read_but_never_crashes(tmp_path, position, bits):
    picture(tmp_path / "a.png", np.full((8, 8), 3, "uint8"))
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[position] ^= bits
    (tmp_path / "a.png").write_bytes(content)
    with contextlib.suppress(InputError):
        assert load_source(tmp_path).rows.x.dtype == np.uint8


def test_a_folder_without_images_is_refused(tmp_path):
    file_of(tmp_path, "notes.txt", "hello")
    assert "must hold files" in refusal(tmp_path, load_source)


# Round trips


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "parquet"])
@given(x=arrays("float32", array_shapes(min_dims=2, max_dims=2, max_side=5), elements=numbers))
@FILES
def test_rows_come_back_bit_by_bit_from_every_ending(tmp_path, ending, x):
    path = tmp_path / f"x.{ending}"
    write_rows(path, {"x": x})
    np.testing.assert_array_equal(read_rows(path).x, x)


@pytest.mark.parametrize("shape", [(4, 3, 2), (2, 3, 4, 1), (1, 1, 1)])
@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
def test_images_keep_their_shape(tmp_path, ending, shape):
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    write_rows(tmp_path / f"x.{ending}", {"x": x})
    rows = read_rows(tmp_path / f"x.{ending}")
    np.testing.assert_array_equal(rows.x, x)
    assert rows.columns is None


def test_a_csv_of_images_has_a_column_a_pixel(tmp_path):
    x = np.arange(12, dtype="float32").reshape(2, 3, 2)
    write_rows(tmp_path / "x.csv", {"x": x})
    rows = read_rows(tmp_path / "x.csv")
    np.testing.assert_array_equal(rows.x, x.reshape(2, 6))
    assert rows.columns == tuple(f"x{i}" for i in range(6))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_tables_keep_their_column_names(tmp_path, ending):
    names = ("plain", 'with "quotes", comma', "ünï")
    write_rows(tmp_path / f"x.{ending}", {"x": TABLE}, names)
    assert read_rows(tmp_path / f"x.{ending}").columns == names


@pytest.mark.parametrize("ending", ["npy", "csv", "parquet"])
def test_several_results_become_columns(tmp_path, ending):
    results = {"score": np.array([1, 2, 3], "float32"), "p_value": np.array([0.5, 0.25, 0.125], "float32")}
    write_rows(tmp_path / f"r.{ending}", results)
    rows = read_rows(tmp_path / f"r.{ending}")
    np.testing.assert_array_equal(rows.x, np.column_stack([*results.values()]))
    assert rows.columns == (None if ending == "npy" else ("score", "p_value"))


def test_several_results_keep_their_names_in_npz(tmp_path):
    results = {"score": np.array([1, 2], "float32"), "p_value": np.array([0.5, 1], "float32")}
    write_rows(tmp_path / "r.npz", results)
    with np.load(tmp_path / "r.npz") as got:
        assert set(got.files) == set(results)
        np.testing.assert_array_equal(got["p_value"], results["p_value"])


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "parquet"])
def test_a_full_disk_leaves_the_previous_file_and_nothing_else(tmp_path, ending, monkeypatch):
    path = file_of(tmp_path, f"x.{ending}", "previous")

    def full(target, *arguments, **options):
        (target.write(b"ha") if hasattr(target, "mode") and "b" in target.mode else None)
        raise OSError(errno.ENOSPC, "No space left on device")

    module, name = {
        "npy": (np.lib.format, "write_array_header_1_0"),
        "npz": (np, "savez"),
        "csv": (np, "savetxt"),
        "parquet": (pq, "ParquetWriter"),
    }[ending]
    monkeypatch.setattr(module, name, full)
    assert "No space left" in refusal(path, lambda path: write_rows(path, {"x": TABLE}))
    assert path.read_text() == "previous"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "rule"),
    [("x.txt", "must end in"), ("x", "must end in"), ("gone/x.csv", "No such folder"), ("taken.csv", "could not be")],
)
def test_a_target_that_can_not_be_written_is_refused(tmp_path, name, rule):
    (tmp_path / "taken.csv").mkdir()
    with pytest.raises(InputError, match=rule):
        write_rows(tmp_path / name, {"x": TABLE})
    assert [path.name for path in tmp_path.iterdir()] == ["taken.csv"]


# What is refused, by file, row and column


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e39], ids=str)
@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "parquet"])
def test_what_is_not_finite_in_float32_is_named_by_row_and_column(tmp_path, ending, value):
    x = np.ones((5, 3))
    x[3, 1] = x[4, 2] = value
    path = tmp_path / f"x.{ending}"
    write_rows(path, {"x": x}, ("a", "b", "c"))
    message = refusal(path)
    assert f"row 3, column {'b' if ending in ('csv', 'parquet') else 1}:" in message
    assert "(2 such rows in all)" in message


def test_nan_in_an_image_is_named_by_its_position(tmp_path):
    x = np.ones((2, 3, 4))
    x[1, 2, 3] = np.nan
    np.save(tmp_path / "x.npy", x)
    assert "row 1, column (2, 3)" in refusal(tmp_path / "x.npy")


def test_a_missing_value_in_parquet_is_named(tmp_path):
    pq.write_table(pa.table({"a": [1, 2, None], "b": [1, 2, 3]}), tmp_path / "x.parquet")
    assert "row 2, column a" in refusal(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a,b\n1,2\n3,four\n", ["line 3", "column b", "'four'"]),
        ("1,2\n3,four\n", ["line 2", "column number 1", "'four'"]),
        ("a,b\n1,2\n,4\n", ["line 3", "column a", "an empty cell"]),
        ("1,2\n3,\n", ["line 2", "column number 1", "an empty cell"]),
        ("1,,3\n4,5,6\n", ["line 1", "column number 1", "an empty cell"]),
        ("a,b\n1,2\n3,4,5\n", ["line 3", "2 columns", "Received: 3"]),
        ("1,2\n\n3\n", ["line 3", "2 columns", "Received: 1"]),
        ("a,b,c\n1,2\n3,4\n", ["line 2", "3 columns", "Received: 2"]),
        ("\na,b\n1,x\n", ["line 3", "column b", "'x'"]),
        ("a,b\n1,1_000\n", ["line 2", "column b", "'1_000'"]),
        ("a,b\n1,٣\n", ["line 2", "column b", "'٣'"]),
        ("a;b\n1;1.23,5\n", ["line 2", "column b", "'1.23,5'"]),
        ('"a\nb",c\n1,2\n3,x\n', ["line 4", "column c", "'x'"]),
        ("a,b\n", ["no rows"]),
        ("\n\n", ["no rows"]),
        ("a,b,a\n1,2,3\n", ["'a' more than once"]),
        (b"\xff\xfe1\x00,\x002\x00", ["UTF-8"]),
        ("a,b\n1," + "2" * 200_000, []),
        ("9" * 200_000 + ",1\n", ["not a readable .csv"]),
    ],
    ids=lambda value: None if isinstance(value, list) else repr(value[:20]),
)
def test_a_bad_cell_of_a_csv_is_named_by_line_and_column(tmp_path, text, named, recwarn):
    message = refusal(file_of(tmp_path, "x.csv", text))
    for words in named:
        assert words in message
    assert not recwarn.list


def test_a_column_of_text_in_parquet_is_named(tmp_path):
    pq.write_table(pa.table({"a": [1.0], "city": ["Rome"]}), tmp_path / "x.parquet")
    message = refusal(tmp_path / "x.parquet")
    assert "column city" in message
    assert "string" in message


def test_parquet_with_one_name_twice_is_refused(tmp_path):
    pq.write_table(pa.Table.from_arrays([pa.array([1.0])] * 2, names=["a", "a"]), tmp_path / "x.parquet")
    assert "'a' more than once" in refusal(tmp_path / "x.parquet")


def test_the_name_of_a_folder_is_no_column_of_parquet(tmp_path):
    (tmp_path / "year=2020").mkdir()
    write_rows(tmp_path / "year=2020" / "x.parquet", {"x": TABLE}, ("a", "b", "c"))
    assert read_rows(tmp_path / "year=2020" / "x.parquet").columns == ("a", "b", "c")


@pytest.mark.parametrize("ending", ["npy", "npz", "csv", "parquet"])
def test_a_file_that_is_missing_empty_a_folder_or_of_another_kind_is_refused(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    assert "No such file" in refusal(path)
    path.mkdir()
    assert "a folder" in refusal(path)
    path.rmdir()
    path.touch()
    assert "is empty" in refusal(path)
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00 certainly none of these")
    refusal(path)


def test_an_unknown_ending_or_source_is_refused(tmp_path):
    assert "must end in .npy" in refusal(file_of(tmp_path, "x.txt", "1"))
    with pytest.raises(InputError, match=r"must end in \.npy.*Received: notes\.txt"):
        load_source(file_of(tmp_path, "notes.txt", "x"))
    with pytest.raises(InputError, match=r"No such source: digitz.*digits"):
        load_source("digitz")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


@pytest.mark.parametrize("ending", ["npy", "npz"])
def test_a_pickle_is_refused_and_not_run(tmp_path, ending):
    path = tmp_path / f"x.{ending}"
    bomb = np.array([[Bomb()]], dtype=object)
    np.save(path, bomb) if ending == "npy" else np.savez(path, X=bomb)
    refusal(path)


@pytest.mark.parametrize(
    "x",
    [np.float32(1), np.array([["a", "b"]]), np.array([[1j, 2]]), np.zeros((2, 2), "M8[s]"), np.zeros(2, "f4,f4")],
    ids=["scalar", "text", "complex", "dates", "records"],
)
def test_arrays_that_are_no_rows_of_numbers_are_refused(tmp_path, x):
    np.save(tmp_path / "x.npy", x)
    assert "array of numbers" in refusal(tmp_path / "x.npy")


def test_one_axis_is_refused_with_the_way_out(tmp_path):
    np.save(tmp_path / "x.npy", np.ones(5))
    message = refusal(tmp_path / "x.npy")
    assert "(5,)" in message
    assert "(rows, 1)" in message


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_arrays_without_numbers_are_refused(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.ones(shape))
    assert "holds no rows" in refusal(tmp_path / "x.npy")


@pytest.mark.parametrize("y", [np.arange(3), np.array(1)], ids=["too many", "scalar"])
def test_labels_must_be_one_a_row(tmp_path, y):
    np.savez(tmp_path / "x.npz", X=TABLE, y=y)
    assert "one label a row" in refusal(tmp_path / "x.npz")


def test_an_npz_of_several_unknown_arrays_is_refused_by_their_names(tmp_path):
    np.savez(tmp_path / "x.npz", first=TABLE, second=TABLE)
    assert "first, second" in refusal(tmp_path / "x.npz")


@pytest.mark.parametrize(("ending", "content"), [("npy", "npz"), ("npz", "npy")])
def test_an_ending_that_lies_is_refused(tmp_path, ending, content):
    write_rows(tmp_path / f"x.{content}", {"x": TABLE})
    refusal((tmp_path / f"x.{content}").rename(tmp_path / f"x.{ending}"))


@pytest.mark.parametrize("ending", ["npy", "npz", "parquet"])
@given(data=st.data())
@FILES
def test_damaged_bytes_are_refused_or_read_but_never_crash(tmp_path, ending, data):
    path = tmp_path / f"x.{ending}"
    write_rows(path, {"x": TABLE})
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), "cut"):
        content = content[: data.draw(st.integers(0, len(content) - 1), "length")]
    else:
        content[data.draw(st.integers(0, len(content) - 1), "position")] ^= data.draw(st.integers(1, 255), "bits")
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert np.isfinite(read_rows(path).x).all()


def test_a_damaged_npz_is_refused(tmp_path):
    write_rows(tmp_path / "x.npz", {"x": TABLE})
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[content.index(TABLE.tobytes())] ^= 1  # only the checksum tells
    assert "CRC" in refusal(file_of(tmp_path, "x.npz", bytes(content)))


# Splits


@given(rows=st.integers(10, 400), seed=st.integers(0, 2**32 - 1), own_test=st.booleans())
@settings(max_examples=40, deadline=None)
def test_splits_are_disjoint_and_cover_every_row(rows, seed, own_test):
    x = np.arange(rows, dtype="float32")[:, None]
    test = x[:4] + 1000 if own_test else None
    parts = split(source(x, test), seed)
    held = ["train", "validation", "calibration"] + ["test"] * (not own_test)
    got = np.concatenate([parts.parts()[name] for name in held])
    assert len(got) == rows
    np.testing.assert_array_equal(np.sort(got, axis=0), x)
    assert all(len(part) for part in parts.parts().values())
    assert parts.duplicates == {}
    if own_test:
        np.testing.assert_array_equal(parts.test, test)


def test_one_seed_gives_one_split_and_another_seed_another():
    x = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    first, again, other = split(source(x), 1), split(source(x), 1), split(source(x), 2)
    assert first.describe() == again.describe()
    assert all(first.describe()[name] != other.describe()[name] for name in first.parts())


def test_a_tenth_is_held_for_each_and_rows_keep_their_order():
    parts = split(source(np.arange(100, dtype="float32")[:, None]), 0)
    assert {name: len(part) for name, part in parts.parts().items()} == {
        "train": 70,
        "validation": 10,
        "calibration": 10,
        "test": 10,
    }
    assert all((np.diff(part[:, 0]) > 0).all() for part in parts.parts().values())


def test_held_rows_are_capped():
    sizes = {name: entry["rows"] for name, entry in split(source(np.eye(1, 150_000).T), 0).describe().items()}
    assert sizes == {"train": 133_000, "validation": 5_000, "calibration": 2_000, "test": 10_000}


def test_duplicates_are_counted_against_all_earlier_splits():
    x = np.arange(20, dtype="float32")[:, None]
    x[10:] = x[:10]
    parts = split(source(x), 3)
    seen, expected = set(), {}
    for name in ("train", "validation", "calibration", "test"):
        values = parts.parts()[name][:, 0].tolist()
        if name != "train" and (count := sum(value in seen for value in values)):
            expected[name] = count
        seen.update(values)
    assert expected
    assert parts.duplicates == expected


def test_the_hash_of_a_split_is_that_of_its_bytes():
    parts = split(source(np.arange(30, dtype="uint8")[:, None]), 0)
    for name, entry in parts.describe().items():
        assert entry["sha256"] == hashlib.sha256(bytes(parts.parts()[name].ravel().tolist())).hexdigest()


def test_nine_rows_are_too_few_and_ten_are_enough():
    x = np.arange(10, dtype="float32")[:, None]
    assert len(split(source(x), 0).train) == 7
    with pytest.raises(InputError, match=r"at least 10 rows.*Received: 9"):
        split(source(x[:9]), 0)


def test_rows_that_are_all_the_same_are_refused():
    with pytest.raises(InputError, match=r"12 rows that are all the same"):
        split(source(np.tile(np.array([1.0, 2.0], "float32"), (12, 1))), 0)


# Scaling


@pytest.mark.parametrize("rows", [1, 7, 8192, 8193, 20_000])
@pytest.mark.parametrize("shape", [(3,), (2, 2, 1)])
def test_mean_and_deviation_are_those_of_numpy(rows, shape):
    unit = 1000.0 ** np.arange(np.prod(shape)).reshape(shape)  # far apart, so that each feature has its own deviation
    x = (np.random.default_rng(0).normal(1, 1, size=(rows, *shape)) * unit).astype("float32")
    got = fit_scaling(x)
    exact = x.astype("float64")
    assert got.shift.dtype == got.scale.dtype == np.float32
    # A float64 sum of 20,000 terms is good to 1e-12; what is left is the rounding to float32.
    np.testing.assert_allclose(got.shift, exact.mean(axis=0), rtol=1e-6)
    if rows > 1:
        assert not got.shared
        np.testing.assert_allclose(got.scale, exact.std(axis=0), rtol=1e-6)


def test_features_of_one_unit_share_the_root_of_their_mean_variance():
    x = np.random.default_rng(0).normal(0, [1, 2, 3, 0.2], size=(500, 4)).astype("float32")
    got = fit_scaling(x)
    assert got.shared
    np.testing.assert_allclose(got.scale, np.full(4, np.sqrt(x.astype("float64").var(axis=0).mean())), rtol=1e-6)


@pytest.mark.parametrize(("quiet", "shared"), [(0.11, True), (0.09, False)])
def test_one_scale_is_shared_where_the_median_deviation_is_a_tenth_of_the_largest(quiet, shared):
    sign = np.tile([[1.0], [-1.0]], (10, 1))
    x = (sign * [1.0, quiet, quiet]).astype("float32")  # deviations are exactly 1 and `quiet`
    assert fit_scaling(x).shared is shared


def test_two_columns_or_channels_of_different_units_are_scaled_apart():
    sign = np.tile([[1.0], [-1.0]], (10, 1))
    x = (sign * [80_361.0, 17.0]).astype("float32")  # days as 19580329, and parts per million
    for rows in (x, np.stack([x] * 24, axis=1)):
        np.testing.assert_array_equal(fit_scaling(rows).scale, np.abs(rows[0]))


def test_digits_share_one_scale():
    assert fit_scaling(load_source("digits").rows.x).shared


@pytest.mark.parametrize("mean", [1e4, 1e6, -3e7])
def test_a_large_mean_costs_no_precision(mean):
    x = (mean + 64.0 * np.random.default_rng(0).integers(-5, 6, (9000, 2))).astype("float32")
    got = fit_scaling(x)
    # Naive sums of squares would be off by mean**2 * 1e-16 * sqrt(rows), which at 3e7 is a tenth and more of 1.
    np.testing.assert_allclose(got.scale, np.sqrt(x.astype("float64").var(axis=0).mean()), rtol=1e-6)
    np.testing.assert_allclose(got.shift, x.astype("float64").mean(axis=0), rtol=1e-7)


def test_constant_features_are_named_and_get_a_harmless_scale():
    x = np.random.default_rng(0).normal(0, [1, 1e3, 1, 1e6], size=(50, 4)).astype("float32")
    x[:, 2] = 0.1
    got = fit_scaling(x)
    assert got.constant == (2,)
    assert not got.shared
    assert got.scale[2] == 1.0
    assert got.shift[2] == np.float32(0.1)


def test_rows_that_never_change_have_scale_one():
    got = fit_scaling(np.full((20, 3), 5.0, "float32"))
    assert got.constant == (0, 1, 2)
    np.testing.assert_array_equal(got.scale, np.ones(3))
    np.testing.assert_array_equal(got.shift, np.full(3, 5))


def test_pixels_are_scaled_without_overflow():
    x = np.random.default_rng(0).integers(0, 256, (300, 4, 4), "uint8")
    got = fit_scaling(x)
    np.testing.assert_allclose(got.shift, x.astype("float64").mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(got.scale, np.sqrt(x.astype("float64").var(axis=0).mean()), rtol=1e-6)


@given(x=arrays("float32", array_shapes(min_dims=2, max_dims=3, max_side=6), elements=numbers))
@settings(max_examples=100, deadline=None)
def test_scale_is_finite_and_positive_for_any_rows(x):
    got = fit_scaling(x)
    assert np.isfinite(got.shift).all()
    assert np.isfinite(got.scale).all()
    assert (got.scale > 0).all()
