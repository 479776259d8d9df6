"""Does an export agree with Keras? The same rows through both, at batch 1 and 7."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from keras_ae.errors import ExportError
from keras_ae.models import Autoencoder, standard_normal

BATCHES = (1, 7)
TOLERANCE = 1e-5

Runner = Callable[[str, np.ndarray], dict[str, np.ndarray]]
"""Runs a function, by name, on an array in some runtime."""


@dataclass(frozen=True)
class Reference:
    """What Keras gives, per function and batch.

    Attributes:
        cases: (function, input, outputs by name).
        units: of `x` and `x_hat` per feature, below which a difference does not count as relative to the value.
        p_value_step: by which p-values may differ where a score ties with a calibration score.
    """

    cases: list[tuple[str, np.ndarray, dict[str, np.ndarray]]]
    units: np.ndarray
    p_value_step: float

    @classmethod
    def of(cls, model: Autoencoder, rows: np.ndarray) -> "Reference":
        """Runs every function in Keras on raw rows, at least 7 of them."""
        z = model.encode(rows[: max(BATCHES)])
        epsilon = standard_normal(max(BATCHES), model.latent_dim, seed=0)
        cases = []
        for name, function in model.functions().items():
            source = {"x": rows, "z": z, "epsilon": epsilon}[function.inputs[0].name]
            for batch in BATCHES:
                array = source[:batch].astype(function.inputs[0].dtype)
                cases.append((name, array, model.run(name, array)))
        scale = getattr(model.scaling, "scale", None)
        units = np.asarray(scale) if scale is not None else np.zeros(rows.shape[1:], "float32")
        return cls(cases, units, 1.5 / (1 + len(model.p_value.calibration_scores)))

    def compare(self, runtime: str, run: Runner) -> dict[str, dict[str, float]]:
        """Largest differences per function: `max_abs_diff` in the output's units, `max_rel_diff` relative to the
        largest value of the same feature.

        Raises:
            ExportError: past 1e-5 relative, for missing outputs, or where `generate` ignores its noise.
        """
        figures: dict[str, dict[str, float]] = {}
        for name, array, expected in self.cases:
            got = run(name, array)
            if set(got) != set(expected):
                raise ExportError(f"{runtime} {name} must give {sorted(expected)}. Received: {sorted(got)}.")
            for key, value in expected.items():
                absolute, relative = self._difference(key, np.asarray(got[key]), value)
                entry = figures.setdefault(name, {"max_abs_diff": 0.0, "max_rel_diff": 0.0})
                entry["max_abs_diff"] = max(entry["max_abs_diff"], absolute)
                entry["max_rel_diff"] = max(entry["max_rel_diff"], relative)
                if not relative <= TOLERANCE:
                    raise ExportError(
                        f"{runtime} {name}, output {key}, batch {len(array)}: must agree with Keras to {TOLERANCE} "
                        f"relative. Received: a difference of {relative:.3g}."
                    )
        self._check_noise(runtime, run)
        return figures

    def _difference(self, key: str, got: np.ndarray, expected: np.ndarray) -> tuple[float, float]:
        if got.shape != expected.shape:
            raise ExportError(f"Output {key} must have shape {expected.shape}. Received: {got.shape}.")
        difference = np.abs(got.astype("float64") - expected)
        absolute = float(difference.max())
        if key == "p_value":
            return absolute, 0.0 if absolute <= self.p_value_step else absolute
        per_feature = np.abs(expected).max(axis=0) if key in ("x", "x_hat") else np.abs(expected).max()
        floor = self.units if key in ("x", "x_hat") else 0.0
        return absolute, float((difference / np.maximum(np.maximum(per_feature, floor), 1e-30)).max())

    def _check_noise(self, runtime: str, run: Runner) -> None:
        """Two different epsilons must give two different samples: noise that was folded to a constant would not."""
        epsilon = next(array for name, array, _ in self.cases if name == "generate" and len(array) == max(BATCHES))
        (sample,), (other,) = run("generate", epsilon).values(), run("generate", -epsilon).values()
        if np.array_equal(sample, other):
            raise ExportError(f"{runtime} generate gives the same sample for different noise.")


def reference_rows(model: Autoencoder) -> np.ndarray:
    """Rows to compare on where no data are at hand: the model's own samples, in the dtype of raw rows."""
    rows = model.generate(max(BATCHES), seed=0)
    if np.issubdtype(np.dtype(model.raw_dtype), np.integer):
        limits = np.iinfo(model.raw_dtype)
        rows = np.clip(np.rint(rows), limits.min, limits.max)
    return (
        np.maximum(rows, 0.0).astype(model.raw_dtype)
        if getattr(model.scaling, "non_negative", False)
        else rows.astype(model.raw_dtype)
    )
