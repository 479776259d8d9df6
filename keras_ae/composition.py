"""What an Autoencoder is composed of: loss layers and the tensors that they read, and whether shapes fit."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


class Terms:
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


def mean_of(reconstruction: keras.layers.Layer, params: Any) -> Any:
    """What the decoder says x is, of what it says about x."""
    return reconstruction.mean(params) if hasattr(reconstruction, "mean") else params


def one_hot(label: Any, classes: int) -> Any:
    """Label (batch,) to (batch, classes), zeros where it is -1; ONNX's own OneHot counts -1 from the end."""
    return ops.cast(ops.equal(ops.expand_dims(label, -1), np.arange(classes, dtype="int32")), "float32")


def check_one_input(name: str, model: Any) -> None:
    """Raises ValueError for what is no model from one tensor."""
    if not isinstance(model, keras.Model) or len(getattr(model, "inputs", None) or ()) != 1:
        raise ValueError(f"The {name} must be a functional or built Keras model with one input. Received: {model!r}.")


def check_decoder(decoder: Any, classes: Sequence[str]) -> bool:
    """Whether the decoder takes a label besides z."""
    inputs: Sequence[Any] = getattr(decoder, "inputs", None) or ()
    if isinstance(decoder, keras.Model) and len(inputs) == 2 and tuple(inputs[1].shape[1:]) == (len(classes),):
        return True
    if len(inputs) == 2 and not classes:
        raise ValueError("A decoder with an input for the label needs `classes`. Received none.")
    check_one_input("decoder", decoder)
    return False


def check_classifier(classifier: Any, classes: Sequence[str]) -> None:
    """Raises ValueError where classes are not two or more of their own, or a classifier gives no logit for each."""
    if len(classes) == 1 or len(set(classes)) < len(classes):
        raise ValueError(f"`classes` must be two names or more, each of its own. Received: {tuple(classes)}.")
    if classifier is None:
        return
    check_one_input("classifier", classifier)
    if tuple(classifier.output_shape[1:]) != (len(classes),) or not classes:
        raise ValueError(
            f"The classifier must give a logit for each of the {len(classes)} classes. "
            f"Received: outputs {batch_of(classifier.output_shape[1:])}."
        )


def check_latent(z: Any, decoder: keras.Model, conditional: bool) -> None:
    """Raises ValueError where the decoder does not take z."""
    if isinstance(z, list | tuple):
        shapes = " and ".join(str(batch_of(part.shape[1:])) for part in z)
        raise ValueError(
            f"An encoder with several outputs needs a `latent` layer that makes one z of them, such as Sampling(). "
            f"Received: encoder outputs {shapes} and no `latent`."
        )
    taken = decoder.input_shape[0] if conditional else decoder.input_shape
    if tuple(z.shape[1:]) != tuple(taken[1:]):
        raise ValueError(
            f"The decoder must take the z that the encoder (and `latent`) gives. Received: z {batch_of(z.shape[1:])} "
            f"and a decoder of inputs {batch_of(taken[1:])}."
        )


def check_observation(x_hat: Any, shape: tuple[int, ...]) -> None:
    """Raises ValueError where x_hat is not of the shape of x."""
    if tuple(x_hat.shape[1:]) != shape:
        raise ValueError(
            f"The decoder must give back what the encoder takes. Received: an encoder of inputs "
            f"{batch_of(shape)} and a decoder of outputs {batch_of(x_hat.shape[1:])}."
        )


def batch_of(shape: Sequence[int | None]) -> str:
    """The shape of a batch, for people."""
    return f"(batch, {', '.join(str(n) for n in shape)})"
