"""Times training against plain Keras, pythae and PyTorch, all in one run whose repeats alternate between them.

Run: make bench. Figures go to benchmarks/results/training.json, and what they say to training.md beside it.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from cases import CASES, LATENTS, LEARNING_RATE, OTHER_CASES, OURS, WAYS, Case, operations, products, rows_of
from protocol import Worker, product_seconds
from quiet import quietly, wait_for_quiet
from report import training_report

from keras_ae.processor import cpu_name

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
LOGS = ROOT / ".bench" / "logs"
THREADS = os.cpu_count() or 1
HELD_OUT = 5_000
PRODUCT_STEPS = 100
LOSS_WAYS = (OURS, "keras", "torch compiled", "torch")
LOSS_EPOCHS, MOST_EPOCHS = 3, 6


@contextmanager
def workers(case: Case, ways: list[str], peers: str, data: Path | None, seed: int = 0) -> Iterator[dict[str, Worker]]:
    """A ready worker for each way, all with the same rows and models of the same number of parameters."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        x, held_out = rows_of(case.shape, case.rows, HELD_OUT, data)
        files = {"rows": f"{folder}/rows.npy", "held_out": f"{folder}/held_out.npy"}
        np.save(files["rows"], x)
        np.save(files["held_out"], held_out)
        started = {}
        for way in ways:
            script = WAYS[way].script
            python = sys.executable if script == "peer_keras.py" else peers
            told = {"way": way, "seed": seed, "threads": THREADS, "batch": case.batch, "network": case.network}
            told |= {"latents": LATENTS, "learning_rate": LEARNING_RATE, **files}
            worker = Worker(python, script, told, LOGS / f"{way.replace(' ', '_')}.log")
            started[way] = stack.enter_context(worker)
        sizes = {way: worker.ready["parameters"] for way, worker in started.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"All ways must train as many parameters. Received: {sizes}.")
        yield started


def time_epochs(case: Case, peers: str, data: Path | None, repeats: int) -> dict[str, Any]:
    """Seconds an epoch of each way at each repeat, the way that goes first changing; and its first epoch."""
    ways = [OURS, *case.targets]
    dense = case is CASES["dense"]
    shapes = products(*case.shape, *case.network["hidden"], LATENTS, case.batch) if dense else []
    figures: dict[str, Any] = {"epochs": case.epochs, "first": {}, "rates": {}, "others": []}
    figures["seconds"] = {way: [] for way in ways}
    with workers(case, ways, peers, data) as started:
        figures["versions"] = {k: v for worker in started.values() for k, v in worker.ready["versions"].items()}
        for way, worker in started.items():
            figures["first"][way] = worker.ready["seconds"] + worker.ask("train", 1)["seconds"]

        def timed(way: str, *question: Any) -> float:
            answer, others = quietly(started[way].process.pid, lambda: started[way].ask(*question))
            figures["others"].append(others)
            return float(answer["seconds"])

        def numpy_products() -> float:
            return quietly(os.getpid(), lambda: product_seconds(np.asarray, np.matmul, shapes, PRODUCT_STEPS))[0]

        products_of = {
            "NumPy": numpy_products,
            "TensorFlow": lambda: timed("keras", "multiply", shapes, PRODUCT_STEPS),
            "PyTorch": lambda: timed("torch", "multiply", shapes, PRODUCT_STEPS),
        }
        for repeat in range(repeats):
            turn = repeat % len(ways)
            for way in ways[turn:] + ways[:turn]:
                figures["seconds"][way].append(timed(way, "train", case.epochs) / case.epochs)
            for library, seconds in products_of.items() if dense else ():
                rate = operations(shapes) * PRODUCT_STEPS / seconds()
                figures["rates"].setdefault(library, []).append(rate)
            told = ", ".join(f"{way} {seconds[-1]:.3f}" for way, seconds in figures["seconds"].items())
            print(f"  repeat {repeat + 1} of {repeats}, s an epoch: {told}", flush=True)
    if dense:
        figures["operations"] = operations(shapes) / case.batch * case.rows
    return figures


def time_to_loss(case: Case, peers: str, data: Path | None, seeds: int) -> dict[str, Any]:
    """For each seed, of each way, seconds and held-out loss at the end of each epoch, until the loss is as low as the
    best of plain Keras's first epochs."""
    runs = []
    for seed in range(seeds):
        with workers(case, list(LOSS_WAYS), peers, data, seed) as started:
            curves: dict[str, Any] = {way: {"seconds": [], "losses": []} for way in LOSS_WAYS}
            for epoch in range(MOST_EPOCHS):
                goal = min(curves["keras"]["losses"][:LOSS_EPOCHS], default=0.0)
                going = [way for way in LOSS_WAYS if epoch < LOSS_EPOCHS or min(curves[way]["losses"]) > goal]
                for way in going:
                    wait_for_quiet()
                    before = curves[way]["seconds"][-1] if epoch else started[way].ready["seconds"]
                    curves[way]["seconds"].append(before + started[way].ask("train", 1)["seconds"])
                    curves[way]["losses"].append(started[way].ask("validate")["loss"])
                told = ", ".join(f"{way} {curves[way]['losses'][-1]:.1f}" for way in going)
                print(f"  seed {seed}, epoch {epoch + 1}, held-out nats a row: {told}", flush=True)
                if not going:
                    break
            runs.append(curves)
    return {"runs": runs, "keras_epochs": LOSS_EPOCHS}


def time_noise() -> dict[str, Any]:
    """Milliseconds of each of many draws."""
    wait_for_quiet()
    draws = subprocess.run([sys.executable, ROOT / "benchmarks/noise.py"], check=True, capture_output=True, text=True)
    return {"milliseconds": json.loads(draws.stdout)}


def machine() -> dict[str, str]:
    return {"processor": f"{os.cpu_count()} x {cpu_name()}", "system": f"{platform.system()} {platform.machine()}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join([*CASES, *OTHER_CASES])}; by default all")
    parser.add_argument("--peers", default=str(ROOT / ".bench/peers/bin/python"), help="Python that has the peers")
    parser.add_argument("--data", type=Path, default=os.environ.get("BENCH_DATA"), help="npz file of 28 x 28 images")
    parser.add_argument("--repeats", type=int, help="of each way, instead of the case's own number")
    asked = parser.parse_args()
    names = asked.cases or [*CASES, *OTHER_CASES]
    if unknown := [name for name in names if name not in (*CASES, *OTHER_CASES)]:
        parser.error(f"cases are {', '.join([*CASES, *OTHER_CASES])}. Received: {unknown[0]}.")
    data = Path(asked.data) if asked.data else None
    RESULTS.mkdir(exist_ok=True)
    kept = RESULTS / "training.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for name in names:
        print(name, flush=True)
        if name == "loss":
            figures = time_to_loss(CASES["dense"], asked.peers, data, asked.repeats or 3)
        elif name == "noise":
            figures = time_noise()
        else:
            figures = time_epochs(CASES[name], asked.peers, data, asked.repeats or CASES[name].repeats)
        described = {"date": str(datetime.date.today()), "python": platform.python_version(), **machine()}
        described["data"] = "generated from scikit-learn's digits" if data is None else data.name
        results[name] = {**described, **figures}
        kept.write_text(json.dumps(results, indent=1) + "\n")
    report = training_report(results)
    (RESULTS / "training.md").write_text(report)
    print(report)


if __name__ == "__main__":
    main()
