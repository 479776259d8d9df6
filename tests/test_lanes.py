"""A stream for several replicas: whoever reads, each batch is the same, and each row is learned from once an epoch."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from keras_ae.data import lanes
from keras_ae.data.hashing import hashes_of_arrays
from keras_ae.data.lanes import LANES, shares, steps_of
from keras_ae.data.streams import BUFFER_BYTES, Chunk, survey
from keras_ae.errors import InputError


@dataclass
class Rows:
    """Rows that are their own numbers, in units; and which units were read."""

    sizes: tuple[int, ...] = (700, 5, 1_300, 60, 400, 900, 2_000)
    read: Counter = field(default_factory=Counter)

    @property
    def units(self):
        return [f"unit {i}" for i in range(len(self.sizes))]

    files = 1

    def chunks(self, unit):
        self.read[unit] += 1
        start = 10_000 * unit
        for first in range(start, start + self.sizes[unit], 100):
            x = np.arange(first, min(first + 100, start + self.sizes[unit]), dtype="float32")[:, None]
            yield Chunk(x, hashes_of_arrays(x))


@pytest.fixture
def stream():
    return survey(Rows(), {})


def batches(stream, batch, of, seed=0, epoch=0):
    """Global batches as so many replicas, each a process, put them together."""
    each = [[part["x"] for (part,) in shares(stream, batch, range(i, i + 1), of, seed, epoch)] for i in range(of)]
    return [np.concatenate(parts)[:, 0].tolist() for parts in zip(*each, strict=True)]


@pytest.mark.parametrize("batch", [64, 100, 7])
def test_batches_do_not_depend_on_how_many_replicas_read_them(stream, batch):
    one = batches(stream, batch, 1)
    assert [len(rows) for rows in one[:-1]] == [batch] * (stream.rows // batch)
    seen = [row for rows in one for row in rows]
    assert len(seen) == len(set(seen)) == stream.rows
    for of in (2, 3, 5, 7):
        several = batches(stream, batch, of)
        assert len(several) == steps_of(stream.rows, batch, of)
        assert several == one[: len(several)]
        assert len(several) >= stream.rows // batch


def test_a_process_of_two_replicas_has_what_two_processes_have(stream):
    apart = [list(shares(stream, 64, range(i, i + 1), 4, 0, 0)) for i in (2, 3)]
    together = list(shares(stream, 64, range(2, 4), 4, 0, 0))
    for step, ((a,), (b,)) in zip(together, zip(*apart, strict=True), strict=True):
        np.testing.assert_array_equal(step[0]["x"], a["x"])
        np.testing.assert_array_equal(step[1]["x"], b["x"])


def test_the_order_is_of_the_seed_and_the_epoch(stream):
    assert batches(stream, 64, 1, seed=0, epoch=1) == batches(stream, 64, 2, seed=0, epoch=1)
    assert batches(stream, 64, 1, seed=0, epoch=1) != batches(stream, 64, 1, seed=0, epoch=0)
    assert batches(stream, 64, 1, seed=1, epoch=0) != batches(stream, 64, 1, seed=0, epoch=0)
    first = batches(stream, 64, 1)[0]
    assert len({row // 10_000 for row in first}) > 2  # units are mixed


def test_a_replica_reads_its_share():
    many = Rows((50,) * 200)
    stream = survey(many, {})
    many.read.clear()
    list(shares(stream, 64, range(1), 4, 0, 0))
    # A quarter of the units, and those at the edges of its two lanes of eight.
    assert 50 <= sum(many.read.values()) <= 50 + 2 * LANES // 4


def test_rows_that_change_are_told(stream):
    stream.reader.sizes = (700, 5, 1_300, 60, 400, 900, 1_900)
    with pytest.raises(InputError, match=r"must not change while it is learned from: .* rows in unit 6. Received: "):
        batches(stream, 64, 2)


def test_the_buffers_of_all_lanes_are_one(stream, monkeypatch):
    sizes = []
    whole = lanes.shuffled

    def seen(rows, random, most):
        sizes.append(most)
        return whole(rows, random, most)

    monkeypatch.setattr(lanes, "shuffled", seen)
    batches(stream, 64, 1)
    assert len(sizes) == LANES
    assert sum(sizes) <= BUFFER_BYTES
