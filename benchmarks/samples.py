"""Are samples of a table like rows that the model has not seen?

Run: python benchmarks/samples.py FOLDER. FOLDER holds npz files with X, and y that is 0 for rows to learn from; sets
that scikit-learn ships come first. All fits have default settings. Figures go to benchmarks/results/samples.md.
"""

import argparse
import contextlib
import datetime
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from prdc import compute_prdc
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

import keras_ae
from keras_ae import bench
from keras_ae.functions import before_marginals
from keras_ae.interface import standard_normal

RESULT = Path(__file__).parent / "results/samples.md"
SHIPPED = ("wine", "breast_cancer", "diabetes", "iris")
MOST_ROWS = 5_000
KINDS = ("means", "Gaussian", "samples", "training rows")


def sets(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    for name in SHIPPED:
        yield name, getattr(datasets, f"load_{name}")().data
    for path in sorted(folder.glob("*.npz")):
        held = np.load(path)
        yield path.stem, held["X"][held["y"] == 0]


def told(rows: np.ndarray, new: np.ndarray) -> float:
    """AUC of boosted trees that tell rows from new ones, over five folds."""
    x, y = np.concatenate([rows, new]), np.repeat([0, 1], [len(rows), len(new)])
    trees = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    return float(roc_auc_score(y, cross_val_predict(trees, x, y, cv=5, method="predict_proba")[:, 1]))


def compared(x: np.ndarray) -> tuple[int, dict[str, list[float]]]:
    """Columns that a model looks at, and AUC, density and coverage of each kind of row."""
    rng = np.random.default_rng(0)
    x = x[rng.permutation(len(x))][:MOST_ROWS].astype("float32")
    train, new = x[: 3 * len(x) // 4], x[3 * len(x) // 4 :]
    model = keras_ae.fit(pd.DataFrame(train, columns=[f"column {i}" for i in range(x.shape[1])])).model
    looked_at = [int(name.split()[1]) for name in model.marginals.schema.names]
    train, new = train[:, looked_at], new[:, looked_at]
    noise = {"epsilon": standard_normal(len(new), model.epsilon_dim, seed=0)}
    rows = {
        "means": before_marginals(model)(noise)["said"],
        "Gaussian": rng.multivariate_normal(train.mean(axis=0), np.cov(train.T), len(new)),
        "samples": model.generate(len(new), seed=0),
        "training rows": train[: len(new)],
    }
    scale = np.where(np.ptp(train, axis=0) > 0, train.std(axis=0), 1.0)
    figures = {}
    for kind in KINDS:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it was given
            near = compute_prdc(new / scale, rows[kind] / scale, nearest_k=5)
        figures[kind] = [told(rows[kind], new), near["density"], near["coverage"]]
    return len(looked_at), figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    lines, every = [], []
    for name, x in sets(parser.parse_args().folder):
        columns, figures = compared(x)
        every.append([figures[kind] for kind in KINDS])
        lines.append(f"| {name} | {min(len(x), MOST_ROWS):,} | {columns} | " + line(every[-1]))
        print(lines[-1], flush=True)
    mean = line(np.mean(every, axis=0).tolist())
    headings = " | ".join(f"{kind}: AUC | density | coverage" for kind in KINDS)
    RESULT.write_text(f"""# Samples of tables

Rows of a kind beside as many rows that nothing was fitted to, a quarter of each set: the AUC of boosted trees that tell
them apart (0.5 is not at all), and density and coverage by the fifth neighbour (Naeem et al. 2020; about 1 at best).
Means are what the decoder says of the latents that samples are made of; a Gaussian has the mean and the covariance of
training rows; training rows are what a perfect model, or a copier, would give.

`keras_ae.fit` with default settings; {bench.machine()}; {datetime.date.today()}. Regenerate:
`python benchmarks/samples.py FOLDER`.

| set | rows | columns | {headings} |
| --- | --- | --- |{" --- |" * 3 * len(KINDS)}
{chr(10).join(lines)}
| **mean** | | | {mean}
""")


def line(figures: list[list[float]]) -> str:
    return " | ".join(f"{auc:.3f} | {density:.2f} | {coverage:.2f}" for auc, density, coverage in figures) + " |"


if __name__ == "__main__":
    main()
