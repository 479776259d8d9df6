"""Loss layers: each adds one named term to the training objective and hands its tensors on.

They are ordinary layers of the functional training graph, so `fit`, History, TensorBoard and every Keras callback
show each term by name. Deployed graphs are built anew from the submodels and never contain them.
"""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import keras
from keras import ops

from keras_ae.layers.latents import bounded, gaussian_kl, log_normal
from keras_ae.replicas import LossesOfReplica, global_mean

_Q_FLOOR = 1e-7
_RMSE_FLOOR = 1e-6


class LossLayer(keras.layers.Layer):
    """A named, weighted term: `add_loss(weight * term)`, with the unweighted term as a metric of the same name.

    Terms are computed in float32 under any dtype policy, and what is passed on keeps its dtype.

    Args:
        weight: factor of the term in the objective; a non-trainable variable, so that a callback can anneal it
            during `fit` without compiling again (`keras_ae.callbacks.WeightAnnealing`).
        name: of the term.
        **kwargs: `dtype`, `trainable` of `keras.layers.Layer`.
    """

    reads: ClassVar[tuple[str, ...]] = ()
    """Names of the forward pass's tensors (`x`, `posterior`, `z`, `x_hat`) that an Autoencoder calls this term on."""
    term: ClassVar[str | None] = None
    """The layer's name where none is given."""

    def __init__(self, weight: float = 1.0, name: str | None = None, **kwargs: Any) -> None:
        super().__init__(autocast=False, name=name or self.term, **kwargs)
        self.initial_weight = float(weight)
        self.weight = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.initial_weight),
            dtype="float32",
            trainable=False,
            name="weight",
        )
        self.tracker = keras.metrics.Mean(name=self.name)
        object.__setattr__(self, "_losses", LossesOfReplica())  # past Keras's tracker, which takes lists alone

    @property
    def is_likelihood(self) -> bool:
        """Whether the term is -log p(x | z), in nats of all features together."""
        return hasattr(self, "log_prob")

    def add_term(self, value: Any, like: Any, share: Any = 1.0) -> None:
        """Adds a scalar, the mean over the batch of `like`, or a share of it; the metric is all of it, and weighs
        batches by their rows, as `loss` does."""
        self.add_loss(self.weight * (share * value))
        self.tracker.update_state(value, sample_weight=ops.cast(ops.shape(like)[0], "float32"))

    def borrow(self, name: str, part: Any) -> None:
        """Holds a part that the model keeps, past Keras, which would track it and save it twice."""
        object.__setattr__(self, name, part)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight": self.initial_weight}


def check_same_shape(layer: str, names: tuple[str, str], a: Any, b: Any) -> None:
    """Raises ValueError for two tensors of shapes that differ; None fits any size."""
    if len(a.shape) != len(b.shape) or any(
        m is not None and n is not None and m != n for m, n in zip(a.shape, b.shape, strict=True)
    ):
        raise ValueError(
            f"{layer} needs `{names[0]}` and `{names[1]}` of one shape. "
            f"Received: {tuple(a.shape)} and {tuple(b.shape)}."
        )


def over_known(x: Any, log_prob_of_features: Callable[[Any], Any]) -> Any:
    """The sum of log p over the features of float32 x that are not NaN: (batch,)."""
    x = ops.cast(x, "float32")
    missing = ops.isnan(x)  # of other conditions tf2onnx makes a sum of products, and 0 * NaN is NaN
    # The inner `where` keeps NaN out of the gradient too.
    log_p = log_prob_of_features(ops.where(missing, ops.zeros_like(x), x))
    return ops.sum(ops.where(missing, ops.zeros_like(log_p), log_p), axis=tuple(range(1, len(x.shape))))


