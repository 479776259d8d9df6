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
MEANINGS = {
    "model": "what is judged: the model's samples, reconstructions, latents and scores",
    "held_out": "real rows that the model has not seen: what a perfect model would get",
    "left_out": "training rows, each beside all others: what a perfect model would get, too",
    "copies": "training rows in the place of samples: what a model that memorized them would get",
    "baseline": "a Gaussian mixture on as many principal components as the model has latents: what is to be beaten",
    "rmse_train": "how far reconstructions of training rows are from them, in units of the data or columns' deviations",
    "rmse_test": "the same of rows that were not trained on; far above it is overfitting",
    "auroc": "chance that an anomaly scores higher than a normal row: 0.5 is a guess, 1 is perfect",
    "average_precision": "precision at each anomaly that is found, averaged: 1 is perfect",
    "false_positive_rate": "share of normal held-out rows that raise an alarm at a nominal 1 %: 0.01 or less is right",
    "knn_accuracy": "share of held-out rows whose class their 5 nearest training rows tell, by z",
    "probe_accuracy": "the same of a logistic regression on z",
    "c2st_auc": "how well a classifier tells samples from real rows: 0.5 is not at all, 1 is always",
    "c2st_p_value": "chance of such an AUC where there is nothing to tell",
    "frechet": "distance of mean and covariance from those of real rows, in features of variance 1: 0 is none",
    "precision": "share of samples that lie where real rows do",
    "recall": "share of real rows that lie where samples do",
    "density": "how many real rows a sample lies near, over what is usual; above 1 is no better",
    "coverage": "share of real rows that have a sample among their nearest neighbours",
    "nll": "mean of a bound on -log p(x) over held-out rows: lower is better",
    "c_t": "how much farther from training rows samples lie than real rows do: about 0 of these, far below of copies",
    "nn_ratio": "median distance to the training rows, over that of real rows: 1 of real rows, 0 of copies",
    "authenticity": "share of samples farther from their nearest training row than that is from its own: 0 of copies",
    "preference": "chance to be relatively nearer to training rows than real rows are: 0.5 of these, 1 of copies",
    "copied": "share of samples much nearer to a training row than to other real rows: 0.01 of these, 1 of copies",
}
"""What each of COLUMNS and LABELS says, in a line; docs/evaluation.md has the definitions."""


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

    @property
    def columns(self) -> list[str]:
        """Of `COLUMNS`, those that have a number."""
        return [column for column in COLUMNS if any(column in row for row in self.numbers.values())]

    @property
    def measured(self) -> list[str]:
        """Of `LABELS`, those that have a number."""
        return [name for name in LABELS if name in self.numbers]

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
        lines = [["", *(COLUMNS[column] for column in self.columns)]]
        for name in self.measured:
            row = self.numbers[name]
            lines.append([LABELS[name], *(str(row[column]) if column in row else "" for column in self.columns)])
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        ]
        text += [f"not measured: {name}, {why}" for name, why in self.skipped.items()]
        return "\n".join([*text, *([] if self.verdict is None else ["", str(self.verdict)])])


def _plain(number: Number) -> dict[str, float | None]:
    return {name: None if value is None or np.isnan(value) else value for name, value in vars(number).items()}
