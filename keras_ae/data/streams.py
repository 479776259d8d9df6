"""Rows that are read anew each epoch, because they are more than memory holds; and samples of them, which stay.

A row's hash says where it belongs: a small share is held out for validation, calibration and test, the rest trains. So
a row stays what it is when files are added, moved or joined, and rows that are the same are never on two sides.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from keras_ae.data.cells import Coded
from keras_ae.data.labels import UNKNOWN
from keras_ae.errors import InputError

SHARE = 0.02
"""Of the rows, for each of validation, calibration and test."""
_FEWEST = 10
SAMPLE_ROWS = 50_000
"""Of those to train on, kept for scaling, principal components, the prior, the detector and the figures."""
_SAMPLE_BYTES = 128 << 20
BUFFER_BYTES = 64 << 20
"""Rows among which the next one is drawn."""
_OPEN = 4
"""Units that are read side by side, so that neighbours in a file don't come together."""

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Chunk:
    """Some rows.

    Attributes:
        x: (rows, ...).
        hashes: (rows,), uint64.
        y: labels as the source has them, (rows,), or None.
        skipped: rows that were left out.
    """

    x: np.ndarray
    hashes: np.ndarray
    y: Any = None
    skipped: int = 0


class Reader(Protocol):
    """Reads rows by units: files, row groups, shards."""

    @property
    def units(self) -> Sequence[str]:
        """Their names, in order."""
        ...

    @property
    def files(self) -> int:
        """How many there are."""
        ...

    def chunks(self, unit: int) -> Iterator[Chunk]:
        """The rows of a unit, in order."""
        ...


@dataclass(frozen=True)
class Stream:
    """Rows to train on, epoch after epoch.

    Attributes:
        reader: of all rows.
        rows: to train on.
        total: of the source.
        skipped: rows left out, of no use.
        digest: of all rows, whatever their order.
        trained: rows to train on in each unit of the reader.
        samples: rows and labels by part: `train`, `validation`, `calibration`, `test`, in the order of their hashes.
        sampled: hashes of the sample `train`, in order.
        classes: labels become positions in these; empty where none are learned.
        spread: positions of the labels that rows of the sample `train` have where the source has none, -1 for none.
    """

    reader: Reader = field(repr=False)
    rows: int
    total: int
    skipped: int
    digest: str
    trained: tuple[int, ...] = field(repr=False)
    samples: Mapping[str, tuple[np.ndarray, np.ndarray | None]] = field(repr=False)
    sampled: np.ndarray = field(repr=False, compare=False)
    classes: tuple[str, ...] = ()
    spread: np.ndarray | None = field(default=None, repr=False, compare=False)

    def describe(self) -> dict[str, Any]:
        """Numbers of rows and files, a digest of all rows whatever their order, and one of how they lie in files: an
        order of (seed, epoch) is the same where both are. Ready for JSON.
        """
        units = self.reader.units
        layout = hashlib.sha256("\n".join(units).encode()).hexdigest()
        of = {"rows": self.total, "train": self.rows, "digest": self.digest}
        return {**of, "files": self.reader.files, "layout": layout}

    def labelled(self, classes: tuple[str, ...], spread: np.ndarray | None = None) -> "Stream":
        """The same with labels, and those that were spread among the rows of the sample to train on."""
        return replace(self, classes=classes, spread=spread)

    def blocks(self, size: int, seed: int | None, epoch: int) -> Iterator[Arrays]:
        """The rows to train on, `size` of them at a time, `x` and with classes `label`.

        Units come in an order of (seed, epoch), some side by side; then each row is one drawn from a buffer. Without a
        seed rows come as they lie.

        Raises:
            InputError: for what can't be read, and where there are no longer as many rows.
        """
        random = None if seed is None else np.random.default_rng([seed, epoch])
        order = np.arange(len(self.reader.units)) if random is None else random.permutation(len(self.reader.units))
        chunks = _side_by_side([self.rows_of(int(unit)) for unit in order], 1 if random is None else _OPEN)
        count = 0
        for block in in_blocks(chunks if random is None else shuffled(chunks, random, BUFFER_BYTES), size):
            count += len(block["x"])
            yield block
        if count != self.rows:
            raise InputError(
                f"What is streamed must not change while it is learned from: {self.rows:,} rows. Received: {count:,}."
            )

    def rows_of(self, unit: int) -> Iterator[Arrays]:
        """The rows of a unit to train on, in order, `x` and with classes `label`."""
        for chunk in self.reader.chunks(unit):
            kept = np.flatnonzero(chunk.hashes >= _START_OF_TRAIN)
            arrays = {"x": chunk.x[kept]}
            if self.classes:
                arrays["label"] = self._with_spread(_indices(chunk.y, self.classes)[kept], chunk.hashes[kept])
            if len(kept):
                yield arrays

    def _with_spread(self, labels: np.ndarray, hashes: np.ndarray) -> np.ndarray:
        if self.spread is None or not (labels == UNKNOWN).any():
            return labels
        at = np.minimum(np.searchsorted(self.sampled, hashes), len(self.sampled) - 1)
        is_filled = (labels == UNKNOWN) & (self.sampled[at] == hashes)
        return np.where(is_filled, self.spread[at], labels)


