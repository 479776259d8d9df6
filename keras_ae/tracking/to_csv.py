"""A line an epoch, by Keras's CSVLogger."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_ae.errors import InputError
from keras_ae.tracking.tracker import Tracker


class CsvTracker(Tracker, keras.callbacks.CSVLogger):
    """Each named term and its validated value in a column, a line an epoch; NA where an epoch was not validated.

    Args:
        path: of the file; a run that goes on appends to it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise InputError(f"No such folder to write to: {self.path.parent}.")

    def started(self, asked: Mapping[str, Any], resumed: bool) -> None:
        self.append = resumed

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        with self.path.open(newline="") as file:  # the columns that are there, which Keras forgets
            self.keys = next(csv.reader(file), ["epoch"])[1:] or None


tracker = CsvTracker
