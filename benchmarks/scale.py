"""What a second worker brings: milliseconds of a step by one process and by two, and what more machines would.

Run: .venv/bin/python benchmarks/scale.py. Each worker is a process pinned to a core of its own, of a cluster that
TF_CONFIG names, over the loopback. Figures go to benchmarks/results/scale.md. Others on the machine slow two workers
more than one, so that each measurement is made when the machine is as quiet as it gets, the quietest of some counts,
and the table says what share of the cores others had meanwhile.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from quiet import busy_seconds, wait_for_quiet

RESULT = Path(__file__).parent / "results/scale.md"
FEATURES, LATENTS = 784, 16
HIDDEN = ((512,), (2048, 2048))
BATCHES = (256, 2048)
WORKERS = (1, 2)
MACHINES = (8, 64, 512)
BYTES_A_SECOND, SECONDS_A_MESSAGE = 10e9 / 8, 50e-6
STEPS, EPOCHS = 6, 4


def step_seconds(hidden: list[int], batch: int) -> dict[str, float]:
    """As one worker: seconds of a step in the shortest epoch but the first; and weights."""
    import keras
    import numpy as np
    import tensorflow as tf

    import keras_ae

    class Timer(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.seconds: list[float] = []

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self.seconds.append((time.perf_counter() - self.started) / STEPS)

    rows = np.random.default_rng(0).random((batch * STEPS, FEATURES), dtype="float32")
    timer = Timer()
    with tf.distribute.MultiWorkerMirroredStrategy().scope():
        model = keras_ae.build("ae", FEATURES, LATENTS, hidden=hidden)
        model.compile("adam")
        model.fit(rows, batch_size=batch, epochs=EPOCHS + 1, verbose=0, callbacks=[timer])
    return {"seconds": min(timer.seconds[1:]), "weights": model.count_params()}


def measured(hidden: tuple[int, ...], batch: int, workers: int) -> dict[str, float]:
    """`step_seconds` of the first of some workers, and the share of the cores that others had meanwhile."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(workers)]
    addresses = [f"127.0.0.1:{one.getsockname()[1]}" for one in held]
    for one in held:
        one.close()
    wait_for_quiet(at_most_seconds=20)
    before, own, started = busy_seconds(), _children(), time.monotonic()
    processes = []
    cores = sorted(os.sched_getaffinity(0))
    for i in range(workers):
        cluster = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": i}}
        processes.append(
            subprocess.Popen(
                [sys.executable, __file__, "--one", json.dumps([cores[i % len(cores)], hidden, batch])],
                env={**os.environ, "TF_CONFIG": json.dumps(cluster)},
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit("a worker failed")
    others = busy_seconds() - before - (_children() - own)
    share = max(others, 0.0) / (time.monotonic() - started) / (os.cpu_count() or 1)
    return {**json.loads(said[0].splitlines()[-1]), "others": share}


def share_of(seconds: float, weights: float, workers: int) -> float:
    """Of so many times the speed: with 4 bytes a weight sent around a ring and nothing computed meanwhile."""
    sent = 2 * (workers - 1) / workers * 4 * weights / BYTES_A_SECOND + 2 * (workers - 1) * SECONDS_A_MESSAGE
    return seconds / (seconds + sent)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", type=json.loads, help="for itself")
    parser.add_argument("--tries", type=int, default=2, help="of each measurement; the quietest counts")
    asked = parser.parse_args()
    if asked.one:
        core, *case = asked.one
        os.sched_setaffinity(0, {core})
        return print(json.dumps(step_seconds(*case)))
    import keras
    import tensorflow as tf

    cores = len(os.sched_getaffinity(0))
    lines = [
        "# One worker and two",
        "",
        f"{datetime.date.today()}, {cores} cores of a machine that others use too, {platform.machine()}, TensorFlow "
        f"{tf.__version__}, Keras {keras.__version__}, Python {platform.python_version()}. Recipe `ae`, {FEATURES} "
        f"numbers, {LATENTS} latents, Adam, `MultiWorkerMirroredStrategy` over the loopback, a core for each worker. "
        f"Milliseconds a step, the shortest of {EPOCHS} epochs of {STEPS} steps, in the quieter of {asked.tries} "
        "tries; beside it the share of all cores that others had then.",
        "",
        "| hidden | weights | gradients a step | batch of all | one worker | others | two workers | others | speed |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    projected = []
    for hidden in HIDDEN:
        for batch in BATCHES:
            tried = [[measured(hidden, batch, workers) for workers in WORKERS] for _ in range(asked.tries)]
            one, two = (min(of, key=lambda found: found["others"]) for of in zip(*tried, strict=True))
            cells = [", ".join(map(str, hidden)), f"{one['weights'] / 1e6:.2f} million"]
            cells += [f"{4 * one['weights'] / 1e6:.3g} MB", f"{batch:,}"]
            for found in (one, two):
                cells += [f"{1000 * found['seconds']:,.0f}", f"{found['others']:.0%}"]
            lines.append(f"| {' | '.join(cells)} | {one['seconds'] / two['seconds']:.2f} |")
            print(lines[-1], flush=True)
        shares = [f"{share_of(one['seconds'], one['weights'], count):.2f}" for count in MACHINES]
        projected.append(f"| {', '.join(map(str, hidden))} | {' | '.join(shares)} |")
    lines += [
        "",
        "## Projected",
        "",
        f"The share of N times the speed, with {BATCHES[-1]:,} rows for each worker at the time of one worker above, "
        f"{BYTES_A_SECOND * 8 / 1e9:.0f} Gbit/s between workers, a ring that sends 4 bytes a weight times "
        f"2 (N - 1) / N, {SECONDS_A_MESSAGE * 1e6:.0f} microseconds for each of 2 (N - 1) messages, and nothing sent "
        "while something is computed.",
        "",
        f"| hidden | {' | '.join(f'{count} workers' for count in MACHINES)} |",
        f"|---|{'---|' * len(MACHINES)}",
        *projected,
    ]
    RESULT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