def survey(reader: Reader, most: Mapping[str, int]) -> Stream:
    """One pass over all rows: their number, their digest, and samples of each part.

    A sample holds the rows of the smallest hashes, which are a random choice that does not depend on the order of
    files.

    Args:
        reader: of the rows.
        most: rows of each held-out part that are kept, at most.

    Raises:
        InputError: for what can't be read, for rows that are all the same, or too few to hold some of each part out.
    """
    parts = {name: _Smallest(most.get(name, SAMPLE_ROWS)) for name in _ENDS}
    total = skipped = 0
    trained: list[int] = []
    digest = np.uint64(0)
    for i in range(len(reader.units)):
        before = parts["train"].seen
        for chunk in reader.chunks(i):
            total += len(chunk.hashes)
            skipped += chunk.skipped
            with np.errstate(over="ignore"):
                digest = digest + chunk.hashes.sum(dtype="uint64")
            of = np.searchsorted(np.array([*_ENDS.values()][:-1], "uint64"), chunk.hashes, side="right")
            for k, part in enumerate(parts.values()):
                part.add(chunk, np.flatnonzero(of == k))
        trained.append(parts["train"].seen - before)
    few = [f"{part.seen} for {name}" for name, part in parts.items() if part.seen < _FEWEST]
    if few:
        raise InputError(
            f"Streamed rows must be enough to hold {SHARE:.0%} of them out for each of validation, calibration and "
            f"test, {_FEWEST} or more, and not all the same. Received: {total:,} rows, of which {few[0]}."
        )
    samples = {name: part.rows() for name, part in parts.items()}
    digest_text, train = f"{int(digest):016x}", parts["train"]
    return Stream(reader, train.seen, total, skipped, digest_text, tuple(trained), samples, train.hashes)


_ENDS = {
    **{name: int((i + 1) * SHARE * 2**64) for i, name in enumerate(("validation", "calibration", "test"))},
    "train": 2**64 - 1,
}
_START_OF_TRAIN = np.uint64(_ENDS["test"])


