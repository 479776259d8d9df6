"""Measuring: names take turns, every function, precision and batch has its figures, and the chart shows them."""

import json
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from keras_ae import bench
from keras_ae.errors import InputError, MissingExtra

FUNCTIONS = ["encode", "decode", "reconstruct", "score", "explain", "classify", "generate"]


def test_calls_take_turns():
    order = []
    times = bench.alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, seconds=0, rounds=3)
    assert "".join(order) == "aabb" + 3 * "ab"
    assert {name: array.shape for name, array in times.items()} == {"a": (3, 1), "b": (3, 1)}
    assert all((array >= 0).all() for array in times.values())


def test_a_ratio_is_that_of_rounds_so_that_a_slow_one_does_not_count():
    base = np.array([[1.0, 1, 9], [1, 1, 1], [1, 1, 1]])
    slow = np.array([[2.0, 2, 2], [50, 50, 50], [2, 2, 2]])
    assert bench.ratio(slow, base) == 2


@pytest.fixture(scope="module")
def speeds(digits_artifact):
    calls = []

    def other(function, array):
        return lambda: calls.append((function, array.shape))

    def refused(function, array):
        def call():
            raise InputError("This provider does not start here.")

        return call

    told = []
    found = bench.measure(
        digits_artifact, {"other": other, "refused": refused}, 0.001, lambda what, share: told.append(share)
    )
    assert told == sorted(told)
    assert {function for function, _ in calls} == set(FUNCTIONS)
    assert ("encode", (1024, 64)) in calls
    assert ("decode", (64, 8)) in calls
    return found


def test_every_function_has_its_figures_for_whatever_runs_it(speeds):
    assert [(s.function, s.runs) for s in speeds] == [(f, r) for f in FUNCTIONS for r in ("float32 CPU", "other")]
    for speed in speeds:
        assert 0 < speed.p50 <= speed.p99
        assert set(speed.rows_per_second) == {1, 64, 1024}
        assert speed.rows_per_second[1] == pytest.approx(1 / speed.p50)


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_the_chart_names_what_it_shows(speeds, tmp_path, ending):
    path = tmp_path / f"speeds.{ending}"
    bench.chart(speeds, path, "digits")
    assert path.stat().st_size > 5_000
    if ending == "svg":
        ElementTree.parse(path)
        text = path.read_text()
        assert all(f"<!-- {name} -->" in text for name in (*FUNCTIONS, "float32 CPU", "other", "digits"))


def test_a_chart_that_can_not_be_drawn_is_refused_before_the_work(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"must end in .svg, .png, .pdf. Received: speeds.txt"):
        bench.check_chart(tmp_path / "speeds.txt")
    with pytest.raises(InputError, match="No such folder"):
        bench.check_chart(tmp_path / "gone" / "speeds.svg")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MissingExtra, match=r"keras-ae\[train\]"):
        bench.check_chart(tmp_path / "speeds.svg")


def test_the_command_prints_a_table_bars_or_json(digits_artifact, tmp_path, monkeypatch, capsys):
    from keras_ae import cli

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["keras-ae", "bench", str(digits_artifact), "--seconds", "0.01", *arguments])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        assert not exit_.value.code
        return capsys.readouterr().out

    shown = run("--no-keras", "--chart", str(tmp_path / "speeds.svg"))
    assert all(name in shown for name in FUNCTIONS)
    assert "Keras" not in shown
    assert "█" in shown
    assert (tmp_path / "speeds.svg").exists()
    result = json.loads(run("--no-keras", "--json"))
    assert {speed["runs"] for speed in result["speeds"]} == {"float32 CPU"}
    assert set(result["speeds"][0]["rows_per_second"]) == {"1", "64", "1024"}


def test_keras_predicts_what_the_runtime_gives(digits_artifact):
    from keras_ae import bench, runtime, storage

    model = runtime.load(digits_artifact)
    x = model.example("encode", 5)
    z = bench.keras_way(storage.load(digits_artifact))("encode", x)()["z"]
    np.testing.assert_allclose(z, model.encode(x), rtol=1e-4, atol=1e-4)
