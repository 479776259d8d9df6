"""More rows than memory holds: streamed in an order of (seed, epoch), split by their cells, in memory that stays."""

import os
import signal
import tracemalloc

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pytest

import keras_ae
from keras_ae.artifact import read_manifest
from keras_ae.checkpoints import Checkpoints
from keras_ae.data import fit_scaling, infer, joining, load_source, split, streams
from keras_ae.data.arrow import ArrowTable
from keras_ae.data.cells import cells_of
from keras_ae.data.hashing import hashes_of_arrays
from keras_ae.divergence import Divergence
from keras_ae.errors import DivergenceError, InputError, Interrupted
from keras_ae.loop import SpanCallback
from keras_ae.preparation import Prepared
from keras_ae.provenance import fitted_splits
from keras_ae.runs import Run

PARTS = ("train", "validation", "calibration", "test")


def orders(n=4_000, seed=0):
    """Numbers, a category, a date, missing cells, yes and no, a key and labels."""
    r = np.random.default_rng(seed)
    kind = r.integers(0, 3, n)
    return pd.DataFrame(
        {
            "amount": np.exp(r.normal(size=n) + kind),
            "age": np.where(r.random(n) < 0.1, np.nan, 30 + 15 * kind + r.normal(size=n)),
            "colour": np.array(["red", "green", "blue"])[kind],
            "when": pd.Timestamp("2025-01-06") + pd.to_timedelta(r.integers(0, 300, n), unit="D"),
            "paid": np.where(r.random(n) < 0.5, "yes", "no"),
            "key": [f"{seed}-{i}" for i in range(n)],
            "kind": np.array(["a", "b", "c"])[kind],
        }
    )


def write(folder, table, files=4, ending="parquet"):
    folder.mkdir(exist_ok=True)
    for i, rows in enumerate(np.array_split(np.arange(len(table)), files)):
        part = table.iloc[rows]
        if ending == "csv":
            part.to_csv(folder / f"part-{i}.csv", index=False)
        else:
            part.to_parquet(folder / f"part-{i}.parquet", index=False)
    return folder


def numbers(folder, n, files=4, columns=6, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, columns)).astype("float32")
    x[:, 0] += x[:, 1]
    return write(folder, pd.DataFrame(x, columns=[f"c{i}" for i in range(columns)]), files), x


def rows_of(stream, seed=None, epoch=0, size=512):
    return np.concatenate([block["x"] for block in stream.blocks(size, seed, epoch)])


def as_set(*parts):
    return {row.tobytes() for part in parts for row in part}


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_stream_has_the_kinds_and_the_rows_of_what_is_in_memory(tmp_path, ending):
    folder = write(tmp_path / "data", orders(), ending=ending)
    whole = load_source(folder, labels="kind", drop=["paid"])
    for source in (folder, str(folder / f"*.{ending}"), pa.dataset.dataset(folder, format=ending)):
        if ending == "csv" and not isinstance(source, str | type(folder)):
            continue  # whose dates and words are Arrow's own
        data = load_source(source, labels="kind", drop=["paid"], stream=True)
        assert data.rows.schema.columns == whole.rows.schema.columns
        assert data.rows.schema.dropped == ("key", "paid")
        held_out = [data.stream.samples[name][0] for name in PARTS[1:]]
        assert as_set(rows_of(data.stream), *held_out) == as_set(whole.rows.x)
        assert data.stream.total == len(whole.rows.x) == data.stream.rows + sum(map(len, held_out))


def test_labels_go_with_their_rows(tmp_path):
    data = load_source(write(tmp_path / "data", orders()), labels="kind", drop=["amount", "age"], stream=True)
    colours = data.rows.schema.columns[0].levels
    expected = [{"red": 0, "green": 1, "blue": 2}[colour] for colour in colours]
    for block in data.stream.labelled(("a", "b", "c")).blocks(256, 1, 0):
        np.testing.assert_array_equal(block["label"], np.array(expected)[block["x"][:, 0].astype(int)])
    without = next(data.stream.labelled(("b", "c")).blocks(256, 1, 0))
    assert set(without["label"].tolist()) == {-1, 0, 1}


