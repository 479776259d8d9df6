"""The autoencoder: AE(x) = Dec(Enc(x)), a functional training graph, and the functions that leave it."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_ae.data.labels import UNKNOWN, label_index
from keras_ae.imputation import STEPS, impute
from keras_ae.latents import interpolate, traverse
from keras_ae.layers import AnomalyScore, ColumnScaling, ConformalPValue, LogarithmicPool, RMSELoss, Sampling
from keras_ae.layers.detection import BANK, EXACT
from keras_ae.layers.neighbours import limited
from keras_ae.likelihood import LogLikelihood, log_likelihood
from keras_ae.priors import FittedPrior, MixturePrior, fit_prior
from keras_ae.resident import ResidentModel

FUNCTIONS = ("encode", "decode", "reconstruct", "score", "explain", "classify", "generate")


@keras.saving.register_keras_serializable(package="keras_ae")
class Autoencoder(ResidentModel):
    """An encoder and a decoder trained together: raw x in, AE(x) in raw units out.

    The training graph is `x -> scaling -> encoder -> latent -> decoder -> inverse scaling`, with loss layers on the
    tensors that they read; `compile("adam")` and `fit(x)` need no loss and no target. The submodels stay available as
    `encoder` and `decoder`, in scaled units; `encode`, `decode`, `reconstruct`, `score`, `classify` and `generate` work
    on raw arrays.

    With `classes` it takes labels too, `fit(x, y)`: indices of the classes (rows,), -1 where one is not known. It is a
    discriminator p(y | x) then, by a head on z or by Bayes' rule, and a generator p(x | y).

    Args:
        encoder: Keras model from one observation (batch, ...) to z, or to what `latent` takes, such as (mean, log_var).
        decoder: Keras model from z to what `reconstruction` takes, as a rule one observation; or, where it is
            conditional, from z and the label in one-hot coding (batch, classes), zeros where it is not known.
        latent: layer from the encoder's output to z; None where the encoder's output is z. `generate` passes what it
            draws through the layer's `nearest_code`, if it has one.
        reconstruction: loss layer called on (x, x_hat), in scaled units; RMSELoss() by default.
        regularizers: loss layers called on the tensors that their `reads` names (`x`, `posterior`, `z`, `x_hat`,
            `label`, `logits`); a layer without `reads` is called on z. One that has `bind(encoder, decoder, latent)`
            is given them first, and must not track them.
        scaling: layer between raw and scaled units, with an `inverse` argument (Scaling, Proportions, ColumnScaling);
            None for x as it is. Where a row has another shape in scaled units it says `raw_shape`.
        input_dtype: of raw x, for instance "uint8" for pixels.
        classes: names of the classes, where observations have labels.
        classifier: Keras model from z (batch, ...) to logits (batch, classes), trained by a loss layer among the
            regularizers that reads them (CrossEntropyLoss). `classify` pools it with Bayes' rule, p(y | x) from
            p(x | y) and p(y); without it, Bayes' rule stands alone.
        prior: layer from standard normal noise, and a label where there are classes, to z (`keras_ae.priors`); N(0, I)
            by default.
        detector: layer behind `score`, an AnomalyScore; without one a score is the RMSE of a row.

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
        classes: Sequence[str] = (),
        classifier: keras.Model | None = None,
        prior: keras.layers.Layer | None = None,
        detector: keras.layers.Layer | None = None,
        name: str = "autoencoder",
    ) -> None:
        _check_one_input("encoder", encoder)
        reconstruction = reconstruction if reconstruction is not None else RMSELoss()
        shape = tuple(encoder.input_shape[1:])
        raw_shape = tuple(getattr(scaling, "raw_shape", shape))
        classes = tuple(str(name) for name in classes)
        conditional = _check_decoder(decoder, classes)
        _check_classifier(classifier, classes)

        for term in (reconstruction, *regularizers):
            if hasattr(term, "bind"):
                term.bind(encoder, decoder, latent)

        x = keras.Input(raw_shape, dtype=input_dtype, name="x")
        label = keras.Input((), dtype="int32", name="label") if classes else None
        terms = _Terms([reconstruction, *regularizers])
        tensors = {"x": scaling(x) if scaling is not None else x}
        if label is not None:
            tensors["label"] = label
        tensors["posterior"] = encoder(tensors["x"])
        terms.apply(tensors)
        tensors["z"] = latent(tensors["posterior"]) if latent is not None else tensors["posterior"]
        _check_latent(tensors["z"], decoder, conditional)
        if classifier is not None:
            tensors["logits"] = classifier(tensors["z"])
        terms.apply(tensors)
        given = [tensors["z"], _one_hot(label, len(classes))] if conditional else tensors["z"]
        tensors["x_hat"] = decoder(given)
        _check_observation(_mean(reconstruction, tensors["x_hat"]), shape)
        terms.apply(tensors)
        x_hat = _mean(reconstruction, tensors["x_hat"])
        outputs = scaling(x_hat, inverse=True, like=x) if scaling is not None else x_hat
        super().__init__(inputs=x if label is None else {"x": x, "label": label}, outputs=outputs, name=name)

        self.encoder = encoder
        self.decoder = decoder
        self.latent = latent
        self.reconstruction = reconstruction
        self.regularizers = list(regularizers)
        self.scaling = scaling
        self.raw_dtype = str(input_dtype)
        self.raw_shape = raw_shape
        self.classes = classes
        self.classifier = classifier
        self.conditional = conditional
        self.latent_shape = tuple(tensors["z"].shape[1:])
        self.prior = prior if prior is not None else MixturePrior(self.latent_dim, classes=len(classes), name="prior")
        if not self.prior.built:
            self.prior.build((None, self.prior.epsilon_dim))
        self.detector = detector
        if detector is not None and not detector.built:
            detector.build()
        self.p_value = ConformalPValue(name="p_value")
        self.p_value.build((None,))
        self.pool = LogarithmicPool(1 if classifier is None else 2, name="pool")
        self.pool.build()
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
            "classes": list(self.classes),
            "classifier": serialize(self.classifier),
            "prior": serialize(self.prior),
            "detector": serialize(self.detector),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Autoencoder":
        config = dict(config)
        for key in ("encoder", "decoder", "latent", "reconstruction", "scaling", "classifier", "prior", "detector"):
            config[key] = keras.saving.deserialize_keras_object(config.get(key), custom_objects)
        config["regularizers"] = [
            keras.saving.deserialize_keras_object(layer, custom_objects) for layer in config["regularizers"]
        ]
        return cls(**config)

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Keras's `fit`; y (rows,) are labels, and `validation_data` is x or (x, y)."""
        if self.classes:
            x, y = self._labelled(x, y), None
            if kwargs.get("validation_data") is not None:
                data = kwargs["validation_data"]
                kwargs["validation_data"] = self._labelled(*data) if isinstance(data, tuple) else self._labelled(data)
        return super().fit(x, y, batch_size, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """Keras's `evaluate`; y (rows,) are labels."""
        if self.classes:
            x, y = self._labelled(x, y), None
        return super().evaluate(x, y, batch_size, **kwargs)

    def _labelled(self, x: Any, y: Any = None) -> Any:
        """Rows for both inputs; of rows without labels none is known. What is rows for both already stays."""
        if isinstance(x, np.ndarray):
            return {"x": x, "label": np.full(len(x), UNKNOWN, "int32") if y is None else np.asarray(y, "int32")}
        if hasattr(x, "element_spec") and isinstance(x.element_spec, tuple):
            return x.map(lambda rows, label: {"x": rows, "label": label})
        return x

    def functions(self) -> dict[str, keras.Model]:
        """The deployable graphs by name, built anew from the submodels: no loss layer, no noise, dict in and out.

        encode x -> z; decode z -> x; reconstruct x -> x_hat; score x -> score, p_value; explain x -> contribution;
        classify x -> probability; generate epsilon -> x. `x` and `x_hat` are raw, (batch, ...), of two names since an
        ONNX graph can't have an input and an output of one name; `z` (batch, ...) the posterior mean; `score` (batch,)
        is higher for what is more anomalous: by the detector, or without one the RMSE of a row in scaled units;
        `contribution` (batch, ...) is what each feature adds to it, there where there is a detector; `p_value` (batch,)
        is there after `calibrate`; `probability` (batch, classes) and `classify` are there where there are classes;
        `epsilon` (batch, prior.epsilon_dim) is standard normal noise. With classes `generate` takes a `label` (batch,)
        besides, -1 for one drawn by the frequency of its class, and so does `decode` where the decoder is conditional,
        -1 for none. The graphs share the model's weights, so they follow further training.
        """
        x = keras.Input(self.raw_shape, dtype=self.raw_dtype, name="x")
        z = keras.Input(self.latent_shape, name="z")
        epsilon = keras.Input((self.prior.epsilon_dim,), name="epsilon")
        label = keras.Input((), dtype="int32", name="label") if self.classes else None

        scaled, mean = self._encoded(x)
        graphs: dict[str, tuple[Any, dict[str, Any]]] = {"encode": (x, {"z": ops.cast(mean, "float32")})}
        with_label = [] if label is None else [label]
        graphs["decode"] = ([z, *(with_label if self.conditional else [])], {"x": self._raw(self._decoded(z, label))})
        if self.classes:
            graphs["classify"] = (x, {"probability": ops.softmax(self._logits(scaled, mean), axis=-1)})
        x_hat = self._best_guess(scaled, mean)
        graphs["reconstruct"] = (x, {"x_hat": self._raw(x_hat, like=x)})
        observed, expected = self._comparable(scaled, x_hat)
        if self.detector is not None:
            score, contribution = self.detector([observed, expected, mean, _LogPrior(self.prior)(mean)])
            if isinstance(self.scaling, ColumnScaling):
                contribution = self.scaling.by_column(contribution)
            graphs["explain"] = (x, {"contribution": ops.reshape(contribution, (-1, *self.raw_shape))})
        else:
            axes = tuple(range(1, len(observed.shape)))
            error = ops.square(ops.cast(observed, "float32") - ops.cast(expected, "float32"))
            score = ops.sqrt(ops.mean(error, axis=axes))
        scores = {"score": score}
        if len(self.p_value.calibration_scores):
            scores["p_value"] = self.p_value(score)
        graphs["score"] = (x, scores)
        drawn, which = self.prior(epsilon, label) if self.classes else (self.prior(epsilon), None)
        if len(self.latent_shape) > 1:
            drawn = ops.reshape(drawn, (-1, *self.latent_shape))
        if self.latent is not None and hasattr(self.latent, "nearest_code"):
            drawn = _NearestCode(self.latent, name="nearest_code")(drawn)
        graphs["generate"] = ([epsilon, *with_label], {"x": self._raw(self._decoded(drawn, which))})
        ordered = [name for name in FUNCTIONS if name in graphs]
        return {name: _graph(name, *graphs[name]) for name in ordered}

    def _encoded(self, x: Any) -> tuple[Any, Any]:
        """x in scaled units, and the posterior mean."""
        scaled = self.scaling(x) if self.scaling is not None else x
        return scaled, _at_inference(self.latent, self.encoder(scaled, training=False))

    def _comparable(self, scaled: Any, x_hat: Any) -> tuple[Any, Any]:
        """x and x_hat in scaled units, alike where x is missing."""
        if not isinstance(self.scaling, ColumnScaling):
            return scaled, x_hat
        return self.scaling.filled(scaled), self.scaling.known(scaled, x_hat)

    def _opinions(self, scaled: Any, mean: Any) -> list[Any]:
        """Logits (batch, classes) of p(y | x) by Bayes' rule, and by the head where there is one."""
        bayes = _BayesRule(self.prior, self.decoder if self.conditional else None, self.reconstruction)([scaled, mean])
        return [bayes] if self.classifier is None else [bayes, self.classifier(mean, training=False)]

    def _logits(self, scaled: Any, mean: Any) -> Any:
        return self.pool(self._opinions(scaled, mean))

    def _best_guess(self, scaled: Any, mean: Any) -> Any:
        """AE(x) in scaled units; a conditional decoder is told the likeliest class."""
        if not self.conditional:
            return self._decoded(mean, None)
        logits = self._logits(scaled, mean)
        return self._decoded(mean, ops.cast(ops.equal(logits, ops.max(logits, axis=-1, keepdims=True)), "float32"))

    def _decoded(self, z: Any, label: Any) -> Any:
        """x_hat in scaled units; a conditional decoder takes label (batch,) indices, or one-hot (batch, classes)."""
        if not self.conditional:
            return _mean(self.reconstruction, self.decoder(z, training=False))
        one_hot = label if len(label.shape) == 2 else _one_hot(label, len(self.classes))
        return _mean(self.reconstruction, self.decoder([z, one_hot], training=False))

    def _raw(self, x_hat: Any, like: Any = None) -> Any:
        return ops.cast(x_hat, "float32") if self.scaling is None else self.scaling(x_hat, inverse=True, like=like)

    def calibrate(self, x: np.ndarray, y: np.ndarray | None = None, batch_size: int = 1024) -> None:
        """Keeps the scores of raw rows x that were not trained on, so that `score` gives conformal p-values; and with
        their labels y (rows,), -1 where one is not known, weighs the opinions behind `classify`."""
        scores = self.score(x, batch_size)["score"]
        if isinstance(self.reconstruction, RMSELoss):
            self.reconstruction.set_noise(self._expected_error(x, batch_size))
        self.p_value.fit(scores)
        if y is not None and self.classes:
            known = np.asarray(y) != UNKNOWN
            if known.any():
                self.pool.fit(self._opinions_of(x[known], batch_size), np.asarray(y)[known])
        self._compiled_functions.clear()

    def fit_detector(self, x: np.ndarray, held_out: np.ndarray, seed: int = 0, batch_size: int = 1024) -> None:
        """Fits what `score` is: an AnomalyScore of rows like these, with the prior as it is; `calibrate` comes after.

        Args:
            x: normal raw rows (rows, ...) that were trained on; at most 2,048 of them are kept in the model.
            held_out: normal rows that were not.
            seed: of the choice.
            batch_size: rows at a time.
        """
        self.set_detector(None)
        kept = np.sort(np.random.default_rng(seed).permutation(len(x))[:BANK])
        rows = keras.Input(self.raw_shape, dtype=self.raw_dtype, name="x")
        scaled, mean = self._encoded(rows)
        compared = self._comparable(scaled, self._best_guess(scaled, mean))
        graph = keras.Model(rows, [*compared, mean, _LogPrior(self.prior)(mean)])
        train, unseen = (_in_batches(graph, part, batch_size) for part in (np.asarray(x)[kept], held_out))
        self.set_detector(AnomalyScore.fitted(train, unseen))

    def set_detector(self, detector: keras.layers.Layer | None) -> None:
        """Puts another layer behind `score`; None for the RMSE of a row."""
        self._replace("detector", detector)

    def scaled_pair(self, x: np.ndarray, batch_size: int = 1024) -> list[np.ndarray]:
        """Raw rows as x and x_hat in scaled units, NaN in x where a value is missing."""
        rows = keras.Input(self.raw_shape, dtype=self.raw_dtype, name="x")
        scaled, mean = self._encoded(rows)
        return _in_batches(keras.Model(rows, [scaled, self._best_guess(scaled, mean)]), x, batch_size)

    def _opinions_of(self, x: np.ndarray, batch_size: int) -> list[np.ndarray]:
        rows = keras.Input(self.raw_shape, dtype=self.raw_dtype, name="x")
        scaled, mean = self._encoded(rows)
        return _in_batches(keras.Model(rows, self._opinions(scaled, mean)), x, batch_size)

    def _expected_error(self, x: np.ndarray, batch_size: int) -> float:
        """Mean squared error in scaled units where z is drawn from the posterior: the noise of the tightest bound."""
        z = self.draw_latents(x, batch_size=batch_size).reshape(-1, *self.latent_shape)
        y = self.classify(x, batch_size).argmax(axis=1).tolist() if self.conditional else None
        x_hat = self.decode(z, y, batch_size)
        if self.scaling is None:
            return float(np.mean(np.square(x_hat - x, dtype="float64")))
        rows = [np.asarray(self.scaling(part), "float64") for part in (x.astype(self.raw_dtype), x_hat)]
        return float(np.mean(np.square(rows[0] - rows[1])))

    def log_likelihood(self, x: np.ndarray, y: np.ndarray | None = None, k: int = 1, seed: int = 0) -> LogLikelihood:
        """Bounds on log p(x), or with labels y on log p(x | y), of raw rows, in nats: `keras_ae.likelihood`."""
        return log_likelihood(self, x, y, k, seed)

    def fit_prior(
        self,
        x: np.ndarray,
        held_out: np.ndarray | None = None,
        y: np.ndarray | None = None,
        y_held_out: np.ndarray | None = None,
        seed: int = 0,
    ) -> FittedPrior:
        """Fits what `generate` draws z from to the latents of raw rows, and puts it in place.

        Args:
            x: rows that were trained on.
            held_out: rows that were not, by which one of the candidates is chosen; by default a tenth of x.
            y: indices of the classes of x, -1 where one is not known; of a model with classes.
            y_held_out: of held_out.
            seed: of posterior draws and the mixtures' starts.
        """
        if self.classes and y is None:
            raise ValueError("`fit_prior` of a model with classes needs `y`, the labels of x. Received none.")
        if held_out is None:
            order = np.random.default_rng(seed).permutation(len(x))
            some, rest = order[: max(1, len(x) // 10)], order[max(1, len(x) // 10) :]
            x, held_out = x[rest], x[some]
            y, y_held_out = (None, None) if y is None else (np.asarray(y)[rest], np.asarray(y)[some])
        posterior = self.posterior(x)
        z, z_held_out = _draws(*posterior, seed), self.draw_latents(held_out, seed + 1)
        given = posterior if isinstance(self.latent, Sampling) else None
        fitted = fit_prior(z, z_held_out, y, y_held_out, len(self.classes), not self.conditional, seed, given)
        self.set_prior(fitted.layer)
        return fitted

    def draw_latents(self, x: np.ndarray, seed: int = 0, batch_size: int = 1024) -> np.ndarray:
        """Raw x (rows, ...) to one draw each from q(z | x), (rows, n); z itself where the encoder is deterministic."""
        return _draws(*self.posterior(x, batch_size), seed)

    def posterior(self, x: np.ndarray, batch_size: int = 1024) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of q(z | x) of raw x (rows, ...), each (rows, n); 0 where the encoder is deterministic."""
        if not isinstance(self.latent, Sampling):
            z = self.encode(x, batch_size).reshape(len(x), -1)
            return z, np.zeros_like(z)
        parts = []
        for i in range(0, len(x), batch_size):
            rows = np.asarray(x[i : i + batch_size]).astype(self.raw_dtype)
            posterior = self.encoder(self.scaling(rows) if self.scaling is not None else rows, training=False)
            parts.append([ops.convert_to_numpy(ops.cast(part, "float32")) for part in posterior])
        mean, log_var = (np.concatenate(column).reshape(len(x), -1) for column in zip(*parts, strict=True))
        return mean, np.exp(np.clip(log_var, -20.0, 20.0))

    def set_prior(self, prior: keras.layers.Layer) -> None:
        """Puts another layer where `generate` draws z from (`keras_ae.priors`)."""
        if not prior.built:
            prior.build((None, prior.epsilon_dim))
        self._replace("prior", prior)

    def _replace(self, name: str, layer: keras.layers.Layer | None) -> None:
        # Keras keeps every layer that was ever set, and would save the old one too.
        self._layers: list[Any] = [held for held in self._layers if held is not getattr(self, name)]
        setattr(self, name, layer)
        self._compiled_functions.clear()

    def encode(self, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        """Raw x (rows, ...) to z (rows, ...), the posterior mean."""
        return self.run("encode", x, batch_size)["z"]

    def decode(self, z: np.ndarray, y: Any = None, batch_size: int = 1024) -> np.ndarray:
        """z (rows, ...) to x (rows, ...) in raw units; a conditional decoder takes classes y, by name or index."""
        inputs = {"z": z, **({"label": label_index(y, len(z), self.classes)} if self.conditional else {})}
        return self.run("decode", inputs, batch_size)["x"]

    def reconstruct(self, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        """AE(x) in raw units, deterministic."""
        return self.run("reconstruct", x, batch_size)["x_hat"]

    def score(self, x: np.ndarray, batch_size: int = 1024) -> dict[str, np.ndarray]:
        """`score` (rows,), higher is more anomalous, and after `calibrate` its conformal `p_value` (rows,)."""
        return self.run("score", x, batch_size)

    def explain(self, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        """What each feature of raw x adds to the score, (rows, ...); over a row it sums to that."""
        if self.detector is None:
            raise ValueError("`explain` needs a detector: call `fit_detector` first. Received a model without one.")
        return self.run("explain", x, batch_size)["contribution"]

    def impute(self, x: np.ndarray, steps: int = STEPS) -> np.ndarray:
        """Raw rows (rows, columns) with missing cells (NaN) filled: `keras_ae.imputation.impute`."""
        return impute(self, x, steps)

    def classify(self, x: np.ndarray, batch_size: int = 1024) -> np.ndarray:
        """p(y | x) of raw x (rows, ...): (rows, classes), in the order of `classes`."""
        if not self.classes:
            raise ValueError("`classify` needs a model that was trained with labels. Received a model without classes.")
        return self.run("classify", x, batch_size)["probability"]

    def generate(self, n: int, y: Any = None, seed: int | None = None, batch_size: int = 1024) -> np.ndarray:
        """n observations (n, ...) in raw units; a seed gives the same ones here and in every export.

        y: a class by name or index, or n of them; by default classes are drawn by their frequency."""
        inputs = {"epsilon": standard_normal(n, self.prior.epsilon_dim, seed)}
        label = label_index(y, n, self.classes)
        return self.run("generate", inputs | ({"label": label} if self.classes else {}), batch_size)["x"]

    def interpolate(self, a: np.ndarray, b: np.ndarray, steps: int = 8, y: Any = None) -> np.ndarray:
        """Observations (steps, ...) on the way from AE(a) to AE(b): `keras_ae.latents.interpolate`."""
        return interpolate(self, a, b, steps, y)

    def traverse(self, x: np.ndarray, steps: int = 7, y: Any = None) -> np.ndarray:
        """Observations (latents, steps, ...), of x with one latent varied: `keras_ae.latents.traverse`."""
        return traverse(self, x, steps, y)

    @property
    def has_gaussian_prior(self) -> bool:
        """Whether `generate` draws z from a single Gaussian."""
        return getattr(self.prior, "components", None) == 1

    def run(self, function: str, inputs: Any, batch_size: int = 1024) -> dict[str, np.ndarray]:
        """Runs one of `functions` on an array, or on arrays by the names of its inputs, in batches; dict of arrays
        out."""
        import tensorflow as tf

        if not self._compiled_functions:
            for name, graph in self.functions().items():
                specs = {t.name: tf.TensorSpec((None, *t.shape[1:]), t.dtype) for t in graph.inputs}
                self._compiled_functions[name] = tf.function(graph, input_signature=[specs]), specs
        if function not in self._compiled_functions:
            known = ", ".join(self._compiled_functions)
            raise ValueError(f"`function` must be one of {known}. Received: {function!r}.")
        call, specs = self._compiled_functions[function]
        arrays = inputs if isinstance(inputs, dict) else {next(iter(specs)): inputs}
        if set(arrays) != set(specs):
            raise ValueError(f"{function} must have the inputs {', '.join(specs)}. Received: {', '.join(arrays)}.")
        for name, array in arrays.items():
            if tuple(np.shape(array)[1:]) != tuple(specs[name].shape[1:]):
                raise ValueError(f"Input must have shape {_batch(specs[name].shape[1:])}. Received: {np.shape(array)}.")
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        starts = range(0, max(len(next(iter(arrays.values()))), 1), batch_size)
        parts = [
            call({name: tf.cast(array[i : i + batch_size], specs[name].dtype) for name, array in arrays.items()})
            for i in starts
        ]
        return {key: np.concatenate([part[key].numpy() for part in parts]) for key in parts[0]}


class _LogPrior(keras.layers.Layer):
    """log p(z) of z (batch, ...) by the prior: (batch,), nats."""

    def __init__(self, prior: keras.layers.Layer) -> None:
        super().__init__(autocast=False, name=EXACT[1])
        self.prior = prior

    def call(self, z: Any) -> Any:
        return self.prior.log_prob(limited(z))

    def compute_output_spec(self, z: Any) -> Any:
        return keras.KerasTensor((z.shape[0],), dtype="float32")


class _BayesRule(keras.layers.Layer):
    """Logits of p(y | x): log p(y) and a bound on log p(x | y), up to what all y share.

    The bound is taken at z = mean, so that it needs no noise. Where only the prior knows the label, log p(x | z) and
    the posterior's entropy are the same for all y, and log p(z | y) is left. Called on [x in scaled units, mean].
    """

    def __init__(self, prior: keras.layers.Layer, decoder: keras.Model | None, reconstruction: Any) -> None:
        super().__init__(autocast=False, name="bayes_rule")
        if decoder is not None and not hasattr(reconstruction, "log_prob"):
            raise ValueError(
                "p(y | x) by Bayes' rule needs a reconstruction layer that is a likelihood, with `log_prob`. "
                f"Received: {type(reconstruction).__name__}."
            )
        self.prior, self.decoder, self.reconstruction = prior, decoder, reconstruction

    def call(self, inputs: Any) -> Any:
        scaled, mean = inputs
        flat = ops.reshape(ops.cast(mean, "float32"), (-1, self.prior.latent_dim))
        logits = self.prior.class_log_prob(flat) + self.prior.class_log_frequency()
        if self.decoder is None:
            return logits
        classes = self.prior.classes
        bounds = []
        for one_hot in np.eye(classes, dtype="float32"):
            params = self.decoder([mean, ops.zeros_like(flat[:, :1]) + one_hot], training=False)
            bounds.append(self.reconstruction.log_prob(scaled, params))
        return logits + ops.stack(bounds, axis=-1)

    def compute_output_spec(self, inputs: Any) -> Any:
        return keras.KerasTensor((inputs[0].shape[0], self.prior.classes), dtype="float32")


class _NearestCode(keras.layers.Layer):
    """A latent layer's `nearest_code`, as a layer: what it reads are variables of the graph then, not constants."""

    def __init__(self, latent: keras.layers.Layer, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)
        self.latent = latent

    def call(self, z: Any) -> Any:
        return self.latent.nearest_code(z)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def standard_normal(n: int, latent_dim: int, seed: int | None) -> np.ndarray:
    """The noise that `generate` draws: float32 (n, latent_dim) from NumPy's default generator."""
    return np.random.default_rng(seed).standard_normal((n, latent_dim), dtype=np.float32)


def _draws(mean: np.ndarray, variance: np.ndarray, seed: int) -> np.ndarray:
    """One draw from each Gaussian, (rows, n)."""
    return mean + np.sqrt(variance) * np.random.default_rng(seed).standard_normal(mean.shape, dtype="float32")


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


def _in_batches(graph: keras.Model, x: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """A graph's outputs for raw rows, eagerly: for one pass, compiling it would take longer than running it."""
    parts = [keras.tree.flatten(graph(x[i : i + batch_size], training=False)) for i in range(0, len(x), batch_size)]
    return [np.concatenate([ops.convert_to_numpy(part) for part in column]) for column in zip(*parts, strict=True)]


def _at_inference(layer: keras.layers.Layer | None, tensor: Any) -> Any:
    if layer is None:
        return tensor
    return layer(tensor, training=False) if "training" in inspect.signature(layer.call).parameters else layer(tensor)


def _check_one_input(name: str, model: Any) -> None:
    if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(f"The {name} must be a functional or built Keras model with one input. Received: {model!r}.")


def _check_decoder(decoder: Any, classes: Sequence[str]) -> bool:
    """Whether the decoder takes a label besides z."""
    inputs: Sequence[Any] = getattr(decoder, "inputs", None) or ()
    if isinstance(decoder, keras.Model) and len(inputs) == 2 and tuple(inputs[1].shape[1:]) == (len(classes),):
        return True
    if len(inputs) == 2 and not classes:
        raise ValueError("A decoder with an input for the label needs `classes`. Received none.")
    _check_one_input("decoder", decoder)
    return False


def _check_classifier(classifier: Any, classes: Sequence[str]) -> None:
    if len(classes) == 1 or len(set(classes)) < len(classes):
        raise ValueError(f"`classes` must be two names or more, each of its own. Received: {tuple(classes)}.")
    if classifier is None:
        return
    _check_one_input("classifier", classifier)
    if tuple(classifier.output_shape[1:]) != (len(classes),) or not classes:
        raise ValueError(
            f"The classifier must give a logit for each of the {len(classes)} classes. "
            f"Received: outputs {_batch(classifier.output_shape[1:])}."
        )


def _check_observation(x_hat: Any, shape: tuple[int, ...]) -> None:
    if tuple(x_hat.shape[1:]) != shape:
        raise ValueError(
            f"The decoder must give back what the encoder takes. Received: an encoder of inputs "
            f"{_batch(shape)} and a decoder of outputs {_batch(x_hat.shape[1:])}."
        )


def _check_latent(z: Any, decoder: keras.Model, conditional: bool) -> None:
    if isinstance(z, list | tuple):
        shapes = " and ".join(str(_batch(part.shape[1:])) for part in z)
        raise ValueError(
            f"An encoder with several outputs needs a `latent` layer that makes one z of them, such as Sampling(). "
            f"Received: encoder outputs {shapes} and no `latent`."
        )
    taken = decoder.input_shape[0] if conditional else decoder.input_shape
    if tuple(z.shape[1:]) != tuple(taken[1:]):
        raise ValueError(
            f"The decoder must take the z that the encoder (and `latent`) gives. Received: z {_batch(z.shape[1:])} "
            f"and a decoder of inputs {_batch(taken[1:])}."
        )


def _mean(reconstruction: keras.layers.Layer, params: Any) -> Any:
    """What the decoder says x is, of what it says about x."""
    return reconstruction.mean(params) if hasattr(reconstruction, "mean") else params


def _one_hot(label: Any, classes: int) -> Any:
    """Label (batch,) to (batch, classes), zeros where it is -1; ONNX's own OneHot counts -1 from the end."""
    return ops.cast(ops.equal(ops.expand_dims(label, -1), np.arange(classes, dtype="int32")), "float32")


def _graph(name: str, inputs: Any, outputs: dict[str, Any]) -> keras.Model:
    """A model whose inputs and outputs go by their names."""
    tensors = inputs if isinstance(inputs, list) else [inputs]
    return keras.Model({tensor.name: tensor for tensor in tensors}, outputs, name=name)


def _batch(shape: Sequence[int | None]) -> str:
    return f"(batch, {', '.join(str(n) for n in shape)})"