@keras.saving.register_keras_serializable(package="keras_ae")
class RMSELoss(LossLayer):
    """Root mean squared error between x and AE(x), equation 3: `weight * sqrt(mean((x - x_hat)^2))`.

    Called on `(x, x_hat)`, each of shape (batch, ...), in the units of x; returns `x_hat`.

    Args:
        weight: factor of the term.
        reduction: "batch" takes the root of the mean over batch and features; "sample" takes the root per sample,
            then the mean over the batch.
        calibrated: add, instead of the RMSE, the Gaussian negative log-likelihood at the optimal noise level shared by
            all features, `D log RMSE + D/2 (1 + log 2 pi)` nats per sample for D features. With GaussianKLLoss this is
            the negative ELBO, with nothing to tune (Rybkin, Daniilidis and Levine 2021, "Simple and effective VAE
            training with calibrated decoders", section 3).
        skip_missing: leave out values of x that are NaN; the mean is over the others, and D is how many a row has of
            them in the mean.

    Raises:
        ValueError: for an unknown reduction, for calibrated noise per sample, for shapes that differ.
    """

    reads = ("x", "x_hat")

    def __init__(
        self,
        weight: float = 1.0,
        reduction: str = "batch",
        calibrated: bool = False,
        skip_missing: bool = False,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if reduction not in ("batch", "sample"):
            raise ValueError(f'`reduction` must be "batch" or "sample". Received: {reduction!r}.')
        if calibrated and reduction != "batch":
            raise ValueError(
                '`calibrated=True` shares one noise level over the batch and needs `reduction="batch"`. '
                f"Received: {reduction!r}."
            )
        super().__init__(weight, name=name or ("nll" if calibrated else "rmse"), **kwargs)
        self.reduction = reduction
        self.calibrated = calibrated
        self.skip_missing = skip_missing
        self.variance = self.add_weight(shape=(), initializer="ones", dtype="float32", trainable=False, name="variance")

    @property
    def is_likelihood(self) -> bool:
        return self.calibrated

    def set_noise(self, mse: float) -> None:
        """Sets the noise of `log_prob` to its optimum for rows of this mean squared error."""
        self.variance.assign(max(mse, _RMSE_FLOOR**2))

    def log_prob(self, x: Any, x_hat: Any) -> Any:
        """log N(x; x_hat, variance) of each row, of its values that are not NaN: (batch,), nats."""
        return over_known(x, lambda x: log_normal(x, ops.cast(x_hat, "float32"), ops.log(self.variance)))

    def call(self, x: Any, x_hat: Any) -> Any:
        check_same_shape("RMSELoss", ("x", "x_hat"), x, x_hat)
        given = ops.cast(x, "float32")
        if self.skip_missing:
            known = ops.cast(ops.equal(given, given), "float32")
            given = ops.where(known > 0, given, ops.cast(x_hat, "float32"))
        error = ops.square(given - ops.cast(x_hat, "float32"))
        by_batch = self.reduction == "batch"
        mean = global_mean if by_batch else lambda of: ops.mean(of, axis=tuple(range(1, len(x.shape))))
        share = ops.maximum(mean(known), 1e-30) if self.skip_missing else 1.0
        mse = mean(error) / share
        if self.calibrated:
            features = share * math.prod(x.shape[1:])
            mse = ops.maximum(mse, _RMSE_FLOOR**2)
            self.add_term(features / 2 * (ops.log(mse) + 1 + math.log(2 * math.pi)), x)
            return x_hat
        # The root's derivative is infinite at 0; the inner `where` keeps that branch out of the gradient too.
        positive = ops.not_equal(mse, 0)  # or NaN, which must not pass for 0
        root = ops.where(positive, ops.sqrt(ops.where(positive, mse, 1.0)), 0.0)
        self.add_term(ops.mean(root), x)
        return x_hat

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "reduction": self.reduction,
            "calibrated": self.calibrated,
            "skip_missing": self.skip_missing,
        }


