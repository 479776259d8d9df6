"""What columns are, of tables as people keep them."""

import numpy as np
import pandas as pd
import pytest

from keras_ae.data import Windowing, infer, load_source
from keras_ae.data.cells import cells_of
from keras_ae.data.columns import fit_columns
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
