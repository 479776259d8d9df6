"""Is the default model good at both of its halves, the discriminator p(y | x) and the generator p(x | y)?

Run: python benchmarks/labels.py DATA.npz, an npz file with x_train, y_train, x_test and y_test; with MNIST it takes
half an hour on two cores. All fits have default settings. Figures go to benchmarks/results/labels.md.
"""

import argparse
import datetime
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_ae
from keras_ae import bench, runtime
from keras_ae.data import Splits
from keras_ae.data.source import Source
from keras_ae.data.tables import Rows
from keras_ae.judging import evaluate_artifact

RESULT = Path(__file__).parent / "results/labels.md"
LABELS_A_CLASS = 10
SEEDS = (0, 1, 2)
ASKED = 5_000


def independent(splits: Splits, classes: int) -> Any:
    """A convolutional classifier that shares nothing with the autoencoder but the training rows."""
    shape = (*splits.train.shape[1:], 1)
    classifier = keras.Sequential(
        [
            keras.Input(shape),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(32, 3, activation="relu"),
            keras.layers.MaxPool2D(),
            keras.layers.Conv2D(64, 3, activation="relu"),
            keras.layers.MaxPool2D(),
            keras.layers.Flatten(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(classes),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier.compile("adam", loss, metrics=["accuracy"])
    classifier.fit(splits.train[..., None], splits.labels["train"], epochs=4, batch_size=128, verbose=0)
    return classifier


def few_labels(x: np.ndarray, y: np.ndarray, test: Rows, seed: int) -> Source:
    rng = np.random.default_rng(seed)
    known = np.concatenate([rng.choice(np.flatnonzero(y == c), LABELS_A_CLASS, replace=False) for c in np.unique(y)])
    labels = np.full(len(y), -1)
    labels[known] = y[known]
    return Source("few labels", Rows(x, labels), test)


def discriminated(labels: str, metrics: dict[str, float], seconds: float) -> list[str]:
    return [labels, f"{metrics['accuracy_test']:.4f}", f"{metrics['calibration_error_test']:.4f}", f"{seconds:.0f}"]


def table(rows: list[list[str]], headings: list[str]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    source = keras_ae.data.load_source(data)
    assert source.test is not None
    assert source.rows.y is not None
    x, y = source.rows.x, source.rows.y.astype(int)

    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fitted = keras_ae.fit(source, Path(folder) / "all")
        seconds = time.perf_counter() - started
        found = evaluate_artifact(Path(folder) / "all", source)
        classes = len(fitted.model.classes)
        judge = independent(fitted.splits, classes)
        _, judged = judge.evaluate(source.test.x[..., None], source.test.y.astype(int), verbose=0)
        asked = np.arange(ASKED) % classes
        drawn = runtime.load(Path(folder) / "all").generate(ASKED, asked.tolist(), seed=0)
        recognized = float(np.mean(judge.predict(drawn[..., None], verbose=0).argmax(axis=1) == asked))
    metrics, versions = fitted.manifest["metrics"], fitted.manifest["versions"]
    discriminator = [discriminated(f"all {len(y):,}", metrics, seconds)]
    accuracies = []
    for seed in SEEDS:
        started = time.perf_counter()
        few = keras_ae.fit(few_labels(x, y, source.test, seed)).manifest["metrics"]
        accuracies.append(few["accuracy_test"])
        seconds = time.perf_counter() - started
        discriminator.append(discriminated(f"{LABELS_A_CLASS} a class, seed {seed}", few, seconds))
    RESULT.write_text(f"""# Both halves of the default model

{data.stem}, {len(x):,} rows to fit and {len(source.test.x):,} to test; {bench.machine()}; TensorFlow
{versions["tensorflow"]}, Keras {versions["keras"]}; {datetime.date.today()}. Regenerate:
`python benchmarks/labels.py DATA.npz`.

## Discriminator

`keras_ae.fit` with default settings; of the few labels the other rows are unlabelled. Accuracy and expected calibration
error on the test rows.

{table(discriminator, ["labels", "accuracy", "calibration error", "seconds"])}

Mean accuracy with few labels: {np.mean(accuracies):.4f}.

## Generator

A convolutional classifier, trained apart on the same rows and right on {judged:.2%} of the test rows, recognizes
{recognized:.2%} of {ASKED:,} generated rows as the class that was asked for.

```
{found}
```
""")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
