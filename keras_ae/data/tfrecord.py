"""TFRecord files of `tf.train.Example` as rows; TensorFlow reads them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.hashing import hashes_of_arrays
from keras_ae.data.streams import Chunk
from keras_ae.data.tables import as_numbers, check_input_file
from keras_ae.errors import InputError, importing, reading

RECORD_ENDINGS = (".tfrecord", ".tfrecords")
_BATCH = 1024


@dataclass(frozen=True)
class RecordRows:
    """Records as `keras_ae.data.streams.Reader`: float32 (rows, columns), or uint8 (rows, bytes) of a feature of bytes.

    Attributes:
        paths: of the files.
        lengths: values in each feature that is a column or several, by name, in the alphabet's order.
        kinds: of the features by name, labels among them: `float`, `int64` or `bytes`.
        labels: the feature of labels, or None.
    """

    paths: tuple[Path, ...]
    lengths: dict[str, int]
    kinds: dict[str, str]
    labels: str | None

    @property
    def units(self) -> list[str]:
        return [str(path) for path in self.paths]

    @property
    def files(self) -> int:
        return len(self.paths)

    @property
    def bytes(self) -> int:
        """On disk."""
        return sum(path.stat().st_size for path in self.paths)

    @property
    def columns(self) -> tuple[str, ...] | None:
        """Names, or None of bytes."""
        if self._are_bytes:
            return None
        return tuple(
            name if length == 1 else f"{name}{i}" for name, length in self.lengths.items() for i in range(length)
        )

    @property
    def _are_bytes(self) -> bool:
        return any(self.kinds[name] == "bytes" for name in self.lengths)

    def chunks(self, unit: int) -> Iterator[Chunk]:
        """Raises InputError for a file that was cut, or a record with other features than the first."""
        import tensorflow as tf

        path = self.paths[unit]
        types = {"float": tf.float32, "int64": tf.int64, "bytes": tf.string}
        features = {
            name: tf.io.FixedLenFeature([] if kind == "bytes" else [self.lengths.get(name, 1)], types[kind])
            for name, kind in self.kinds.items()
        }
        records = tf.data.TFRecordDataset(str(path)).batch(_BATCH)
        start = 0
        try:
            for batch in records:
                parsed = {name: part.numpy() for name, part in tf.io.parse_example(batch, features).items()}
                x = self._rows(parsed, path, start)
                yield Chunk(x, hashes_of_arrays(x), None if self.labels is None else _labels(parsed[self.labels]))
                start += len(x)
        except tf.errors.OpError as error:
            raise InputError(f"{path}, after record {start}, could not be read: {error.message}") from error
        if not start:
            raise InputError(f"{path} holds no records.")

    def _rows(self, parsed: dict[str, np.ndarray], path: Path, start: int) -> np.ndarray:
        if not self._are_bytes:
            x = np.concatenate([parsed[name].astype("float64") for name in self.lengths], axis=1)
            return as_numbers(x, str(path), self.columns, start)
        ((name, length),) = self.lengths.items()
        texts = parsed[name].tolist()
        for i, text in enumerate(texts):
            if len(text) != length:
                raise InputError(
                    f"{path}, record {start + i}, feature {name}: must have {length} bytes, as the first record has. "
                    f"Received: {len(text)}."
                )
        return np.frombuffer(b"".join(texts), "uint8").reshape(len(texts), length)


def _labels(parsed: np.ndarray) -> np.ndarray:
    """Whole numbers, or bytes as text."""
    labels = parsed.ravel().tolist()
    return np.array([label.decode(errors="replace") if isinstance(label, bytes) else label for label in labels], object)


def records_of(files: list[Path], labels: str | None, without: tuple[str, ...] = ()) -> RecordRows:
    """Files of records, whose features are those of the first record.

    Args:
        files: by path.
        labels: a feature of one whole number or text.
        without: features that are left out, where they are there.

    Raises:
        InputError: for a file that is missing or empty, records without features, or features that make no rows.
        MissingExtra: without TensorFlow.
    """
    with importing("Reading TFRecord files", "train"):
        import tensorflow as tf
    for file in files:
        check_input_file(file)
    with reading(files[0], "file of tf.train.Example"):
        first = next(iter(tf.data.TFRecordDataset(str(files[0])).take(1)), None)
        found: Any = {} if first is None else tf.train.Example.FromString(first.numpy()).features.feature
    kinds = {name: str(found[name].WhichOneof("kind")).removesuffix("_list") for name in sorted(found)}
    lengths = {name: len(getattr(found[name], f"{kind}_list").value) for name, kind in kinds.items() if kind != "None"}
    if labels is not None and lengths.get(labels) != 1:
        raise InputError(
            f"{files[0]} must have a feature {labels!r} of one label. Received: {', '.join(kinds) or 'none'}."
        )
    taken = {name: length for name, length in lengths.items() if name != labels and name not in without and length}
    of_bytes = [name for name in taken if kinds[name] == "bytes"]
    if not taken or (of_bytes and (len(taken) > 1 or taken[of_bytes[0]] != 1)):
        raise InputError(
            f"{files[0]} must have features of numbers, or one of bytes. Received: "
            f"{', '.join(f'{name} ({kinds[name]})' for name in taken) or 'none'}."
        )
    if of_bytes:
        taken = {of_bytes[0]: len(found[of_bytes[0]].bytes_list.value[0])}
    kept = {name: kind for name, kind in kinds.items() if name in taken or name == labels}
    return RecordRows(tuple(files), taken, kept, labels)
