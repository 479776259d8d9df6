"""Every recipe on the same images, with the same network and as many latents.

Run: python benchmarks/families.py DATA.npz [--recipes NAME ...] [--epochs N], an npz file with x_train, y_train, x_test
and y_test. Every recipe has its default options, the dense network 512-256 and 16 latents. The epoch is chosen by
validation rows, and the prior by them too; test rows give the figures alone. Each result is kept in
build/families.json as it comes, and is not computed twice. The table goes to benchmarks/results/families.md.
"""

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

import keras_ae
from keras_ae import bench
from keras_ae.data.sources import Source
from keras_ae.evaluation import evaluate
from keras_ae.layers import VectorQuantizer
from keras_ae.likelihood import density_bound
from keras_ae.recipes import RECIPES

KEPT = Path("build/families.json")
RESULT = Path(__file__).parent / "results/families.md"
LATENTS = 16
HIDDEN = [512, 256]
COMPARED = 2500
"""Samples, and as many test rows."""
BOUNDED = 1000
"""Test rows whose likelihood is bounded."""
COLUMNS = {
    "rmse_test": ("RMSE", "{:.2f}"),
    "nll": ("NLL, nats", "{:,.0f}"),
    "frechet": ("Frechet distance", "{:.3f}"),
    "coverage": ("coverage", "{:.3f}"),
    "c_t": ("C_T", "{:+.1f}"),
    "knn_accuracy": ("kNN accuracy", "{:.3f}"),
    "seconds": ("seconds", "{:.0f}"),
}
"""Key of each column, its heading and how it is written."""


def measured(source: Source, recipe: str, epochs: int | None) -> dict[str, float]:
    """The figures of one recipe, trained and judged."""
    own: dict[str, Any] = {} if RECIPES[recipe].network else {"network": "dense", "hidden": HIDDEN}
    started = time.perf_counter()
    fitted = keras_ae.fit(
        source, recipe=recipe, latent_dim=LATENTS, epochs=epochs, labels=RECIPES[recipe].conditional, **own
    )
    seconds = time.perf_counter() - started
    model, splits = fitted.model, fitted.splits
    assert splits.labels is not None
    bound = density_bound(model)
    some = np.random.default_rng(0).permutation(len(splits.train))[: 4 * COMPARED]
    train = splits.train[some]
    found = evaluate(
        train,
        splits.test,
        model.generate(COMPARED, seed=0),
        latent_dim=LATENTS,
        reconstructed=(model.reconstruct(train), model.reconstruct(splits.test)),
        z=(model.encode(train), model.encode(splits.test)),
        labels=(splits.labels["train"][some], splits.labels["test"]),
        metrics=["reconstruction", "representation", "frechet", "manifolds", "novelty"],
        max_rows=COMPARED,
    ).numbers
    figures = {name: float(found[name]["model"].value) for name in COLUMNS if name in found}
    if bound is not None:
        # The same noise for the model and the baseline: on whole numbers alone a density has no limit.
        noise = np.random.default_rng(0)
        near, rows = ((x + noise.uniform(-0.5, 0.5, x.shape)).astype("float32") for x in (train, splits.test[:BOUNDED]))
        nll = evaluate(near, rows, latent_dim=LATENTS, nll=bound(rows), metrics=["likelihood"]).numbers
        found = {**found, **nll}
        figures["nll"] = float(nll["nll"]["model"].value)
    if isinstance(model.latent, VectorQuantizer):
        terms = model.evaluate(splits.test, batch_size=len(splits.test), verbose=0, return_dict=True)
        figures["codes_used"] = terms["perplexity"] / model.latent.codes
    held_out = {f"held_out {name}": float(found[name]["held_out"].value) for name in ("frechet", "coverage", "c_t")}
    baseline = {
        f"PCA + mixture {name}": float(found[name]["baseline"].value)
        for name in COLUMNS
        if "baseline" in found.get(name, {})
    }
    return {**figures, "seconds": seconds, "epochs": fitted.training.epochs, **held_out, **baseline}


def table(results: dict[str, dict[str, float]]) -> str:
    lines = ["| recipe | " + " | ".join(heading for heading, _ in COLUMNS.values()) + " |"]
    lines.append("|" + " --- |" * (len(COLUMNS) + 1))
    # Whatever the recipe, real rows and the baseline are the same; but only some runs have a likelihood to compare.
    every = {name: value for run in results.values() for name, value in run.items()}
    of_others = {
        other: {name: every.get(f"{other} {name}") for name in COLUMNS} for other in ("held_out", "PCA + mixture")
    }
    ordered = {f"`{name}`": results[name] for name in RECIPES if name in results}
    titles = {"held_out": "*real test rows*", "PCA + mixture": "*PCA + mixture*"}
    for name, figures in {**ordered, **{titles[name]: of for name, of in of_others.items()}}.items():
        cells = [
            form.format(figures[key]) if figures.get(key) is not None else "" for key, (_, form) in COLUMNS.items()
        ]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def codes_used(results: dict[str, dict[str, float]]) -> str:
    """A paragraph on the codebooks; none without any."""
    shares = [f"{run['codes_used']:.0%} by `{name}`" for name, run in results.items() if "codes_used" in run]
    return f"\nPerplexity of codes on test rows, as a share of the codebook: {', '.join(shares)}.\n" if shares else ""


def write(results: dict[str, dict[str, float]], data: str) -> None:
    epochs = sorted({int(run["epochs"]) for run in results.values()})
    RESULT.write_text(f"""# Every recipe, with one network

{data}: dense {"-".join(map(str, HIDDEN))}, {LATENTS} latents, default options, {" to ".join(map(str, epochs))} epochs,
one seed; the epoch and the prior are chosen by validation rows. RMSE in grey levels; NLL the bound on -log p(x) of
{BOUNDED:,} test rows in nats a row, as a density of grey levels that noise of one level makes continuous, so that all
compare: L_10, of `gumbel` and `svae` the ELBO under the p(z) of training. It is empty where there is no p(x): the
recipe has an error instead of a likelihood, or no bound on what z tells. Frechet distance, coverage and C_T are of
{COMPARED:,} samples against as many test rows (docs/evaluation.md says what they mean): they compare with each other,
and not with those of other sizes. `cvae` alone is told the labels. Seconds are of `fit`, on a machine that others use.
{bench.machine()}; {datetime.date.today()}. Regenerate: `python benchmarks/families.py DATA.npz`.

{table(results)}
{codes_used(results)}""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--epochs", type=int)
    arguments = parser.parse_args()
    source = keras_ae.data.load_source(arguments.data)
    KEPT.parent.mkdir(exist_ok=True)
    results = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for recipe in track(arguments.recipes, "training"):
        if recipe not in results:
            results[recipe] = measured(source, recipe, arguments.epochs)
            KEPT.write_text(json.dumps(results, indent=1))
    write(results, arguments.data.stem)
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
