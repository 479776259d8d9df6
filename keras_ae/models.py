"""The autoencoder: AE(x) = Dec(Enc(x)), a functional training graph, and the functions that leave it."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.layers import ConformalPValue, RMSELoss
from keras_ae.priors import GaussianPrior
from keras_ae.resident import ResidentModel

FUNCTIONS = ("encode", "decode", "reconstruct", "score", "generate")


@keras.saving.register_keras_serializable(package="keras_ae")
class Autoencoder(ResidentModel):
    """An encoder and a decoder trained together: raw x in, AE(x) in raw units out.

    The training graph is `x -> scaling -> encoder -> latent -> decoder -> inverse scaling`, with loss layers on the
    tensors that they read; `compile("adam")` and `fit(x)` need no loss and no target. The submodels stay available as
    `encoder` and `decoder`, in scaled units; `encode`, `decode`, `reconstruct`, `score` and `generate` work on raw
    arrays.

    Args:
        encoder: Keras model from one observation (batch, ...) to z, or to what `latent` takes, such as (mean, log_var).
        decoder: Keras model from z to one observation, of the encoder's input shape.
        latent: layer from the encoder's output to z; None where the encoder's output is z.
        reconstruction: loss layer called on (x, x_hat), in scaled units; RMSELoss() by default.
        regularizers: loss layers called on the tensors that their `reads` names (`x`, `posterior`, `z`, `x_hat`);
            a layer without `reads` is called on z.
        scaling: layer between raw and scaled units, with an `inverse` argument (Scaling, Proportions); None for x as
        it is. input_dtype: of raw x, for instance "uint8" for pixels.

    Raises:
        ValueError: where shapes don't fit; the message names both.
    """

    def __init__(
        self,
        encoder: keras.Model,
        decoder: keras.Model,
        latent: keras.layers.Layer | None = None,
        reconstruction: keras.layers.Layer | None = None,
        regularizers: Sequence[keras.layers.Layer] = (),
        scaling: keras.layers.Layer | None = None,
        input_dtype: str = "float32",
        name: str = "autoencoder",
    ) -> None:
        _check_one_input("encoder", encoder)
        _check_one_input("decoder", decoder)
        reconstruction = reconstruction if reconstruction is not None else RMSELoss()
        shape = tuple(encoder.input_shape[1:])
        if shape != tuple(decoder.output_shape[1:]):
            raise ValueError(
                f"The decoder must give back what the encoder takes. Received: an encoder of inputs "
                f"{_batch(shape)} and a decoder of outputs {_batch(decoder.output_shape[1:])}."
            )

        x = keras.Input(shape, dtype=input_dtype, name="x")
        terms = _Terms([reconstruction, *regularizers])
        tensors = {"x": scaling(x) if scaling is not None else x}
        tensors["posterior"] = encoder(tensors["x"])
        terms.apply(tensors)
        tensors["z"] = latent(tensors["posterior"]) if latent is not None else tensors["posterior"]
        _check_latent(tensors["z"], decoder)
        terms.apply(tensors)
        tensors["x_hat"] = decoder(tensors["z"])
        terms.apply(tensors)
        x_hat = tensors["x_hat"]
        outputs = scaling(x_hat, inverse=True, like=x) if scaling is not None else x_hat
        super().__init__(inputs=x, outputs=outputs, name=name)

        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.reconstruction = reconstruction
        self.regularizers = list(regularizers)
        self.scaling = scaling
        self.raw_dtype = str(input_dtype)
        self.latent_shape = tuple(tensors["z"].shape[1:])
        self.prior = GaussianPrior(name="prior")
        self.prior.build((None, self.latent_dim))
        self.p_value = ConformalPValue(name="p_value")
        self.p_value.build((None,))
        self._compiled_functions: dict[str, Any] = {}

    @property
    def latent_dim(self) -> int:
        """Numbers in one z."""
        return math.prod(self.latent_shape)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "encoder": serialize(self.encoder),
            "decoder": serialize(self.decoder),
            "latent": serialize(self.latent),
            "reconstruction": serialize(self.reconstruction),
            "regularizers": [serialize(layer) for layer in self.regularizers],
            "scaling": serialize(self.scaling),
            "input_dtype": self.raw_dtype,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Autoencoder":
        config = dict(config)
        for key in ("encoder", "decoder", "latent", "reconstruction", "scaling"):
            config[key] = keras.saving.deserialize_keras_object(config[key], custom_objects)
        config["regularizers"] = [
            keras.saving.deserialize_keras_object(layer, custom_objects) for layer in config["regularizers"]
        ]
        return cls(**config)

    def functions(self) -> dict[str, keras.Model]:
        """The deployable graphs by name, built anew from the submodels: no loss layer, no noise, dict in and out.

        encode x -> z; decode z -> x; reconstruct x -> x_hat; score x -> score, p_value; generate epsilon -> x. `x`
        and `x_hat` are raw, (batch, ...), of two names since an ONNX graph can't have an input and an output of one
        name; `z` (batch, ...) the posterior mean; `score` (batch,) the RMSE of one row in scaled units, higher is
        more anomalous; `p_value` (batch,) is there after `calibrate`; `epsilon` (batch, latent_dim) is standard
        normal noise. The graphs share the model's weights, so they follow further training."""
        x = keras.Input(self.input_shape[1:], dtype=self.raw_dtype, name="x")
        z = keras.Input(self.latent_shape, name="z")
        epsilon = keras.Input((self.latent_dim,), name="epsilon")

        scaled = self.scaling(x) if self.scaling is not None else x
        posterior = self.encoder(scaled, training=False)
        mean = _at_inference(self.latent, posterior)
        x_hat = self.decoder(mean, training=False)
        axes = tuple(range(1, len(x.shape)))
        error = ops.square(ops.cast(scaled, "float32") - ops.cast(x_hat, "float32"))
        score = ops.sqrt(ops.mean(error, axis=axes))
        scores = {"score": score}
        if len(self.p_value.calibration_scores):
            scores["p_value"] = self.p_value(score)
        drawn = self.prior(epsilon)
        if len(self.latent_shape) > 1:
            drawn = ops.reshape(drawn, (-1, *self.latent_shape))
        graphs = {
            "encode": (x, {"z": ops.cast(mean, "float32")}),
            "decode": (z, {"x": self._raw(self.decoder(z, training=False))}),
            "reconstruct": (x, {"x_hat": self._raw(x_hat, like=x)}),
            "score": (x, scores),
            "generate": (epsilon, {"x": self._raw(self.decoder(drawn, training=False))}),
        }
        return {name: keras.Model(inputs, outputs, name=name) for name, (inputs, outputs) in graphs.items()}

    def _raw(self, x_hat: Any, like: Any = None) -> Any:
        return ops.cast(x_hat, "float32") if self.scaling is None else self.scaling(x_hat, inverse=True, like=like)

    def calibrate(self, x: np.ndarray, batch_size: int = 1024) -> None:
        """Keeps the scores of raw rows x that were not trained on, so that `score` gives conformal p-values."""
        self.p_value.fit(self.score(x, batch_size)["score"])
        self._compiled_functions.clear()

    def fit_prior(self, x: np.ndarray, batch_size: int = 1024) -> None:
        """Fits what `generate` draws z from to the latents of raw rows x; for models that no loss ties to N(0, I)."""
        self.prior.fit(self.encode(x, batch_size))

    def encode(self, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        """Raw x (rows, ...) to z (rows, ...), the posterior mean."""
        return self.run("encode", x, batch_size)["z"]

    def decode(self, z: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        """z (rows, ...) to x (rows, ...) in raw units."""
        return self.run("decode", z, batch_size)["x"]

    def reconstruct(self, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        """AE(x) in raw units, deterministic."""
        return self.run("reconstruct", x, batch_size)["x_hat"]

    def score(self, x: np.ndarray, batch_size: int = 1024) -> dict[str, np.ndarray]:
        """`score` (rows,), higher is more anomalous, and after `calibrate` its conformal `p_value` (rows,)."""
        return self.run("score", x, batch_size)

    def generate(self, n: int, seed: int | None = None, batch_size: int = 1024) -> np.ndarray:
        """n observations (n, ...) in raw units; a seed gives the same ones here and in every export."""
        return self.run("generate", standard_normal(n, self.latent_dim, seed), batch_size)["x"]

    def run(self, function: str, array: np.ndarray, batch_size: int = 1024) -> dict[str, np.ndarray]:
        """Runs one of `functions` on an array, in batches; dict of arrays out."""
        import tensorflow as tf

        if not self._compiled_functions:
            for name, graph in self.functions().items():
                spec = tf.TensorSpec((None, *graph.input_shape[1:]), graph.inputs[0].dtype)
                self._compiled_functions[name] = tf.function(graph, input_signature=[spec])
        call = self._compiled_functions[function]
        spec = call.input_signature[0]
        if tuple(np.shape(array)[1:]) != tuple(spec.shape[1:]):
            raise ValueError(f"Input must have shape {_batch(spec.shape[1:])}. Received: {np.shape(array)}.")
        array = np.asarray(array)
        starts = range(0, max(len(array), 1), batch_size)
        parts = [call(tf.cast(array[i : i + batch_size], spec.dtype)) for i in starts]
        return {key: np.concatenate([part[key].numpy() for part in parts]) for key in parts[0]}


def standard_normal(n: int, latent_dim: int, seed: int | None) -> np.ndarray:
    """The noise that `generate` draws: float32 (n, latent_dim) from NumPy's default generator."""
    return np.random.default_rng(seed).standard_normal((n, latent_dim), dtype=np.float32)


class _Terms:
    """Loss layers waiting for the tensors that they read."""

    def __init__(self, layers: Sequence[keras.layers.Layer]) -> None:
        self.waiting = [(layer, tuple(getattr(layer, "reads", ("z",)))) for layer in layers]

    def apply(self, tensors: dict[str, Any]) -> None:
        """Calls each layer whose tensors are all there; what it returns takes the place of the last tensor it read."""
        waiting = []
        for layer, reads in self.waiting:
            if all(name in tensors for name in reads):
                tensors[reads[-1]] = layer(*(tensors[name] for name in reads))
            else:
                waiting.append((layer, reads))
        self.waiting = waiting


def _at_inference(layer: keras.layers.Layer | None, tensor: Any) -> Any:
    if layer is None:
        return tensor
    return layer(tensor, training=False) if "training" in inspect.signature(layer.call).parameters else layer(tensor)


def _check_one_input(name: str, model: Any) -> None:
    if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(f"The {name} must be a functional or built Keras model with one input. Received: {model!r}.")


def _check_latent(z: Any, decoder: keras.Model) -> None:
    if isinstance(z, list | tuple):
        shapes = " and ".join(str(_batch(part.shape[1:])) for part in z)
        raise ValueError(
            f"An encoder with several outputs needs a `latent` layer that makes one z of them, such as Sampling(). "
            f"Received: encoder outputs {shapes} and no `latent`."
        )
    if tuple(z.shape[1:]) != tuple(decoder.input_shape[1:]):
        raise ValueError(
            f"The decoder must take the z that the encoder (and `latent`) gives. Received: z {_batch(z.shape[1:])} "
            f"and a decoder of inputs {_batch(decoder.input_shape[1:])}."
        )


def _batch(shape: Sequence[int | None]) -> str:
    return f"(batch, {', '.join(str(n) for n in shape)})"
