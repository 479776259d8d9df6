"""What a fit learns from the labels of its rows: all of them, some of them and what follows for the rest, or none."""

from dataclasses import dataclass, field

import numpy as np

from keras_ae.data import ColumnStatistics, Source, Splits, Statistics
from keras_ae.data.labels import UNKNOWN, Classes
from keras_ae.data.sequences import Sequences
from keras_ae.data.spreading import spread_labels
from keras_ae.errors import InputError

_FITTED = ("train", "validation", "calibration")
_FEWEST_TO_CALIBRATE = 50
"""Known labels that a temperature is fitted on; where there are fewer, spread ones take part."""


@dataclass(frozen=True)
class Labels:
    """Labels of each split as indices of classes, -1 where one is not known; empty where there are none.

    Attributes:
        classes: names.
        known: as the source has them.
        learned: what the model learns from: those and, where some are missing, those spread from them.
        notes: for people.
    """

    classes: tuple[str, ...] = ()
    known: dict[str, np.ndarray] = field(default_factory=dict)
    learned: dict[str, np.ndarray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of_calibration(self) -> np.ndarray | None:
        """Labels that probabilities are calibrated on."""
        if not self.classes:
            return None
        known = self.known["calibration"]
        return known if np.sum(known != UNKNOWN) >= _FEWEST_TO_CALIBRATE else self.learned["calibration"]


def labels_of(
    data: Source, splits: Splits, statistics: Statistics | ColumnStatistics | Sequences, asked: bool | None, seed: int
) -> Labels:
    """The labels to learn from.

    Args:
        data: the source.
        splits: its rows.
        statistics: scale of each feature.
        asked: True for labels that must be there, False for none, None for those that can be used.
        seed: of spreading.

    Raises:
        InputError: where labels are asked for and can't be used.
    """
    if asked is False or (asked is None and splits.labels is None):
        return Labels()
    try:
        if splits.labels is None:
            raise InputError(
                "`labels` need a source that has some: `y` in .npz, a column of a table, or images in a folder a "
                f"class. Received: {data.name}."
            )
        classes = Classes.of(np.concatenate([splits.labels[name] for name in _FITTED]))
        known = {name: classes.index(y) for name, y in splits.labels.items()}
        learned, note = known, None
        if any(np.any(known[name] == UNKNOWN) for name in _FITTED):
            learned, note = _filled(known, splits, statistics, seed)
            if data.stream is not None:
                note = f"of the rows of the samples {note}; other rows have the labels that they come with"
        _check_train(classes, learned["train"])
    except InputError as error:
        if asked:
            raise
        return Labels(notes=(f"labels were not learned from. {error}",))
    return Labels(classes.names, known, learned, () if note is None else (note,))


def _check_train(classes: Classes, train: np.ndarray) -> None:
    without = [name for i, name in enumerate(classes.names) if not np.any(train == i)]
    if without:
        raise InputError(f"Each class must have labels among the rows trained on. Received: none of {without[0]!r}.")


def _filled(
    known: dict[str, np.ndarray], splits: Splits, statistics: Statistics | ColumnStatistics | Sequences, seed: int
) -> tuple[dict[str, np.ndarray], str]:
    """The labels with those that could be spread, and a note."""
    rows = np.concatenate([statistics.scaled(getattr(splits, name)) for name in _FITTED])
    y = np.concatenate([known[name] for name in _FITTED])
    given = int(np.sum(y != UNKNOWN))
    what = f"{len(y) - given:,} of {len(y):,} labels are missing"
    spread = spread_labels(rows, y, seed)
    halves = "" if spread.agreement is None else f"one half of them predicts {spread.agreement:.0%} of the other half"
    if not spread.is_useful:
        return known, f"{what}, and neighbours don't tell them from the {given:,} others: {halves}"
    ends = np.cumsum([len(known[name]) for name in _FITTED])[:-1]
    learned = known | dict(zip(_FITTED, np.split(spread.y, ends), strict=True))
    count = int(np.sum(spread.y != UNKNOWN)) - given
    return learned, f"{what}; {count:,} were spread from the {given:,} others" + (f"; {halves}" if halves else "")