def test_labels_may_be_missing_beside_rows_that_are_skipped(tmp_path):
    i = np.arange(2_000)
    table = pd.DataFrame({"x": i / 7, "kind": np.where(i % 3, np.where(i % 2, "a", "b"), "")})
    table = table.astype({"x": object})
    table.loc[5, "x"] = "oops"
    table.to_csv(tmp_path / "x.csv", index=False)
    data = load_source(tmp_path / "x.csv", labels="kind", skip=True, stream=True)
    assert data.stream.skipped == 1
    for block in data.stream.labelled(("a", "b")).blocks(512, None, 0):
        i = np.rint(block["x"][:, 0] * 7).astype(int)
        np.testing.assert_array_equal(block["label"], np.where(i % 3, 1 - i % 2, -1))


def test_a_row_stays_in_its_part_as_files_are_added_moved_and_joined(tmp_path):
    table, more = orders(), orders(6_000, seed=1).assign(colour="violet")
    few = load_source(write(tmp_path / "few", table), labels="kind", stream=True)
    write(tmp_path / "many", more, 3)
    for file in (tmp_path / "few").iterdir():
        (tmp_path / "many" / f"z-{file.name}").write_bytes(file.read_bytes())
    many = load_source(tmp_path / "many", labels="kind", stream=True)
    turned = table.iloc[::-1][table.columns[::-1]]
    other = load_source(write(tmp_path / "turned", turned, 1), labels="kind", stream=True)

    def cells(data, name):
        columns = data.rows.schema.table(data.stream.samples[name][0])
        dates = [c.origin for c in data.rows.schema.columns if c.kind == "datetime"]
        assert dates == ["2025-01-06"]
        return set(zip(*(columns[c].tolist() for c in ("amount", "colour", "when")), strict=True))

    for name in PARTS[1:]:
        kept = {row for row in cells(many, name) if row[1] != "violet"}
        assert kept == cells(few, name) == cells(other, name)
    assert few.stream.digest == other.stream.digest != many.stream.digest
    assert few.stream.describe()["layout"] != other.stream.describe()["layout"]


def test_parts_have_their_shares_and_no_row_in_common(tmp_path):
    folder, _ = numbers(tmp_path / "data", 20_000)
    data = load_source(folder, stream=True)
    for name in PARTS[1:]:
        assert len(data.stream.samples[name][0]) == pytest.approx(0.02 * 20_000, abs=4 * np.sqrt(0.02 * 20_000))
    parts = [as_set(x) for x in (rows_of(data.stream), *(data.stream.samples[name][0] for name in PARTS[1:]))]
    assert len(set.union(*parts)) == sum(map(len, parts)) == 20_000
    splits = split(data, seed=3)
    np.testing.assert_array_equal(splits.test, data.stream.samples["test"][0])
    without = split(data, seed=4, test=False)
    np.testing.assert_array_equal(without.test, splits.validation)


def test_samples_are_a_random_choice_of_their_part_and_give_its_scale(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "SAMPLE_ROWS", 2_000)
    folder, x = numbers(tmp_path / "data", 20_000)
    table = pd.DataFrame(
        np.sort(x, axis=0), columns=[f"c{i}" for i in range(6)]
    )  # whose first rows are not like others
    data = load_source(write(folder, table), stream=True)
    sample = data.stream.samples["train"][0]
    assert len(sample) == 2_000
    assert as_set(sample) <= as_set(rows_of(data.stream))
    ours, exact = fit_scaling(sample), fit_scaling(np.sort(x, axis=0))
    assert np.abs(ours.shift - exact.shift).max() < 5 / np.sqrt(2_000) * exact.scale.max()
    np.testing.assert_allclose(ours.scale, exact.scale, rtol=0.1)


def test_an_order_is_of_the_seed_and_the_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "BUFFER_BYTES", 2_000 * 24)
    data = load_source(numbers(tmp_path / "data", 10_000, 8)[0], stream=True).stream
    one = rows_of(data, 1, 0)
    np.testing.assert_array_equal(one, rows_of(data, 1, 0))
    np.testing.assert_array_equal(one, rows_of(data, 1, 0, size=77))
    assert as_set(one) == as_set(rows_of(data)) == as_set(rows_of(data, 1, 1)) == as_set(rows_of(data, 2, 0))
    for other in (rows_of(data), rows_of(data, 1, 1), rows_of(data, 2, 0)):
        assert np.mean((one == other).all(axis=1)) < 0.01
    at = {row.tobytes(): i for i, row in enumerate(rows_of(data))}
    first = [at[row.tobytes()] for row in one[:1000]]  # of the first tenth, from many places of the files
    assert np.ptp(first) > 4_000
    assert np.corrcoef(first, np.arange(1000))[0, 1] < 0.9


