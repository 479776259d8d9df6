"""Small calls of one function that come in one turn of the event loop are computed together."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from keras_ae.serving.calls import Call, Outputs

_MOST_SECONDS = 5e-3  # that the event loop is held, by what each call would take alone


class Runs(Protocol):
    """What computes a call, perhaps with others."""

    async def run(self, call: Call) -> Outputs:
        """The outputs of a call."""


class Batches:
    """Nothing waits for a batch to fill: it holds what is there already.

    One row costs the reading of all weights; rows that are computed together share it. Their results may differ from
    those of one row alone in the last digits of a float32.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, str], list[tuple[Call, asyncio.Future[Outputs]]]] = {}

    async def run(self, call: Call) -> Outputs:
        """The outputs of a call."""
        key = (id(call.version), call.function)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outputs] = loop.create_future()
        waiting = self._waiting.setdefault(key, [])
        waiting.append((call, future))
        if len(waiting) == 1:
            loop.call_soon(self._compute, key)  # after what else of this turn is on its way here
        return await future

    def _compute(self, key: tuple[int, str]) -> None:
        waiting = self._waiting.pop(key)
        size, seconds = 1, waiting[0][0].seconds
        while size < len(waiting) and (seconds := seconds + waiting[size][0].seconds) <= _MOST_SECONDS:
            size += 1
        if waiting[size:]:
            self._waiting[key] = waiting[size:]
            asyncio.get_running_loop().call_soon(self._compute, key)
        batch = waiting[:size]
        for (_, future), outputs in zip(batch, _at_once([call for call, _ in batch]), strict=True):
            if future.done():
                continue  # its client is gone
            if isinstance(outputs, BaseException):
                future.set_exception(outputs)
            else:
                future.set_result(outputs)


def together(calls: Sequence[Call]) -> list[Outputs | BaseException]:
    """The outputs of calls of any functions, in their order; those of one function are computed at once."""
    alike: dict[tuple[int, str], list[int]] = {}
    for i, call in enumerate(calls):
        alike.setdefault((id(call.version), call.function), []).append(i)
    results: dict[int, Outputs | BaseException] = {}
    for indices in alike.values():
        results |= zip(indices, _at_once([calls[i] for i in indices]), strict=True)
    return [results[i] for i in range(len(calls))]


def _at_once(calls: Sequence[Call]) -> list[Outputs | BaseException]:
    """The outputs of each call of one function, or why there are none; one that is refused harms no other."""
    if len(calls) > 1:
        first = calls[0]
        ends = np.cumsum([call.rows for call in calls])[:-1]
        try:
            arrays = {name: np.concatenate([call.arrays[name] for call in calls]) for name in first.arrays}
            outputs = Call(first.version, first.function, arrays, sum(call.rows for call in calls)).run()
        except Exception:
            pass  # whatever one of them did: below, each by itself, is told its own
        else:
            parts = {name: np.split(array, ends) for name, array in outputs.items()}
            return [{name: part[i] for name, part in parts.items()} for i in range(len(calls))]
    return [_alone(call) for call in calls]


def _alone(call: Call) -> Outputs | BaseException:
    try:
        return call.run()
    except Exception as error:
        return error  # is raised where the call is awaited