@keras.saving.register_keras_serializable(package="keras_ae")
class KLDivergenceLoss(LossLayer):
    """Kullback-Leibler divergence, equation 4: `sum over x of P_d(x) log(P_d(x) / P_m(x))`, in nats.

    Called on `(p, q)`, each of shape (batch, ...): non-negative weights over the sample space, which lies along `axis`;
    each is normalized to sum to one there. Returns `q` as it came. The term is the mean over the batch (and over
    all axes that are not in `axis`). 0 log 0 is 0. Normalized q is floored at 1e-7, so that loss and gradient are
    finite where the model gives no weight to what the data hold; rows of p without any weight add nothing.

    Args:
        weight: factor of the term.
        axis: the axis, or axes, of the sample space.

    Raises:
        ValueError: for shapes that differ.
    """

    reads = ("x", "x_hat")
    term = "kl_divergence"

    def __init__(self, weight: float = 1.0, axis: int | tuple[int, ...] = -1, **kwargs: Any) -> None:
        super().__init__(weight, **kwargs)
        self.axis = tuple(axis) if isinstance(axis, list | tuple) else axis

    def call(self, p: Any, q: Any) -> Any:
        check_same_shape("KLDivergenceLoss", ("p", "q"), p, q)
        p, q_floored = self._normalized(p), ops.maximum(self._normalized(q), _Q_FLOOR)
        ratio = ops.where(p > 0, p, 1.0) / q_floored
        self.add_term(ops.mean(ops.sum(ops.where(p > 0, p * ops.log(ratio), 0.0), axis=self.axis)), q)
        return q

    def _normalized(self, weights: Any) -> Any:
        weights = ops.maximum(ops.cast(weights, "float32"), 0.0)
        return weights / ops.maximum(ops.sum(weights, axis=self.axis, keepdims=True), 1e-30)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "axis": self.axis}


@keras.saving.register_keras_serializable(package="keras_ae")
class GaussianKLLoss(LossLayer):
    """KL(N(mean, exp(log_var)) || N(0, I)) in nats: summed over latents, mean over the batch.

    Called on the pair `(mean, log_var)`, each of shape (batch, ...); returns the pair as it came
    (Kingma and Welling 2014, "Auto-encoding variational Bayes", appendix B).

    Args:
        weight: factor of the term (the beta of Higgins et al. 2017).
        free_bits: nats that each latent may carry, in the mean over the batch, before it costs anything
            (Kingma et al. 2016, "Improved variational inference with inverse autoregressive flow", equation 15).

    Raises:
        ValueError: when it is not called on a pair, or the pair's shapes differ.
    """

    reads = ("posterior",)
    term = "kl"

    def __init__(self, weight: float = 1.0, free_bits: float = 0.0, **kwargs: Any) -> None:
        if free_bits < 0:
            raise ValueError(f"`free_bits` must be at least 0 nats. Received: {free_bits}.")
        super().__init__(weight, **kwargs)
        self.free_bits = float(free_bits)

    def per_latent(self, mean: Any, log_var: Any) -> Any:
        """The KL of each latent, mean over the batch: (...), nats."""
        check_same_shape("GaussianKLLoss", ("mean", "log_var"), mean, log_var)
        return ops.mean(gaussian_kl(*bounded(mean, log_var)), axis=0)

    def call(self, posterior: Any) -> Any:
        mean, log_var = posterior
        kl = self.per_latent(mean, log_var)
        self.add_term(ops.sum(ops.maximum(kl, self.free_bits) if self.free_bits else kl), mean)
        return mean, log_var

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "free_bits": self.free_bits}


@keras.saving.register_keras_serializable(package="keras_ae")
class CrossEntropyLoss(LossLayer):
    """-log p(y | x) of the label, in nats: the mean over the rows of the batch whose label is known.

    Called on `(label, logits, z)`: indices (batch,), -1 where one is not known, (batch, classes), and the z that the
    logits come from; returns z. A batch without any label adds nothing.

    Args:
        weight: factor of the term.
    """

    reads = ("label", "logits", "z")
    term = "cross_entropy"

    def call(self, label: Any, logits: Any, z: Any) -> Any:
        log_p = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
        one_hot = ops.equal(ops.expand_dims(label, -1), ops.arange(logits.shape[-1], dtype=label.dtype))
        known = ops.sum(ops.cast(label >= 0, "float32"))
        self.add_term(-ops.sum(ops.where(one_hot, log_p, 0.0)) / ops.maximum(known, 1.0), logits)
        return z