def test_hashes_of_arrays_are_of_their_values():
    x = np.random.default_rng(0).integers(0, 255, (2_000, 5, 3), dtype="uint8")
    hashes = hashes_of_arrays(x)
    assert len(set(hashes.tolist())) == 2_000
    np.testing.assert_array_equal(hashes_of_arrays(x[::-1]), hashes[::-1])
    shares = np.histogram(hashes.astype("float64"), bins=10, range=(0, 2.0**64))[0]
    assert np.abs(shares - 200).max() < 5 * np.sqrt(200)


def _peak(call):
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    pool = pa.default_memory_pool()
    call()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most + max(0, pool.max_memory() - before)


def test_memory_does_not_grow_with_rows(tmp_path, monkeypatch):
    for name, value in {"SAMPLE_ROWS": 1_000, "BUFFER_BYTES": 1_000 * 24}.items():
        monkeypatch.setattr(streams, name, value)
    for name in PARTS[1:]:
        monkeypatch.setitem(joining.MOST, name, 50)

    def used(files):
        folder = tmp_path / f"of{files}"
        x = np.random.default_rng(0).normal(size=(5_000 * files, 6)).astype("float32")
        write(folder, pd.DataFrame(x, columns=[f"c{i}" for i in range(6)]), files)

        def passes():
            data = load_source(folder, stream=True)
            assert sum(len(block["x"]) for block in data.stream.blocks(512, 1, 0)) == data.stream.rows

        return _peak(passes)

    used(1)  # imports
    few = used(5)
    assert used(50) < 1.1 * few


BAD = {
    "unreachable": r"No such file: .*part-2.parquet",
    "empty": r"part-2.parquet is empty",
    "cut": r"part-2.parquet is not a readable table",
    "without rows": r"part-2.parquet holds no rows",
    "other columns": r"part-2.parquet must have the columns of .*part-0.parquet. Received: it misses c0",
    "other kind": r"part-2.parquet, column c0: must be numbers, as in .*part-0.parquet. Received: string",
    "spoilt": r"part-2.parquet is not a readable table",
    "not finite": r"part-2.parquet, row 499, column c0: must be a finite number. Received: inf",
}


@pytest.mark.parametrize("how", BAD)
def test_a_bad_file_is_named_and_what_was_there_stays(run, spoil, tmp_path, how):
    folder, _ = numbers(tmp_path / "data", 2_000)
    spoil(folder / "part-2.parquet", how)
    with pytest.raises(InputError, match=BAD[how]):
        load_source(folder, stream=True)
    out = tmp_path / "artifact"
    out.mkdir()
    done = run("fit", folder, "--out", out, "--stream")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("keras-ae: ")
    assert len(done.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"data", "artifact"}


def test_what_can_not_be_streamed_says_so(tmp_path):
    for source in ("digits", np.zeros((20, 3)), {"a": [1, 2]}):
        with pytest.raises(InputError, match=r"A stream must be of files of .csv, .parquet or"):
            load_source(source, stream=True)
    folder, _ = numbers(tmp_path / "few", 40)
    with pytest.raises(InputError, match=r"must be enough to hold 2% of them out .* Received: 40 rows"):
        load_source(folder, stream=True)
    same = write(tmp_path / "same", pd.DataFrame({"a": np.ones(3_000), "b": np.ones(3_000)}))
    with pytest.raises(InputError, match=r"not all the same. Received: 3,000 rows"):
        load_source(same, stream=True)


def test_large_tables_are_streamed_unasked(tmp_path, monkeypatch):
    folder, x = numbers(tmp_path / "data", 2_000)
    assert load_source(folder).stream is None
    monkeypatch.setattr(joining, "_NOT_LOOKED_INTO", 1_000)
    monkeypatch.setattr(joining, "MEMORY_BYTES", 8 * x.size - 1)
    for source in (folder, pa.dataset.dataset(folder)):
        assert load_source(source).stream is not None
        assert load_source(source, stream=False).stream is None


