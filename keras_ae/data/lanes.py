"""The rows of a stream for several replicas, which learn from one batch together and read their own share of it alone.

An epoch's units, in an order of (seed, epoch), are cut into lanes of rows, each with a buffer of its own in which they
are shuffled. Each lane fills the same places of every batch, so that a batch does not depend on how many replicas there
are; who needs some places reads the lanes that fill them, and no others.
"""

from collections.abc import Iterator

import numpy as np

from keras_ae.data.streams import BUFFER_BYTES, Arrays, Stream, in_blocks, shuffled
from keras_ae.errors import InputError

LANES = 8


def shares(
    stream: Stream, batch: int, replicas: range, of: int, seed: int | None, epoch: int
) -> Iterator[list[Arrays]]:
    """What some replicas have of each batch of an epoch (`steps_of`): a list of rows by name, one for each.

    Args:
        stream: of rows.
        batch: rows of all replicas together.
        replicas: that are asked for, of all from 0 on.
        of: replicas there are.
        seed: of the order; None for rows as they lie in each lane.
        epoch: whose order it is.

    Raises:
        InputError: for what can't be read, and where there are no longer as many rows.
    """
    lanes = min(LANES, batch)
    starts = _cuts(batch, lanes)
    counts = np.diff(_cuts(stream.rows, batch)[starts])  # rows of each lane, as its part of a batch
    random = None if seed is None else np.random.default_rng([seed, epoch])
    order = np.arange(len(stream.trained)) if random is None else random.permutation(len(stream.trained))
    edges = _cuts(batch, of)
    first, last = edges[replicas.start], edges[replicas.stop]
    needed = [i for i in range(lanes) if starts[i] < last and starts[i + 1] > first]
    parts = {}
    for lane in needed:
        start = int(counts[:lane].sum())
        rows = _between(stream, order, start, start + int(counts[lane]))
        if seed is not None:
            rows = shuffled(rows, np.random.default_rng([seed, epoch, lane]), BUFFER_BYTES // lanes)
        parts[lane] = in_blocks(rows, int(starts[lane + 1] - starts[lane]))
    for step in range(steps_of(stream.rows, batch, of)):
        whole = {lane: next(rows, None) for lane, rows in parts.items()}
        places = _cuts(min(batch, stream.rows - step * batch), batch)  # fewer in the last batch
        begins, ends = places[starts], places[edges]
        yield [_taken(whole, begins, int(ends[replica]), int(ends[replica + 1])) for replica in replicas]


def steps_of(rows: int, batch: int, replicas: int) -> int:
    """Of an epoch: the last batch, of the rows that are left over, is one where each replica has some of them."""
    left = _cuts(rows % batch, batch)[_cuts(batch, replicas)]
    return rows // batch + bool((np.diff(left) > 0).all())


def _cuts(length: int, parts: int) -> np.ndarray:
    """Where a length is cut into parts of equal size, or almost, (parts + 1,)."""
    return np.arange(parts + 1) * length // parts


def _taken(whole: dict[int, Arrays | None], begins: np.ndarray, first: int, last: int) -> Arrays:
    """Places `first` to `last` of a batch, of which each lane fills those from where it begins to the next."""
    found: list[Arrays] = []
    for lane, rows in whole.items():
        begin, end = int(begins[lane]), int(begins[lane + 1])
        start, end = (min(max(edge, begin), end) - begin for edge in (first, last))
        if rows is not None and start < end:
            found.append({name: column[start:end] for name, column in rows.items()})
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _between(stream: Stream, order: np.ndarray, first: int, last: int) -> Iterator[Arrays]:
    """Rows to train on from one position to another, of units in an order; those of other units are not read."""
    end = 0
    for unit in order.tolist():
        begin, end = end, end + stream.trained[unit]
        if end <= first or begin >= last:
            continue
        position = begin
        for rows in stream.rows_of(unit):
            size = len(rows["x"])
            start, stop = max(first - position, 0), min(last - position, size)
            position += size
            if start < stop:
                yield {name: column[start:stop] for name, column in rows.items()}
            if position >= last:
                break
        if position != end and position < last:
            raise InputError(
                f"What is streamed must not change while it is learned from: {stream.trained[unit]:,} rows in "
                f"{stream.reader.units[unit].splitlines()[0]}. Received: {position - begin:,}."
            )
