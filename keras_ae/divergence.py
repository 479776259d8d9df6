"""Where the loss is no longer finite the run stops, or goes back, and on with a lower learning rate."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from keras_ae.errors import DivergenceError, InputError
from keras_ae.loop import SpanCallback
from keras_ae.state import Reader, restore

ACTIONS = ("stop", "lower_learning_rate")
_STEPS = 32  # between two copies of the weights in memory, where `fit` runs single steps
_SHOWN = 10
_GRADIENT = "gradient"


class Divergence(SpanCallback):
    """Looks at each term at the end of each span of steps. Where one is NaN or infinite, the weights of the last good
    copy come back, and the steps since then run again one by one, to find the one that does it.

    Of a stream there is a copy at each span. Off resident rows there is one an epoch, and nothing is run again:
    `lower_learning_rate` goes on from that copy with the rows that come next.

    Args:
        action: `stop`, or `lower_learning_rate`: the steps are learned from again at `factor` of the rate.
        factor: of each cut of the learning rate.
        cuts: in one `fit`, before it stops after all.

    Attributes:
        notes: a line for each cut.

    Raises:
        InputError: for an unknown action.
        DivergenceError: from `fit`, which leaves the model with the last good weights.
    """

    checkpointed = ("notes",)

    def __init__(self, action: str = "stop", factor: float = 0.3, cuts: int = 5) -> None:
        if action not in ACTIONS:
            raise InputError(f"`on_divergence` must be one of {', '.join(ACTIONS)}. Received: {action!r}.")
        super().__init__()
        self.action, self.factor, self.cuts = action, factor, cuts
        self.notes: list[str] = []
        self._at = 0

    def on_train_begin(self, logs: Any = None) -> None:
        self._reader = Reader(self.model)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch + 1
        self._good: list[Any] | None = None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        position = self.model.position
        is_far = position is not None and (self.model.streams or position - self._at >= _STEPS)
        if self._good is None or is_far:
            self._at, self._good = position or 0, self._reader.read()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        is_last = batch + 1 >= (self.params.get("steps") or 1)
        terms = _not_finite(logs or {})
        # Weights that the last step of an epoch spoilt no term has seen yet.
        if not terms and is_last and not self._reader.are_finite():
            terms = (_GRADIENT,)
        if terms:
            self._diverged(terms)

    def _diverged(self, terms: tuple[str, ...]) -> None:
        assert self._good is not None
        reached = self.model.position
        step = index = None
        if reached is not None:
            terms, step, index = self._found(terms, reached)
        while self.action == "lower_learning_rate" and len(self.notes) < self.cuts:
            rate = self.model.optimizer.learning_rate
            cut = float(rate) * self.factor
            self._restore()
            rate.assign(cut)
            self.notes.append(f"{_where(terms, self._epoch, step)}: the learning rate was lowered to {cut:.2g}")
            if reached is None:
                return
            if not _not_finite(self.model.run_steps(self._at, reached)) and self._reader.are_finite():
                self._good = None  # it has the rate that was too high
                return
        self._restore()
        cuts = f" after {len(self.notes)} cuts of the learning rate" if self.notes else ""
        raise DivergenceError(
            f"The loss must stay finite. Received: {_where(terms, self._epoch, step)}{_of_rows(index)}{cuts}. "
            "`on_divergence=lower_learning_rate` goes on with a lower rate; look at these rows, or scale them.",
            terms,
            self._epoch,
            step,
            index,
        )

    def _restore(self) -> None:
        assert self._good is not None
        restore(self._reader.variables, self._good)

    def _found(
        self, terms: tuple[str, ...], reached: int
    ) -> tuple[tuple[str, ...], int | None, tuple[int, ...] | None]:
        """The terms, the step from 1 and the rows that did it, by running each step again from the good weights."""
        self._restore()
        for step in range(self._at, reached):
            before = self._reader.read()
            logs = self.model.run_steps(step, step + 1)
            found = _not_finite(logs) or (() if self._reader.are_finite() else (_GRADIENT,))
            if found:
                restore(self._reader.variables, before)
                return found, step + 1, self._rows(step)
        return terms, None, None  # a callback changed something between the steps

    def _rows(self, step: int) -> tuple[int, ...] | None:
        """Rows of a step that make the loss infinite alone, or all of them; None of a stream, whose rows have no number
        to be found by.
        """
        if self.model.streams:
            return None
        index, rows = self.model.rows_of(step)
        alone = [
            bool(_not_finite(self.model.evaluate(_one(rows, i), batch_size=1, verbose=0, return_dict=True)))
            for i in range(len(index))
        ]
        return tuple(int(i) for i in (index[alone] if any(alone) else index))


def _one(rows: Mapping[str, np.ndarray], i: int) -> Any:
    parts = {key: part[i : i + 1] for key, part in rows.items()}
    return parts if len(parts) > 1 else next(iter(parts.values()))


def _not_finite(logs: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the terms that are not; of `loss` alone where it is not a sum of terms."""
    names = [name for name, value in logs.items() if not np.isfinite(float(value))]
    return tuple(name for name in names if name != "loss") or tuple(names)


def _where(terms: tuple[str, ...], epoch: int, step: int | None) -> str:
    return f"{', '.join(terms)} not finite in epoch {epoch}" + (f", step {step}" if step else "")


def _of_rows(index: tuple[int, ...] | None) -> str:
    if index is None:
        return ""
    shown = ", ".join(map(str, sorted(index)[:_SHOWN])) + (", ..." if len(index) > _SHOWN else "")
    return f", of training rows {shown}"
