"""Fits the candidates for p(z), and chooses one by the likelihood of held-out latents."""

import math
import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_ae.priors.flow import FEWEST_ROWS, FlowPrior
from keras_ae.priors.mixture import MixturePrior, log_prob_with

_COMPONENTS = (1, 4, 16, 48, 128)
"""Of a mixture over all rows, and, divided among them, of the mixtures of classes."""
_MOST_ROWS = 20_000
"""Latents that a mixture is fitted to, at most."""
_ROWS_A_DIMENSION = 5
"""Rows that a full covariance needs for each of its dimensions."""
_PSEUDO_INPUTS = 500
"""Of a VampPrior, at most; as many as Tomczak and Welling (2018, section 5.1) took for MNIST."""
_FEWEST_PSEUDO_INPUTS = 100
_WIDENED = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
"""What may be added to the deviations of a VampPrior, in those of the posteriors' means."""
_WIDENING_SHARE = 0.1
"""Of the rows, at least, that decides."""
_WEIGHING_ROWS, _WEIGHING_STEPS = 5_000, 10
_FLOOR = 1e-4
"""Least variance of a component along any direction, as a share of the mean variance of z."""
_EVALUATED = 1 << 24
"""Numbers that are held at once where candidates are compared."""

Posterior = tuple[np.ndarray, np.ndarray]
_Groups = list[np.ndarray]
_Components = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Means, covariances or variances, and weights."""


@dataclass(frozen=True)
class FittedPrior:
    """A prior and why it is this one.

    Attributes:
        layer: the prior.
        kind: the candidate that was chosen.
        nats: mean log-likelihood of the held-out latents, by candidate; with labels that of z and y.
        seconds: of fitting.
    """

    layer: MixturePrior | FlowPrior
    kind: str
    nats: dict[str, float]
    seconds: float

    def describe(self) -> dict[str, Any]:
        """For the manifest; `components` is None of a flow."""
        nats = {kind: round(value, 4) for kind, value in self.nats.items()}
        components = getattr(self.layer, "components", None)
        return {"kind": self.kind, "components": components, "nats": nats, "seconds": round(self.seconds, 2)}


def fit_prior(
    z: np.ndarray,
    held_out: np.ndarray,
    y: np.ndarray | None = None,
    y_held_out: np.ndarray | None = None,
    classes: int = 0,
    separate: bool = True,
    seed: int = 0,
    posterior: Posterior | None = None,
) -> FittedPrior:
    """Fits the candidates to latents of training rows, and takes the likeliest on held-out ones; of two within a
    standard error of the difference, the simpler.

    Candidates, from simple to complex:

    - `standard`: N(0, I).
    - `gaussian`, `mixture_4` and on: Gaussians with full covariances, where rows are enough for those.
    - `vamp`: the posteriors of training rows, 500 at most, weighted (Tomczak and Welling 2018, "VAE with a VampPrior",
      equation 9, with rows for pseudo-inputs). Where they are too narrow for other training rows, all are
      convolved with one Gaussian, a kernel (Parzen 1962). Of 100 rows or more with a posterior.
    - `flow`: `gaussian` bent by affine couplings (`FlowPrior`), where there are 200 rows for each of 2 dimensions
      or more.

    Where there are classes, the same with a mixture for each, `gaussian_per_class` and on; and no others where the
    label must tell where z lies.

    Args:
        z: latents (rows, n) of training rows; draws from the posterior where there is one.
        held_out: likewise, of rows that nothing was trained on.
        y: indices of the classes of z, -1 where one is not known.
        y_held_out: of held_out.
        classes: number of classes; 0 for none.
        separate: only candidates that draw p(z | y); False where the decoder is told the label too, so that z may be
            independent of it.
        seed: of the mixtures' starts, the pseudo-inputs and the flow.
        posterior: means and variances (rows, n) of q(z | x) of the rows of z.

    Raises:
        ValueError: for a class without rows.
    """
    started = time.perf_counter()
    z, held_out = (part.reshape(len(part), -1).astype("float64") for part in (z, held_out))
    frequency = np.ones(1)
    groupings = {"": [np.arange(len(z))]}
    if classes:
        assert y is not None
        frequency = np.bincount(y[y >= 0], minlength=classes).astype("float64")
        if not frequency.all():
            raise ValueError(f"Each class needs a labelled row. Received: none of class {int(np.argmin(frequency))}.")
        frequency /= frequency.sum()
        of_classes = {"_per_class": [np.flatnonzero(y == i) for i in range(classes)]}
        groupings = of_classes if separate else groupings | of_classes
    candidates: dict[str, Any] = {"standard": _standard(z.shape[1], frequency)} if "" in groupings else {}
    for suffix, groups in groupings.items():
        candidates |= {kind + suffix: layer for kind, layer in _mixtures(z, groups, frequency, seed).items()}
        if posterior is not None and len(z) >= _FEWEST_PSEUDO_INPUTS:
            candidates["vamp" + suffix] = _vamp(z, posterior, groups, y, frequency, seed)
    for suffix, groups in groupings.items():
        rows = np.concatenate(groups)
        if z.shape[1] > 1 and len(rows) >= FEWEST_ROWS * z.shape[1]:
            candidates["flow" + suffix] = _flow(z[rows], y[rows] if suffix and y is not None else None, frequency, seed)
    nats = {kind: _log_likelihood(layer, held_out, y_held_out) for kind, layer in candidates.items()}
    chosen = next(iter(candidates))
    for kind in candidates:
        gain = nats[kind] - nats[chosen]
        if gain.mean() > gain.std() / math.sqrt(max(len(gain), 1)):
            chosen = kind
    means = {kind: float(values.mean()) for kind, values in nats.items()}
    return FittedPrior(candidates[chosen], chosen, means, time.perf_counter() - started)


def _standard(n: int, frequency: np.ndarray) -> MixturePrior:
    return _layer([(np.zeros((1, n)), np.eye(n)[None], np.ones(1))], frequency)


def _mixtures(z: np.ndarray, groups: _Groups, frequency: np.ndarray, seed: int) -> dict[str, MixturePrior]:
    """A Gaussian, and mixtures of more components where these have rows for their covariances; of each group."""
    pooled = np.atleast_2d(np.cov(z, rowvar=False))
    least = _least_variance(z)
    some = [_some(rows, _MOST_ROWS, seed) for rows in groups]
    found: dict[str, MixturePrior] = {}
    for components in _COMPONENTS:
        each = max(1, round(components / len(groups))) if components > 1 else 1
        kind = "gaussian" if each == 1 else f"mixture_{each}"
        enough = each == 1 or min(map(len, groups)) >= each * _ROWS_A_DIMENSION * z.shape[1]
        if kind not in found and enough:
            found[kind] = _layer([_mixture(z[rows], each, least, pooled, seed) for rows in some], frequency)
    return found


def _vamp(
    z: np.ndarray, posterior: Posterior, groups: _Groups, y: np.ndarray | None, frequency: np.ndarray, seed: int
) -> MixturePrior:
    """The posteriors of some rows of each group, all widened as suits the others best."""
    mean, variance = (part.reshape(len(part), -1).astype("float64") for part in posterior)
    variance = np.maximum(variance, _least_variance(z))
    most = max(1, _PSEUDO_INPUTS // len(groups))
    some = [_some(rows, min(most, max(1, len(rows) - round(_WIDENING_SHARE * len(rows)))), seed) for rows in groups]
    others = np.setdiff1d(np.concatenate(groups), np.concatenate(some))[:_PSEUDO_INPUTS]
    of_others = None if y is None or len(groups) == 1 else y[others]

    def widened(by: float) -> list[_Components]:
        spread = [mean[rows].var(axis=0) for rows in groups]
        weights = [np.full(len(rows), 1 / len(rows)) for rows in some]
        return [(mean[i], variance[i] + by**2 * s, w) for i, s, w in zip(some, spread, weights, strict=True)]

    layer = _layer(widened(0.0), frequency)
    nats = []
    for by in _WIDENED:
        layer.set(*_arguments(widened(by), frequency))
        nats.append(_log_likelihood(layer, z[others], of_others).mean() if len(others) else 0.0)
    parts = widened(_WIDENED[int(np.argmax(nats))])
    layer.set(*_arguments(parts, frequency))
    ends = np.cumsum([len(rows) for rows in some])
    for i, (rows, (means, variances, _)) in enumerate(zip(groups, parts, strict=True)):
        own = np.arange(ends[i] - len(means), ends[i])
        parts[i] = means, variances, _weights(layer, z[_some(rows, _WEIGHING_ROWS, seed)], own)
    layer.set(*_arguments(parts, frequency))
    return layer


def _weights(layer: MixturePrior, z: np.ndarray, components: np.ndarray) -> np.ndarray:
    """The likeliest weights of some components for z, by a few steps of EM from equal ones, with one row more for each:
    rows drawn by chance stand for more or fewer others.
    """
    batches = np.array_split(z, max(1, len(z) * layer.numbers // _EVALUATED))
    log_prob = np.concatenate([np.asarray(layer.log_components(batch))[:, components] for batch in batches])
    relative = np.exp(log_prob - log_prob.max(axis=1, keepdims=True), dtype="float64")
    weights = np.full(len(components), 1 / len(components))
    for _ in range(_WEIGHING_STEPS):
        shares = relative * weights
        rows = (shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-300)).sum(axis=0)
        weights = (rows + 1) / (rows.sum() + len(rows))
    return weights


def _flow(z: np.ndarray, y: np.ndarray | None, frequency: np.ndarray, seed: int) -> FlowPrior:
    """A Gaussian, or one of each class, bent."""

    def parts(u: np.ndarray, y: np.ndarray | None) -> list[_Components]:
        groups = [np.arange(len(u))] if y is None else [np.flatnonzero(y == i) for i in range(len(frequency))]
        pooled, least = np.atleast_2d(np.cov(u, rowvar=False)), _least_variance(u)
        return [_mixture(u[rows], 1, least, pooled, seed) for rows in groups]

    base = _layer(parts(z, y), frequency)
    flow = FlowPrior(base, seed=seed, name="prior")
    flow.build()
    flow.fit(z, y, lambda u, y: base.set(*_arguments(parts(u, y), frequency)), seed)
    return flow


def _least_variance(z: np.ndarray) -> float:
    return _FLOOR * max(float(z.var(axis=0, ddof=1).mean()), 1e-30)


def _some(rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    return rows if len(rows) <= most else np.random.default_rng(seed).choice(rows, most, replace=False)


def _layer(parts: list[_Components], frequency: np.ndarray) -> MixturePrior:
    """A mixture of those of each class, or of one that all classes share."""
    means, covariances, share = _arguments(parts, frequency)
    classes = len(frequency) if len(frequency) > 1 else 0
    layer = MixturePrior(means.shape[1], len(means), classes, diagonal=covariances.ndim == 2, name="prior")
    layer.build()
    layer.set(means, covariances, share)
    return layer


def _arguments(parts: list[_Components], frequency: np.ndarray) -> _Components:
    """Means, covariances and joint shares, as `MixturePrior.set` takes them."""
    means, covariances, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    share = frequency[:, None] * weights
    if len(parts) > 1:
        owner = np.repeat(np.arange(len(parts)), [len(part[2]) for part in parts])
        share = share * (owner == np.arange(len(parts))[:, None])
    return means, covariances, share


def _mixture(z: np.ndarray, components: int, least: float, pooled: np.ndarray, seed: int) -> _Components:
    n = z.shape[1]
    if components > 1:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        mixture = GaussianMixture(components, reg_covar=least, random_state=seed, max_iter=50, tol=1e-2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # held-out rows judge it, not its last step
            mixture.fit(z)
        return mixture.means_, mixture.covariances_, mixture.weights_
    # Few rows lean on the covariance of all, as if that had been seen in n + 1 rows more.
    scatter = np.square(z - z.mean(axis=0)).sum() if n == 1 else (z - z.mean(axis=0)).T @ (z - z.mean(axis=0))
    prior_rows = n + 1 if len(z) < _ROWS_A_DIMENSION * n else 0
    covariance = (np.reshape(scatter, (n, n)) + prior_rows * pooled) / max(len(z) - 1 + prior_rows, 1)
    return z.mean(axis=0)[None], (covariance + least * np.eye(n))[None], np.ones(1)


def _log_likelihood(layer: Any, z: np.ndarray, y: np.ndarray | None) -> np.ndarray:
    """Nats of each row: of z, and where y is given and known, of z and y."""
    if y is None or not layer.classes or not (y >= 0).any():
        y = None
    else:
        z, y = z[y >= 0], y[y >= 0]
    rows = max(1, _EVALUATED // layer.numbers)
    starts = range(0, len(z), rows)
    parts = [log_prob_with(layer, z[i : i + rows], None if y is None else y[i : i + rows]) for i in starts]
    return np.concatenate([np.asarray(part, "float64") for part in parts])
