"""Loss layers that run a part of the model once more: Jacobian penalties, and the loss on masked features."""

import math
from typing import Any

import keras
import tensorflow as tf
from keras import ops

from keras_ae.layers.draws import normal, uniform, uniform_of_seed
from keras_ae.layers.losses import LossLayer, RMSELoss


@keras.saving.register_keras_serializable(package="keras_ae")
class JacobianLoss(LossLayer):
    """Squared Frobenius norm of a Jacobian, mean over the batch: of the encoder, dz/dx (Rifai et al. 2011, "Contractive
    auto-encoders", equation 6), or of the decoder, dx_hat/dz (Ghosh et al. 2020, "From variational to deterministic
    autoencoders", section 3.2).

    Called on `(x, posterior)` or `(z, x_hat)`; returns the latter. With v standard normal of the output's shape,
    E |J^T v|^2 is the norm (Hutchinson 1989): each probe costs one pass back, not one for each output.

    Args:
        weight: factor of the term.
        of: "encoder" or "decoder".
        probes: draws of v.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.

    Raises:
        ValueError: for options that make no sense, or a network of several inputs or outputs.
    """

    term = "jacobian"

    def __init__(
        self,
        weight: float = 1.0,
        of: str = "encoder",
        probes: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if of not in ("encoder", "decoder"):
            raise ValueError(f'`of` must be "encoder" or "decoder". Received: {of!r}.')
        if probes < 1:
            raise ValueError(f"`probes` must be at least 1. Received: {probes}.")
        super().__init__(weight, **kwargs)
        self.of, self.probes, self.seed = of, int(probes), seed
        self.reads = ("x", "posterior") if of == "encoder" else ("z", "x_hat")  # type: ignore[misc]
        self.seed_generator = keras.random.SeedGenerator(seed)

    def bind(self, encoder: Any, decoder: Any, latent: Any) -> None:
        """Takes the network, which the model keeps."""
        network = encoder if self.of == "encoder" else decoder
        if len(network.inputs) != 1 or len(network.outputs) != 1:
            raise ValueError(
                f"JacobianLoss needs {'an encoder' if self.of == 'encoder' else 'a decoder'} of one input and one "
                f"output. Received: {len(network.inputs)} and {len(network.outputs)}."
            )
        self.borrow("_network", network)

    def call(self, inputs: Any, outputs: Any) -> Any:
        axes = tuple(range(1, len(inputs.shape)))
        total = 0.0
        for _ in range(self.probes):
            with tf.GradientTape() as tape:
                given = ops.convert_to_tensor(inputs)
                tape.watch(given)
                out = ops.cast(self._network(given, training=False), "float32")
                projected = ops.sum(out * normal(ops.shape(out), self.seed_generator))
            total += ops.mean(ops.sum(ops.square(ops.cast(tape.gradient(projected, given), "float32")), axis=axes))
        self.add_term(total / self.probes, inputs)
        return outputs

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "of": self.of, "probes": self.probes, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class MaskedRMSELoss(RMSELoss):
    """RMSE over the features that the encoder was not shown, in training: a share of x is set to 0, their mean, and AE
    of that is compared with x where it was (He et al. 2022, "Masked autoencoders are scalable vision learners", section
    3). What is shown is scaled up by 1 / (1 - rate), as by dropout (Srivastava et al. 2014), so that sums over features
    are of one size in training and of a whole x. At evaluation the same, with the same masks each time: the
    RMSE of a whole x can be least where nothing is learned yet, at principal components.

    Called on `(x, x_hat)`, each of shape (batch, ...); returns x_hat.

    Args:
        weight: factor of the term.
        rate: share that is hidden, in (0, 1).
        patch: edge of the blocks along each axis but the channels of an image that are hidden as one; 1 hides features.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.

    Raises:
        ValueError: for options that make no sense, or a decoder that takes a label.
    """

    def __init__(
        self,
        weight: float = 1.0,
        rate: float = 0.5,
        patch: int = 1,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if not 0 < rate < 1:
            raise ValueError(f"`rate` must be in (0, 1). Received: {rate}.")
        if patch < 1:
            raise ValueError(f"`patch` must be at least 1. Received: {patch}.")
        kwargs.pop("reduction", None)
        kwargs.pop("calibrated", None)
        super().__init__(weight, **kwargs)
        self.rate, self.patch, self.seed = float(rate), int(patch), seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def bind(self, encoder: Any, decoder: Any, latent: Any) -> None:
        """Takes the networks, which the model keeps."""
        if len(decoder.inputs) != 1 or len(encoder.outputs) != 1 or latent is not None:
            raise ValueError("MaskedRMSELoss needs a deterministic encoder and a decoder that takes z alone.")
        self.borrow("_networks", (encoder, decoder))

    def hidden(self, x: Any, training: bool = True) -> Any:
        """1 where x (batch, ...) is hidden, 0 elsewhere; float32."""
        sizes = x.shape[1:]
        last = len(sizes) - 1 if len(sizes) > 2 else len(sizes)  # the channels of a pixel are hidden together
        blocks = [math.ceil(n / self.patch) if i < last else 1 for i, n in enumerate(sizes)]
        shape = (ops.shape(x)[0], *blocks)
        drawn = uniform(shape, self.seed_generator) if training else uniform_of_seed(shape, (0, 0))
        mask = ops.cast(drawn < self.rate, "float32")
        for axis, n in enumerate(sizes):
            if axis >= last:
                mask = ops.repeat(mask, n, axis=axis + 1)
            elif self.patch > 1:
                mask = ops.take(ops.repeat(mask, self.patch, axis=axis + 1), ops.arange(n), axis=axis + 1)
        return mask

    def call(self, x: Any, x_hat: Any, training: bool = False) -> Any:
        x32, mask = ops.cast(x, "float32"), self.hidden(x, training)
        encoder, decoder = self._networks
        shown = x32 * (1.0 - mask) / (1.0 - self.rate)
        guess = ops.cast(decoder(encoder(shown, training=training), training=training), "float32")
        mse = ops.sum(mask * ops.square(x32 - guess)) / ops.maximum(ops.sum(mask), 1.0)
        self.add_term(ops.sqrt(ops.maximum(mse, 1e-12)), x)
        return x_hat

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "rate": self.rate, "patch": self.patch, "seed": self.seed}
