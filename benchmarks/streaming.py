"""What streaming costs: rows a second beside training in memory, and peak memory at ten times the rows.

Run: .venv/bin/python benchmarks/streaming.py. Files are written below a temporary folder, about 1.7 GB of them; figures
go to benchmarks/results/streaming.md. Speeds are of one model in one process that takes turns, epochs streamed and
epochs in memory, the same rows in the same batches; each peak is of a process of its own.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULT = Path(__file__).parent / "results/streaming.md"
ROWS_A_FILE = 50_000
BATCHES = (128, 1024)
LATENTS = 16
CASES = {
    "numbers": "128 numbers, parquet",
    "mixed": "4 numbers, 2 categories, a date, parquet",
    "texts": "128 numbers, csv",
}


def write(folder: Path, case: str, rows: int) -> int:
    """Files of a case; gives their megabytes."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    folder.mkdir()
    random = np.random.default_rng(0)
    mixing = random.normal(size=(16, 128)).astype("float32")
    for i in range(0, rows, ROWS_A_FILE):
        n = min(ROWS_A_FILE, rows - i)
        if case == "mixed":
            kind = random.integers(0, 20, n)
            columns: dict[str, Any] = {f"c{k}": random.normal(size=n) + kind % (k + 2) for k in range(4)}
            columns |= {"colour": np.array([f"colour {k}" for k in range(20)])[kind]}
            columns |= {"shop": np.array([f"shop {k}" for k in range(50)])[random.integers(0, 50, n)]}
            columns |= {"when": np.datetime64("2025-01-01", "us") + random.integers(0, 10**13, n)}
            table = pa.table(columns)
        else:
            x = random.normal(size=(n, 16)).astype("float32") @ mixing + random.normal(size=(n, 128)).astype("float32")
            table = pa.table({f"c{k}": x[:, k].astype("float32") for k in range(128)})
        name = folder / f"part-{i // ROWS_A_FILE:04d}"
        if case == "texts":
            pyarrow.csv.write_csv(table, name.with_suffix(".csv"))
        else:
            pq.write_table(table, name.with_suffix(".parquet"))
    return sum(path.stat().st_size for path in folder.iterdir()) >> 20


def speeds(folder: Path, batch: int, repeats: int) -> dict[str, dict[str, float]]:
    """Rows a second of warm epochs in memory and streamed, by the clock and by the processor's time: medians."""
    import keras

    import keras_ae
    from keras_ae.data import ColumnStatistics, fit_columns, fit_scaling, load_source
    from keras_ae.training import start

    class Timer(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.epochs: list[tuple[float, float]] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter(), time.process_time()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            clock, processor = self.started
            self.epochs.append((time.perf_counter() - clock, time.process_time() - processor))

    data = load_source(folder, stream=True)
    assert data.stream is not None
    ways: dict[str, Any] = {"in memory": np.concatenate([b["x"] for b in data.stream.blocks(4096, None, 0)])}
    ways["streamed"] = data.stream
    schema = None if data.rows.schema.is_plain else fit_columns(data.rows.schema, data.rows.x)
    statistics_ = fit_scaling(data.rows.x) if schema is None else ColumnStatistics(schema)
    keras.utils.set_random_seed(0)
    model = keras_ae.build("vae", data.rows.x.shape[1], LATENTS, schema=schema)
    start(model, data.rows.x, statistics_)
    model.compile("adam")
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, rows in ways.items():
            timer = Timer()
            model.fit(rows, batch_size=batch, epochs=3, verbose=0, callbacks=[timer])
            found[way] += timer.epochs[1:]
    rows = data.stream.rows
    return {
        way: {
            by: rows / statistics.median(column)
            for by, column in zip(("clock", "processor"), zip(*epochs, strict=True), strict=True)
        }
        for way, epochs in found.items()
    }


def peak(folder: str) -> dict[str, float]:
    """One `fit` without an artifact, in this process: seconds, and megabytes at its peak."""
    import keras_ae

    keras_ae.build("vae", 4, 2)
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    began = time.perf_counter()
    keras_ae.fit(folder, stream=True, batch_size=1024, epochs=1)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.perf_counter() - began, "imported": imported, "peak": most}


def apart(*arguments: Any) -> dict[str, float]:
    """`peak` in a process of its own."""
    command = [sys.executable, __file__, "--one", json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=json.loads, help="for itself")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--rows", type=int, default=60_000, help="of speeds")
    parser.add_argument("--peaks", type=int, nargs=2, default=(200_000, 2_000_000))
    asked = parser.parse_args()
    if asked.one:
        return print(json.dumps(peak(*asked.one)))
    import keras
    import pyarrow
    import tensorflow as tf

    cores = len(os.sched_getaffinity(0))
    lines = [
        "# Streaming",
        "",
        f"{datetime.date.today()}, {cores} core{'s' if cores > 1 else ''} of a machine that others use too, "
        f"{platform.machine()}, TensorFlow {tf.__version__}, Keras {keras.__version__}, PyArrow {pyarrow.__version__}, "
        f"Python {platform.python_version()}. Recipe `vae`, default network.",
        "",
        "## Rows a second in training",
        "",
        f"{asked.rows:,} rows; the same rows, batches and model, by turns in one process: medians of "
        f"{2 * asked.repeats} epochs. Other work slows the clock, not the processor's time.",
        "",
        "| table | batch | in memory | streamed | streamed / in memory, by the clock | by the processor's time |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for case, what in CASES.items():
            folder = Path(temporary) / case
            write(folder, case, asked.rows)
            for batch in BATCHES:
                found = speeds(folder, batch, asked.repeats)
                memory, streamed = found["in memory"], found["streamed"]
                ratios = [f"{streamed[by] / memory[by]:.2f}" for by in ("clock", "processor")]
                lines.append(
                    f"| {what} | {batch:,} | {memory['clock']:,.0f} | {streamed['clock']:,.0f} | {' | '.join(ratios)} |"
                )
                print(lines[-1], flush=True)
        lines += [
            "",
            "## Peak memory of `fit --stream`, one epoch, 128 numbers, parquet",
            "",
            "Resident set of the whole process.",
            "",
            "| rows | on disk | peak | of it imports | seconds |",
            "|---|---|---|---|---|",
        ]
        peaks = []
        for rows in asked.peaks:
            folder = Path(temporary) / f"of{rows}"
            size = write(folder, "numbers", rows)
            of = apart(str(folder))
            peaks.append(of["peak"])
            lines.append(
                f"| {rows:,} | {size:,} MB | {of['peak']:,.0f} MB | {of['imported']:,.0f} MB | {of['seconds']:,.0f} |"
            )
            print(lines[-1], flush=True)
        ratio = asked.peaks[1] / asked.peaks[0]
        lines += ["", f"{ratio:.0f} times the rows, {peaks[1] / peaks[0]:.2f} times the peak."]
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
