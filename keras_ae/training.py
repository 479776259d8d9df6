"""From splits to a trained autoencoder, with defaults that need no tuning."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from keras_ae.callbacks import BestWeights, CosineDecay
from keras_ae.checkpoints import Checkpoints
from keras_ae.data import ColumnStatistics, Splits, Statistics
from keras_ae.data.labels import UNKNOWN
from keras_ae.data.sequences import Sequences
from keras_ae.data.streams import Stream
from keras_ae.divergence import Divergence
from keras_ae.evaluation.classification import accuracy, expected_calibration_error, log_loss
from keras_ae.labelling import Labels
from keras_ae.layers import (
    ColumnLoss,
    ColumnScaling,
    CrossEntropyLoss,
    Scaling,
    SequenceLoss,
    SequenceScaling,
    UnitInterval,
)
from keras_ae.layers.columns import RARE, log_var_of
from keras_ae.models import Autoencoder
from keras_ae.networks import fit_pca, start_from_pca
from keras_ae.priors import FittedPrior
from keras_ae.recipes import RECIPES
from keras_ae.resident import VALIDATION_BATCH
from keras_ae.runs import Run

LEARNING_RATE = 1e-3
BATCH_SIZE = 128
_STEPS = 4_000
_DECAY_ROWS = 4_000
_NOT_DECAYED = ("linear", "log_var")
_FEWEST_EPOCHS = 10
_VALIDATIONS = 50


@dataclass(frozen=True)
class Training:
    """How a model came to be.

    Attributes:
        epochs: that ran.
        best_epoch: whose weights were kept; 0 is the start, principal components.
        seconds: of training, compilation included.
        seconds_to_first_step: of them, before the first step; tracing and compiling, for the most part.
        history: value of each named term at each epoch.
    """

    epochs: int
    best_epoch: int
    seconds: float
    seconds_to_first_step: float | None
    history: dict[str, list[float]] = field(repr=False)

    def describe(self) -> dict[str, Any]:
        """For the manifest; of the terms at most 200 values each, for pictures, and the epochs that they stand for."""
        thinned = {}
        for name, values in self.history.items():
            index = np.unique(np.linspace(0, len(values) - 1, min(len(values), 200)).astype(int))
            thinned[name] = [float(f"{values[i]:.6g}") for i in index]
        first_step = self.seconds_to_first_step
        return {
            "epochs": self.epochs,
            "best_epoch": self.best_epoch,
            "seconds": round(self.seconds, 2),
            "seconds_to_first_step": first_step and round(first_step, 2),
            "history": {"epochs": self.epochs, **thinned},
        }


def default_latent_dim(features: int) -> int:
    """16, or a half of the features where they are few."""
    return min(16, max(1, features // 2))


def default_epochs(rows: int, batch_size: int) -> int:
    """Epochs that make about 4,000 steps, at least 10."""
    return max(_FEWEST_EPOCHS, math.ceil(_STEPS / math.ceil(rows / batch_size)))


def default_batch_size(rows: int) -> int:
    """128, or less where it would be more than a tenth of the rows."""
    return min(BATCH_SIZE, max(8, 2 ** int(math.log2(max(rows / 10, 1)))))


def train(
    model: Autoencoder,
    splits: Splits,
    statistics: Statistics | ColumnStatistics | Sequences,
    recipe: str,
    labels: Labels,
    epochs: int | None = None,
    batch_size: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_epoch: Callable[[int, int], None] = lambda done, of: None,
    run: Run | None = None,
    divergence: Divergence | None = None,
    stream: Stream | None = None,
    trackers: Sequence[keras.callbacks.Callback] = (),
) -> Training:
    """Trains in place, with the labels of each split if there are any; on a stream, where there is one, of which the
    splits are samples then.

    Scaling and the linear path come from statistics of the training rows; then Adam, whose learning rate falls along a
    cosine and at each plateau; the weights of the best validated epoch are kept, the start among them. With a run that
    has begun, training goes on from its newest checkpoint and writes others. Trackers are callbacks that a checkpoint
    does not keep, so that it goes on with others too.

    Raises:
        InputError: where the recipe can't take the rows, or a checkpoint can't be written.
        DivergenceError: where a term of the loss is not finite.
        Interrupted: after SIGTERM or Ctrl-C, with a run.
    """
    rows = len(splits.train) if stream is None else stream.rows
    batch_size = batch_size or default_batch_size(rows)
    epochs = default_epochs(rows, batch_size) if epochs is None else epochs
    start(model, splits.train, statistics)
    model.compile(_optimizer(model, rows))
    started = time.perf_counter()
    history: dict[str, list[float]] = {}
    best_epoch = 0
    closed_form = RECIPES[recipe].network == "linear"
    if epochs and not closed_form:
        # Reconstruction and classes alone: at inference z is the mean, so the whole loss would look best where the
        # posterior is widest and training has not begun.
        judging = [model.reconstruction, *(t for t in model.regularizers if isinstance(t, CrossEntropyLoss))]
        weights = {term.name: term.initial_weight for term in judging}
        y = labels.learned.get("validation")
        before = model.evaluate(splits.validation, y, batch_size=VALIDATION_BATCH, verbose=0, return_dict=True)
        best = BestWeights(
            {f"val_{name}": weight for name, weight in weights.items()},
            initial=sum(weight * before[name] for name, weight in weights.items()),
        )
        total = epochs

        def tell(epoch: int, logs: Any) -> None:
            on_epoch(epoch + 1, total)

        every = max(1, epochs // _VALIDATIONS)
        others = [CosineDecay(epochs), best, keras.callbacks.LambdaCallback(on_epoch_end=tell), *callbacks]
        others.append(divergence or Divergence())
        checkpoints = [] if run is None else [Checkpoints(run, epochs, others)]
        fitted = model.fit(
            splits.train if stream is None else stream,
            labels.learned.get("train") if stream is None else None,
            batch_size=batch_size,
            epochs=epochs,
            validation_data=splits.validation if y is None else (splits.validation, y),
            validation_freq=every,
            initial_epoch=checkpoints[0].initial_epoch if checkpoints else 0,
            callbacks=[*others, *trackers, *checkpoints],
            verbose=0,
        )
        history, best_epoch = fitted.history, best.best_epoch
    ran = len(history.get("loss", ()))
    seconds = time.perf_counter() - started
    return Training(ran, best_epoch, seconds, model.seconds_to_first_step, history)


def finish(
    model: Autoencoder, splits: Splits, labels: Labels, keep_rows: bool = True, contamination: float = 0.0
) -> FittedPrior:
    """What a trained model still needs: a prior, p-values, calibrated probabilities, and an optimizer to go on with.
    The share of calibration rows that is taken for anomalies has no part in the p-values."""
    y = labels.learned
    prior = model.fit_prior(splits.train, splits.validation, y.get("train"), y.get("validation"), keep_rows=keep_rows)
    model.fit_draws(splits.train, y.get("train"))
    model.fit_detector(splits.train, splits.validation, keep_rows=keep_rows)
    x, of_x = splits.calibration, labels.of_calibration()
    if contamination:
        scores = model.score(x)["score"]
        normal = scores <= np.quantile(scores, 1.0 - contamination)
        x, of_x = x[normal], None if of_x is None else of_x[normal]
    model.calibrate(x, of_x)
    if model.compiled:
        model.optimizer.learning_rate.assign(LEARNING_RATE)  # anew, not at what the schedule left
    else:
        model.compile(_optimizer(model, len(splits.train)))
    if not model.optimizer.built:  # as it is where the model is loaded
        model.optimizer.build(model.trainable_variables)
    return prior


def _optimizer(model: Autoencoder, rows: int) -> keras.optimizers.Optimizer:
    """AdamW; what decays is the kernels of the nonlinear path, so that few rows lead back to the linear one.

    The decay is a Gaussian prior on the weights, which weighs less against more rows: it falls with 1 / rows.
    """
    optimizer = keras.optimizers.AdamW(LEARNING_RATE, weight_decay=min(1.0, _DECAY_ROWS / rows))
    kept = [v for v in model.trainable_variables if v.name == "bias" or v.path.split("/")[-2] in _NOT_DECAYED]
    optimizer.exclude_from_weight_decay(var_list=kept)
    return optimizer


def start(model: Autoencoder, x: np.ndarray, statistics: Statistics | ColumnStatistics | Sequences) -> None:
    """Sets the scaling of raw units and starts the linear path at principal components, where the model has them."""
    if isinstance(model.scaling, ColumnScaling):
        _start_of_columns(model, statistics.scaled(x))
    if isinstance(model.scaling, SequenceScaling):
        assert isinstance(statistics, Sequences)
        model.scaling.set_statistics(statistics)
        _start_of_sequences(model, statistics.scaled(x))
    if isinstance(model.scaling, UnitInterval):
        model.scaling.set_limit(float(x.max()))
    if isinstance(model.scaling, Scaling):
        assert isinstance(statistics, Statistics)
        model.scaling.set_statistics(statistics.shift, statistics.scale)
        start_from_pca(model.encoder, model.decoder, fit_pca(statistics.scaled(x), model.latent_dim))


def _start_of_columns(model: Autoencoder, x: np.ndarray) -> None:
    """The linear path of features x (rows, size), some of which the decoder gives as logits."""
    loss = getattr(model.reconstruction, "likelihood", model.reconstruction)
    pca = fit_pca(x, model.latent_dim)
    if not isinstance(loss, ColumnLoss):
        start_from_pca(model.encoder, model.decoder, pca)
        return
    params, slope = loss.link(pca.mean)
    start_from_pca(model.encoder, model.decoder, pca, decoded=(params, slope))
    numbers = slice(loss.gaussian)
    error = np.square(x[:, numbers] - pca.reconstruct(x)[:, numbers]).mean(axis=0)
    loss.log_var.assign(log_var_of(error))


def _start_of_sequences(model: Autoencoder, x: np.ndarray) -> None:
    """The linear path of features x (rows, steps, channels + 1), the last of which the decoder gives as logits."""
    pca = fit_pca(x, model.latent_dim)
    mean = pca.mean.reshape(x.shape[1:])
    params, slope = mean.copy(), np.ones_like(mean)
    # That a series goes on, being there: what no row does is rare, and how rare follows from how many could have.
    reached = x[..., -1].sum(axis=0)
    going_on = (reached + 0.5) / (np.concatenate([[len(x)], reached[:-1]]) + 1.0)
    there = np.clip(mean[:, -1], RARE, 1.0 - RARE)
    params[:, -1], slope[:, -1] = np.log(going_on / (1.0 - going_on)), 1.0 / (there * (1.0 - there))
    start_from_pca(model.encoder, model.decoder, pca, decoded=(params.ravel(), slope.ravel()))
    loss = getattr(model.reconstruction, "likelihood", model.reconstruction)
    if isinstance(loss, SequenceLoss):
        known = x[..., -1:] > 0
        error = np.square(x - pca.reconstruct(x))[..., :-1]
        error = np.sum(error * known, axis=(0, 1)) / np.sum(known)
        loss.log_var.assign(log_var_of(error))


def rmse(x: np.ndarray, x_hat: np.ndarray) -> float:
    """Root mean squared error over rows and features, in the units of x (equation 3); of series over what is there."""
    return float(np.sqrt(np.nanmean(np.square(x.astype("float64") - x_hat))))


def measure(
    model: Autoencoder, splits: Splits, statistics: Statistics | ColumnStatistics | Sequences
) -> dict[str, Any]:
    """RMSE per feature on each split, beside PCA's with as many components, fitted on the training rows: in raw units,
    or in those of its features where a table has categories, dates or missing cells. Where columns have units of their
    own, `rmse_scaled_` is the same in deviations of each, in which no column counts for more.
    """
    pca = fit_pca(statistics.scaled(splits.train), model.latent_dim)
    if isinstance(statistics, ColumnStatistics):
        pairs = {name: model.scaled_pair(rows) for name, rows in splits.parts().items() if name != "calibration"}
        known, x = ~np.isnan(pairs["test"][0]), statistics.scaled(splits.test)
        return {
            **{f"rmse_{name}": rmse(x[~np.isnan(x)], x_hat[~np.isnan(x)]) for name, (x, x_hat) in pairs.items()},
            "rmse_test_pca": rmse(x[known], pca.reconstruct(x)[known]),
        }
    rebuilt = pca.reconstruct(statistics.scaled(splits.test))
    baseline = (
        rebuilt[..., :-1] if isinstance(statistics, Sequences) else rebuilt
    ) * statistics.scale + statistics.shift
    parts = {name: (x, model.reconstruct(x)) for name, x in splits.parts().items() if name != "calibration"}
    parts["test_pca"] = (splits.test, baseline)
    metrics = {f"rmse_{name}": rmse(*part) for name, part in parts.items()}
    if not statistics.shared:
        scale = np.asarray(statistics.scale)
        metrics |= {f"rmse_scaled_{name}": rmse(x / scale, x_hat / scale) for name, (x, x_hat) in parts.items()}
    return metrics


def measure_classes(model: Autoencoder, splits: Splits, labels: Labels) -> dict[str, float]:
    """Accuracy, log loss (nats) and expected calibration error of `classify` on the test rows whose label is known."""
    y = labels.known.get("test", np.empty(0))
    known = y != UNKNOWN
    if not known.any():
        return {}
    probability, y = model.classify(splits.test[known]), y[known]
    return {
        "accuracy_test": accuracy(probability, y),
        "log_loss_test": log_loss(probability, y),
        "calibration_error_test": expected_calibration_error(probability, y),
    }
