"""Negative log-likelihoods of the published architecture 784-200-200-50 on dynamically binarized images.

Run: python benchmarks/likelihood.py DATA.npz [--minutes 25] [--models NAME ...] [--rows 2000], with x_train and x_test
of grey images (MNIST). Each model trains so many minutes; its evaluation takes about five more. Each result is
kept in build/likelihood.json as it comes, and is not computed twice. Figures go to benchmarks/results/likelihood.md.
"""

import argparse
import datetime
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

import keras_ae
from keras_ae import bench
from keras_ae.callbacks import CosineDecay

KEPT = Path("build/likelihood.json")
RESULT = Path(__file__).parent / "results/likelihood.md"
K = 5_000
BATCH = 100
LEARNING_RATE = 2e-3
"""After 30 epochs of `vae` L_200 is 98.0 at 0.001, 95.2 at 0.002 and 96.0 at 0.004."""
WARM_UP = 60_000
"""Steps, 100 epochs as Tomczak and Welling (2018): over 2,000 `vamp_vae` ended at 93.2 nats."""

MODELS: dict[str, dict[str, Any]] = {
    "vae": {"stages": [(1.0, {})], "published": 86.76, "most": 87.5},
    "iwae": {
        "stages": [(0.3, {"samples": 1}), (0.2, {"samples": 5}), (0.5, {"samples": 50})],
        "published": 84.78,
        "most": 85.8,
    },
    "vamp_vae": {"stages": [(1.0, {"components": 100, "warm_up": WARM_UP})], "published": None},
    "hvae": {"stages": [(1.0, {"top_dims": 50, "warm_up": WARM_UP})], "latent_dim": 100, "published": 85.33},
}
"""Stages are shares of the time and the options in them: an expensive bound goes on from a cheap one. `most` is the
target in nats; without one it is what `vae` has."""


def built(recipe: str, latent_dim: int, **options: Any) -> keras_ae.Autoencoder:
    model = keras_ae.build(
        recipe,
        784,
        latent_dim,
        "dense",
        input_dtype="uint8",
        likelihood="bernoulli",
        hidden=[200, 200],
        activation="tanh",
        linear=False,
        **options,
    )
    model.scaling.set_limit(255.0)
    model.compile(keras.optimizers.Adam(LEARNING_RATE, epsilon=1e-4))
    return model


def trained(name: str, x: np.ndarray, minutes: float) -> tuple[keras_ae.Autoencoder, list[int]]:
    """The model after so many minutes, and the epochs of each stage. The rate decays in the last one."""
    keras.utils.set_random_seed(0)
    model, done = None, []
    stages = MODELS[name]["stages"]
    for i, (share, options) in enumerate(stages):
        before = model
        model = built(name, MODELS[name].get("latent_dim", 50), **options)
        if before is not None:
            model.set_weights(before.get_weights())
        started = time.perf_counter()
        model.fit(x, batch_size=BATCH, epochs=1, verbose=0)
        once = time.perf_counter()
        model.fit(x, batch_size=BATCH, epochs=2, verbose=0)
        an_epoch = (time.perf_counter() - once) / 2
        epochs = max(1, int((60 * minutes * share - (time.perf_counter() - started)) / an_epoch))
        decay = [CosineDecay(epochs)] if i + 1 == len(stages) else []
        model.fit(x, batch_size=BATCH, epochs=epochs, callbacks=decay, verbose=0)
        done.append(3 + epochs)
    assert model is not None
    return model, done


def measured(name: str, x: np.ndarray, test: np.ndarray, minutes: float) -> dict[str, Any]:
    started = time.perf_counter()
    model, epochs = trained(name, x, minutes)
    seconds = time.perf_counter() - started
    bound = model.log_likelihood(test, k=K, trained=True)
    return {
        "epochs": epochs,
        "minutes": seconds / 60,
        "elbo": -model.log_likelihood(test, trained=True).mean,
        "nats": -bound.mean,
        "error": bound.standard_error,
        "rows": len(test),
        "of_rows": (-bound.rows).round(2).tolist(),
    }


def write(results: dict[str, dict[str, Any]], data: str) -> None:
    headings = ["recipe", "epochs", "minutes", "ELBO", f"L_{K}", "standard error", "published", "target"]
    lines = ["| " + " | ".join(headings) + " |", "|---" * len(headings) + "|"]
    for name in (name for name in MODELS if name in results):
        found, model = results[name], MODELS[name]
        stages = zip(found["epochs"], model["stages"], strict=True)
        epochs = " + ".join(
            f"{count}" + (f" at k = {options['samples']}" if "samples" in options else "")
            for count, (_, options) in stages
        )
        most = model.get("most", results.get("vae", {}).get("nats", 0.0))
        target = f"at most {most}" if "most" in model else "below vae"
        reached = found["nats"] <= most
        lines.append(
            f"| `{name}` | {epochs} | {found['minutes']:.0f} | {found['elbo']:.2f} | {found['nats']:.2f} | "
            f"{found['error']:.2f} | {model['published'] or ''} | {target}, "
            f"{'reached' if reached else 'missed'} |"
        )
    beside = []
    for name in ("iwae", "vamp_vae", "hvae"):
        if name in results and "vae" in results and results[name]["rows"] == results["vae"]["rows"]:
            gain = np.subtract(results["vae"]["of_rows"], results[name]["of_rows"])
            error = gain.std(ddof=1) / len(gain) ** 0.5
            side = "below" if gain.mean() >= 0 else "above"
            beside.append(f"- `{name}` is {abs(gain.mean()):.2f} nats a row {side} `vae`; standard error {error:.2f}.")
    rows = max(found["rows"] for found in results.values())
    RESULT.write_text(
        f"""# Negative log-likelihood

{data}, dynamically binarized; 784-200-200-50, tanh, Bernoulli; `hvae` has 100 latents and 50 above them, `vamp_vae` 100
pseudo-inputs. p(z) is the prior of training (`log_likelihood(..., trained=True)`), {rows:,} test rows, nats a row.
{bench.machine()}, one seed, on a machine that others used; {datetime.date.today()}.
Regenerate: `python benchmarks/likelihood.py DATA.npz`.

{chr(10).join(lines)}

{chr(10).join(beside)}

Published figures are of 3,280 epochs (Burda et al. 2016, "Importance weighted autoencoders", table 1; `hvae` of its
two-layer model with k = 1).
""".rstrip()
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=25.0, help="of training, for each model")
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--rows", type=int, default=2_000, help="test rows at most")
    arguments = parser.parse_args()
    source = keras_ae.data.load_source(arguments.data)
    assert source.test is not None
    x, test = (rows.x.reshape(len(rows.x), -1) for rows in (source.rows, source.test))
    test = np.random.default_rng(0).permutation(test)[: arguments.rows]
    KEPT.parent.mkdir(exist_ok=True)
    for name in arguments.models:
        results = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        if name not in results:
            found = measured(name, x, test, arguments.minutes)
            results = json.loads(KEPT.read_text()) if KEPT.exists() else {}
            KEPT.write_text(json.dumps({**results, name: found}))
    write(json.loads(KEPT.read_text()), arguments.data.stem)
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