def test_rows_of_no_use_are_skipped_and_counted(spoil, tmp_path):
    folder, _ = numbers(tmp_path / "data", 2_000)
    spoil(folder / "part-2.parquet", "not finite")
    data = load_source(folder, skip=True, stream=True)
    assert (data.stream.skipped, data.stream.total) == (1, 1_999)
    assert "1 of 2,000 rows were skipped" in data.rows.notes
    assert len(rows_of(data.stream, 1)) == data.stream.rows


def test_numbers_and_texts_in_one_column_ask_for_a_schema(tmp_path):
    table = orders(2_000).assign(zip=[str(i % 40) for i in range(1_000)] + ["Paris", "Rome"] * 500)
    folder = write(tmp_path / "data", table, ending="csv")
    with pytest.raises(InputError, match=r'numbers in some rows and texts in others; .* \{"zip": "categorical"\}'):
        load_source(folder, stream=True)
    data = load_source(folder, schema={"zip": {"kind": "categorical"}}, stream=True)
    whole = load_source(folder, schema={"zip": {"kind": "categorical"}})
    assert data.rows.schema.columns == whole.rows.schema.columns


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return load_source(numbers(tmp_path_factory.mktemp("large") / "data", 2_000)[0], stream=True).stream


class Signal(SpanCallback):
    """SIGTERM at the end of a span of steps."""

    def __init__(self, span):
        super().__init__()
        self.span = span

    def on_train_batch_end(self, batch, logs=None):
        self.span -= 1
        if self.span == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def train(x, run=None, span=-1, jit_compile=False, learning_rate=1e-2, **kwargs):
    keras.utils.set_random_seed(3)
    model = keras_ae.build("vae", 6, 2, hidden=[16], linear=False)
    model.compile(keras.optimizers.Adam(learning_rate), jit_compile=jit_compile)
    others = [Divergence(), Signal(span)]
    if run is not None:
        run.begin({"seed": 3})
        others.append(Checkpoints(run, 3, others))
    first = others[-1].initial_epoch if run is not None else 0
    history = model.fit(x, batch_size=64, epochs=3, verbose=0, callbacks=others, initial_epoch=first, **kwargs)
    return model, history.history


def test_a_stream_trains_as_its_rows_in_memory_do(stream):
    model, history = train(stream, shuffle=False)
    expected, in_memory = train(rows_of(stream), shuffle=False)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(history["loss"], in_memory["loss"], rtol=1e-5)
    assert model.position is None


def test_blocks_of_any_size_make_the_same_steps(stream, monkeypatch):
    expected, history = train(stream)
    monkeypatch.setattr("keras_ae.streaming._BLOCK_BYTES", 3 * 64 * 24)
    model, of_small = train(stream)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(history["loss"], of_small["loss"], rtol=1e-5)
    again, _ = train(stream, shuffle=False)
    assert any(np.abs(a - b).max() > 1e-3 for a, b in zip(again.get_weights(), model.get_weights(), strict=True))


