"""The numbers of `keras_ae.evaluation` on "models" whose faults are known: do they see them, how long, how much memory.

Run: python benchmarks/metrics.py DATA.npz, with x_train, y_train, x_test, y_test. Writes benchmarks/results/metrics.md.
"""

import argparse
import datetime
import os
import platform
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy
import sklearn

from keras_ae.evaluation import Evaluation, evaluate
from keras_ae.evaluation.neighbours import nearest
from keras_ae.processor import cpu_name

ROWS = 5000
SHOWN = {
    "frechet": "Frechet",
    "c2st_auc": "C2ST AUC",
    "precision": "precision",
    "recall": "recall",
    "coverage": "coverage",
    "authenticity": "authenticity",
    "c_t": "C_T",
    "nn_ratio": "NN ratio",
    "preference": "preference",
    "copied": "copied",
}


def models(
    x: np.ndarray, labels: np.ndarray, others: np.ndarray, other_labels: np.ndarray
) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Name, training rows, their labels, and samples of each "model"; `others` are rows like x, then not trained on."""
    rng = np.random.default_rng(0)
    everything, every_label = np.concatenate([x, others]), np.concatenate([labels, other_labels])
    rows = rng.choice(len(everything), ROWS, replace=False)
    partner = nearest(everything[rows], everything, exclude=rows[:, None])[0]
    midpoints = (everything[rows] + everything[partner]) / 2
    yield "midpoints of training rows and their nearest", everything, every_label, midpoints
    values, vectors = np.linalg.eigh(np.cov(x, rowvar=False))
    noise = rng.normal(size=(ROWS, x.shape[1])) * np.sqrt(np.maximum(values, 0.0))
    yield "one Gaussian", everything, every_label, (x.mean(axis=0) + noise @ vectors.T).astype("float32")
    del everything
    yield "half of the classes", x, labels, others[other_labels < np.median(np.unique(labels))]
    tenth = np.concatenate([others[: ROWS - ROWS // 10], x[rng.choice(len(x), ROWS // 10, replace=False)]])
    yield "one copy in ten, the rest new real rows", x, labels, tenth
    yield "new real rows: a perfect model", x, labels, others


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {k: v.reshape(len(v), -1).astype("float32") if k[0] == "x" else v for k, v in file.items()}


def row(name: str, evaluation: Evaluation, column: str) -> str:
    cells = [str(evaluation.numbers[key].get(column, "")) for key in SHOWN]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = load(parser.parse_args().data)
    x, y, x_test, y_test = (data[name] for name in ("x_train", "y_train", "x_test", "y_test"))
    order = np.random.default_rng(1).permutation(len(x))
    kept, others = order[2 * ROWS :], order[: 2 * ROWS]
    lines, verdicts, seconds = [], [], []
    for name, train, labels, samples in models(x[kept], y[kept], x[others], y[others]):
        started = time.perf_counter()
        evaluation = evaluate(train, x_test, samples, latent_dim=16, labels=(labels, y_test))
        seconds.append(time.perf_counter() - started)
        if not lines:
            lines += [
                row("real held-out", evaluation, "held_out"),
                row("copies of training rows", evaluation, "copies"),
            ]
            lines.append(row("training rows, left out", evaluation, "left_out"))
            lines.append(row("PCA + mixture, 16 latents", evaluation, "baseline"))
        lines.append(row(f"{name} ({evaluation.settings['rows']:,} rows)", evaluation, "model"))
        verdicts += [f"**{name}**", "", *(f"- {line}" for line in str(evaluation.verdict).splitlines()), ""]
        print(name, f"{seconds[-1]:.0f} s", evaluation, sep="\n", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    text = [
        "# Numbers that can't be fooled together",
        "",
        f"{datetime.date.today()}, {os.cpu_count()} x {cpu_name()}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, SciPy {scipy.__version__}, scikit-learn {sklearn.__version__}. "
        f"{len(x):,} training rows of {x.shape[1]}, {2 * ROWS:,} fewer where new rows like them are needed; "
        f"{len(x_test):,} held-out rows; {evaluation.features}.",
        "",
        f"Seconds an evaluation: {min(seconds):.0f} to {max(seconds):.0f}. Peak memory of the process: {peak:.2f} GiB.",
        "",
        f"| | {' | '.join(SHOWN.values())} |",
        "|---" * (len(SHOWN) + 1) + "|",
        *lines,
        "",
        "## Verdicts",
        "",
        *verdicts,
    ]
    out = Path(__file__).parent / "results" / "metrics.md"
    out.write_text("\n".join(text))


if __name__ == "__main__":
    main()
