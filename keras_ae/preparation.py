"""What a fit learns from: rows that are split, their statistics and labels."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ae.data import ColumnStatistics, Schema, Splits, Statistics, fit_columns, fit_scaling, fit_support, split
from keras_ae.data.columns import features, layout
from keras_ae.data.sequences import Sequences, fit_sequences, lengths
from keras_ae.data.source import Source
from keras_ae.data.splits import without
from keras_ae.data.trimming import standing_apart
from keras_ae.errors import InputError
from keras_ae.labelling import Labels, labels_of
from keras_ae.training import default_latent_dim


@dataclass(frozen=True)
class Prepared:
    """Rows, ready to be trained on.

    Attributes:
        data: where they come from.
        splits: raw rows of each part.
        statistics: of the training rows, by which they are scaled.
        labels: what is learned of them.
        schema: of a table, with what the training rows say of its columns.
        left_out: rows that are in no part, since they stand apart.
    """

    data: Source
    splits: Splits
    statistics: Statistics | ColumnStatistics | Sequences
    labels: Labels
    schema: Schema | None = None
    left_out: int = 0

    @classmethod
    def of(
        cls, data: Source, labels: bool | None, test: bool, seed: int, contamination: float | None = None
    ) -> "Prepared":
        """Splits a source, and looks at its training rows; arguments are those of `keras_ae.fit`."""
        splits = given = split(data, seed, test)
        if contamination is not None:
            splits = _trimmed(data, given, contamination, seed)
        rows, schema = data.rows, data.rows.schema
        statistics: Statistics | ColumnStatistics | Sequences
        if rows.channels is not None:
            statistics = fit_sequences(splits.train, rows.channels)
        elif schema is not None and not schema.is_plain:
            schema = fit_columns(schema, splits.train)
            statistics = ColumnStatistics(schema)
        else:
            statistics = fit_scaling(splits.train)
            if schema is not None or rows.columns is not None:
                schema = fit_support(schema or Schema.of_numbers(rows.columns or ()), splits.train)
        left_out = sum(len(given.parts()[name]) - len(x) for name, x in splits.parts().items())
        return cls(data, splits, statistics, labels_of(data, splits, statistics, labels, seed), schema, left_out)

    @property
    def sequences(self) -> tuple[str, ...]:
        """Channels of series of different lengths; none where rows are no such."""
        return self.statistics.channels if isinstance(self.statistics, Sequences) else ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one raw row."""
        return self.splits.train.shape[1:]

    @property
    def latent_dim(self) -> int:
        """The default of `keras_ae.fit`."""
        return default_latent_dim(self.splits.train[0].size if self.schema is None else layout(self.schema).numbers)

    def hashes(self) -> dict[str, Any]:
        """What tells the rows and the labels of a run from others."""
        return {
            **({} if self.data.stream is None else {"stream": self.data.stream.describe()}),
            "data": {name: part["sha256"] for name, part in self.splits.describe().items()},
            "labels": {name: hashlib.sha256(y.tobytes()).hexdigest() for name, y in self.labels.learned.items()},
        }

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        rows = self.data.rows
        return {
            "source": self.data.name,
            "columns": list(rows.columns) if rows.columns else None,
            "dropped": list(rows.schema.dropped) if rows.schema else [],
            "rows_skipped": rows.skipped,
            "rows_left_out": self.left_out,
            "window": rows.windowing.describe() if rows.windowing else None,
            "labels_column": self.data.labels,
            "scaling": "shared" if self.statistics.shared else "per feature",
            "splits": self.splits.describe(),
            "duplicates": self.splits.duplicates,
            "stream": None if self.data.stream is None else self.data.stream.describe(),
        }

    def notes(self) -> list[str]:
        """What people should know of the rows."""
        notes = list(self.data.rows.notes)
        if self.left_out:
            notes.append(f"{self.left_out:,} rows that stand apart were left out of training")
        if self.sequences:
            steps = lengths(self.splits.train)
            notes.append(f"series of {steps.min()} to {self.shape[0]} steps, {np.median(steps):g} in the median")
        of_statistics = self.sequences or self.data.rows.columns
        if self.statistics.constant and of_statistics:
            names = [of_statistics[i] for i in self.statistics.constant]
            shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            notes.append(f"{len(names)} constant column{'s' if len(names) > 1 else ''} in the training rows: {shown}")
        for name, count in self.splits.duplicates.items():
            notes.append(f"{count} of {len(self.splits.parts()[name])} {name} rows also occur in an earlier split")
        return [*notes, *self.labels.notes]


def _trimmed(data: Source, splits: Splits, contamination: float, seed: int) -> Splits:
    """Without the training and validation rows that stand apart."""
    if data.stream is not None:
        raise InputError("`contamination` needs rows in memory. Received: a stream.")
    x, schema = np.concatenate([splits.train, splits.validation]), data.rows.schema
    compared = x if schema is None or schema.is_plain else features(fit_columns(schema, x), x)
    return without(splits, standing_apart(compared, contamination, seed))
