"""TensorBoard: the terms of each epoch, images of reconstructions, and z in the embedding projector."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins import projector

from keras_ae.data import Splits
from keras_ae.tracking.tracker import Tracker
from keras_ae.views import view

IMAGES = 8
"""Rows whose reconstruction is shown, of those to validate."""
POINTS = 2_000
"""Test rows in the projector, at most."""


class TensorBoardTracker(Tracker):
    """Writes event files below a folder, training and validation as two runs, so that TensorBoard draws both in one.

    Args:
        folder: for `tensorboard --logdir`.
    """

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.folder = Path(folder)
        self._writers: dict[str, Any] = {}

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        for name, value in (logs or {}).items():
            part = "validation" if name.startswith("val_") else "train"
            with self._writer(part).as_default():
                tf.summary.scalar(name.removeprefix("val_"), value, step=epoch + 1)
        learning_rate = getattr(self.model.optimizer, "learning_rate", None)
        if learning_rate is not None:
            with self._writer("train").as_default():
                tf.summary.scalar("learning_rate", float(keras.ops.convert_to_numpy(learning_rate)), step=epoch + 1)

    def finished(self, model: Any, splits: Splits, manifest: Mapping[str, Any], artifact: Path | None) -> None:
        epoch = manifest["training"]["epochs"]
        with self._writer("train").as_default():
            for name, value in manifest["metrics"].items():
                tf.summary.scalar(f"metrics/{name}", value, step=epoch)
            images = _images(model, splits.validation[:IMAGES], manifest)
            if images is not None:
                tf.summary.image("x above, AE(x) below", images, step=epoch, max_outputs=len(images))
        self._embed(model, splits)
        self.failed()

    def failed(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def _writer(self, part: str) -> Any:
        if part not in self._writers:
            self._writers[part] = tf.summary.create_file_writer(str(self.folder / part))
        return self._writers[part]

    def _embed(self, model: Any, splits: Splits) -> None:
        """z of test rows as a table of text, with their labels, which the projector reads."""
        z = np.asarray(model.encode(splits.test[:POINTS])).reshape(len(splits.test[:POINTS]), -1)
        np.savetxt(self.folder / "z.tsv", z, delimiter="\t", fmt="%.7g")
        config = projector.ProjectorConfig()
        embedding = config.embeddings.add(tensor_name="z of test rows", tensor_path="z.tsv")
        if splits.labels is not None:
            labels = [str(label).replace("\t", " ") for label in splits.labels["test"][:POINTS]]
            (self.folder / "labels.tsv").write_text("\n".join(labels) + "\n", encoding="utf-8")
            embedding.metadata_path = "labels.tsv"
        projector.visualize_embeddings(str(self.folder), config)


def _images(model: Any, x: np.ndarray, manifest: Mapping[str, Any]) -> np.ndarray | None:
    """Each row above its reconstruction, (rows, 2 height, width, channels) in [0, 1]; None of what is no image."""
    columns = tuple(manifest["columns"]) if manifest.get("columns") else None
    shown = view(x.shape[1:], columns, x.reshape(len(x), -1).astype("float32"))
    if shown["kind"] != "image" or manifest.get("sequences"):
        return None
    both = np.stack([x, np.asarray(model.reconstruct(x))], axis=1).astype("float32")
    low, high = float(x.min()), float(x.max())
    both = np.clip((both - low) / max(high - low, 1e-30), 0.0, 1.0)
    return both.reshape(len(x), 2 * shown["height"], shown["width"], shown["channels"])


tracker = TensorBoardTracker
