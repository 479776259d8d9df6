"""All that training changes, the variables of a model and what callbacks keep: from there it goes on."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# What Keras's own callbacks keep from epoch to epoch; others name it in `checkpointed`.
_KEPT: dict[type, tuple[str, ...]] = {
    keras.callbacks.EarlyStopping: ("best", "best_epoch", "best_weights", "wait", "stopped_epoch"),
    keras.callbacks.ReduceLROnPlateau: ("best", "wait", "cooldown_counter"),
    keras.callbacks.ModelCheckpoint: ("best", "epochs_since_last_save"),
}


def variables_of(model: keras.Model) -> list[Any]:
    """Weights, states of seed generators, metrics, and the optimizers' moments, steps and rates; each once.

    A model that overrides `train_step` may hold further optimizers as attributes.
    """
    if model.optimizer is not None and not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)  # it would make its moments in the first step
    optimizers = [held for held in vars(model).values() if isinstance(held, keras.optimizers.Optimizer)]
    found = [*model.variables, *model.metrics_variables, *(v for held in optimizers for v in held.variables)]
    return list({id(variable): variable for variable in found}.values())


def read(variables: Sequence[Any]) -> list[np.ndarray]:
    """Copies of their values."""
    return [np.asarray(variable.value.numpy()) for variable in variables]


def restore(variables: Sequence[Any], values: Sequence[Any]) -> None:
    """Puts back what `read` gave."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


class Reader:
    """Reads the variables of a model in one call: one by one would take longer than some steps of a small model.

    Attributes:
        variables: of `variables_of`.
    """

    def __init__(self, model: keras.Model) -> None:
        self.variables = variables_of(model)
        trained = model.trainable_variables

        def values() -> list[Any]:
            return [variable.value.read_value() for variable in self.variables]

        def finite() -> Any:
            return tf.reduce_all([tf.reduce_all(tf.math.is_finite(weight.value)) for weight in trained])

        one_device = model.distribute_strategy.num_replicas_in_sync == 1
        # By their code TensorFlow would take all readers for one that is traced again and again; a partial has none.
        self._values, self._finite = (
            tf.function(partial(read), autograph=False) if one_device else read for read in (values, finite)
        )

    def read(self) -> list[Any]:
        """All values, tensors on the device; what is assigned later leaves them as they are."""
        return list(self._values())

    def are_finite(self) -> bool:
        """Whether all trainable weights are."""
        return bool(self._finite())


def kept_by(callback: Any) -> dict[str, Any]:
    """What a callback keeps, by attribute."""
    names = next((names for kind, names in _KEPT.items() if isinstance(callback, kind)), ())
    return {name: getattr(callback, name, None) for name in (*names, *getattr(callback, "checkpointed", ()))}


def pack(name: str, kept: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a callback keeps as arrays, of names that begin with `name`, and as values for JSON."""
    arrays: dict[str, np.ndarray] = {}
    values: dict[str, Any] = {}
    for key, value in kept.items():
        parts = value if isinstance(value, list) else [value]
        if parts and all(isinstance(part, np.ndarray | np.generic) for part in parts):
            arrays |= {f"{name}.{key}.{i}": np.asarray(part) for i, part in enumerate(parts)}
            values[key] = {"arrays": len(parts), "alone": parts is not value}
        else:
            values[key] = value
    return arrays, values


def unpack(name: str, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> dict[str, Any]:
    """What `pack` was given."""
    kept = {}
    for key, value in values.items():
        if isinstance(value, dict):
            parts = [arrays[f"{name}.{key}.{i}"] for i in range(value["arrays"])]
            value = parts[0] if value["alone"] else parts
        kept[key] = value
    return kept
