"""Do recipes that ask for independent latents find the factors that made the images?

Run: python benchmarks/factors.py [--seeds 3] [--epochs 20] [--recipes NAME ...]. Sprites of known shape, size, angle
and place are drawn here, in the manner of dSprites (Matthey et al. 2017); every recipe has the convolutional network,
a Bernoulli likelihood and 8 latents. Each result is kept in build/factors.json as it comes, and is not computed twice.
The table goes to benchmarks/results/factors.md.
"""

import argparse
import datetime
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.progress import track

import keras_ae
from keras_ae import bench
from keras_ae.evaluation import disentanglement

KEPT = Path("build/factors.json")
RESULT = Path(__file__).parent / "results/factors.md"
SIDE = 32
LATENTS = 8
ROWS = 20_000
MEASURED = 4_000
FACTORS = {"shape": 3, "size": 5, "angle": 8, "x": 12, "y": 12}
"""Values of each factor."""
RECIPES: dict[str, dict[str, Any]] = {
    "vae": {},
    "beta_vae": {"beta": 4.0},
    "beta_tc_vae": {"beta": 6.0},
    "factor_vae": {"gamma": 10.0},
    "dip_vae": {},
}
MEASURES = ("mig", "disentanglement", "completeness", "informativeness")


def drawn(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sprites uint8 (rows, side, side), and their factors (rows, 5)."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(0, n, rows) for n in FACTORS.values()], axis=1)
    shape, size, angle, x, y = factors.T
    radius = 4.0 + size
    turn = 2 * np.pi * angle / FACTORS["angle"] / np.where(shape == 0, 4, np.where(shape == 1, 2, 3))
    across = (SIDE - 18) / (FACTORS["x"] - 1)
    grid = np.arange(SIDE) + 0.5
    images = np.empty((rows, SIDE, SIDE), "uint8")
    for i in range(rows):
        dx, dy = np.meshgrid(grid - (9 + across * x[i]), grid - (9 + across * y[i]))
        u, v = np.cos(turn[i]) * dx + np.sin(turn[i]) * dy, np.cos(turn[i]) * dy - np.sin(turn[i]) * dx
        if shape[i] == 0:  # signed distances in pixels; a pixel on the edge is grey
            inside = 0.75 * radius[i] - np.maximum(np.abs(u), np.abs(v))
        elif shape[i] == 1:
            inside = (1.0 - np.hypot(u, 2.0 * v) / radius[i]) * radius[i] / 2
        else:
            inside = 0.5 * radius[i] - np.maximum(v, np.abs(u) * np.sqrt(0.75) - v / 2)
        images[i] = np.round(255 * np.clip(inside + 0.5, 0, 1))
    return images, factors


def measured(recipe: str, seed: int, epochs: int) -> dict[str, float]:
    images, factors = drawn(ROWS, seed=0)
    keras.utils.set_random_seed(seed)
    model = keras_ae.build(
        recipe,
        images.shape[1:],
        LATENTS,
        "conv",
        "uint8",
        likelihood="bernoulli",
        linear=False,
        **RECIPES[recipe],
    )
    model.scaling.set_limit(255.0)
    model.compile(keras.optimizers.Adam(1e-3))
    model.fit(images, batch_size=64, epochs=epochs, verbose=0)
    z = model.encode(images[:MEASURED])
    found = disentanglement(z, factors[:MEASURED], seed)
    error = keras_ae.training.rmse(images[:MEASURED], model.reconstruct(images[:MEASURED]))
    return {**{name: getattr(found, name) for name in MEASURES}, "rmse": error}


def write(results: dict[str, dict[str, float]], epochs: int) -> None:
    lines = ["| recipe | MIG | DCI disentanglement | completeness | informativeness | RMSE | seeds |"]
    lines.append("|" + " --- |" * 7)
    for recipe, options in RECIPES.items():
        runs = [run for key, run in results.items() if key.split("/")[0] == recipe]
        if not runs:
            continue
        named = "".join(f", {name} {value:g}" for name, value in options.items())
        cells = [
            f"{np.mean([run[name] for run in runs]):.3f} +- {np.std([run[name] for run in runs]):.3f}"
            for name in MEASURES
        ]
        error = np.mean([run["rmse"] for run in runs])
        lines.append(f"| `{recipe}`{named} | {' | '.join(cells)} | {error:.1f} | {len(runs)} |")
    RESULT.write_text(f"""# Factors of variation

{ROWS:,} sprites of {SIDE} x {SIDE}, whose factors are known ({", ".join(f"{n} of {k}" for k, n in FACTORS.items())});
convolutional network, Bernoulli likelihood, {LATENTS} latents, {epochs} epochs; mean and deviation over seeds. MIG as
Chen et al. 2018, the other three as Eastwood and Williams 2018 (`keras_ae.evaluation.disentanglement`). RMSE in grey
levels.
{bench.machine()}; {datetime.date.today()}. Regenerate: `python benchmarks/factors.py`.

{chr(10).join(lines)}
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    arguments = parser.parse_args()
    KEPT.parent.mkdir(exist_ok=True)
    results = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for seed, recipe in track([(s, r) for s in range(arguments.seeds) for r in arguments.recipes], "training"):
        key = f"{recipe}/{seed}/{arguments.epochs}"
        if key not in results:
            results[key] = measured(recipe, seed, arguments.epochs)
            KEPT.write_text(json.dumps(results, indent=1))
    write({key: run for key, run in results.items() if key.endswith(f"/{arguments.epochs}")}, arguments.epochs)
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
