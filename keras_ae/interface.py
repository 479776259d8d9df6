"""What a model does with raw arrays, whoever computes it: Keras, ONNX Runtime or a server. NumPy only."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ae.data.columns import without_missing
from keras_ae.data.labels import label_index
from keras_ae.data.schema import Schema
from keras_ae.errors import InputError
from keras_ae.signatures import Signatures

STEPS = 10
"""Reconstructions of reconstructions: each fills better what the next one looks at."""
_SAMPLES = 1_000
_REACH = 2.0
"""Standard deviations that a traversal goes to either side."""


class Functions:
    """The functions of a model by name; who computes them brings `signatures` and `run`.

    No ABC, though it is one: of a functional model Keras calls `__new__` of every base.

    Attributes:
        classes: names of the classes, where it was trained with labels.
    """

    classes: tuple[str, ...]

    @property
    def signatures(self) -> Signatures:
        """Inputs and outputs of each function, by name: shapes without the batch, and dtypes."""
        # Abstract; Keras makes an object of each base of a functional model, and could of no ABC.
        raise NotImplementedError(f"A subclass of Functions knows its signatures. Received: {type(self).__name__}.")

    def run(self, function: str, inputs: Any) -> dict[str, np.ndarray]:
        """A function by name on its inputs by name; its outputs by name."""
        # Abstract, for the same reason no `abstractmethod`.
        raise NotImplementedError(f"A subclass of Functions runs them. Received: {type(self).__name__}.")

    def encode(self, x: Any) -> np.ndarray:
        """Raw x (rows, ...) to z (rows, ...), the posterior mean."""
        return self.run("encode", {"x": x})["z"]

    def decode(self, z: np.ndarray, y: Any = None) -> np.ndarray:
        """z (rows, ...) to x (rows, ...) in raw units; a conditional decoder takes classes y, as `generate` does."""
        return self.run("decode", {"z": z, **self._label("decode", y, len(z))})["x"]

    def reconstruct(self, x: Any) -> Any:
        """AE(x) in raw units, deterministic."""
        return self.run("reconstruct", {"x": x})["x_hat"]

    def score(self, x: Any) -> dict[str, np.ndarray]:
        """`score` (rows,), higher is more anomalous, and where it was calibrated its conformal `p_value` (rows,)."""
        return self.run("score", {"x": x})

    def explain(self, x: Any) -> Any:
        """What each feature of raw x adds to the score, (rows, ...); over a row it sums to that."""
        return self.run("explain", {"x": x})["contribution"]

    def classify(self, x: Any) -> np.ndarray:
        """p(y | x) of raw x (rows, ...): (rows, classes), in the order of the classes."""
        return self.run("classify", {"x": x})["probability"]

    def generate(self, n: int, y: Any = None, seed: int | None = None) -> np.ndarray:
        """n observations (n, ...) in raw units; a seed gives the same ones from Keras, every export and a server.

        y: a class by name or index, or n of them; by default classes are drawn by their frequency.
        """
        return self._generated(self._noise(n, seed), y)

    def check(self, function: str) -> Mapping[str, dict[str, Any]]:
        """The signature of a function.

        Raises:
            InputError: for one that the model does not have.
        """
        if function not in self.signatures:
            known = ", ".join(self.signatures)
            raise InputError(_LACKING.get(function) or f"`function` must be one of {known}. Received: {function!r}.")
        return self.signatures[function]

    def _noise(self, n: int, seed: int | None) -> np.ndarray:
        if n < 1:
            raise InputError(f"`n` must be at least 1. Received: {n}.")
        (size,) = self.signatures["generate"]["inputs"]["epsilon"]["shape"]
        return standard_normal(n, size, seed)

    def _generated(self, epsilon: np.ndarray, y: Any) -> np.ndarray:
        return self.run("generate", {"epsilon": epsilon, **self._label("generate", y, len(epsilon))})["x"]

    def _label(self, function: str, y: Any, n: int) -> dict[str, Any]:
        """The input `label` where a function takes one."""
        if "label" in self.signatures[function]["inputs"]:
            return {"label": label_index(y, n, self.classes)}
        if y is not None:
            raise InputError(
                "`y` needs a model that was trained with labels, and for `decode` one of recipe cvae. Received another."
            )
        return {}


class LocalFunctions(Functions):
    """What asks for many functions one after the other, and so is for a model that is here.

    Attributes:
        raw_shape: of one raw observation.
        raw_dtype: of raw x.
        latent_dim: numbers in z.
        has_gaussian_prior: whether `generate` draws z from a single Gaussian.
    """

    raw_shape: tuple[int, ...]
    raw_dtype: str
    latent_dim: Any
    has_gaussian_prior: Any

    @property
    def drawn(self) -> Schema | None:
        """Of a table whose cells `generate` draws."""
        # Abstract, for the reason that `Functions` gives.
        raise NotImplementedError(f"A subclass of LocalFunctions knows its table. Received: {type(self).__name__}.")

    def generate(self, n: int, y: Any = None, seed: int | None = None, missing: bool = True) -> np.ndarray:
        """As `Functions.generate`.

        missing: whether cells of a table may be missing (NaN), as they are in its rows.
        """
        epsilon = self._noise(n, seed)
        if self.drawn is not None and not missing:
            epsilon = without_missing(self.drawn, epsilon)
        return self._generated(epsilon, y)

    def impute(self, x: Any, steps: int = STEPS) -> Any:
        """Raw rows (rows, columns) with their missing cells (NaN) filled, and the others as they are.

        A missing cell is the reconstruction's; it is put in place and the row reconstructed again, some times (Rezende
        et al. 2014, "Stochastic backpropagation and approximate inference in deep generative models", appendix F, with
        means for draws).
        """
        x = np.asarray(x, "float32")
        missing = np.isnan(x)
        filled = x
        for _ in range(steps if missing.any() else 0):
            filled = np.where(missing, self.run("reconstruct", {"x": filled})["x_hat"], x)
        return filled

    def interpolate(self, a: np.ndarray, b: np.ndarray, steps: int = 8, y: Any = None) -> np.ndarray:
        """Observations (steps, ...) in raw units on the way from AE(a) to AE(b), both ends among them.

        Where z is drawn from a single Gaussian the way is an arc (White 2016, "Sampling generative networks", section
        2.1): the middle of a straight one would lie nearer to 0 than draws do. Elsewhere it is straight.

        Args:
            a: one raw observation, (...) or (1, ...).
            b: another.
            steps: at least 2.
            y: class of all of them, where the decoder is told the label.
        """
        z = self.encode(np.concatenate([self._one(a, "a"), self._one(b, "b")]))
        start, end = z.reshape(2, -1).astype("float64")
        share = _shares(steps)[:, None]
        way = _arc(start, end, share) if self.has_gaussian_prior else (1 - share) * start + share * end
        return self.decode(way.reshape(steps, *z.shape[1:]).astype("float32"), y)

    def traverse(self, x: np.ndarray, steps: int = 7, y: Any = None) -> np.ndarray:
        """Observations (latents, steps, ...) in raw units: in each row one latent of x goes from -2 to 2 deviations
        around its mean, the others stay. Mean and deviations are those of the model's own samples.

        Args:
            x: one raw observation, (...) or (1, ...).
            steps: at least 2.
            y: class of all of them, where the decoder is told the label.
        """
        places = 2 * _REACH * _shares(steps) - _REACH
        z = self.encode(self._one(x, "x"))
        drawn = self.encode(self.samples(_SAMPLES)).reshape(_SAMPLES, -1)
        ways = np.repeat(z.reshape(1, 1, -1), self.latent_dim, axis=0).repeat(steps, axis=1)
        for i in range(self.latent_dim):
            ways[i, :, i] = drawn[:, i].mean() + places * drawn[:, i].std()
        decoded = self.decode(ways.reshape(-1, *z.shape[1:]), y)
        return decoded.reshape(self.latent_dim, steps, *decoded.shape[1:])

    def samples(self, n: int) -> np.ndarray:
        """n of the model's own samples, as raw x that it takes: whole numbers where x is such."""
        x, dtype = self.generate(n, seed=0), np.dtype(self.raw_dtype)
        if dtype.kind == "f":
            return x
        limits = np.iinfo(dtype)
        return np.clip(np.rint(x), limits.min, limits.max).astype(dtype)

    def _one(self, x: Any, name: str) -> np.ndarray:
        x, shape = np.asarray(x), tuple(self.raw_shape)
        if x.shape not in (shape, (1, *shape)):
            raise InputError(f"`{name}` must be one observation, of shape {shape}. Received: {x.shape}.")
        return x.reshape(1, *shape)


_LACKING = {
    "classify": "`classify` needs a model that was trained with labels. Received: one without classes.",
    "explain": "`explain` needs a model with a detector. Received: one whose score is an RMSE.",
}


def standard_normal(n: int, size: int, seed: int | None) -> np.ndarray:
    """The noise that `generate` draws: float32 (n, size) from NumPy's default generator."""
    return np.random.default_rng(seed).standard_normal((n, size), dtype=np.float32)


def _shares(steps: int) -> np.ndarray:
    if steps < 2:
        raise InputError(f"`steps` must be at least 2. Received: {steps}.")
    return np.linspace(0, 1, steps)


def _arc(a: np.ndarray, b: np.ndarray, share: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    angle = np.arccos(np.clip(a @ b / max(lengths, 1e-12), -1.0, 1.0))
    if np.sin(angle) < 1e-3:  # of one direction, or opposite ones, that have no arc between them
        return (1 - share) * a + share * b
    return (np.sin((1 - share) * angle) * a + np.sin(share * angle) * b) / np.sin(angle)
