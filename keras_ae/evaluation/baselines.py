"""What a model must beat: PCA of the same latent size, and a Gaussian mixture on its scores as the generator."""

from collections.abc import Callable

import numpy as np
from sklearn.mixture import GaussianMixture

from keras_ae.errors import InputError
from keras_ae.evaluation.components import Components
from keras_ae.evaluation.rows import blocks

_COMPONENTS = 10
_ROWS_PER_LATENT = 10
_FIT_ROWS = 20_000


class PCAMixture:
    """Encoder, decoder, generator and density of scaled rows, in closed form but for the mixture's EM.

    Args:
        components: of the training rows.
        train: scaled training rows (rows, features); at most 20,000, drawn by seed, fit the mixture.
        latent_dim: scores used; as many as there are where there are fewer.
        mixture_components: Gaussians with full covariance; by default at most 10, and ten rows for each score of each.
        seed: of EM's start and of the samples.
        valid: from decoded scaled rows to those that can be.

    Raises:
        InputError: for no mixture components, or more than training rows.
    """

    def __init__(
        self,
        components: Components,
        train: np.ndarray,
        latent_dim: int,
        mixture_components: int | None,
        seed: int,
        valid: Callable[[np.ndarray], np.ndarray] = lambda rows: rows,
    ) -> None:
        self._components = components
        self._valid = valid
        self.latent_dim = min(latent_dim, len(components.variances))
        self.mixture_components = (
            int(np.clip(len(train) // (_ROWS_PER_LATENT * self.latent_dim), 1, _COMPONENTS))
            if mixture_components is None
            else mixture_components
        )
        if not 1 <= self.mixture_components <= len(train):
            raise InputError(
                f"`mixture_components` must be at least 1 and at most the {len(train)} rows of `train`. "
                f"Received: {self.mixture_components}."
            )
        most = max(_FIT_ROWS, self.mixture_components)
        chosen = np.random.default_rng(seed).permutation(len(train))[:most]
        variances = components.variances[: self.latent_dim]
        self._mixture = GaussianMixture(
            self.mixture_components, reg_covar=1e-4 * float(variances.mean()), random_state=seed
        ).fit(self.encode(train[chosen]).astype("float64"))
        left = train.shape[1] - self.latent_dim
        self._noise = (components.total_variance - float(variances.sum())) / left if left else 0.0
        self._left = left

    def encode(self, scaled: np.ndarray) -> np.ndarray:
        """Scores (rows, latent_dim)."""
        return self._components.encode(scaled, self.latent_dim)

    def reconstruct(self, scaled: np.ndarray) -> np.ndarray:
        """Scaled rows from their scores."""
        return np.concatenate([self._valid(self._components.decode(self.encode(block))) for block in blocks(scaled)])

    def sample(self, n: int) -> np.ndarray:
        """Decoded draws from the mixture, scaled rows (n, features)."""
        return self._valid(self._components.decode(self._mixture.sample(n)[0]))

    def nll(self, scaled: np.ndarray) -> np.ndarray:
        """-log density (rows,) in nats of scaled rows: the mixture on the scores, and one variance for all the rest,
        as in probabilistic PCA (Tipping and Bishop 1999). NaN where there is no variance left to have a density.
        """
        nats = -self._mixture.score_samples(self.encode(scaled).astype("float64"))
        if not self._left:
            return nats
        if self._noise <= 1e-9 * self._components.total_variance:
            return np.full(len(scaled), np.nan)
        rest = self._components.left_out(scaled, self.latent_dim).astype("float64")
        return nats + 0.5 * (rest / self._noise + self._left * np.log(2 * np.pi * self._noise))
