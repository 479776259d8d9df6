"""What `evaluate` gives back: a table of numbers, a verdict, and what a report draws."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ae.evaluation.novelty import Neighbours
from keras_ae.evaluation.numbers import Number
from keras_ae.evaluation.verdict import Table, Verdict

COLUMNS = {
    "model": "model",
    "held_out": "held-out rows",
    "left_out": "X, left out",
    "copies": "copies of X",
    "baseline": "PCA + mixture",
}
LABELS = {
    "rmse_train": "RMSE, training rows",
    "rmse_test": "RMSE, held-out rows",
    "auroc": "anomaly AUROC",
    "average_precision": "anomaly average precision",
    "false_positive_rate": "false-positive rate",
    "knn_accuracy": "kNN accuracy of z",
    "probe_accuracy": "linear-probe accuracy of z",
    "c2st_auc": "two-sample AUC",
    "c2st_p_value": "two-sample p-value",
    "frechet": "Frechet distance",
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "nll": "NLL bound, nats a row",
    "c_t": "C_T",
    "nn_ratio": "nearest-neighbour ratio",
    "authenticity": "authenticity",
    "preference": "preference for X",
    "copied": "copied",
}


@dataclass(frozen=True)
class Evaluation:
    """The numbers of a model, each beside the same number for real rows, copies of training rows and the baseline.

    Attributes:
        numbers: name, as in `LABELS`, then column, as in `COLUMNS`, to value and interval; what has no meaning for a
            column is absent.
        verdict: the two answers, or None without samples.
        neighbours: by column, the nearest training row of each row compared; `rows` are indices into `samples` for
            `model`, into `test` for `held_out`, into `train` for `copies` and `left_out`.
        skipped: metrics that were not measured, and what they need.
        features: what the Frechet distance, precision, recall, density and coverage are taken in.
        settings: rows compared, alpha, mixture components, seed and the like.
    """

    numbers: Table
    verdict: Verdict | None
    neighbours: dict[str, Neighbours]
    skipped: dict[str, str]
    features: str
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """All of it but the neighbours, ready for JSON; a value that is not defined is None."""
        numbers = {
            name: {column: _plain(number) for column, number in row.items()} for name, row in self.numbers.items()
        }
        verdict = self.verdict and {
            name: {"yes": answer.yes, "because": answer.because} for name, answer in vars(self.verdict).items()
        }
        return {
            "verdict": verdict,
            "numbers": numbers,
            "skipped": self.skipped,
            "features": self.features,
            "settings": self.settings,
        }

    def __str__(self) -> str:
        """A table of text, the verdict below it."""
        used = [column for column in COLUMNS if any(column in row for row in self.numbers.values())]
        lines = [["", *(COLUMNS[column] for column in used)]]
        for name in LABELS:
            if name in self.numbers:
                row = self.numbers[name]
                lines.append([LABELS[name], *(str(row[column]) if column in row else "" for column in used)])
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        text += [f"not measured: {name}, {why}" for name, why in self.skipped.items()]
        return "\n".join([*text, *([] if self.verdict is None else ["", str(self.verdict)])])


def _plain(number: Number) -> dict[str, float | None]:
    return {name: None if value is None or np.isnan(value) else value for name, value in vars(number).items()}
