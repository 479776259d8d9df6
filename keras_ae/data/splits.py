"""Train, validation, calibration and test rows: drawn by seed, never overlapping."""

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from keras_ae.data.source import Source
from keras_ae.data.streams import Stream
from keras_ae.errors import InputError

MIN_ROWS = 10
_SHARE = 0.1
MOST = {"validation": 5_000, "calibration": 2_000, "test": 10_000}
"""Rows of each part beside those that train."""


@dataclass(frozen=True)
class Splits:
    """Disjoint raw rows, each (rows, ...).

    Attributes:
        train: what the network learns from, and what scaling and PCA are fitted on.
        validation: chooses the epoch whose weights are kept.
        calibration: gives the conformal p-values.
        test: gives the figures that are reported.
        duplicates: rows of each later split that also occur in an earlier one.
        labels: of the rows of each split, (rows,), where the source has any for all of them.
    """

    train: np.ndarray
    validation: np.ndarray
    calibration: np.ndarray
    test: np.ndarray
    duplicates: dict[str, int]
    labels: dict[str, np.ndarray] | None = None

    def describe(self) -> dict[str, Any]:
        """Rows and sha256 of each split, for the manifest."""
        return {
            name: {"rows": len(rows), "sha256": hashlib.sha256(rows.tobytes()).hexdigest()}
            for name, rows in self.parts().items()
        }

    def parts(self) -> dict[str, np.ndarray]:
        return {name: getattr(self, name) for name in ("train", "validation", "calibration", "test")}


def split(source: Source, seed: int, test: bool = True) -> Splits:
    """Splits by seed: a tenth each for validation (at most 5,000 rows), calibration (2,000) and, unless the source
    brings its own, test (10,000); the rest trains. Without `test` none are kept for it, and validation rows stand in.
    Rows of one group, such as windows of a series that overlap, stay together. Of a stream the parts are samples, by
    the hash of the row whatever the seed (`keras_ae.data.streams`).

    Raises:
        InputError: for fewer than 10 rows, or rows that are all the same.
    """
    x = source.rows.x
    if len(x) < MIN_ROWS:
        raise InputError(f"{source.name} must have at least {MIN_ROWS} rows to train on. Received: {len(x)}.")
    if (x == x[0]).all():
        raise InputError(f"{source.name} must have rows that differ. Received: {len(x)} rows that are all the same.")
    if source.stream is not None:
        return _of_samples(source.stream, test)
    order, ends = _order(source, np.random.default_rng(seed))
    parts: dict[str, np.ndarray] = {}
    labels: dict[str, np.ndarray | None] = {}
    start = 0

    def take(name: str, index: np.ndarray) -> None:
        index = np.sort(index)
        parts[name] = x[index]
        labels[name] = None if source.rows.y is None else source.rows.y[index]

    for name, most in MOST.items():
        if name == "test" and source.test is None and not test:
            parts[name], labels[name] = parts["validation"], labels["validation"]
            continue
        if name == "test" and source.test is not None:
            parts[name], labels[name] = source.test.x, source.test.y
            continue
        size = min(most, max(1, round(_SHARE * len(x))))
        end = int(ends[np.searchsorted(ends, start + size)])
        take(name, order[start:end])
        start = end
    take("train", order[start:])
    known = {name: y for name, y in labels.items() if y is not None}
    return Splits(**parts, duplicates=_duplicates(parts), labels=known if len(known) == len(labels) else None)


def without(splits: Splits, left_out: np.ndarray) -> Splits:
    """Splits without those of the training and validation rows, in this order, that are marked, bool (rows,)."""
    parts, start = {}, 0
    labels = dict(splits.labels or {})
    for name in ("train", "validation"):
        kept = ~left_out[start : start + len(splits.parts()[name])]
        start += len(kept)
        parts[name] = splits.parts()[name][kept]
        if name in labels:
            labels[name] = labels[name][kept]
    return replace(splits, **parts, duplicates=_duplicates(splits.parts() | parts), labels=labels or None)


def _of_samples(stream: Stream, test: bool) -> Splits:
    samples = dict(stream.samples)
    if not test:
        samples["test"] = samples["validation"]
    labels = {name: y for name, (_, y) in samples.items() if y is not None}
    return Splits(**{name: x for name, (x, _) in samples.items()}, duplicates={}, labels=labels or None)


def _order(source: Source, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows in a random order, those of a group one after the other, and where a part may end."""
    groups = source.rows.groups
    if groups is None:
        return random.permutation(len(source.rows.x)), np.arange(1, len(source.rows.x) + 1)
    members = [np.flatnonzero(groups == group) for group in random.permutation(np.unique(groups))]
    if len(members) < len(MOST) + 1:
        raise InputError(
            f"{source.name} must be long enough for {len(MOST) + 1} blocks of windows that don't overlap, of two "
            f"windows each. Received: {len(members)}."
        )
    return np.concatenate(members), np.cumsum([len(rows) for rows in members])


def _duplicates(parts: dict[str, np.ndarray]) -> dict[str, int]:
    seen: set[bytes] = set()
    counts = {}
    for name in ("train", "validation", "calibration", "test"):
        rows = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in parts[name]]
        if name != "train":
            counts[name] = sum(row in seen for row in rows)
        seen.update(rows)
    return {name: count for name, count in counts.items() if count}
