"""Is the default detector better than the simple methods that autoencoders lose to?

Run: python benchmarks/anomaly.py FOLDER [--seeds 5] [--splits 5] [--contaminated 1] [--sets NAME ...]. FOLDER holds npz
files with X and y (1 for an anomaly), as those of ADBench (Han et al. 2022). Three protocols:

- published: the first half of the normal rows in file order trains, the rest and all anomalies test (Livernoche et al.
  2024). Seeds are of the detector.
- shuffled: the normal rows are shuffled first, by split.
- contaminated: the same, with anomalies among the training rows, one row in twenty, which are no test rows then.

The detector has default settings and takes rows as they are; the baselines take them standardized by the training rows.
Each result is kept in build/anomaly.json as it comes, and is not computed twice.
"""

import argparse
import datetime
import json
import time
from pathlib import Path

import numpy as np
from rich.progress import track
from scipy.stats import wilcoxon
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors
from sklearn.preprocessing import StandardScaler

from keras_ae import bench
from keras_ae.sklearn import AnomalyDetector

KEPT = Path("build/anomaly.json")
RESULT = Path(__file__).parent / "results/anomaly.md"
REPRODUCED = (
    "annthyroid",
    "cardio",
    "letter",
    "mammography",
    "optdigits",
    "pendigits",
    "satellite",
    "shuttle",
    "thyroid",
    "vowels",
)
"""Those whose published figures follow from the files as they are."""
METHODS = ("keras_ae", "kNN", "LOF", "IsolationForest", "PCA")


CONTAMINATION = 0.05


