"""What leaves a model: a graph for each function, built anew from the submodels."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.composition import mean_of, one_hot
from keras_ae.layers import Incomplete, SequenceScaling
from keras_ae.layers.detection import EXACT
from keras_ae.layers.float32 import Float32Layer
from keras_ae.layers.neighbours import limited
from keras_ae.priors.mixture import log_joint

FUNCTIONS = ("encode", "decode", "reconstruct", "score", "explain", "classify", "generate")
BATCH = 1024
"""Rows at a time."""


def functions_of(model: Any) -> dict[str, keras.Model]:
    """`Autoencoder.functions`."""
    x = keras.Input(model.raw_shape, dtype=model.raw_dtype, name="x")
    z = keras.Input(model.latent_shape, name="z")
    label = _label(model)

    scaled, mean = encoded(model, x)
    graphs: dict[str, tuple[Any, dict[str, Any]]] = {"encode": (x, {"z": ops.cast(mean, "float32")})}
    graphs["decode"] = ([z, *([label] if model.conditional else [])], {"x": _raw(model, _decoded(model, z, label))})
    if model.classes:
        graphs["classify"] = (x, {"probability": ops.softmax(_logits(model, scaled, mean), axis=-1)})
    x_hat = reconstructed(model, scaled, mean)
    graphs["reconstruct"] = (x, {"x_hat": _raw(model, x_hat, like=x)})
    observed, expected = comparable(model, scaled, x_hat)
    if model.detector is not None:
        score, contribution = model.detector([observed, expected, mean, LogPrior(model.prior)(mean)])
        if isinstance(model.scaling, Incomplete):
            contribution = model.scaling.by_raw(contribution, scaled)
        graphs["explain"] = (x, {"contribution": ops.reshape(contribution, (-1, *model.raw_shape))})
    else:
        score = _rmse_of_rows(observed, expected, isinstance(model.scaling, SequenceScaling))
    scores = {"score": score}
    if len(model.p_value.calibration_scores):
        scores["p_value"] = model.p_value(score)
    graphs["score"] = (x, scores)
    inputs, said, of_cells = _before_marginals(model)
    graphs["generate"] = (inputs, {"x": said if model.marginals is None else model.marginals(said, of_cells)})
    ordered = [name for name in FUNCTIONS if name in graphs]
    return {name: _graph(name, *graphs[name]) for name in ordered}


def before_marginals(model: Any) -> Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """`generate` without its last step: of its inputs what the model's `marginals` is called on, `said` and, if it
    takes any, `noise`.
    """
    inputs, said, of_cells = _before_marginals(model)
    outputs = {"said": said} if of_cells is None else {"noise": of_cells, "said": said}  # as Keras orders them
    graph = _graph("before_marginals", inputs, outputs)
    return lambda given: dict(zip(outputs, in_batches(graph, given), strict=True))


def _label(model: Any) -> Any:
    return keras.Input((), dtype="int32", name="label") if model.classes else None


def _before_marginals(model: Any) -> tuple[list[Any], Any, Any]:
    """The inputs of `generate`, what the decoder says of them in raw units, and the noise of the model's `marginals` if
    they take any."""
    epsilon, label = keras.Input((model.epsilon_dim,), name="epsilon"), _label(model)
    inputs = [epsilon] if label is None else [epsilon, label]
    ends = [model.prior.epsilon_dim, model.prior.epsilon_dim + (model.marginals.numbers if model.marginals else 0)]
    of_prior = epsilon if model.epsilon_dim == ends[0] else epsilon[:, : ends[0]]
    of_cells = epsilon[:, ends[0] : ends[1]] if ends[1] > ends[0] else None
    noise = epsilon[:, ends[1] :] if model.epsilon_dim > ends[1] else None
    drawn, which = model.prior(of_prior, label) if model.classes else (model.prior(of_prior), None)
    if len(model.latent_shape) > 1:
        drawn = ops.reshape(drawn, (-1, *model.latent_shape))
    if model.latent is not None and hasattr(model.latent, "nearest_code"):
        drawn = _NearestCode(model.latent, name="nearest_code")(drawn)
    if model.draws is None:
        return inputs, _raw(model, _decoded(model, drawn, which), noise=noise), of_cells
    return inputs, _Draws(model.draws, model.reconstruction)(params_of(model, drawn, which), noise), of_cells


def encoded(model: Any, x: Any) -> tuple[Any, Any]:
    """x in scaled units, and the posterior mean."""
    scaled = model.scaling(x) if model.scaling is not None else x
    return scaled, _at_inference(model.latent, model.encoder(scaled, training=False))


def comparable(model: Any, scaled: Any, x_hat: Any) -> tuple[Any, Any]:
    """x and x_hat in scaled units, alike where x is missing; of series x is NaN there instead."""
    return model.scaling.comparable(scaled, x_hat) if isinstance(model.scaling, Incomplete) else (scaled, x_hat)


def _rmse_of_rows(x: Any, x_hat: Any, skips_missing: bool) -> Any:
    """Root mean squared error of each row, (batch,)."""
    x, x_hat = ops.cast(x, "float32"), ops.cast(x_hat, "float32")
    axes = tuple(range(1, len(x.shape)))
    if not skips_missing:
        return ops.sqrt(ops.mean(ops.square(x - x_hat), axis=axes))
    missing = ops.isnan(x)
    error = ops.sum(ops.where(missing, ops.zeros_like(x), ops.square(x - x_hat)), axis=axes)
    return ops.sqrt(error / ops.sum(ops.where(missing, ops.zeros_like(x), ops.ones_like(x)), axis=axes))


def opinions(model: Any, scaled: Any, mean: Any) -> list[Any]:
    """Logits (batch, classes) of p(y | x) by Bayes' rule, and by the head where there is one."""
    bayes = _BayesRule(model.prior, model.decoder if model.conditional else None, model.reconstruction)([scaled, mean])
    return [bayes] if model.classifier is None else [bayes, model.classifier(mean, training=False)]


