"""What columns are, of tables as people keep them."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from keras_ae.data import Windowing, infer, load_source
from keras_ae.data.cells import cells_of, table_like
from keras_ae.data.columns import fit_columns
from keras_ae.data.values import may_be_days
from keras_ae.data.windows import read_series
from keras_ae.errors import InputError


def column_of(cells):
    """The schema of a column of these cells beside one of numbers."""
    return infer(cells_of({"c": cells, "x": np.linspace(0, 1, len(cells))}))


@pytest.mark.parametrize(
    ("cells", "form", "days"),
    [
        (["7/21/2016", "7/22/2016", "12/1/2016"], "%m/%d/%Y", [0, 1, 133]),
        (["21/7/2016", "22/7/2016", "1/12/2016"], "%d/%m/%Y", [0, 1, 133]),
        (["01.07.2016", "02.07.2016", ""], "%d.%m.%Y", [0, 1, np.nan]),
        (["2016/07/21 6:30", "2016/07/21 18:30", "2016/07/22 6:30"], "%Y/%m/%d %H:%M", [0, 0.5, 1]),
        (["Jan 1 2000", "Feb 1 2000", "Jan 2 2000"], "%b %d %Y", [0, 31, 1]),
        (["6-Aug-2009", "7-Aug-2009", "."], "%d-%b-%Y", [0, 1, np.nan]),
        (["20160721 06:30", "20160721 18:30", "20160722 06:30"], None, [0, 0.5, 1]),
        (["06:30", "18:30", ""], "%H:%M", [0, 0.5, np.nan]),
        ([datetime.time(6, 30), datetime.time(0, 30), None], "%H:%M:%S", [0, -0.25, np.nan]),
    ],
)
def test_dates_need_no_schema_where_they_can_be_read_in_one_way(cells, form, days):
    source = load_source({"c": cells, "x": [0.5, 1.5, 2.5]})
    column = source.rows.schema.columns[0]
    assert (column.kind, column.format) == ("datetime", form)
    np.testing.assert_allclose(source.rows.x[:, 0] - source.rows.x[0, 0], days, atol=1e-4)
    fitted = fit_columns(source.rows.schema, source.rows.x)
    again = load_source({"c": fitted.table(source.rows.x)["c"], "x": [0.5, 1.5, 2.5]})
    np.testing.assert_array_equal(again.rows.x, source.rows.x)


DAY_NUMBERS = [20240131, 20240201, 20240229, 20240301, 20241231]


@pytest.mark.parametrize("ending", ["csv", "parquet", "dict"])
@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("beside", [{"x": np.arange(50) / 4}, {"x": np.arange(50) / 4, "c": list("ab") * 25}])
def test_whole_numbers_that_are_all_days_are_dates(tmp_path, ending, missing, beside):
    frame = pd.DataFrame({"day": DAY_NUMBERS * 10, **beside})
    if missing:
        frame.loc[3, "day"] = np.nan  # pandas makes floats of the others, in a .csv 20240131.0
    source = tmp_path / f"x.{ending}"
    if ending == "dict":
        source = dict(frame)
    elif ending == "csv":
        frame.to_csv(source, index=False)
    else:
        frame.to_parquet(source)
    rows = load_source(source).rows
    column = rows.schema.columns[0]
    assert (column.kind, column.format, column.nullable) == ("datetime", "%Y%m%d", missing)
    days = [0, 1, 29, np.nan if missing else 30, 335]
    np.testing.assert_array_equal(rows.x[:5, 0] - rows.x[0, 0], days)
    assert rows.schema.table(rows.x[:2])["day"].tolist() == ["20240131", "20240201"]
    new = {"day": [20240131, 20240131.0, "20240131", "20240131.0", "2024131", 20240230, "2024-01-31"]}
    new |= {name: cells[:7] for name, cells in beside.items()}
    x, problems = rows.schema.encode(cells_of(new))
    np.testing.assert_array_equal(x[:, 0], [rows.x[0, 0]] * 4 + [np.nan] * 3)
    assert [problem.row for problem in problems] == [4, 5, 6]


@pytest.mark.parametrize(
    "cells",
    [
        [*DAY_NUMBERS, 20240132],
        [*DAY_NUMBERS, 20241301],
        [*DAY_NUMBERS, 17991231],
        [*DAY_NUMBERS, 20240131.5],
        [*DAY_NUMBERS, 2024131],
        DAY_NUMBERS[:4] * 5,
    ],
)
@pytest.mark.parametrize("stored", [np.array, lambda cells: list(map(str, cells))], ids=["numbers", "texts"])
def test_other_numbers_are_no_days(cells, stored):
    assert column_of(stored(cells)).columns[0].kind == "numeric"


def test_what_may_be_days_is_read_again_and_nothing_else():
    days = np.array([*DAY_NUMBERS, np.nan])
    assert may_be_days(days)
    assert may_be_days(days.astype("float32"))  # 20240131 is 20240132 there
    for other in (20_241_301, 20_240_033, 20_240_131.5, 17_991_231, 22_000_101):
        assert not may_be_days(np.append(days, other))
    assert not may_be_days(np.array([np.nan]))


@pytest.mark.parametrize(
    ("cells", "decimal", "numbers"),
    [
        (["$1,234.50", "-$5", "($1,000,000)", "7"], ".", [1234.5, -5, -1e6, 7]),
        (["€1.234,50", "0,5 €", "-12,25", ""], ",", [1234.5, 0.5, -12.25, np.nan]),
        (["1,234", "2,500", "(17)"], ".", [1234, 2500, -17]),
        (["5.00 %", "12%", "0.5%"], ".", [5, 12, 0.5]),
        (["1'234.50", "1\xa0000", ".5"], ".", [1234.5, 1000, 0.5]),
        (["1.234", "2.500", "3"], None, [1.234, 2.5, 3]),
        (["1.234,50 €", "1234.5", "7,25"], ",", [1234.5, 1234.5, 7.25]),
        (["1.234", "0,125", "1.234.567,1"], ",", [1234, 0.125, 1234567.1]),
    ],
)
def test_amounts_are_numbers(tmp_path, cells, decimal, numbers):
    frame = pd.DataFrame({"c": cells, "x": np.arange(len(cells)) / 4})
    frame.to_csv(tmp_path / "x.csv", index=False)
    for source in (frame, tmp_path / "x.csv"):
        rows = load_source(source).rows
        column = rows.schema.columns[0] if rows.schema else None
        assert (decimal is None) == (column is None or column.decimal is None)
        np.testing.assert_allclose(rows.x[:, 0], np.array(numbers, "float32"))
    if column is not None:
        assert (column.kind, column.decimal, rows.schema.is_plain) == ("numeric", decimal, False)
        again, problems = rows.schema.encode(cells_of(rows.schema.table(rows.x)))
        np.testing.assert_array_equal(again, rows.x)
        assert not problems


@pytest.mark.parametrize(
    "cells",
    [["1,23,456", "u", "u"], ["0,123,456", "u", "u"], ["$", "u", "u"], ["12€3", "u", "u"], ["(5", "u", "u"]],
)
def test_other_texts_are_no_amounts(cells):
    assert column_of(cells * 5).columns[0].kind == "categorical"


def test_what_a_comma_means_may_be_said():
    table = {"c": ["1,234", "2,500", "3"], "x": [0.5, 1.5, 2.5]}
    x = load_source(table, schema={"c": {"kind": "numeric", "decimal": ","}}).rows.x[:, 0]
    np.testing.assert_allclose(x, [1.234, 2.5, 3])
    with pytest.raises(InputError, match=r"decimal of column c must be one of .* Received: ';'"):
        load_source(table, schema={"c": {"decimal": ";"}})


@pytest.mark.parametrize("stream", [False, True])
def test_points_between_thousands_have_decimal_commas_behind_them(tmp_path, stream):
    lines = [f"{i};1.234.{i % 900 + 100},5;-1.{i % 900 + 100},25;0,{i};{i}.5" for i in range(5, 2_005)]
    (tmp_path / "x.csv").write_text("i;a;b;c;d\n" + "\n".join(lines) + "\n")
    rows = load_source(tmp_path / "x.csv", stream=stream).rows
    assert rows.schema is None or rows.schema.is_plain
    i = rows.x[:, 0].astype(int)
    told = [i, 1_234_100.5 + i % 900, -1_100.25 - i % 900, [float(f"0.{k}") for k in i], i + 0.5]
    np.testing.assert_array_equal(rows.x, np.stack(told, axis=1).astype("float32"))


def test_amounts_and_days_are_found_in_a_stream(tmp_path):
    i = np.arange(3_000)
    amounts = np.where(i < 2_900, "1.234", "0,25")  # the last ones say what the others mean
    pd.DataFrame({"a": amounts, "day": np.array(DAY_NUMBERS)[i % 5], "x": i / 7}).to_csv(
        tmp_path / "x.csv", index=False
    )
    rows = load_source(tmp_path / "x.csv", stream=True).rows
    assert [(c.kind, c.decimal) for c in rows.schema.columns] == [
        ("numeric", ","),
        ("datetime", None),
        ("numeric", None),
    ]
    assert set(rows.x[:, 0]) == {1234, 0.25}


def test_columns_may_have_numbers_for_names_and_come_from_arrow():
    x = np.random.default_rng(0).normal(size=(20, 2)).astype("float32")
    np.testing.assert_array_equal(load_source(pd.DataFrame(x)).rows.x, x)
    table = pa.table({"a": x[:, 0], "b": x[:, 1]})
    np.testing.assert_array_equal(load_source(table).rows.x, x)
    assert table_like(table, {"a": x[:, 1], "b": x[:, 0]}).column_names == ["a", "b"]


def test_words_of_a_boolean_column_are_those_for_yes_and_no():
    cells = cells_of({"c": ["no", "yes", "maybe"], "x": [0.5, 1.5, 2.5]})
    assert infer(cells, {"c": {"kind": "boolean"}}).columns[0].levels == ("no", "yes")


def test_a_moment_that_utc_has_no_year_for_is_no_date():
    cells = [f"20{i}-01-01T00:00:00+05:00" for i in range(10, 29)]
    _, problems = column_of(cells).encode(cells_of({"c": ["0001-01-01T00:00:00+05:00"], "x": [0.5]}))
    assert "must be a date or time" in problems[0].message


def test_dates_that_can_be_read_in_two_ways_are_left_to_a_schema():
    table = {"day": ["1/2/2016", "2/3/2016", "3/2/2016"], "x": [0.5, 1.5, 2.5]}
    (note,) = load_source(table).rows.notes
    assert '{"day": {"kind": "datetime", "format": "%m/%d/%Y"}}' in note
    given = {"day": {"kind": "datetime", "format": "%d/%m/%Y"}}
    x = load_source(table, schema=given).rows.x[:, 0]
    np.testing.assert_array_equal(x - x[0], [0, 30, 2])
    with pytest.raises(InputError, match="Column day must have dates of one format"):
        load_source(table, schema={"day": "datetime"})


def test_a_time_of_another_format_is_kept_for_the_rows_to_come(tmp_path):
    days = pd.date_range("2024-01-30", periods=40)
    frame = pd.DataFrame({"t": range(40), "day": days.strftime("%d.%m.%Y"), "flow": np.sin(np.arange(40))})
    series, windowing, notes = read_series(frame, Windowing.asked(4))
    assert (windowing.channels, windowing.time, windowing.format) == (("flow",), "day", "%d.%m.%Y")
    assert windowing.step == 86_400
    assert notes == ["column t is left out: its numbers count the rows"]
    again, _, _ = read_series(frame[:8], Windowing.of(windowing.describe()))
    np.testing.assert_array_equal(again.seconds, series.seconds[:8])
    beside = frame[["t", "flow"]].assign(**{"t 2": frame["t"]})  # whose name begins with the time's
    series, windowing, notes = read_series(beside, Windowing.asked(4, time="t"))
    assert (windowing.channels, windowing.time) == (("flow",), "t")
    assert notes == ["column t 2 is left out: its numbers count the rows"]


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("words", [False, True])
def test_a_column_that_counts_the_rows_is_left_out(tmp_path, first, words):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"id": np.arange(30) + first, "x": rng.normal(size=30)})
    frame = frame.assign(c=list("abc") * 10) if words else frame
    frame.to_csv(tmp_path / "x.csv", index=False)
    for source in (tmp_path / "x.csv", frame):
        rows = load_source(source).rows
        assert rows.schema.dropped == ("id",)
        assert rows.notes == ("column id is left out: its numbers count the rows",)
        kept = load_source(source, schema={"id": "numeric"}).rows
        np.testing.assert_array_equal(kept.x[:, 0], frame["id"])


@pytest.mark.parametrize(
    "cells",
    [np.arange(30) * 2, np.arange(30) + 1947, np.roll(np.arange(30), 1), np.arange(1, 6), [True] * 30],
    ids=["steps of two", "years", "another order", "few rows", "flags"],
)
def test_other_numbers_do_not_count_rows(cells):
    assert "c" in column_of(cells).names


def test_the_signs_of_other_programs_for_nothing():
    rows = load_source({"a": ["1", ".", "3"], "b": ["#N/A", "u", "v"], "x": [1.5, 2.5, 3.5]}).rows
    np.testing.assert_array_equal(np.isnan(rows.x), [[False, True, False], [True, False, False], [False] * 3])


@pytest.mark.parametrize("index", [False, True])
def test_columns_that_pandas_numbers_are_named_so(tmp_path, index):
    x = np.random.default_rng(0).normal(size=(40, 5)).astype("float32")
    pd.DataFrame(x).to_csv(tmp_path / "x.csv", index=index)
    rows = load_source(tmp_path / "x.csv").rows
    assert rows.columns == ("0", "1", "2", "3", "4")
    np.testing.assert_array_equal(rows.x, x)


def test_numbers_without_names_may_be_many(tmp_path):
    x = np.random.default_rng(0).normal(size=(3_000, 100)).astype("float32")
    np.savetxt(tmp_path / "x.csv", x, delimiter=",")
    assert (tmp_path / "x.csv").stat().st_size > 4 << 20  # from where on a table's columns are looked at first
    rows = load_source(tmp_path / "x.csv").rows
    assert rows.columns is None
    np.testing.assert_array_equal(rows.x, x)


def test_a_word_among_numbers_is_told_with_what_helps(tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n" + "".join(f"{i},{i + 0.5}\n" for i in range(3, 23)) + "rotary,1\n")
    with pytest.raises(InputError, match=r"line 22, column a: .*'rotary'.*--on-error skip.*--schema"):
        load_source(tmp_path / "x.csv")
    skipped = load_source(tmp_path / "x.csv", skip=True)
    assert len(skipped.rows.x) == 20
    assert len(load_source(tmp_path / "x.csv", schema={"a": "categorical"}).rows.x) == 21
