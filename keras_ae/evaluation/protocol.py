"""Who is compared with whom: one entry point that takes arrays and gives an `Evaluation`."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_ae.errors import InputError
from keras_ae.evaluation import anomaly, fidelity, reconstruction, representation
from keras_ae.evaluation.baselines import PCAMixture
from keras_ae.evaluation.components import Components
from keras_ae.evaluation.features import fit_features
from keras_ae.evaluation.novelty import Neighbours, Novelty
from keras_ae.evaluation.numbers import Number, mean
from keras_ae.evaluation.result import Evaluation
from keras_ae.evaluation.rows import Units, flat, per_row
from keras_ae.evaluation.verdict import Table, judge
from keras_ae.progress import Progress, silent

MIN_ROWS = 10
RESOLUTION = 0.01
"""Differences below this share of a feature's deviation are hidden from the two-sample test."""
METRICS = {
    "reconstruction": ("reconstructed",),
    "anomaly": ("anomalous", "score"),
    "false_positives": ("p_value",),
    "representation": ("z", "labels"),
    "two_sample": ("samples",),
    "frechet": ("samples",),
    "manifolds": ("samples",),
    "likelihood": ("nll",),
    "novelty": ("samples",),
}
"""Each metric, and the arguments of `evaluate` that it needs."""


