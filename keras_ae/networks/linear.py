"""The linear path from x to z and back, and its closed-form optimum, principal component analysis.

Every built-in network is a linear pair plus a nonlinear correction that starts at zero. Started from PCA
(`start_from_pca`) training can only improve on it; a network without the linear path often stays behind PCA when rows
are few or latents many. The linear pair alone is the `linear` network, and the baseline of every fit.
"""

import math
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

_PCA_ROWS = 50_000
"""Rows that PCA is fitted on, at most: the components' error falls with the square root of the rows."""


@dataclass(frozen=True)
class PrincipalComponents:
    """Closed-form linear autoencoder, of the features flattened to (rows, D).

    Attributes:
        mean: (D,).
        components: (n, D), orthonormal rows, by falling variance.
        variances: (n,), of the data along the components.
        noise_variance: mean variance per feature in the directions left out (Tipping and Bishop 1999, equation 8).
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    noise_variance: float

    def reconstruct(self, x: np.ndarray) -> np.ndarray:
        flat = x.reshape(len(x), -1) - self.mean
        return (flat @ self.components.T @ self.components + self.mean).reshape(x.shape)


def fit_pca(x: np.ndarray, latent_dim: int) -> PrincipalComponents:
    """Fits PCA to x of shape (rows, ...) with `latent_dim` components, on at most 50,000 evenly spaced rows.

    Components beyond the rank of the data (fewer rows than latents) are zero.
    """
    from sklearn.decomposition import PCA

    flat = x.reshape(len(x), -1)
    flat = flat[:: math.ceil(len(flat) / _PCA_ROWS)]
    n = min(latent_dim, *flat.shape)
    pca = PCA(n, random_state=0).fit(flat)
    components = np.zeros((latent_dim, flat.shape[1]), "float32")
    components[:n] = pca.components_
    variances = np.zeros(latent_dim, "float32")
    variances[:n] = pca.explained_variance_
    return PrincipalComponents(pca.mean_.astype("float32"), components, variances, float(pca.noise_variance_))


def latent_head(x: Any, features: Any, latent_dim: int, gaussian: bool, linear: bool = True) -> Any:
    """z = linear(x) + correction(features): one tensor (batch, latent_dim), or with `gaussian` the pair (mean,
    log_var).

    Args:
        x: the encoder's input, (batch, ...).
        features: the nonlinear path's last features, (batch, ...); None leaves the linear path alone.
        latent_dim: width of z.
        gaussian: add the log-variance head.
        linear: keep the linear path; False leaves the nonlinear path alone.
    """
    flat = keras.layers.Flatten(name="flat")(x) if len(x.shape) > 2 else x
    start = correction_start(linear)
    if features is None:
        z = keras.layers.Dense(latent_dim, name="linear")(flat)
    else:
        if len(features.shape) > 2:
            features = keras.layers.Flatten(name="features")(features)
        z = keras.layers.Dense(latent_dim, kernel_initializer=start, name="mean")(features)
        if linear:
            z = keras.layers.Add(name="z")([z, keras.layers.Dense(latent_dim, use_bias=False, name="linear")(flat)])
    if not gaussian:
        return z
    body = flat if features is None else features
    return z, keras.layers.Dense(latent_dim, kernel_initializer="zeros", name="log_var")(body)


def correction_start(linear: bool) -> str:
    """Initializer of the last kernel of a nonlinear path: beside a linear one it starts at zero."""
    return "zeros" if linear else "glorot_uniform"


def output_head(
    z: Any,
    features: Any,
    output_shape: tuple[int, ...],
    activation: str | None,
    linear: bool,
    parameters: int = 1,
    biased: bool = False,
) -> Any:
    """x_hat = activation(linear(z) + features), the activation over all features, shaped as one observation.

    Args:
        z: the decoder's input, (batch, latent_dim).
        features: the nonlinear path's contribution, (batch, D * parameters) in any shape; None leaves the linear path
            alone.
        output_shape: shape of one observation, D its product.
        activation: of the flattened features: None, "softmax", "sigmoid", ...
        linear: keep the linear path.
        parameters: numbers that a feature has in the output, a last axis where they are more than one.
        biased: give the linear path a bias for each feature, where features have no one mean to be centred by.
    """
    size = math.prod(output_shape) * parameters
    if features is None:
        flat = keras.layers.Dense(size, name="linear")(z)
    else:
        flat = keras.layers.Flatten(name="flatten")(features) if len(features.shape) > 2 else features
        if linear:
            flat = keras.layers.Add(name="sum")([flat, keras.layers.Dense(size, use_bias=biased, name="linear")(z)])
    if activation is not None:
        flat = keras.layers.Activation(activation, name="output")(flat)
    shape = (*output_shape, parameters) if parameters > 1 else output_shape
    return keras.layers.Reshape(shape, name="x_hat")(flat) if len(shape) > 1 else flat


def linear_encoder(input_shape: tuple[int, ...], latent_dim: int, gaussian: bool = False) -> keras.Model:
    """z = W x + b: input `x` (batch, *input_shape), output (batch, latent_dim) or the pair (mean, log_var)."""
    x = keras.Input(input_shape, name="x")
    return keras.Model(x, latent_head(x, None, latent_dim, gaussian), name="encoder")


def linear_decoder(
    output_shape: tuple[int, ...], latent_dim: int, output_activation: str | None = None, parameters: int = 1
) -> keras.Model:
    """x_hat = activation(W z + b): input `z` (batch, latent_dim), output (batch, *output_shape), and a last axis of
    `parameters` where they are more than one.
    """
    z = keras.Input((latent_dim,), name="z")
    x_hat = output_head(z, None, output_shape, output_activation, True, parameters)
    return keras.Model(z, x_hat, name="decoder")


def _layer(model: keras.Model, name: str) -> Any:
    for layer in model.layers:
        found = _layer(layer, name) if isinstance(layer, keras.Model) else layer if layer.name == name else None
        if found is not None:
            return found
    return None


def start_from_pca(
    encoder: keras.Model,
    decoder: keras.Model,
    pca: PrincipalComponents,
    decoded: tuple[np.ndarray, np.ndarray] | None = None,
) -> bool:
    """Sets a built-in network's linear path to PCA, with z of unit variance; False where there is no linear path.

    Where the encoder has a log-variance head, it starts at the posterior of probabilistic PCA (Tipping and Bishop 1999,
    equation 14), so that a VAE starts at the closed-form optimum of its linear part.

    Args:
        encoder: of x.
        decoder: of z.
        pca: of x.
        decoded: where the decoder gives other params than means: those of the mean (D,), and by how much each changes
            with it.
    """
    mean, slope = (pca.mean, np.ones_like(pca.mean)) if decoded is None else decoded
    to_z, to_x = _layer(encoder, "linear"), _layer(decoder, "linear")
    if to_z is None or to_x is None:
        return False
    deviation = np.sqrt(np.maximum(pca.variances, 1e-12 * max(float(pca.variances.max()), 1e-30)))
    kernel = (pca.components / deviation[:, None]).T
    kernel = np.where(pca.variances > 0, kernel, 0.0).astype("float32")
    to_z.kernel.assign(kernel)
    # Of a conditional decoder the rows of the label come after those of z, and start at zero. Where a feature has
    # several parameters the first is its location, and the others start at zero.
    each = to_x.kernel.shape[1] // pca.components.shape[1]
    rows = np.zeros(to_x.kernel.shape, "float32")
    rows[: len(deviation), ::each] = pca.components * deviation[:, None] * slope
    to_x.kernel.assign(rows)
    for layer, bias in (
        (_layer(encoder, "mean") or to_z, -pca.mean @ kernel),
        (to_x if to_x.bias is not None else _layer(decoder, "correction"), mean),
    ):
        # The correction of a convolutional decoder has one bias a channel; its input is centred by Scaling anyway.
        if layer.bias is not None and tuple(layer.bias.shape) == bias.shape:
            layer.bias.assign(bias)
    log_var = _layer(encoder, "log_var")
    if log_var is not None:
        noise = max(pca.noise_variance, 1e-6 * float(pca.variances.max()), 1e-12)
        log_var.bias.assign(np.log(noise / np.maximum(pca.variances, noise)))
    return True
