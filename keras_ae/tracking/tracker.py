"""What a tracker is told of a fit, and how one is named."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import keras

from keras_ae.data import Splits
from keras_ae.errors import InputError, importing

KINDS = ("csv", "tensorboard", "mlflow")


class Tracker(keras.callbacks.Callback):
    """A callback of Keras that is also told what the fit is of, and what came of it. Each method may be left out.

    Epochs are told by Keras, as to any callback: `on_epoch_end(epoch, logs)`, the epoch from 0.
    """

    def started(self, asked: Mapping[str, Any], resumed: bool) -> None:
        """Before training: the arguments of `keras_ae.fit`, and whether it goes on from a checkpoint."""

    def finished(self, model: Any, splits: Splits, manifest: Mapping[str, Any], artifact: Path | None) -> None:
        """When the artifact is written: the Keras model, raw rows, the manifest, and its folder, if there is one."""

    def failed(self) -> None:
        """In place of `finished`, where the fit ended by an error."""


def tracker_of(given: str | Tracker, out: Path | None) -> Tracker:
    """A tracker by name, `csv`, `tensorboard` or `mlflow`, and `NAME=PLACE` for a file, a folder or a URI.

    Args:
        given: the name, or a tracker as it is.
        out: folder of the artifact, whose neighbours are the default places.

    Raises:
        InputError: for another name, or a place that is missing.
        MissingExtra: where its library is not installed.
    """
    if isinstance(given, Tracker):
        return given
    kind, _, place = given.partition("=")
    if kind not in KINDS:
        raise InputError(f"`track` must be {', '.join(KINDS)}, or NAME=PLACE. Received: {given!r}.")
    if not place and kind != "mlflow":
        if out is None:
            raise InputError(f"`track` must say where, {kind}=PLACE, as there is no `out`. Received: {given!r}.")
        place = str(out.resolve().with_name(f"{out.resolve().name}-{kind}" + (".csv" if kind == "csv" else "")))
    with importing(f"Tracking by {kind}", "track"):
        module = import_module(f"keras_ae.tracking.to_{kind}")
    make: Callable[[str], Tracker] = module.tracker
    return make(place)


class Trackers:
    """Several of them as one; as a context manager it tells them of an error."""

    def __init__(self, given: Sequence[str | Tracker], out: Path | None) -> None:
        self.all = [tracker_of(one, out) for one in given]

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if error is not None:
            for one in self.all:
                one.failed()

    def started(self, asked: Mapping[str, Any], resumed: bool) -> None:
        """As of each."""
        for one in self.all:
            one.started(asked, resumed)

    def finished(self, model: Any, splits: Splits, manifest: Mapping[str, Any], artifact: Path | None) -> None:
        """As of each."""
        for one in self.all:
            one.finished(model, splits, manifest, artifact)