def evaluate(
    train: np.ndarray,
    test: np.ndarray,
    samples: np.ndarray | None = None,
    *,
    latent_dim: int,
    reconstructed: tuple[np.ndarray, np.ndarray] | None = None,
    known: tuple[np.ndarray, np.ndarray] | None = None,
    unit: np.ndarray | float = 1.0,
    z: tuple[np.ndarray, np.ndarray] | None = None,
    labels: tuple[np.ndarray, np.ndarray] | None = None,
    anomalous: np.ndarray | None = None,
    score: np.ndarray | None = None,
    p_value: np.ndarray | None = None,
    nll: np.ndarray | None = None,
    metrics: Sequence[str] | None = None,
    alpha: float = 0.01,
    mixture_components: int | None = None,
    max_rows: int = 5000,
    seed: int = 0,
    valid: Callable[[np.ndarray], np.ndarray] | None = None,
    progress: Progress = silent,
) -> Evaluation:
    """Measures a model beside real held-out rows, copies of training rows, and a PCA + Gaussian-mixture baseline.

    Held-out rows that are not anomalous are split by seed into two halves. One is the reference that every column is
    compared with, the other stands for a perfect model. All columns have equally many rows, as most numbers depend on
    how many there are: as many as the least of half the held-out rows, samples, training rows and `max_rows`.

    Args:
        train: X, raw rows (rows, ...) that the model was trained on.
        test: raw rows that nothing was fitted on.
        samples: raw rows that the model generated; at least half as many as `test`, to lose no power.
        latent_dim: numbers in z, and so the size of the baseline.
        reconstructed: AE(x) of `train` and of `test`, raw.
        known: which features of `train` and of `test` an error of reconstruction is of, bool; by default all.
        unit: that an error of reconstruction is in, of each feature; by default that of the data.
        z: latents (rows, ...) of `train` and of `test`.
        labels: classes (rows,) of `train` and of `test`. They also teach the features that fidelity is measured in.
        anomalous: which of `test` are anomalies, bool (rows,); by default none is. Only the two metrics of anomalies
            look at rows that are.
        score: anomaly score (rows,) of `test`, higher is more anomalous.
        p_value: p-value (rows,) of `test`.
        nll: bound on -log p(x) (rows,) of `test`, nats, as a density of raw x.
        metrics: keys of `METRICS`; by default all that the arguments allow.
        alpha: nominal false-positive rate.
        mixture_components: of the baseline; by default at most 10.
        max_rows: rows of each column, at most. More rows show smaller differences.
        seed: of halves, draws and bootstraps; the same seed gives the same numbers.
        valid: from raw rows to the nearest ones that can be, such as one category of each where they are one of n: for
            the baseline, whose rows are on a plane.
        progress: is told in a few words what runs, and the share that is done.

    Raises:
        InputError: for arrays that don't match, a metric without what it needs, fewer than 10 rows of a kind, or more
            mixture components than training rows.
    """
    if latent_dim < 1 or max_rows < MIN_ROWS or not 0 < alpha < 1:
        raise InputError(
            f"`latent_dim` must be at least 1, `max_rows` at least {MIN_ROWS}, `alpha` between 0 and 1. "
            f"Received: {latent_dim}, {max_rows}, {alpha}."
        )
    train = flat("train", train, least=MIN_ROWS)
    test = flat("test", test, train.shape[1])
    if samples is not None:
        samples = flat("samples", samples, train.shape[1], least=MIN_ROWS)
    sizes = {"train": len(train), "test": len(test)}
    if reconstructed is not None:
        reconstructed = _pair("reconstructed", reconstructed, sizes, train.shape[1])
    if z is not None:
        z = _pair("z", z, sizes)
    if labels is not None:
        labels = _labels(labels, sizes)
    given = {"anomalous": anomalous, "score": score, "p_value": p_value, "nll": nll}
    given = {k: None if v is None else per_row(k, v, len(test), "test") for k, v in given.items()}
    normal = np.ones(len(test), bool) if given["anomalous"] is None else ~given["anomalous"].astype(bool)
    if normal.sum() < MIN_ROWS:
        raise InputError(
            f"`test` must have at least {MIN_ROWS} rows that are not anomalous. "
            f"Received: {normal.sum()} of {len(test)}."
        )
    arguments = {"samples": samples, "reconstructed": reconstructed, "z": z, "labels": labels, **given}
    chosen, skipped = _chosen(metrics, arguments, normal)

    progress("fitting PCA + mixture", 0.0)
    units = Units.fit(train)
    x, held_out = units(train), units(test[normal])
    components = Components(x, latent_dim, seed)
    of_scaled = (lambda rows: rows) if valid is None else (lambda rows: units(valid(units.undo(rows))))
    baseline = PCAMixture(components, x, latent_dim, mixture_components, seed, of_scaled)

    numbers: Table = {}
    if "reconstruction" in chosen and reconstructed is not None:
        progress("reconstruction", 0.1)
        of_train, of_test = (None, None) if known is None else (known[0], known[1][normal])
        unit = np.ravel(unit)
        for name, rows, scaled, rebuilt, which in (
            ("rmse_train", train, x, reconstructed[0], of_train),
            ("rmse_test", test[normal], held_out, reconstructed[1][normal], of_test),
        ):
            errors = {
                "model": reconstruction.squared_errors(rows, rebuilt, unit, which),
                "baseline": reconstruction.squared_errors(
                    scaled, baseline.reconstruct(scaled), unit / units.scale, which
                ),
            }
            numbers[name] = {column: reconstruction.rmse(of_rows, seed) for column, of_rows in errors.items()}
    if "anomaly" in chosen and given["score"] is not None:
        progress("anomalies", 0.15)
        own = anomaly.ranking(given["score"], ~normal, seed)
        scaled = units(test)
        linear = anomaly.ranking(reconstruction.squared_errors(scaled, baseline.reconstruct(scaled)), ~normal, seed)
        numbers |= {name: {"model": own[name], "baseline": linear[name]} for name in own}
    if "false_positives" in chosen and given["p_value"] is not None:
        rate = anomaly.false_positive_rate(given["p_value"][normal], alpha)
        numbers["false_positive_rate"] = {"model": rate}
    if "representation" in chosen and z is not None and labels is not None:
        progress("representation", 0.2)
        both = labels[0], labels[1][normal]
        own = representation.accuracies((z[0], z[1][normal]), both, seed)
        linear = representation.accuracies((baseline.encode(x), baseline.encode(held_out)), both, seed)
        numbers |= {name: {"model": own[name], "baseline": linear[name]} for name in own}
    if "likelihood" in chosen and given["nll"] is not None:
        progress("likelihood", 0.25)
        raw = baseline.nll(held_out) + units.log_volume()
        numbers["nll"] = {"model": mean(given["nll"][normal], seed), "baseline": mean(raw, seed)}

    neighbours: dict[str, Neighbours] = {}
    description, rows_compared = "", 0
    if samples is not None and chosen & {"two_sample", "frechet", "manifolds", "novelty"}:
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(held_out))
        rows_compared = n = min(len(order) // 2, len(samples), len(train), max_rows)
        reference = held_out[order[:n]]
        sampled = rng.choice(len(samples), n, replace=False)
        drawn = order[n : 2 * n]
        copied = rng.choice(len(x), n, replace=False)
        columns = {
            "model": units(samples[sampled]),
            "held_out": held_out[drawn],
            "copies": x[copied],
            "baseline": baseline.sample(n),
        }
        origin = {
            "model": sampled,
            "held_out": np.flatnonzero(normal)[drawn],
            "copies": copied,
            "baseline": np.arange(n),
        }
        compared, description, neighbours = _compare(
            chosen, x, None if labels is None else labels[0], reference, columns, origin, components, seed, progress
        )
        numbers |= compared
    settings = {
        "rows": rows_compared,
        "train_rows": len(train),
        "held_out_rows": int(normal.sum()),
        "scaling": "shared" if units.shared else "per feature",
        "distance_components": components.width,
        "latent_dim": baseline.latent_dim,
        "mixture_components": baseline.mixture_components,
        "alpha": alpha,
        "seed": seed,
    }
    progress("done", 1.0)
    return Evaluation(numbers, judge(numbers, rows_compared), neighbours, skipped, description, settings)


def _compare(
    chosen: set[str],
    x: np.ndarray,
    labels: np.ndarray | None,
    reference: np.ndarray,
    columns: dict[str, np.ndarray],
    origin: dict[str, np.ndarray],
    components: Components,
    seed: int,
    progress: Progress,
) -> tuple[Table, str, dict[str, Neighbours]]:
    """Fidelity and novelty of each column of scaled rows: the numbers, what features are, and neighbours."""
    progress("features", 0.3)
    features = fit_features(x, labels, components, seed)

    noise = np.random.default_rng(seed)
    resolution = RESOLUTION * np.sqrt(components.total_variance / x.shape[1])

    def view(rows: np.ndarray) -> np.ndarray:
        # What the classifier of the two-sample test sees. The length of what the components leave out shows noise and
        # blur that they don't. Noise hides differences too small to matter, such as pixels of whole numbers.
        linear = np.concatenate([components.encode(rows), np.sqrt(components.left_out(rows))[:, None]], axis=1)
        linear += noise.normal(scale=resolution, size=linear.shape)
        return np.concatenate([linear, features.of(rows)], axis=1) if features.learned else linear

    novelty = None
    if "novelty" in chosen:
        progress("distances to X", 0.4)
        encoded = components.encode(x)
        novelty = Novelty(encoded, components.encode(reference), components.encode(columns["held_out"]), seed)
    numbers: Table = {}
    neighbours = {}
    for step, (column, rows) in enumerate(columns.items()):
        progress(f"comparing {column}", 0.45 + 0.55 * step / len(columns))
        found: dict[str, Number] = {}
        if "two_sample" in chosen:
            found |= fidelity.two_sample(view(reference), view(rows), seed)
        if "frechet" in chosen:
            found["frechet"] = fidelity.frechet(features.of(reference), features.of(rows), seed)
        if "manifolds" in chosen:
            found |= fidelity.manifolds(features.of(reference), features.of(rows), seed)
        if novelty is not None:
            neighbours[column], close = novelty.measure(components.encode(rows), origin[column])
            found |= close
        for name, number in found.items():
            numbers.setdefault(name, {})[column] = number
    if novelty is not None:
        neighbours["left_out"], close = novelty.left_out(origin["copies"])
        for name, number in close.items():
            numbers[name]["left_out"] = number
    return numbers, features.description, neighbours


def _chosen(
    metrics: Sequence[str] | None, arguments: dict[str, Any], normal: np.ndarray
) -> tuple[set[str], dict[str, str]]:
    """Metrics to measure, and why each other one isn't."""
    if unknown := set(metrics or ()) - METRICS.keys():
        raise InputError(f"`metrics` must be of {', '.join(METRICS)}. Received: {', '.join(sorted(unknown))}.")
    lacking = {}
    for name, needs in METRICS.items():
        if missing := [f"`{need}`" for need in needs if arguments[need] is None]:
            lacking[name] = f"needs {' and '.join(missing)}"
    if "anomaly" not in lacking and normal.all():
        lacking["anomaly"] = "needs rows of `test` that `anomalous` marks"
    if "representation" not in lacking and len(np.unique(arguments["labels"][0])) < 2:
        lacking["representation"] = "needs two classes in `labels` of `train`"
    if metrics is None:
        return METRICS.keys() - lacking.keys(), lacking
    if absent := [f"`{name}` {lacking[name]}" for name in metrics if name in lacking]:
        raise InputError(f"`metrics` must come with what they need. Received: none for {'; '.join(absent)}.")
    return set(metrics), {}


def _pair(
    name: str, arrays: tuple[np.ndarray, np.ndarray], sizes: dict[str, int], features: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    parts = [flat(name, rows, features) for rows in arrays]
    if [len(part) for part in parts] != list(sizes.values()) or parts[0].shape[1] != parts[1].shape[1]:
        raise InputError(
            f"`{name}` must be a pair: one array for the {sizes['train']} rows of `train`, one for the {sizes['test']} "
            f"rows of `test`, of one width. Received: shapes {' and '.join(str(part.shape) for part in parts)}."
        )
    return parts[0], parts[1]


def _labels(labels: tuple[np.ndarray, np.ndarray], sizes: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    if len(labels) != 2:
        raise InputError(f"`labels` must be a pair, of `train` and of `test`. Received: {len(labels)} arrays.")
    first, second = (per_row("labels", part, sizes[of], of) for part, of in zip(labels, sizes, strict=True))
    return first, second