def _logits(model: Any, scaled: Any, mean: Any) -> Any:
    return model.pool(opinions(model, scaled, mean))


def reconstructed(model: Any, scaled: Any, mean: Any) -> Any:
    """AE(x) in scaled units; a conditional decoder is told the likeliest class."""
    if not model.conditional:
        return _decoded(model, mean, None)
    logits = _logits(model, scaled, mean)
    return _decoded(model, mean, ops.cast(ops.equal(logits, ops.max(logits, axis=-1, keepdims=True)), "float32"))


def _decoded(model: Any, z: Any, label: Any) -> Any:
    """x_hat in scaled units; a conditional decoder takes label (batch,) indices, or one-hot (batch, classes)."""
    return mean_of(model.reconstruction, params_of(model, z, label))


def params_of(model: Any, z: Any, label: Any) -> Any:
    """What the decoder says about x; `label` as of `_decoded`, of no use to one that is not conditional."""
    if not model.conditional:
        return model.decoder(z, training=False)
    given = label if len(label.shape) == 2 else one_hot(label, len(model.classes))
    return model.decoder([z, given], training=False)


def _raw(model: Any, x_hat: Any, like: Any = None, noise: Any = None) -> Any:
    if model.scaling is None:
        return ops.cast(x_hat, "float32")
    drawn = {} if noise is None else {"level": model.scaling.level(noise)}
    return model.scaling(x_hat, inverse=True, like=like, **drawn)


class LogPrior(Float32Layer):
    """log p(z) of z (batch, ...) by the prior: (batch,), nats."""

    def __init__(self, prior: keras.layers.Layer) -> None:
        super().__init__(name=EXACT[1])
        self.prior = prior

    def call(self, z: Any) -> Any:
        return self.prior.log_prob(limited(z))

    def compute_output_spec(self, z: Any) -> Any:
        return keras.KerasTensor((z.shape[0],), dtype="float32")


class _BayesRule(Float32Layer):
    """Logits of p(y | x): log p(y) and a bound on log p(x | y), up to what all y share.

    The bound is taken at z = mean, so that it needs no noise. Where only the prior knows the label, log p(x | z) and
    the posterior's entropy are the same for all y, and log p(z | y) is left. Called on [x in scaled units, mean].
    """

    def __init__(self, prior: keras.layers.Layer, decoder: keras.Model | None, reconstruction: Any) -> None:
        super().__init__(name="bayes_rule")
        if decoder is not None and not hasattr(reconstruction, "log_prob"):
            raise ValueError(
                "p(y | x) by Bayes' rule needs a reconstruction layer that is a likelihood, with `log_prob`. "
                f"Received: {type(reconstruction).__name__}."
            )
        self.prior, self.decoder, self.reconstruction = prior, decoder, reconstruction

    def call(self, inputs: Any) -> Any:
        scaled, mean = inputs
        flat = ops.reshape(ops.cast(mean, "float32"), (-1, self.prior.latent_dim))
        logits = log_joint(self.prior, flat)
        if self.decoder is None:
            return logits
        classes = self.prior.classes
        bounds = []
        for of_one in np.eye(classes, dtype="float32"):
            params = self.decoder([mean, ops.zeros_like(flat[:, :1]) + of_one], training=False)
            bounds.append(self.reconstruction.log_prob(scaled, params))
        return logits + ops.stack(bounds, axis=-1)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((inputs[0].shape[0], self.prior.classes), dtype="float32")


