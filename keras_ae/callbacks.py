"""Keras callbacks that autoencoders need."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np


class WeightAnnealing(keras.callbacks.Callback):
    """Moves the weight of one loss layer from `start` to `end`, linearly over the first `epochs` epochs.

    KL annealing, or warm-up (Bowman et al. 2016, "Generating sentences from a continuous space", section 3.1). The
    weight is a variable, so nothing is compiled again; it is logged as `<layer>_weight`.

    Args:
        layer: name of the loss layer, as shown in History.
        end: weight from epoch `epochs` on.
        epochs: length of the ramp.
        start: weight in the first epoch.

    Raises:
        ValueError: at the start of `fit`, for a name that no loss layer of the model has.
    """

    def __init__(self, layer: str, end: float = 1.0, epochs: int = 10, start: float = 0.0) -> None:
        super().__init__()
        self.layer, self.start, self.end, self.epochs = layer, float(start), float(end), max(int(epochs), 1)

    def on_train_begin(self, logs: Any = None) -> None:
        from keras_ae.layers import LossLayer

        found = {layer.name: layer for layer in self.model.layers if isinstance(layer, LossLayer)}
        if self.layer not in found:
            raise ValueError(f"`layer` must name a loss layer: {', '.join(found) or 'none'}. Received: {self.layer!r}.")
        self._target = found[self.layer]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        share = min(epoch / self.epochs, 1.0)
        self._target.weight.assign(self.start + share * (self.end - self.start))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs[f"{self.layer}_weight"] = float(self._target.weight.numpy())


class CosineDecay(keras.callbacks.Callback):
    """Multiplies the learning rate so that it falls along half a cosine to nothing (Loshchilov and Hutter 2017,
    equation 5).

    A callback and not a schedule of the optimizer, so that other callbacks can lower the rate too.

    Args:
        epochs: that `fit` is given.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def _share(self, epoch: int) -> float:
        return 0.5 * (1.0 + math.cos(math.pi * epoch / self.epochs))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch > 0:
            optimizer = self.model.optimizer
            optimizer.learning_rate.assign(optimizer.learning_rate * self._share(epoch) / self._share(epoch - 1))


class BestWeights(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the lowest monitored value; when it no longer falls, goes back to them and
    cuts the learning rate; after some cuts, stops.

    Unlike `keras.callbacks.EarlyStopping` and `ReduceLROnPlateau` it counts only epochs that were validated
    (`validation_freq`), the weights before training are a candidate, and the best weights come back however training
    ends.

    Args:
        monitor: key of the epoch's logs, or several with a weight each, whose weighted sum counts.
        patience: validated epochs without a new best before a cut.
        cuts: of the learning rate, before training stops.
        factor: of each cut.
        initial: the value before training, if known.
    """

    checkpointed = ("best", "best_epoch", "_weights", "_waited", "_made")

    def __init__(
        self,
        monitor: str | Mapping[str, float] = "val_loss",
        patience: int = 6,
        cuts: int = 3,
        factor: float = 0.3,
        initial: float = np.inf,
    ) -> None:
        super().__init__()
        self.monitor = {monitor: 1.0} if isinstance(monitor, str) else dict(monitor)
        self.patience, self.cuts, self.factor = patience, cuts, factor
        self.best, self.best_epoch = float(initial), 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._weights = self.model.get_weights() if np.isfinite(self.best) else None
        self._waited = self._made = 0

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if not logs or any(name not in logs for name in self.monitor):
            return
        value = sum(weight * logs[name] for name, weight in self.monitor.items())
        if np.isfinite(value) and value < self.best:
            self.best, self.best_epoch, self._waited = float(value), epoch + 1, 0
            self._weights = self.model.get_weights()
            return
        self._waited += 1
        if np.isfinite(value) and self._waited < self.patience:
            return
        if self._made == self.cuts or self._weights is None:
            self.model.stop_training = True
            return
        self.model.set_weights(self._weights)
        rate = self.model.optimizer.learning_rate
        rate.assign(rate * self.factor)
        self._made, self._waited = self._made + 1, 0

    def on_train_end(self, logs: Any = None) -> None:
        if self._weights is not None:
            self.model.set_weights(self._weights)