def divided(path: Path, protocol: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normal training rows, test rows, and which of those are anomalies."""
    with np.load(path) as file:
        x, y = file["X"].astype("float64"), file["y"].astype(int)
    normal, anomalous = x[y == 0], x[y == 1]
    if protocol == "shuffled":
        normal = np.random.default_rng(seed).permutation(normal)
    half = len(normal) // 2
    test = np.concatenate([normal[half:], anomalous])
    return normal[:half], test, np.repeat([0, 1], [len(normal) - half, len(anomalous)])


def baselines(train: np.ndarray, test: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    scaler = StandardScaler().fit(train)
    train, test = scaler.transform(train), scaler.transform(test)
    pca = PCA(0.95).fit(train)
    return {
        "kNN": NearestNeighbors(n_neighbors=5).fit(train).kneighbors(test)[0][:, -1],
        "LOF": -LocalOutlierFactor(20, novelty=True).fit(train).score_samples(test),
        "IsolationForest": -IsolationForest(random_state=seed).fit(train).score_samples(test),
        "PCA": np.square(test - pca.inverse_transform(pca.transform(test))).sum(axis=1),
    }


def contaminated(path: Path, seed: int) -> dict[str, float]:
    """AUROC in percent on the same test rows: trained on normal rows, on those with anomalies among them, and on these
    where the detector is told how many there are."""
    train, test, anomalous = divided(path, "shuffled", seed)
    places = np.random.default_rng(seed).permutation(np.flatnonzero(anomalous))
    wrong = places[: min(round(len(train) * CONTAMINATION / (1 - CONTAMINATION)), len(places) // 2)]
    kept = np.setdiff1d(np.arange(len(test)), wrong)
    both = np.concatenate([train, test[wrong]])
    share = len(wrong) / len(both)

    def area(rows: np.ndarray, contamination: float | str) -> float:
        detector = AnomalyDetector(random_state=seed, contamination=contamination).fit(rows)
        return 100 * float(roc_auc_score(anomalous[kept], -detector.score_samples(test[kept])))

    return {
        "share": 100 * share,
        "clean": area(train, "auto"),
        "unaware": area(both, "auto"),
        "told": area(both, share),
        "kNN": 100 * float(roc_auc_score(anomalous[kept], baselines(both, test[kept], seed)["kNN"])),
    }


def measured(path: Path, protocol: str, seed: int) -> dict[str, float]:
    """AUROC of each method in percent, and what the detector took."""
    if protocol == "contaminated":
        return contaminated(path, seed)
    train, test, anomalous = divided(path, protocol, seed)
    started = time.perf_counter()
    detector = AnomalyDetector(random_state=seed).fit(train)
    seconds = time.perf_counter() - started
    scores = {"keras_ae": -detector.score_samples(test), **baselines(train, test, seed)}
    found = {name: 100 * float(roc_auc_score(anomalous, score)) for name, score in scores.items()}
    alarms = detector.p_values(test[anomalous == 0]) <= 0.01
    return {**found, "seconds": seconds, "alarms": 100 * float(alarms.mean()), "rows": len(train)}


def table(headings: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [headings, ["---"] * len(headings), *rows])


def section(results: dict[str, dict[str, float]], protocol: str) -> str:
    sets = sorted({key.split("/")[1] for key in results if key.startswith(protocol)}, key=str.lower)
    if not sets:
        return ""
    means = {}
    for name in sets:
        runs = [run for key, run in results.items() if key.startswith(f"{protocol}/{name}/")]
        means[name] = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]} | {"runs": len(runs)}
    rows = [
        [
            name,
            *(f"{mean[method]:.1f}" for method in METHODS),
            f"{mean['alarms']:.1f}",
            f"{mean['seconds']:.0f}",
            f"{mean['runs']}",
        ]
        for name, mean in means.items()
    ]
    of = [name for name in sets if protocol == "shuffled" or name in REPRODUCED]
    overall = {method: np.array([means[name][method] for name in of]) for method in METHODS}
    rows.append([f"**mean of {len(of)}**", *(f"**{values.mean():.2f}**" for values in overall.values()), "", "", ""])
    lines = [table(["set", *METHODS, "alarms at 1 %", "seconds", "runs"], rows), ""]
    if len(of) > 5:
        for method in METHODS[1:]:
            gain = overall["keras_ae"] - overall[method]
            p = wilcoxon(gain, alternative="greater").pvalue
            lines.append(
                f"- Above {method} by {gain.mean():.2f} in the mean; Wilcoxon's signed-rank test: p = {p:.3f}."
            )
    return "\n".join(lines)


def of_contaminated(results: dict[str, dict[str, float]]) -> str:
    runs = {key.split("/")[1]: run for key, run in results.items() if key.startswith("contaminated")}
    if not runs:
        return ""
    columns = ("share", "clean", "unaware", "told", "kNN")
    rows = [[name, *(f"{run[column]:.1f}" for column in columns)] for name, run in runs.items()]
    means = [f"**{np.mean([run[column] for run in runs.values()]):.2f}**" for column in columns[1:]]
    headings = ["set", "anomalies, %", "trained on normal rows", "on both", "told of how many", "kNN on both"]
    return (
        "## Anomalies among the training rows\n\n"
        + (
            "One row in twenty, or half the anomalies where that is fewer; one split. *Told*: "
            "`AnomalyDetector(contamination=...)`.\n\n"
        )
        + table(headings, [*rows, [f"**mean of {len(runs)}**", "", *means]])
    )


def write(results: dict[str, dict[str, float]]) -> None:
    RESULT.write_text(
        f"""# The default detector beside the simple methods

AUROC in percent, mean of the runs, seeds or splits. `keras_ae` is `AnomalyDetector()`: one setting for all sets,
trained on normal rows only, as they are; the others get rows standardized by the training rows. `alarms at 1 %`: share
of normal test rows whose conformal p-value is at most 0.01. `seconds`: of the detector's `fit`, on a machine that
others may use. {bench.machine()}; {datetime.date.today()}. Regenerate: `python benchmarks/anomaly.py FOLDER`.

## The published protocol

The first half of the normal rows in file order trains (Livernoche et al. 2024). File order is not random, so normal
test rows differ from normal training rows, and alarms are more than asked for. Published means of these ten: LOF 86.62,
kNN 86.45, DTE-NP 86.27, IForest 81.98, VAE 77.86, PCA 77.13.

{section(results, "published")}

## Shuffled normal rows

{section(results, "shuffled")}

{of_contaminated(results)}
""".rstrip()
        + "\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=5, help="of the published protocol")
    parser.add_argument("--splits", type=int, default=5, help="of the shuffled one")
    parser.add_argument("--contaminated", type=int, default=1, help="splits with anomalies among the training rows")
    parser.add_argument("--sets", nargs="*", help="names; all by default")
    arguments = parser.parse_args()
    files = {path.stem: path for path in sorted(arguments.folder.glob("*.npz"))}
    names = arguments.sets or list(files)
    wanted = [
        (protocol, name, seed)
        for protocol, count in (
            ("published", arguments.seeds),
            ("shuffled", arguments.splits),
            ("contaminated", arguments.contaminated),
        )
        for seed in range(count)
        for name in names
        if protocol != "published" or name in REPRODUCED
    ]
    KEPT.parent.mkdir(exist_ok=True)
    for protocol, name, seed in track(wanted, "detecting"):
        key = f"{protocol}/{name}/{seed}"
        results = json.loads(KEPT.read_text()) if KEPT.exists() else {}
        if key not in results:
            found = measured(files[name], protocol, seed)
            results = json.loads(KEPT.read_text()) if KEPT.exists() else {}
            KEPT.write_text(json.dumps({**results, key: found}, indent=1))
    write(json.loads(KEPT.read_text()))
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
