"""The autoencoder: AE(x) = Dec(Enc(x)), a functional training graph, and the functions that leave it."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_ae import finishing
from keras_ae.composition import (
    Terms,
    batch_of,
    check_classifier,
    check_decoder,
    check_latent,
    check_observation,
    check_one_input,
    mean_of,
    one_hot,
)
from keras_ae.data.labels import UNKNOWN
from keras_ae.data.schema import Schema
from keras_ae.functions import BATCH, Graph, functions_of, reconstructed, run_on_encoded
from keras_ae.interface import LocalFunctions
from keras_ae.layers import (
    ColumnDraws,
    ColumnLoss,
    ColumnScaling,
    ConformalPValue,
    LogarithmicPool,
    Marginals,
    RMSELoss,
    SequenceScaling,
)
from keras_ae.likelihood import LogLikelihood, log_likelihood
from keras_ae.priors import FittedPrior, MixturePrior
from keras_ae.resident import ResidentModel
from keras_ae.signatures import Signatures


@keras.saving.register_keras_serializable(package="keras_ae")
class Autoencoder(ResidentModel, LocalFunctions):
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
        marginals: of a table of numbers, the layer at the end of `generate`, a Marginals; that of a ColumnScaling
            follows from it.

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
        marginals: keras.layers.Layer | None = None,
        name: str = "autoencoder",
    ) -> None:
        check_one_input("encoder", encoder)
        reconstruction = reconstruction if reconstruction is not None else RMSELoss()
        shape = tuple(encoder.input_shape[1:])
        raw_shape = tuple(getattr(scaling, "raw_shape", shape))
        classes = tuple(str(name) for name in classes)
        conditional = check_decoder(decoder, classes)
        check_classifier(classifier, classes)

        for term in (reconstruction, *regularizers):
            if hasattr(term, "bind"):
                term.bind(encoder, decoder, latent)

        x = keras.Input(raw_shape, dtype=input_dtype, name="x")
        label = keras.Input((), dtype="int32", name="label") if classes else None
        terms = Terms([reconstruction, *regularizers])
        tensors = {"x": scaling(x) if scaling is not None else x}
        if label is not None:
            tensors["label"] = label
        tensors["posterior"] = encoder(tensors["x"])
        terms.apply(tensors)
        tensors["z"] = latent(tensors["posterior"]) if latent is not None else tensors["posterior"]
        check_latent(tensors["z"], decoder, conditional)
        if classifier is not None:
            tensors["logits"] = classifier(tensors["z"])
        terms.apply(tensors)
        given = [tensors["z"], one_hot(label, len(classes))] if conditional else tensors["z"]
        tensors["x_hat"] = decoder(given)
        check_observation(mean_of(reconstruction, tensors["x_hat"]), shape)
        terms.apply(tensors)
        x_hat = mean_of(reconstruction, tensors["x_hat"])
        like = x if getattr(latent, "samples", 1) == 1 else None  # several of each row are like none
        outputs = scaling(x_hat, inverse=True, like=like) if scaling is not None else x_hat
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
        self.marginals, self.draws = marginals, None
        if isinstance(scaling, ColumnScaling):
            schema, likelihood = scaling.schema.describe(), getattr(reconstruction, "likelihood", reconstruction)
            self.draws = ColumnDraws(schema, isinstance(likelihood, ColumnLoss), name="draws")
            self.draws.build()
            self.marginals = Marginals(schema, noisy=not self.draws.draws, name="marginals")
        if self.marginals is not None and not self.marginals.built:
            self.marginals.build()
        self._graphs: dict[str, Graph] = {}

    @property
    def latent_dim(self) -> int:
        """Numbers in one z."""
        return math.prod(self.latent_shape)

    @property
    def epsilon_dim(self) -> int:
        """Standard normal numbers that `generate` makes an observation of: the prior's, of a table those of its cells
        given z, and of series the length's.
        """
        of_cells = sum(layer.numbers for layer in (self.marginals, self.draws) if layer is not None)
        return int(self.prior.epsilon_dim + of_cells + getattr(self.scaling, "epsilon_dim", 0))

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
            "marginals": None if isinstance(self.scaling, ColumnScaling) else serialize(self.marginals),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None) -> "Autoencoder":
        config = dict(config)
        parts = ("encoder", "decoder", "latent", "reconstruction", "scaling", "classifier", "prior", "detector")
        for key in (*parts, "marginals"):
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
        `epsilon` (batch, epsilon_dim) is standard normal noise. With classes `generate` takes a `label` (batch,)
        besides, -1 for one drawn by the frequency of its class, and so does `decode` where the decoder is conditional,
        -1 for none. The graphs share the model's weights, so they follow further training.
        """
        return functions_of(self)

    def calibrate(self, x: np.ndarray, y: np.ndarray | None = None) -> None:
        """Keeps the scores of raw rows x that were not trained on, so that `score` gives conformal p-values; and with
        their labels y (rows,), -1 where one is not known, weighs the opinions behind `classify`."""
        finishing.calibrate(self, x, y)
        self._graphs.clear()

    def fit_detector(self, x: np.ndarray, held_out: np.ndarray, keep_rows: bool = True) -> None:
        """Fits what `score` is: an AnomalyScore of rows like these, with the prior as it is; `calibrate` comes after.

        Args:
            x: normal raw rows (rows, ...) that were trained on; at most 2,048 of them are kept in the model.
            held_out: normal rows that were not; where x is fewer, some of these are kept beside them.
            keep_rows: False keeps no row in the model; the score is of error and prior alone then.
        """
        self.set_detector(finishing.detector_of(self, x, held_out, keep_rows))

    def set_detector(self, detector: keras.layers.Layer | None) -> None:
        """Puts another layer behind `score`; None for the RMSE of a row."""
        self._replace("detector", detector)

    def log_likelihood(
        self, x: np.ndarray, y: np.ndarray | None = None, k: int = 1, seed: int = 0, trained: bool = False
    ) -> LogLikelihood:
        """Bounds on log p(x), or with labels y on log p(x | y), of raw rows, in nats: `keras_ae.likelihood`."""
        return log_likelihood(self, x, y, k, seed, trained=trained)

    def fit_prior(
        self,
        x: np.ndarray,
        held_out: np.ndarray | None = None,
        y: np.ndarray | None = None,
        y_held_out: np.ndarray | None = None,
        seed: int = 0,
        keep_rows: bool = True,
    ) -> FittedPrior:
        """Fits what `generate` draws z from to the latents of raw rows, and puts it in place.

        Args:
            x: rows that were trained on.
            held_out: rows that were not, by which one of the candidates is chosen; by default a tenth of x.
            y: indices of the classes of x, -1 where one is not known; of a model with classes.
            y_held_out: of held_out.
            seed: of posterior draws and the mixtures' starts.
            keep_rows: False leaves out the candidate that keeps posteriors of rows.
        """
        fitted = finishing.prior_of(self, x, held_out, y, y_held_out, seed, keep_rows)
        self.set_prior(fitted.layer)
        return fitted

    def fit_draws(self, x: np.ndarray, y: np.ndarray | None = None, seed: int = 0) -> None:
        """Sets what `generate` draws beside z: of a table how often cells are missing, as they are in raw rows x, given
        z, and how the numbers of each column are distributed; of proportions (`Proportions`) what a row sums to.

        Args:
            x: rows that were trained on.
            y: indices of their classes, -1 where one is not known; for a conditional decoder.
            seed: of posterior draws.
        """
        finishing.fit_draws(self, x, y, seed)
        self._graphs.clear()

    @property
    def drawn(self) -> Schema | None:
        """Of a table whose cells `generate` draws."""
        return None if self.draws is None else self.draws.schema

    def draw_latents(self, x: np.ndarray, seed: int = 0) -> np.ndarray:
        """Raw x (rows, ...) to one draw each from q(z | x), (rows, n); z itself where the encoder is deterministic."""
        return finishing.draw_latents(self, x, seed)

    def posterior(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of q(z | x) of raw x (rows, ...), each (rows, n); 0 where the encoder is deterministic.

        Of a ladder they are those of q(z | x, u) at the mean of u.
        """
        return finishing.posterior(self, x)

    def scaled_pair(self, x: np.ndarray) -> list[np.ndarray]:
        """Raw rows as x and x_hat in scaled units, NaN in x where a value is missing."""
        return run_on_encoded(self, x, lambda scaled, mean: [scaled, reconstructed(self, scaled, mean)])

    def set_prior(self, prior: keras.layers.Layer) -> None:
        """Puts another layer where `generate` draws z from (`keras_ae.priors`)."""
        if not prior.built:
            prior.build((None, prior.epsilon_dim))
        self._replace("prior", prior)

    def _replace(self, name: str, layer: keras.layers.Layer | None) -> None:
        # Keras keeps every layer that was ever set, and would save the old one too.
        self._layers: list[Any] = [held for held in self._layers if held is not getattr(self, name)]
        setattr(self, name, layer)
        self._graphs.clear()

    @property
    def has_gaussian_prior(self) -> bool:
        """Whether `generate` draws z from a single Gaussian."""
        return getattr(self.prior, "components", None) == 1

    @property
    def signatures(self) -> Signatures:
        """Inputs and outputs of each of `functions`, by name: shapes without the batch, and dtypes."""
        return {name: graph.signature for name, graph in self.graphs().items()}

    def run(self, function: str, inputs: Any, traced: bool = True) -> dict[str, np.ndarray]:
        """Runs one of `functions` on an array, or on arrays by the names of its inputs, in batches; dict of arrays
        out. One pass before the function changes is faster without a graph (`traced=False`)."""
        taken = self.check(function)["inputs"]
        arrays = dict(inputs) if isinstance(inputs, dict) else {next(iter(taken)): inputs}
        if "x" in arrays and isinstance(self.scaling, SequenceScaling):
            arrays["x"] = self.scaling.padded(arrays["x"])
        if set(arrays) != set(taken):
            raise ValueError(f"{function} must have the inputs {', '.join(taken)}. Received: {', '.join(arrays)}.")
        for name, array in arrays.items():
            if list(np.shape(array)[1:]) != taken[name]["shape"]:
                raise ValueError(
                    f"Input must have shape {batch_of(taken[name]['shape'])}. Received: {np.shape(array)}."
                )
        arrays = {name: np.asarray(array) for name, array in arrays.items()}
        graph = self.graphs()[function].call
        call = graph if traced else graph.python_function
        parts = [
            call(*(arrays[name][i : i + BATCH].astype(of["dtype"]) for name, of in taken.items()))
            for i in range(0, max(len(next(iter(arrays.values()))), 1), BATCH)
        ]
        return {key: np.concatenate([part[key].numpy() for part in parts]) for key in parts[0]}

    def graphs(self) -> dict[str, Graph]:
        """Each of `functions` as it is run and leaves: built again after a part of the model was replaced."""
        if not self._graphs:
            self._graphs.update({name: Graph.of(name, function) for name, function in self.functions().items()})
        return self._graphs