class _NearestCode(Float32Layer):
    """A latent layer's `nearest_code`, as a layer: what it reads are variables of the graph then, not constants."""

    def __init__(self, latent: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.latent = latent

    def call(self, z: Any) -> Any:
        return self.latent.nearest_code(z)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


class _Draws(Float32Layer):
    """Rows of a table drawn from what the decoder says (`ColumnDraws`), by the noise of a likelihood that has one."""

    def __init__(self, draws: keras.layers.Layer, reconstruction: keras.layers.Layer) -> None:
        super().__init__(name="draws")
        self.draws, self.reconstruction = draws, reconstruction

    def call(self, params: Any, noise: Any) -> Any:
        likelihood = getattr(self.reconstruction, "likelihood", self.reconstruction)
        deviation = ops.exp(0.5 * likelihood.log_variances) if self.draws.draws else None
        return self.draws(mean_of(self.reconstruction, params), ops.cast(params, "float32"), deviation, noise)

    def compute_output_spec(self, params: Any, noise: Any) -> Any:
        return keras.KerasTensor((params.shape[0], len(self.draws.schema.columns)), dtype="float32")


@dataclass(frozen=True)
class Graph:
    """One function of a model as a TensorFlow function with a dynamic batch: traced once, to be run and to leave.

    Attributes:
        name: `encode`, `decode`, ...
        function: the Keras model, dict in and dict out.
        call: the same from the inputs in their order; its `input_signature` names them.
        signature: inputs and outputs by name, their shapes without the batch, and dtypes.
    """

    name: str
    function: keras.Model
    call: Any
    signature: dict[str, dict[str, dict[str, Any]]]

    @classmethod
    def of(cls, name: str, function: keras.Model) -> "Graph":
        """The graph of a functional model."""
        import tensorflow as tf

        specs = tuple(tf.TensorSpec((None, *t.shape[1:]), t.dtype, name=t.name) for t in function.inputs)

        def call(*arrays: Any) -> dict[str, Any]:
            inputs = {spec.name: array for spec, array in zip(specs, arrays, strict=True)}
            # The identity gives each output a node of its own, where two outputs would be one tensor.
            return {key: tf.identity(value, name=key) for key, value in function(inputs, training=False).items()}

        # By their code TensorFlow would take all graphs for one that is traced again and again; a partial has none.
        traced = tf.function(partial(call), input_signature=specs, autograph=False)
        sides = {"inputs": {tensor.name: tensor for tensor in function.inputs}, "outputs": function.output}
        signature = {
            side: {key: {"shape": list(tensor.shape[1:]), "dtype": tensor.dtype} for key, tensor in tensors.items()}
            for side, tensors in sides.items()
        }
        return cls(name, function, traced, signature)


def run_on_encoded(model: Any, x: np.ndarray, outputs: Callable[[Any, Any], Any]) -> list[np.ndarray]:
    """What `outputs` makes of x in scaled units and the posterior mean, of raw rows."""
    rows = keras.Input(model.raw_shape, dtype=model.raw_dtype, name="x")
    return in_batches(keras.Model({"x": rows}, outputs(*encoded(model, rows))), {"x": x})


def in_batches(graph: keras.Model, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """A graph's outputs for rows of each input, eagerly: compiling it for a pass would take longer than running it."""
    parts = []
    for i in range(0, len(next(iter(inputs.values()))), BATCH):
        batch = {name: array[i : i + BATCH] for name, array in inputs.items()}
        parts.append(keras.tree.flatten(graph(batch, training=False)))
    return [np.concatenate([ops.convert_to_numpy(part) for part in column]) for column in zip(*parts, strict=True)]


def _at_inference(layer: keras.layers.Layer | None, tensor: Any) -> Any:
    if layer is None:
        return tensor
    return layer(tensor, training=False) if "training" in inspect.signature(layer.call).parameters else layer(tensor)


def _graph(name: str, inputs: Any, outputs: dict[str, Any]) -> keras.Model:
    """A model whose inputs and outputs go by their names."""
    tensors = inputs if isinstance(inputs, list) else [inputs]
    return keras.Model({tensor.name: tensor for tensor in tensors}, outputs, name=name)