def test_a_run_on_a_stream_goes_on_in_the_middle_of_an_epoch(stream, tmp_path, monkeypatch):
    monkeypatch.setattr("keras_ae.streaming._BLOCK_BYTES", 7 * 64 * 24)
    expected, history = train(stream)
    run = Run(tmp_path / "a.run", minutes=0)
    with pytest.raises(Interrupted), run:
        train(stream, run, span=5 + 2)
    assert run.checkpoints()[0].name.startswith("epoch-000001-step-000000014")
    monkeypatch.setattr("keras_ae.streaming._BLOCK_BYTES", 4 * 64 * 24)
    with Run(tmp_path / "a.run") as run:
        model, resumed = train(stream, run)
    for a, b in zip(model.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(resumed["loss"], history["loss"], rtol=1e-5)


def test_a_loss_that_diverges_is_found_by_its_step(stream):
    with pytest.raises(DivergenceError, match=r"not finite in epoch 1, step \d+\. `on_divergence"):
        train(stream, learning_rate=1e30)


def test_files_that_change_while_they_are_learned_from_are_refused(tmp_path):
    folder, _ = numbers(tmp_path / "data", 2_000)
    changing = load_source(folder, stream=True).stream
    (folder / "part-3.parquet").write_bytes((folder / "part-2.parquet").read_bytes())
    with pytest.raises(InputError, match=r"What is streamed must not change while it is learned from"):
        train(changing)
    (folder / "part-3.parquet").write_bytes(b"gone")
    with pytest.raises(InputError, match=r"part-3.parquet is not a readable table"):
        train(changing)


def test_a_folder_is_fitted_streamed_and_its_rows_are_found_again(run, tmp_path):
    _, x = numbers(tmp_path / "data", 2_000)
    table = pd.DataFrame(x, columns=[f"c{i}" for i in range(6)])
    folder = write(tmp_path / "texts", table, ending="csv")
    out = tmp_path / "artifact"
    arguments = ["--recipe", "ae", "--epochs", 2, "--option", "hidden=[8]", "--no-report", "--stream"]
    done = run("fit", folder / "*.csv", "--out", out, *arguments)
    assert done.exit_code == 0, done.stderr
    assert "rows of 6 columns: 6 numeric, streamed from 4 files" in done.stderr
    manifest = read_manifest(out)
    assert manifest["stream"]["rows"] == 2_000
    assert manifest["splits"]["train"]["rows"] == manifest["stream"]["train"]
    assert manifest["metrics"]["rmse_test"] == pytest.approx(manifest["metrics"]["rmse_test_pca"], rel=0.1)
    assert len(fitted_splits(out, manifest).train) == manifest["stream"]["train"]
    table[:100].to_csv(folder / "part-4.csv", index=False)
    with pytest.raises(InputError, match=r"must be what .* was trained on"):
        fitted_splits(out, manifest)


@pytest.mark.slow
def test_a_table_with_labels_is_fitted_streamed(tmp_path):
    fitted = keras_ae.fit(write(tmp_path / "data", orders()), labels="kind", epochs=5, hidden=[16], stream=True)
    assert fitted.manifest["metrics"]["accuracy_test"] > 0.9  # colours tell
    assert fitted.model.classes == ("a", "b", "c")


@pytest.mark.parametrize(("column", "passes"), [("numbers", 1), ("missing", 1), ("texts", 2), ("empty", 2)])
def test_kinds_of_numbers_take_no_pass_of_their_own(tmp_path, monkeypatch, column, passes):
    x = np.random.default_rng(0).normal(size=(3_000, 3))
    more = {
        "numbers": x[:, 0] ** 2,
        "missing": np.where(x[:, 0] > 2, np.nan, x[:, 0]),
        "texts": np.where(np.arange(3_000) < 2_900, "1", "one"),
        "empty": np.full(3_000, np.nan),
    }
    table = pd.DataFrame(x, columns=["a", "b", "c"]).assign(d=more[column])
    folder = write(tmp_path / "data", table, 5)
    given = {"d": {"kind": "categorical"}} if column == "texts" else {}
    read = []
    cells = ArrowTable.cells
    monkeypatch.setattr(ArrowTable, "cells", lambda *args: read.append(args[1].name) or cells(*args))
    data = load_source(folder, stream=True, schema=given)
    assert len(read) == 5 * passes + 1  # and a look at the first cells
    assert data.rows.schema == infer(cells_of(table), given)
    again = load_source(folder, stream=True, schema=data.rows.schema)
    assert again.stream.describe() == data.stream.describe()


def test_labels_that_are_missing_are_spread_among_the_rows_of_the_sample(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "SAMPLE_ROWS", 1_500)
    random = np.random.default_rng(0)
    kind = random.integers(0, 2, 4_000)
    x = random.normal(size=(4_000, 3)) + 8 * kind[:, None]
    table = pd.DataFrame(x, columns=["a", "b", "c"])
    table["kind"] = np.where(random.random(4_000) < 0.1, np.array(["low", "high"])[kind], None)
    data = load_source(write(tmp_path / "data", table), labels="kind", stream=True)
    rows = Prepared.of(data, True, True, 0)
    assert "of the rows of the samples" in rows.labels.notes[0]
    labelled = data.stream.labelled(rows.labels.classes, rows.labels.learned["train"])
    whole = [*labelled.blocks(512, None, 0)]
    x, y = (np.concatenate([block[name] for block in whole]) for name in ("x", "label"))
    is_sampled = np.isin(hashes_of_arrays(x), hashes_of_arrays(data.stream.samples["train"][0]))
    assert is_sampled.sum() == 1_500
    assert np.mean(y[is_sampled] != -1) > 0.75
    assert np.mean(y[~is_sampled] != -1) == pytest.approx(0.1, abs=0.03)  # those that it comes with
    known = y != -1
    np.testing.assert_array_equal(np.array(rows.labels.classes)[y[known]] == "high", x[known].mean(axis=1) > 4)
