"""How far a search is, told while Ray Tune runs it. Imports Ray."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from ray.tune import Callback

from keras_ae.progress import Progress, silent

_PROGRESS: ContextVar[Progress] = ContextVar("progress", default=silent)
_ENDED = ("TERMINATED", "ERROR")


@contextmanager
def told(progress: Progress) -> Iterator[None]:
    """`progress` is told of the searches that run in the block."""
    token = _PROGRESS.set(progress)
    try:
        yield
    finally:
        _PROGRESS.reset(token)


class Telling(Callback):
    """Tells how many trials have ended, and the best value.

    Ray keeps it in the files of a search, and takes it from there where that goes on: so whom to tell is not in it.

    Args:
        total: trials.
        objective: its name.
        best: min or max.
    """

    def __init__(self, total: int, objective: str, best: str) -> None:
        self.total, self.objective, self.best = total, objective, best

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        ended = [one for one in trials if one is trial or one.status in _ENDED]
        values = [one.last_result["value"] for one in ended if "value" in one.last_result]
        best = f", best {self.objective} {(min if self.best == 'min' else max)(values):.4g}" if values else ""
        _PROGRESS.get()(f"{len(ended)} of {self.total} trials{best}", len(ended) / self.total)

    on_trial_error = on_trial_complete