class _Smallest:
    """The rows of the smallest hashes among those that come; all of them where one hash is that of many."""

    def __init__(self, most: int) -> None:
        self.most, self.seen, self._held = most, 0, 0
        self._limit = np.uint64(2**64 - 1)
        self._parts: list[Chunk] = []

    def add(self, chunk: Chunk, index: np.ndarray) -> None:
        if self.seen == 0 and len(index):
            self.most = max(1, min(self.most, _SAMPLE_BYTES // chunk.x[0].nbytes))
        self.seen += len(index)
        index = index[chunk.hashes[index] <= self._limit]
        if len(index):
            y = None if chunk.y is None else as_labels(chunk.y, index)
            self._parts.append(Chunk(chunk.x[index], chunk.hashes[index], y))
            self._held += len(index)
        if self._held > 2 * self.most:
            self._cut()

    def _cut(self) -> None:
        hashes = np.concatenate([part.hashes for part in self._parts])
        order = np.argsort(hashes, kind="stable")[: self.most]
        x = np.concatenate([part.x for part in self._parts])[order]
        y = None if self._parts[0].y is None else np.concatenate([part.y for part in self._parts])[order]
        self._parts, self._held, self._limit = [Chunk(x, hashes[order], y)], len(order), hashes[order[-1]]

    @property
    def hashes(self) -> np.ndarray:
        return self._parts[0].hashes

    def rows(self) -> tuple[np.ndarray, np.ndarray | None]:
        self._cut()
        return self._parts[0].x, self._parts[0].y


def as_labels(cells: Any, index: np.ndarray | None = None) -> np.ndarray:
    """Cells as labels, those at some rows or all: a whole number is one, whatever it was stored as."""
    rows = range(len(cells)) if index is None else index
    y = np.empty(len(rows), object)
    taken = [cells[row] for row in rows]
    y[:] = [int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in taken]
    return y


def _indices(y: Any, classes: tuple[str, ...]) -> np.ndarray:
    """Positions in the classes (rows,), -1 for a label that is missing or not one of them."""
    if isinstance(y, Coded):
        return _indices(y.values, classes)[y.codes]
    positions = {name: i for i, name in enumerate(classes)}
    return np.array([positions.get(str(label), UNKNOWN) for label in as_labels(y)], "int32")


def _side_by_side(streams: list[Iterator[Arrays]], width: int) -> Iterator[Arrays]:
    """Chunks of so many streams in turn; where one ends, the next one takes its place."""
    waiting, turns = deque(streams), deque[Iterator[Arrays]]()
    while waiting or turns:
        while waiting and len(turns) < width:
            turns.append(waiting.popleft())
        stream = turns.popleft()
        chunk = next(stream, None)
        if chunk is not None:
            turns.append(stream)
            yield chunk


def shuffled(chunks: Iterator[Arrays], random: np.random.Generator, most: int) -> Iterator[Arrays]:
    """Each row is one drawn from a buffer of so many bytes, whose place the next row takes."""
    pool: Arrays = {}
    room = filled = 0
    for chunk in chunks:
        if not pool:
            room = max(1, most // chunk["x"][0].nbytes)
            pool = {name: np.empty((room, *rows.shape[1:]), rows.dtype) for name, rows in chunk.items()}
        size = len(chunk["x"])
        done = min(room - filled, size)
        for name, rows in chunk.items():
            pool[name][filled : filled + done] = rows[:done]
        filled += done
        while done < size:
            count = min(size - done, room)
            drawn = random.choice(room, count, replace=False)
            yield {name: rows[drawn] for name, rows in pool.items()}
            for name, rows in chunk.items():
                pool[name][drawn] = rows[done : done + count]
            done += count
    order = random.permutation(filled)
    for start in range(0, filled, _LAST):
        yield {name: rows[order[start : start + _LAST]] for name, rows in pool.items()}


_LAST = 1 << 14
"""Rows of the buffer that come at once, when no others do."""


def in_blocks(chunks: Iterator[Arrays], size: int) -> Iterator[Arrays]:
    """The same rows, `size` of them at a time, but for the last."""
    held: list[Arrays] = []
    count = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk["x"])
        if count >= size:
            whole = {name: np.concatenate([part[name] for part in held]) for name in chunk}
            ends = range(size, count + 1, size)
            for end in ends:
                yield {name: rows[end - size : end] for name, rows in whole.items()}
            held = [{name: rows[ends[-1] :] for name, rows in whole.items()}]
            count -= ends[-1]
    if count:
        yield {name: np.concatenate([part[name] for part in held]) for name in held[0]}
