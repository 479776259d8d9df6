"""The table of named families. Its names, lines and papers are there without TensorFlow."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from keras_ae.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """A row of the table.

    Attributes:
        parts: from (input_shape, **options) to `keras_ae.parts.Parts`, a function or the name of one in `families`;
            its keyword arguments are the recipe's options.
        summary: one line.
        paper: author and year.
        network: the only network that makes sense, or None for any.
        conditional: the decoder takes the label besides z; needs classes.
    """

    parts: Callable[..., Any] | str
    summary: str
    paper: str
    network: str | None = None
    conditional: bool = False

    @property
    def family(self) -> Callable[..., Any]:
        """The function; one of `families` needs TensorFlow."""
        if not isinstance(self.parts, str):
            return self.parts
        from keras_ae import families

        found: Callable[..., Any] = getattr(families, self.parts)
        return found

    @property
    def options(self) -> tuple[str, ...]:
        """Names of the options; they need TensorFlow, as `family`."""
        return tuple(inspect.signature(self.family).parameters)[1:]


RECIPES: dict[str, Recipe] = {
    "ae": Recipe("deterministic", "Deterministic autoencoder, RMSE.", "Hinton and Salakhutdinov 2006"),
    "vae": Recipe(
        "vae",
        "Variational autoencoder, calibrated RMSE: a true bound, nothing to tune.",
        "Kingma and Welling 2014; Rybkin et al. 2021",
    ),
    "student_t": Recipe(
        "student_t",
        "VAE whose decoder is Student's t: outliers weigh less.",
        "Takahashi et al. 2018",
    ),
    "rmse_vae": Recipe(
        "rmse_vae",
        "RMSE (equation 3) as it stands plus a weighted KL.",
        "Kingma and Welling 2014",
    ),
    "beta_vae": Recipe(
        "beta_vae",
        "VAE with beta times the KL, or its distance from a rising capacity.",
        "Higgins et al. 2017; Burgess et al. 2018",
    ),
    "cvae": Recipe(
        "vae",
        "Conditional VAE: the decoder is told the label, z is what else there is.",
        "Sohn et al. 2015; Kingma et al. 2014",
        conditional=True,
    ),
    "kl_ae": Recipe(
        "kl_ae", "KL (equation 4) between x and AE(x): histograms, spectra, counts.", "Kullback and Leibler 1951"
    ),
    "denoising": Recipe("denoising", "Reconstructs x from a damaged x.", "Vincent et al. 2010"),
    "sparse": Recipe(
        "sparse",
        "Few latents active at a time: L1 on z, the KL of their rates, or the top k.",
        "Ng 2011; Makhzani and Frey 2014",
    ),
    "contractive": Recipe(
        "contractive", "z that changes little with x: the encoder's Jacobian is small.", "Rifai et al. 2011"
    ),
    "masked": Recipe("masked", "Reconstructs the features that it was not shown.", "He et al. 2022"),
    "rae_l2": Recipe(
        "rae_l2",
        "L2 on z; the optimizer's weight decay keeps the decoder smooth. Its prior is fitted.",
        "Ghosh et al. 2020",
    ),
    "rae_gp": Recipe("rae_gp", "The same with the decoder's Jacobian kept small.", "Ghosh et al. 2020"),
    "adversarial_ae": Recipe(
        "adversarial_ae",
        "All z together match N(0, I), to a critic that is trained besides.",
        "Makhzani et al. 2016",
    ),
    "wae_mmd": Recipe("wae_mmd", "Wasserstein autoencoder: all z together match N(0, I).", "Tolstikhin et al. 2018"),
    "swae": Recipe("swae", "All z together match N(0, I), by the sliced Wasserstein distance.", "Kolouri et al. 2018"),
    "fsq": Recipe("fsq", "Discrete: each latent takes one of a few values.", "Mentzer et al. 2024"),
    "vq_vae": Recipe("vq_vae", "Discrete: pieces of z are vectors of learned codebooks.", "van den Oord et al. 2017"),
    "residual_vq": Recipe(
        "residual_vq", "The same in stages, each coding what the last left over.", "Zeghidour et al. 2021"
    ),
    "gumbel": Recipe(
        "gumbel",
        "VAE whose latents are categories, relaxed in training.",
        "Jang et al. 2017; Maddison et al. 2017",
    ),
    "beta_tc_vae": Recipe(
        "beta_tc_vae",
        "VAE with beta times the total correlation, for independent latents.",
        "Chen et al. 2018",
    ),
    "factor_vae": Recipe("factor_vae", "The same, the total correlation by a critic.", "Kim and Mnih 2018"),
    "dip_vae": Recipe(
        "dip_vae",
        "VAE whose covariance of z is pulled towards the identity.",
        "Kumar et al. 2018",
    ),
    "info_vae": Recipe(
        "info_vae",
        "VAE with less KL and the MMD besides, so that z keeps its information.",
        "Zhao et al. 2019",
    ),
    "iwae": Recipe("iwae", "VAE with a tighter bound, of several weighted draws.", "Burda et al. 2016"),
    "miwae": Recipe(
        "miwae",
        "The same where cells are missing: those that are known count.",
        "Mattei and Frellsen 2019",
    ),
    "svae": Recipe(
        "svae",
        "VAE whose latents are directions: von Mises-Fisher posteriors on the unit sphere.",
        "Davidson et al. 2018",
    ),
    "vamp_vae": Recipe(
        "vamp_vae",
        "VAE whose prior mixes the posteriors of learned inputs.",
        "Tomczak and Welling 2018",
    ),
    "hvae": Recipe(
        "hvae",
        "VAE with stochastic layers above z: a prior, or a ladder.",
        "Burda et al. 2016; Sonderby et al. 2016",
    ),
    "flow_vae": Recipe(
        "flow_vae",
        "VAE whose prior, or posterior, is an autoregressive flow.",
        "Chen et al. 2017; Kingma et al. 2016",
    ),
    "vae_gan": Recipe("vae_gan", "VAE with a critic that tells x from AE(x).", "Larsen et al. 2016"),
    "linear": Recipe("deterministic", "Linear encoder and decoder: PCA.", "Baldi and Hornik 1989", network="linear"),
}

DEFAULT = "vae"


def choose(kind: str, name: str, table: Mapping[str, Any]) -> Any:
    """A row of a table, such as RECIPES, by name.

    Raises:
        InputError: for a name that it has not.
    """
    if name not in table:
        raise InputError(f"Unknown {kind} {name!r}. Known: {', '.join(table)}.")
    return table[name]
