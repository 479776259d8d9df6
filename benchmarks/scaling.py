"""How the seconds of an epoch and the peak memory of `fit` grow with rows, features, latents and batch.

Run: make bench. Each point is a process of its own, since a peak can't be taken back. Figures go to
benchmarks/results/scaling.json; plot.py draws them.
"""

import argparse
import datetime
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from cases import LEARNING_RATE, OURS, WAYS
from protocol import Worker
from quiet import wait_for_quiet
from training import LOGS, RESULTS, THREADS, machine

BASE = {"rows": 16_000, "features": 256, "latents": 16, "batch": 128}
FACTORS = (0.25, 1, 4, 16)
HIDDEN = 512
TIMED = 3


def measure(point: dict[str, int]) -> dict[str, float]:
    """Seconds of a warm epoch, the least of some, and megabytes of the process above what its imports took."""
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.npy"
        np.save(rows, np.random.default_rng(0).random((point["rows"], point["features"]), dtype="float32"))
        case: dict[str, Any] = {"way": OURS, "seed": 0, "threads": THREADS, "learning_rate": LEARNING_RATE}
        case |= {"batch": point["batch"], "latents": point["latents"], "network": {"hidden": [HIDDEN]}}
        case |= {"rows": str(rows), "held_out": str(rows)}
        with Worker(sys.executable, WAYS[OURS].script, case, LOGS / "scaling.log") as worker:
            worker.ask("train", 1)
            answers = []
            for _ in range(TIMED):
                wait_for_quiet(at_most_seconds=5)
                answers.append(worker.ask("train", 1))
    return {"seconds": min(a["seconds"] for a in answers), "megabytes": answers[-1]["megabytes"]}


def exponents(values: list[int], costs: list[float]) -> dict[str, float]:
    """Slopes of log(cost) against log(value): of the line through all points, and between the last two."""
    x, y = np.log(values), np.log(costs)
    return {"all": float(np.polyfit(x, y, 1)[0]), "last": float((y[-1] - y[-2]) / (x[-1] - x[-2]))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("axes", nargs="*", choices=[[], *BASE], help="by default all")
    LOGS.mkdir(parents=True, exist_ok=True)
    kept = RESULTS / "scaling.json"
    axes = json.loads(kept.read_text())["axes"] if kept.exists() else {}
    for axis in parser.parse_args().axes or BASE:
        values = [int(BASE[axis] * factor) for factor in FACTORS]
        points = [measure(BASE | {axis: value}) for value in values]
        axes[axis] = {"date": str(datetime.date.today()), **machine(), "values": values, "exponents": {}}
        for cost in points[0]:
            axes[axis][cost] = [point[cost] for point in points]
            axes[axis]["exponents"][cost] = exponents(values, axes[axis][cost])
        kept.write_text(json.dumps({"base": BASE, "hidden": HIDDEN, "axes": axes}, indent=1) + "\n")
        print(axis, axes[axis], flush=True)


if __name__ == "__main__":
    main()
