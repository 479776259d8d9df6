"""Seconds an epoch of `fit` takes: resident rows against plain Keras, side by side in one run, repeats interleaved.

Run: make bench. Writes benchmarks/results/training.md.
"""

import datetime
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

import keras_ae
from keras_ae.layers.latents import normal

REPEATS = 3
CASES = {
    "dense VAE 784-512-16, 60,000 rows, batch 128": ((784,), 60_000, 128, 1, {"hidden": [512]}),
    "dense VAE 64-512-16, 1,400 rows, batch 32": ((64,), 1_400, 32, 10, {"hidden": [512]}),
    "convolutional VAE 28 x 28, filters 32-64, 6,000 rows, batch 128": ((28, 28), 6_000, 128, 1, {}),
}
WAYS: dict[str, dict[str, Any]] = {
    "plain Keras `fit`, its defaults": {"plain": True, "jit_compile": "auto"},
    "resident rows, compiled by XLA": {"plain": False, "jit_compile": True},
    "resident rows, not compiled": {"plain": False, "jit_compile": False},
}


def prepared(shape: tuple[int, ...], options: dict[str, Any], plain: bool, jit_compile: Any) -> Any:
    keras.utils.set_random_seed(0)
    model = keras_ae.build("vae", shape, 16, linear=False, **options)
    (keras.Model.compile if plain else type(model).compile)(model, "adam", jit_compile=jit_compile)
    fit = keras.Model.fit if plain else type(model).fit
    return lambda x, **kwargs: fit(model, x, verbose=0, **kwargs)


def epoch_seconds(
    shape: tuple[int, ...], rows: int, batch: int, epochs: int, options: dict[str, Any]
) -> dict[str, Any]:
    x = np.random.default_rng(0).random((rows, *shape), dtype="float32")
    runs = {way: prepared(shape, options, **how) for way, how in WAYS.items()}
    first, seconds = {}, {way: [] for way in WAYS}
    for way, run in runs.items():
        started = time.perf_counter()
        run(x, batch_size=batch, epochs=1)
        first[way] = time.perf_counter() - started
    for _ in range(REPEATS):
        for way, run in runs.items():
            started = time.perf_counter()
            run(x, batch_size=batch, epochs=epochs)
            seconds[way].append((time.perf_counter() - started) / epochs)
    return {"first": first, "seconds": seconds}


def noise_milliseconds() -> dict[str, float]:
    """One compiled draw of (128, 16) standard normals."""
    generator = keras.random.SeedGenerator(0)
    draws = {
        "`keras.random.normal`": lambda: keras.random.normal((128, 16), seed=generator),
        "`keras_ae.layers.latents.normal`": lambda: normal((128, 16), generator),
    }
    figures = {}
    for name, draw in draws.items():
        compiled = tf.function(draw, jit_compile=True)
        compiled()
        times = []
        for _ in range(300):
            started = time.perf_counter()
            compiled()
            times.append(time.perf_counter() - started)
        figures[name] = 1e3 * statistics.median(times)
    return figures


def main() -> None:
    lines = ["# Training speed", "", f"{datetime.date.today()}, {os.cpu_count()} x {_processor()}, Python"]
    lines[-1] += f" {platform.python_version()}, TensorFlow {tf.__version__}, Keras {keras.__version__}."
    lines += [f"Seconds an epoch, warm: median of {REPEATS} interleaved repeats (least to most).", ""]
    for name, case in CASES.items():
        figures = epoch_seconds(*case)
        base = statistics.median(figures["seconds"][next(iter(WAYS))])
        lines += [f"## {name}", "", "| | seconds an epoch | times as fast | first epoch, tracing and compiling |"]
        lines += ["|---|---|---|---|"]
        for way, seconds in figures["seconds"].items():
            middle = statistics.median(seconds)
            spread = f"{middle:.3f} ({min(seconds):.3f} to {max(seconds):.3f})"
            lines.append(f"| {way} | {spread} | {base / middle:.2f} | {figures['first'][way]:.1f} |")
        lines.append("")
    lines += ["## One draw of noise, 128 x 16, compiled by XLA", "", "| | milliseconds |", "|---|---|"]
    lines += [f"| {name} | {value:.2f} |" for name, value in noise_milliseconds().items()]
    text = "\n".join(lines) + "\n"
    out = Path(__file__).parent / "results" / "training.md"
    out.parent.mkdir(exist_ok=True)
    out.write_text(text)
    print(text)


def _processor() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in info.splitlines() if line.startswith("model name")), "CPU")


if __name__ == "__main__":
    main()
