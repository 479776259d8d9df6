"""Has the data changed since training? Rows that are new, beside rows that the artifact keeps for this."""

import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae import artifact
from keras_ae.alarms import alarms, check_level, least_p_value
from keras_ae.data.sequences import is_ragged, lengths, padded
from keras_ae.errors import ArtifactError, InputError
from keras_ae.inputs import raw_batches
from keras_ae.runtime import load

REFERENCE = "reference.npz"
"""Raw rows of an artifact that were neither trained on nor tested."""
REFERENCE_ROWS = 1_000
LATENTS = "latents"
_MOST_ROWS = 5_000
_MOST_COLUMNS = 256
_ALARM = 0.01
_FEWEST_ROWS = 20


@dataclass(frozen=True)
class Shift:
    """One comparison of new rows with those kept.

    Attributes:
        of: `score`, `latents`, `length` of series, or a column.
        statistic: the distance of Kolmogorov and Smirnov, 0 to 1; of `latents` the AUC of a classifier that tells both
            apart, 0.5 where it can't.
        p_value: of rows without a change, as they are; there are as many chances as comparisons.
    """

    of: str
    statistic: float
    p_value: float


@dataclass(frozen=True)
class Drift:
    """New rows beside those of training.

    Attributes:
        rows: compared.
        reference_rows: kept in the artifact.
        level: chance of an alarm without a change.
        shifts: all comparisons; `score` and `latents` first.
        alarms: share of the new rows whose p-value is at most 0.01; None where the model's calibration rows are too few
            for one so low.
    """

    rows: int
    reference_rows: int
    level: float
    shifts: tuple[Shift, ...]
    alarms: float | None

    @property
    def found(self) -> tuple[Shift, ...]:
        """Those whose p-value is at most the level over their number (Bonferroni), clearest first."""
        limit = self.level / len(self.shifts)
        return tuple(sorted((s for s in self.shifts if s.p_value <= limit), key=lambda s: (s.p_value, -s.statistic)))

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {**asdict(self), "shifts": [asdict(s) for s in self.shifts], "found": [s.of for s in self.found]}

    def __str__(self) -> str:
        said = "changed" if self.found else "no change found"
        lines = [f"{said}: {self.rows:,} new rows beside {self.reference_rows:,} that the artifact keeps"]
        for s in self.found:
            what = "AUC" if s.of == LATENTS else "distance"
            lines.append(f"  {s.of:<20} {what:<8} {s.statistic:.3f}  p = {s.p_value:.1e}")
        if self.alarms is not None:
            usual = f"of usual rows about {_ALARM:.0%}"
            lines.append(f"  {self.alarms:.1%} of the new rows have a p-value of at most {_ALARM}, {usual}")
        return "\n".join(lines)


def keep_reference(folder: Path, rows: np.ndarray) -> None:
    """Writes at most 1,000 of the rows into an artifact's folder."""
    kept = np.sort(np.random.default_rng(0).permutation(len(rows))[:REFERENCE_ROWS])
    np.savez_compressed(folder / REFERENCE, x=rows[kept])


def monitor_file(path: str | Path, source: Any, level: float = 0.001, seed: int = 0) -> Drift:
    """`monitor` on the rows of a source (`keras_ae.files.run_file`), whose columns are matched by name with those
    trained on. No more rows are held than are looked at.
    """
    return monitor(path, sampled(raw_batches(load(path), source), _MOST_ROWS, seed), level)


def sampled(batches: Iterable[np.ndarray], most: int, seed: int = 0) -> np.ndarray:
    """So many rows of all batches, each as likely as any other, in the order in which they come."""
    random = np.random.default_rng(seed)
    drawn, rows = np.empty(0), np.empty(0)
    for batch in batches:
        numbers = random.random(len(batch))
        drawn = np.concatenate([drawn, numbers])
        rows = np.concatenate([rows, batch]) if len(rows) else batch
        if len(rows) > most:
            kept = np.sort(np.argpartition(drawn, most)[:most])  # of the smallest numbers
            drawn, rows = drawn[kept], rows[kept]
    return rows


def monitor(path: str | Path, x: np.ndarray, level: float = 0.001, seed: int = 0) -> Drift:
    """Compares raw rows with those that the artifact keeps.

    The score and each column by the two-sample test of Kolmogorov (1933) and Smirnov (1939), columns only where there
    are no more than 256; latents by a classifier (Lopez-Paz and Oquab 2017), which sees what no single column shows.

    Args:
        path: the artifact.
        x: new raw rows (rows, ...), or a list of series; at most 5,000, drawn by seed, are looked at.
        level: chance of an alarm for rows without a change.
        seed: of the choice, and of the classifier.

    Raises:
        InputError: for fewer than 20 rows, or a level outside (0, 1).
        ArtifactError: for one that keeps no rows.
    """
    from scipy.stats import ks_2samp

    from keras_ae.evaluation.fidelity import two_sample

    check_level("level", level)
    if len(x) < _FEWEST_ROWS:
        raise InputError(f"`x` must have at least {_FEWEST_ROWS} rows to compare. Received: {len(x)}.")
    model = load(path)
    if REFERENCE not in model.manifest["files"]:
        raise ArtifactError(f"{path} keeps no rows to compare with: fit it again, with rows kept.")
    with np.load(artifact.check_file(Path(path), REFERENCE, model.manifest), allow_pickle=False) as file:
        reference = file["x"]
    x = sampled([padded(x) if is_ragged(x) else np.asarray(x)], _MOST_ROWS, seed)
    known, new = model.score(reference), model.score(x)
    if "p_value" not in new:
        raise ArtifactError(f"{path} has no p-values: `calibrate` the model before it is saved.")

    def compared(of: str, a: np.ndarray, b: np.ndarray) -> Shift:
        # A missing cell is a value of its own, below all others.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "ks_2samp: Exact calculation unsuccessful")  # the asymptotic one will do
            found = ks_2samp(*(np.nan_to_num(part, nan=-np.inf) for part in (a, b)))
        return Shift(of, float(found.statistic), float(found.pvalue))

    z, z_new = (model.encode(rows).reshape(len(rows), -1) for rows in (reference, x))
    latents = two_sample(z, z_new, seed)
    shifts = [
        compared("score", known["score"], new["score"]),
        Shift(LATENTS, latents["c2st_auc"].value, latents["c2st_p_value"].value),
    ]
    if model.sequences is not None:
        x = model.sequences.padded(x)
        shifts.append(compared("length", lengths(reference), lengths(x)))
    columns = model.columns or [f"column {i}" for i in range(int(np.prod(model.input_shape)))]
    if len(columns) <= _MOST_COLUMNS:
        flat, flat_new = reference.reshape(len(reference), -1), x.reshape(len(x), -1)
        shifts += [compared(name, flat[:, i], flat_new[:, i]) for i, name in enumerate(columns)]
    is_told = least_p_value(model.manifest["calibration_rows"]) <= _ALARM
    share = float(np.mean(alarms(new["p_value"], _ALARM))) if is_told else None
    return Drift(len(x), len(reference), level, tuple(shifts), share)
