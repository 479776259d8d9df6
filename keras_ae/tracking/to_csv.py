"""A line an epoch, by Keras's CSVLogger."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_ae.errors import InputError
from keras_ae.tracking.tracker import Tracker


class CsvTracker(Tracker):
    """Each named term and its validated value in a column, a line an epoch; NA where an epoch was not validated.

    Args:
        path: of the file; a run that goes on appends to it.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise InputError(f"No such folder to write to: {self.path.parent}.")

    def started(self, asked: Mapping[str, Any], resumed: bool) -> None:
        self._logger = keras.callbacks.CSVLogger(str(self.path), append=resumed)
        if resumed and self.path.is_file():  # the order of the columns that are there
            with self.path.open(newline="") as file:
                header = next(csv.reader(file), ["epoch"])
            self._logger.keys = header[1:]

    def on_train_begin(self, logs: Any = None) -> None:
        self._logger.set_model(self.model)
        self._logger.on_train_begin(logs)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._logger.on_epoch_end(epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._logger.on_train_end(logs)


tracker = CsvTracker
