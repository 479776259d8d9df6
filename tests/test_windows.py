"""Time series: windows that don't cross gaps, splits that don't share rows, scores by time stamp."""

import csv

import numpy as np
import pytest

from keras_ae import pipeline, runtime
from keras_ae.data import Windowing, load_source, split
from keras_ae.data.windows import read_series, spread, starts_of, windows, worst
from keras_ae.errors import InputError
from keras_ae.provenance import fitted_splits

pd = pytest.importorskip("pandas")


def sensors(rows, seed=0):
    random, t = np.random.default_rng(seed), np.arange(rows)
    return pd.DataFrame(
        {
            "time": pd.date_range("2025-01-01", periods=rows, freq="15min").astype(str),
            "flow": np.sin(2 * np.pi * t / 12) + 0.1 * random.normal(size=rows),
            "heat": 5 * np.cos(2 * np.pi * t / 24) + 0.5 * random.normal(size=rows),
            "site": "north",
        }
    )


@pytest.fixture(scope="session")
def sensors_artifact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("windows")
    sensors(1200).to_csv(folder / "sensors.csv", index=False)
    source = load_source(folder / "sensors.csv", windowing=Windowing.asked(16))
    pipeline.fit(source, folder / "sensors", epochs=2, network="dense", hidden=[16], latent_dim=6, report=False)
    return folder / "sensors"


def test_windows_cross_neither_gaps_nor_missing_cells():
    table = sensors(100)
    table.loc[30, "flow"] = np.nan
    table = table.drop(index=range(60, 65)).reset_index(drop=True)
    series, windowing, notes = read_series(table, Windowing.asked(8, 4))
    assert (windowing.time, windowing.channels, windowing.dropped) == ("time", ("flow", "heat"), ("site",))
    assert windowing.step == 900.0
    assert "site" in notes[0]
    runs = starts_of(series, windowing)
    assert [(int(run[0]), int(run[-1]) + 8) for run in runs] == [(0, 30), (31, 60), (60, 95)]
    cut = windows(series, np.concatenate(runs), 8)
    assert cut.shape[1:] == (8, 2)
    assert np.isfinite(cut).all()
    np.testing.assert_array_equal(cut[0], table[["flow", "heat"]].to_numpy("float32")[:8])
    assert Windowing.of(windowing.describe()) == windowing


def test_no_row_is_in_two_splits():
    source = load_source(sensors(2000), windowing=Windowing.asked(16))
    assert source.rows.windowing.stride == 1
    parts = split(source, seed=0).parts()
    rows = {name: {row.tobytes() for window in part for row in window} for name, part in parts.items()}
    for a in rows:
        assert not any(rows[a] & rows[b] for b in rows if a != b)
    assert len(parts["train"]) > 4 * len(parts["test"])


def test_what_windows_say_goes_back_to_rows():
    starts = np.array([0, 2, 6])
    values = {"score": np.array([1.0, 3.0, 2.0]), "p_value": np.array([0.5, 0.1, 0.2])}
    of_rows = worst(values, "score", starts, 4, 11)
    np.testing.assert_array_equal(of_rows["score"], [1, 1, 3, 3, 3, 3, 2, 2, 2, 2, np.nan])
    np.testing.assert_array_equal(of_rows["p_value"][[0, 3, 6]].round(3), np.float32([0.5, 0.1, 0.2]))
    mean = spread(np.stack([np.full((4, 1), v) for v in (1.0, 3.0, 2.0)]), starts, 4, 11)
    np.testing.assert_array_equal(mean[:, 0], [1, 1, 2, 2, 3, 3, 2, 2, 2, 2, np.nan])


def test_a_series_is_scored_by_its_time_stamps(sensors_artifact, tmp_path, run):
    new = sensors(300, seed=1)
    new.loc[150:157, "flow"] = 4.0
    new.loc[40, "heat"] = np.nan
    new.to_csv(tmp_path / "new.csv", index=False)

    assert (
        run("score", sensors_artifact, tmp_path / "new.csv", "--out", tmp_path / "s.csv", "--alpha", "0.05").exit_code
        == 0
    )
    scores = pd.read_csv(tmp_path / "s.csv")
    assert scores["time"].tolist() == new["time"].tolist()
    assert np.flatnonzero(scores["score"].isna()).tolist() == [40]
    assert scores["anomaly"][150:158].eq(1).all()
    assert scores["anomaly"][60:130].mean() < 0.5
    assert 140 < scores["score"].idxmax() < 165

    assert run("explain", sensors_artifact, tmp_path / "new.csv", "--out", tmp_path / "e.csv").exit_code == 0
    explained = pd.read_csv(tmp_path / "e.csv")
    assert 148 <= explained["flow"].idxmax() <= 159
    assert explained["flow"].max() > 3 * explained["heat"].max()
    assert run("reconstruct", sensors_artifact, tmp_path / "new.csv", "--out", tmp_path / "r.csv").exit_code == 0
    rebuilt = pd.read_csv(tmp_path / "r.csv")
    assert np.corrcoef(rebuilt["heat"][60:140], new["heat"][60:140])[0, 1] > 0.9
    assert run("encode", sensors_artifact, tmp_path / "new.csv", "--out", tmp_path / "z.csv").exit_code == 0
    with (tmp_path / "z.csv").open() as file:
        first = next(csv.DictReader(file))
    assert (first["start"], first["end"]) == (new["time"][0], new["time"][15])
    assert run("monitor", sensors_artifact, tmp_path / "new.csv").exit_code == 0
    new.assign(flow=new["flow"] + 2).to_csv(tmp_path / "moved.csv", index=False)
    assert run("monitor", sensors_artifact, tmp_path / "moved.csv").exit_code == 3
    assert (
        run(
            "score", sensors_artifact, tmp_path / "new.csv", "--out", tmp_path / "s.csv", "--on-error", "skip"
        ).exit_code
        == 2
    )


def test_the_windows_of_training_are_found_again(sensors_artifact):
    manifest = runtime.load(sensors_artifact).manifest
    assert manifest["window"]["length"] == 16
    splits = fitted_splits(sensors_artifact, manifest, sensors_artifact.with_name("sensors.csv"))
    assert splits.train.shape[1:] == (16, 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.assign(time=t["time"][::-1].to_numpy()), "row 1, column time: must be later"),
        (lambda t: t.assign(time=["soon", *t["time"][1:]]), "row 0, column time: must be a date"),
        (lambda t: t.assign(flow=np.where(np.arange(len(t)) % 10, t["flow"], np.nan)), "at most 9"),
        (lambda t: t[["time", "site"]], "a column of numbers"),
        (lambda t: t.head(40), "blocks of windows"),
    ],
)
def test_a_series_of_no_use_is_refused(change, said):
    with pytest.raises(InputError, match=said):
        split(load_source(change(sensors(200)), windowing=Windowing.asked(16, time="time")), 0)


def test_windows_take_arrays_and_no_labels():
    x = sensors(500)[["flow", "heat"]].to_numpy("float32")
    assert load_source(x, windowing=Windowing.asked(10, 5)).rows.x.shape[1:] == (10, 2)
    with pytest.raises(InputError, match="no labels"):
        load_source(sensors(500), labels="site", windowing=Windowing.asked(10))
    with pytest.raises(InputError, match="at least 2 rows"):
        Windowing.asked(1)
