"""Draws results/scaling.json as docs/images/scaling.svg."""

import json
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import LogLocator

ROOT = Path(__file__).parents[1]
COSTS = {"seconds": "seconds an epoch", "megabytes": "peak memory, MB"}


def main() -> None:
    # The same figures give the same file.
    mpl.rcParams.update(
        {"svg.hashsalt": "keras_ae", "svg.fonttype": "none", "axes.spines.top": False, "axes.spines.right": False}
    )
    results = json.loads((ROOT / "benchmarks/results/scaling.json").read_text())
    base = results["base"]
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    for panel, (cost, label) in zip(panels, COSTS.items(), strict=True):
        for (axis, measured), marker in zip(results["axes"].items(), "osD^", strict=True):
            factors = [value / base[axis] for value in measured["values"]]
            slope = measured["exponents"][cost]["last"]
            panel.plot(factors, measured[cost], marker=marker, label=f"{axis} ({base[axis]:,}): {slope:.2f}")
        panel.set(xscale="log", yscale="log", xlabel="times the base value", ylabel=label)
        panel.set_xticks(factors, [f"{factor:g}" for factor in factors], minor=False)
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.legend(title="axis (base): exponent at the end", fontsize=8, title_fontsize=8, frameon=False)
    images = ROOT / "docs" / "images"
    images.mkdir(parents=True, exist_ok=True)
    figure.savefig(images / "scaling.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
