"""Does an export agree with Keras? The same rows through both, at batch 1 and 7."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_ae.errors import ExportError
from keras_ae.functions import before_marginals
from keras_ae.interface import standard_normal
from keras_ae.layers import Marginals
from keras_ae.models import Autoencoder

BATCHES = (1, 7)
TOLERANCE = 1e-5

Arrays = dict[str, np.ndarray]
Runner = Callable[[str, Arrays], Arrays]
"""Runs a function, by name, on its inputs in some runtime."""


@dataclass(frozen=True)
class Reference:
    """What Keras gives, per function and batch.

    Attributes:
        cases: (function, inputs by name, outputs by name).
        floors: per output, the size below which a difference does not count as relative to the value: for `x` and
            `x_hat` each feature's scale, for `score` that of the scaled rows, whose float32 rounding is all that is
            left of it where the reconstruction is exact; with a detector, whose logarithms turn one part in a measure
            into a sum, `rounding`.
        calibration_scores: sorted, behind the p-values.
        said: what the model's `marginals` is given by `generate`, by how many rows there are.
        marginals: of the model, or None. It rises, somewhere steeply, with what the decoder says, and has steps: what
            lies midway between two whole numbers, or where an interval ends, goes to either side by its last digit.
    """

    cases: list[tuple[str, Arrays, Arrays]]
    floors: dict[str, np.ndarray]
    calibration_scores: np.ndarray
    said: dict[int, Arrays]
    marginals: Marginals | None

    @classmethod
    def of(cls, model: Autoencoder, rows: np.ndarray) -> "Reference":
        """Runs every function in Keras on raw rows, at least 7 of them."""
        z = model.encode(rows[: max(BATCHES)])
        epsilon = standard_normal(max(BATCHES), model.epsilon_dim, seed=0)
        label = np.arange(max(BATCHES)) % (len(model.classes) + 1) - 1  # the first is one that is not given
        sources = {"x": rows, "z": z, "epsilon": epsilon, "label": label}
        cases = []
        for name, function in model.functions().items():
            for batch in BATCHES:
                inputs = {tensor.name: sources[tensor.name][:batch].astype(tensor.dtype) for tensor in function.inputs}
                cases.append((name, inputs, model.run(name, inputs)))
        units = np.asarray(getattr(model.scaling, "units", getattr(model.scaling, "scale", np.zeros(rows.shape[1:]))))
        scaled = np.asarray(model.scaling(rows) if model.scaling is not None else rows, "float64")
        score = np.sqrt(np.nanmean(np.square(scaled)))
        if model.detector is not None:
            score = np.asarray(model.detector.rounding)
        floors = {"x": units, "x_hat": units, "score": score, "contribution": score}
        said = {}
        if model.marginals is not None:
            before = before_marginals(model)
            said = {len(given["epsilon"]): before(given) for name, given, _ in cases if name == "generate"}
        return cls(cases, floors, model.p_value.calibration_scores, said, model.marginals)

    def compare(self, runtime: str, run: Runner) -> dict[str, dict[str, float]]:
        """Largest differences per function: `max_abs_diff` in the output's units, `max_rel_diff` relative to the
        largest value of the same feature.

        Raises:
            ExportError: past 1e-5 relative, for missing outputs, or where `generate` ignores its noise.
        """
        figures: dict[str, dict[str, float]] = {}
        for name, inputs, expected in self.cases:
            got = run(name, inputs)
            if set(got) != set(expected):
                raise ExportError(f"{runtime} {name} must give {sorted(expected)}. Received: {sorted(got)}.")
            for key in expected:
                said = self.said.get(len(expected[key])) if name == "generate" else None
                absolute, relative = self._difference(key, np.asarray(got[key]), expected, said)
                entry = figures.setdefault(name, {"max_abs_diff": 0.0, "max_rel_diff": 0.0})
                entry["max_abs_diff"] = max(entry["max_abs_diff"], absolute)
                entry["max_rel_diff"] = max(entry["max_rel_diff"], relative)
                if not relative <= TOLERANCE:
                    raise ExportError(
                        f"{runtime} {name}, output {key}, batch {len(expected[key])}: must agree with Keras to "
                        f"{TOLERANCE} relative. Received: a difference of {relative:.3g}."
                    )
        self._check_noise(runtime, run)
        return figures

    def _difference(
        self, key: str, got: np.ndarray, outputs: dict[str, np.ndarray], said: Arrays | None
    ) -> tuple[float, float]:
        expected = outputs[key]
        if got.shape != expected.shape:
            raise ExportError(f"Output {key} must have shape {expected.shape}. Received: {got.shape}.")
        if not np.array_equal(np.isnan(got), np.isnan(expected)):
            return np.inf, np.inf  # NaN, behind the end of a series, is none of the other
        difference = np.nan_to_num(np.abs(got.astype("float64") - expected), nan=0.0)
        expected = np.nan_to_num(expected, nan=0.0)
        absolute = float(difference.max(initial=0.0))
        if key == "p_value":
            return absolute, self._outside(got, outputs["score"])
        size = np.abs(expected).max(axis=0) if key in ("x", "x_hat") else np.abs(expected).max()
        size = np.maximum(np.maximum(size, self.floors.get(key, 0.0)), 1e-30)
        relative = difference / size
        if said is not None and self.marginals is not None:
            # What a decoder that differs by the tolerance may lead to; a number that must be whole has to be.
            of_said = np.maximum(np.abs(np.nan_to_num(said["said"], nan=0.0)).max(axis=0), self.floors.get(key, 0.0))
            near = (said["said"] + sign * TOLERANCE * of_said for sign in (-1, 1))
            low, high = (np.asarray(self.marginals(part, said.get("noise")), "float64") for part in near)
            outside = np.nan_to_num(np.maximum(np.maximum(low - got, got - high), 0.0), nan=0.0) / size
            whole = np.array([column.whole for column in self.marginals.schema.columns])
            relative = np.where((relative <= TOLERANCE) | (whole & (got != np.rint(got))), relative, outside)
        return absolute, float(relative.max())

    def _outside(self, p_values: np.ndarray, scores: np.ndarray) -> float:
        """How far p-values lie outside those of scores that are off by the tolerance: a p-value is a step function."""
        slack = TOLERANCE * np.maximum(scores, self.floors["score"])
        n = len(self.calibration_scores)
        low, high = (
            (1 + n - np.searchsorted(self.calibration_scores, scores + sign * slack)) / (1 + n) for sign in (1, -1)
        )
        outside = np.maximum(low - p_values, p_values - high).max()
        return max(float(outside) - 1e-6, 0.0)  # float32 has no more digits of a p-value

    def _check_noise(self, runtime: str, run: Runner) -> None:
        """Two different epsilons must give two different samples: noise that was folded to a constant would not."""
        (inputs,) = (i for name, i, _ in self.cases if name == "generate" and len(i["epsilon"]) == max(BATCHES))
        opposite = {**inputs, "epsilon": -inputs["epsilon"]}
        (sample,), (other,) = run("generate", inputs).values(), run("generate", opposite).values()
        if np.array_equal(sample, other, equal_nan=True):
            raise ExportError(f"{runtime} generate gives the same sample for different noise.")


def reference_rows(model: Autoencoder, n: int = max(BATCHES)) -> np.ndarray:
    """Rows to compare on where no data are at hand: the model's own samples, in the dtype of raw rows."""
    rows = model.samples(n)
    return np.maximum(rows, 0) if getattr(model.scaling, "non_negative", False) else rows
