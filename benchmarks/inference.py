"""What the runtime adds to ONNX Runtime, which session options are fastest, what int8 and float16 gain, and how files
stream.

Run: python benchmarks/inference.py. Writes benchmarks/results/inference.md.
"""

import datetime
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import onnxruntime

import keras_ae
from keras_ae import bench, runtime, storage
from keras_ae.data import write_batches

FEATURES, HIDDEN, LATENTS = 784, 512, 16
ROWS, COLUMNS, BLOCK = 1_000_000, 50, 50_000
SECONDS = 0.6
# Seconds and peak megabytes of a command, from a small process: the peak of a child begins with that of its parent.
_WATCH = """
import resource, subprocess, sys, time
started = time.perf_counter()
subprocess.run(sys.argv[1:], check=True)
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)
"""
OPTIONS: dict[str, dict[str, Any]] = {
    "default (all cores, arena)": {},
    "1 thread": {"intra_op_num_threads": 1},
    "no memory arena": {"enable_cpu_mem_arena": False},
    "no memory pattern": {"enable_mem_pattern": False},
    "threads do not spin": {"session.intra_op.allow_spinning": "0"},
}


def data(rows: int, features: int, seed: int = 0) -> np.ndarray:
    """Rows of 8 hidden causes and a tenth of noise."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(0).normal(size=(8, features))
    return (rng.normal(size=(rows, 8)) @ mixing + 0.1 * rng.normal(size=(rows, features))).astype("float32")


def artifact(folder: Path, features: int, hidden: int, precisions: list[str]) -> dict[str, Any]:
    keras.utils.set_random_seed(0)
    x = data(3_000, features)
    model = keras_ae.build("vae", features, LATENTS, hidden=[hidden])
    keras_ae.training.start(model, x, keras_ae.data.fit_scaling(x))
    model.compile("adam")
    model.fit(x, epochs=3, verbose=0)
    rows = data(1_000, features, seed=1)
    model.calibrate(rows)
    return storage.save(model, folder, rows, precisions)


def bare(folder: Path, function: str, options: dict[str, Any]) -> Any:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    for name, value in options.items():
        if "." in name:
            settings.add_session_config_entry(name, value)
        else:
            setattr(settings, name, value)
    path = folder / f"onnx/float32/{function}.onnx"
    session = onnxruntime.InferenceSession(path, settings, providers=["CPUExecutionProvider"])
    names, key = [output.name for output in session.get_outputs()], session.get_inputs()[0].name
    return lambda x: session.run(names, {key: x})


def call(run: Any, x: np.ndarray) -> Any:
    return lambda: run(x)


def overhead(folder: Path, threads: int | None) -> list[str]:
    model = runtime.load(folder, threads=threads)
    options = {} if threads is None else {"intra_op_num_threads": threads}
    lines = ["| function | batch | bare `session.run` | keras_ae.runtime | ratio |", "|---|---|---|---|---|"]
    for function in ("encode", "reconstruct", "score"):
        session = bare(folder, function, options)
        for batch in (1, 1024):
            x = data(batch, FEATURES)
            times = bench.alternate({"bare": call(session, x), "ours": call(getattr(model, function), x)}, SECONDS)
            one, two = (1e6 * float(np.median(times[name])) for name in ("bare", "ours"))
            ratio = bench.ratio(times["ours"], times["bare"])
            lines.append(f"| `{function}` | {batch:,} | {one:,.1f} us | {two:,.1f} us | {ratio:.3f} |")
    return lines


def settings(folder: Path) -> list[str]:
    sessions = {name: bare(folder, "reconstruct", options) for name, options in OPTIONS.items()}
    lines = ["| options of the session | 1 row | 64 rows | 1,024 rows |", "|---|---|---|---|"]
    columns = {}
    for batch in (1, 64, 1024):
        x = data(batch, FEATURES)
        columns[batch] = bench.alternate({name: call(run, x) for name, run in sessions.items()}, SECONDS)
    for name in OPTIONS:
        cells = [f"{1e6 * float(np.median(times[name])):,.1f} us" for times in columns.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def precisions(manifest: dict[str, Any]) -> list[str]:
    lines = ["| | kept | RMSE | bytes | `encode` x 1 | `reconstruct` x 1 | `reconstruct` x 64 |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for precision, figures in manifest["precisions"].items():
        for method, tried in figures["tried"].items():
            kept = "yes" if method == figures["method"] else tried["reason"] or "another is faster"
            size = tried["bytes"] / figures["float32"]["bytes"]
            shown = (("encode", "1"), ("reconstruct", "1"), ("reconstruct", "64"))
            speeds = [f"{1 / tried['time_ratio'][name][batch]:.2f}" for name, batch in shown]
            cells = [kept, f"{100 * tried['rmse_change']:+.2f} %", f"{size:.0%}", *speeds]
            lines.append(f"| {precision}, {method} | {' | '.join(cells)} |")
    return lines


def streaming(folder: Path, place: Path) -> list[str]:
    names = tuple(f"c{i}" for i in range(COLUMNS))
    lines = ["| command | rows | seconds | rows/s | peak memory |", "|---|---|---|---|---|"]
    for ending, rows in (("parquet", ROWS), ("npy", ROWS), ("csv", ROWS // 5)):
        source = place / f"rows.{ending}"
        write_batches(source, ({"x": data(BLOCK, COLUMNS, seed)} for seed in range(rows // BLOCK)), names)
        for function in ("encode", "reconstruct", "score"):
            out = place / f"out.{ending}"
            script = [sys.executable, "-m", "keras_ae", function, str(folder), str(source), "--out", str(out)]
            done = subprocess.run([sys.executable, "-c", _WATCH, *script], capture_output=True, text=True, check=True)
            seconds, peak = map(float, done.stdout.split())
            cells = f"{rows:,} | {seconds:.1f} | {rows / seconds:,.0f} | {peak:,.0f} MB"
            lines.append(f"| `{function}` .{ending} to .{ending} | {cells} |")
            out.unlink()
        source.unlink()
    return lines


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        manifest = artifact(place / "dense", FEATURES, HIDDEN, ["int8", "float16"])
        artifact(place / "table", COLUMNS, 128, [])
        sections = {
            f"Dense {FEATURES}-{HIDDEN}-{LATENTS}: what the runtime adds, all cores": overhead(place / "dense", None),
            "The same on one thread": overhead(place / "dense", 1),
            "Options of the session, `reconstruct`": settings(place / "dense"),
            "Precisions: times as fast as float32, one thread": precisions(manifest),
            f"Files of {COLUMNS} columns, network {COLUMNS}-128-{LATENTS}": streaming(place / "table", place),
        }
    lines = ["# Inference", "", f"{datetime.date.today()}, {bench.machine()}, Python {sys.version.split()[0]}."]
    lines += ["Medians; what is compared takes turns in one process.", ""]
    for title, rows in sections.items():
        lines += [f"## {title}", "", *rows, ""]
    text = "\n".join(lines)
    (Path(__file__).parent / "results" / "inference.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
