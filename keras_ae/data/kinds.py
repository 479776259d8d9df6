"""The kinds of a table's columns from their cells, which may come batch by batch."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from keras_ae.data.cells import Cells, Coded
from keras_ae.data.schema import KINDS, Column, Schema
from keras_ae.data.tables import UNNAMED, counts_rows
from keras_ae.data.values import (
    DAYS,
    DECIMALS,
    FALSE,
    TRUE,
    formats_of,
    level_of,
    listed,
    may_be_days,
    moment_of,
    number_of,
)
from keras_ae.errors import InputError

MOST_LEVELS = 64
"""Of a category: the most frequent ones. A level beyond them, and one that is not known, is none of them."""
_FEWEST_OF_LEVEL = 2
_MOST_DISTINCT = 0.5
"""Share of different texts in a column from which on it names rows and does not describe them."""
_MOSTLY = 0.9
"""Share of cells that must be of a kind for the column to be so; the others are errors then, not categories."""
_FEWEST_NUMBERED = 10
"""Rows from which on numbers that count them are no chance."""
_FEWEST_DAYS = 5
"""Different days from which on numbers that are all days, such as 20240131, are no chance."""
_FRACTION = re.compile(r"[-+]?\d*\.\d+")
_MOST_COUNTED = 100_000
"""Different cells of a column that are counted each; others, met later, are all taken for different ones."""


def infer(
    cells: Cells | Iterable[Cells], given: Mapping[str, Mapping[str, Any]] | None = None, source: str = "The table"
) -> Schema:
    """The kinds of a table's columns from their cells.

    Texts of dates or times of day, and numbers that are all days such as 20240131, are `datetime`, yes and no or true
    and false `boolean`, other numbers and amounts such as $1,234.50 `numeric`, other texts `categorical`.
    Where nearly all cells are of a kind, the others are errors. A column whose texts nearly all differ or whose numbers
    count the rows, which names rows and does not describe them, or that has no values or no name, is left out, and
    noted. So is one of dates that may be read day or month first.

    Args:
        cells: to look at; or batches of them, of which none is kept.
        given: what is known better, by column: `kind`, `nullable`, `levels`, `format`, `decimal`,
            `transform`, or `{"kind": "drop"}`.
        source: of batches, for messages.

    Raises:
        InputError: for a column that is not there, a kind or key that is not known, or a table without columns left.
    """
    inference = Inference(given or {}, cells.source if isinstance(cells, Cells) else source)
    for batch in [cells] if isinstance(cells, Cells) else cells:
        inference.add(batch)
    return inference.schema()


class Inference:
    """`infer`, a batch at a time."""

    def __init__(self, given: Mapping[str, Mapping[str, Any]], source: str) -> None:
        self.given, self.source = given, source
        self._evidence: dict[str, _Evidence] = {}
        self._rows = 0

    def add(self, batch: Cells) -> None:
        """Looks at cells."""
        if not self._evidence:
            _check_given(batch, self.source, self.given)
            self._evidence = {name: _Evidence(self.given.get(name, {})) for name in batch.columns}
        self._rows += len(batch) - len({problem.row for problem in batch.problems})
        for name, column in batch.columns.items():
            self._evidence[name].add(column)

    def schema(self) -> Schema:
        """What follows from all cells that were added."""
        columns, dropped, notes = [], [], []
        for name, found in self._evidence.items():
            of = dict(self.given.get(name, {}))
            if of.get("kind") == "drop":
                dropped.append(name)
                continue
            column = found.column(name, of, self._rows)
            if isinstance(column, str):
                dropped.append(name)
                notes.append(f"column {name or repr(name)} is left out: {column}")
            else:
                columns.append(column)
        if not columns:
            raise InputError(f"{self.source} must have a column to learn from. {'; '.join(notes) or 'Received: none'}.")
        like_cells = [name for name in self._evidence if _FRACTION.fullmatch(name)]
        if 0 < len(like_cells) < len(self._evidence):
            notes.append(f"the first line is taken for names, one of them {like_cells[0]!r}: it should not be of cells")
        return Schema(tuple(columns), tuple(dropped), tuple(notes))


class _Evidence:
    """What the cells of one column say about its kind; memory does not grow with their number."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given: str | None = given.get("kind")
        self.format: str | None = given.get("format")
        self.counts: Counter[Any] = Counter()
        self.known = self.numbers = self.beyond = self.flags = 0
        self.decimals: dict[str | None, int] = dict.fromkeys(DECIMALS, 0)
        self.dates: Counter[str | None] = Counter()
        self.first: dict[str | None, datetime] = {}
        self.is_count, self.rows, self.start = self.given is None, 0, 0.0

    def add(self, cells: Any) -> None:
        if self.given == "drop":
            return
        self.is_count = self.is_count and self._counts_on(cells)
        self.rows += len(cells)
        is_numeric = isinstance(cells, np.ndarray) and cells.dtype.kind in "iuf" and self.given in (None, "numeric")
        if is_numeric and not may_be_days(cells):
            known = len(cells) - int(np.isnan(cells).sum())
            self.known += known
            self.numbers += known
            return
        for cell, count in _counted(cells).items():
            self.known += count
            self.flags += count * _is_flag(cell)
            if self.given in (None, "numeric"):
                plain = number_of(cell) is not None  # and by any sign then
                for decimal in DECIMALS:
                    self.decimals[decimal] += count * (plain or number_of(cell, decimal) is not None)
            for form in self._formats(cell):
                if (moment := moment_of(cell, form)) is not None:
                    self.dates[form] += count
                    self.first[form] = min(self.first.get(form, moment), moment)
            if cell in self.counts or len(self.counts) < _MOST_COUNTED:
                self.counts[cell] += count
            else:
                self.beyond += count

    def column(self, name: str, given: dict[str, Any], rows: int) -> Column | str:
        """The column, or why there is none."""
        if not self.known and self.given is None:
            return "it has no values"
        if name in UNNAMED and self.given is None:
            return "it has no name, as row numbers have none"
        if self.is_count and self.rows >= _FEWEST_NUMBERED and not given:
            return "its numbers count the rows"
        given.pop("kind", None)
        forms = self._date_formats()
        kind = self.given or self._kind(name)
        if kind == "datetime" and len(forms) > 1:
            told = json.dumps({name: {"kind": kind, "format": forms[0]}}, ensure_ascii=False)
            why = f"its dates may be {' or '.join(map(str, forms))}; a schema such as {told} says which"
            if self.given is None:
                return why
            raise InputError(f"Column {name} must have dates of one format: {why}.")
        if kind is None:
            return f"{len(self._levels()) + self.beyond:,} different texts in {self.known:,} cells name rows"
        nullable = bool(given.pop("nullable", self.known < rows))
        levels = tuple(str(level) for level in given.pop("levels", ()))
        if kind == "numeric":  # of readings that give as many numbers the first
            given = {"decimal": max(DECIMALS, key=self.decimals.__getitem__)} | given
        column = Column(name, kind, nullable, levels, **given)
        if kind == "categorical" and not column.levels:
            common = self._levels().most_common(MOST_LEVELS)
            frequent = [level for level, count in common if count >= _FEWEST_OF_LEVEL]
            column = replace(column, levels=tuple(frequent or [level for level, _ in common]))
        if kind == "boolean" and not column.levels:
            texts = (word for word in self.counts if isinstance(word, str))
            words = {word.lower() in TRUE: word for word in texts if word.lower() in TRUE | FALSE}
            column = replace(column, levels=(words[False], words[True]) if len(words) == 2 else ())
        if kind == "datetime" and column.origin is None:
            form = forms[0] if forms else self.format
            first = self.first.get(form, datetime(2000, 1, 3))
            origin = (first.date() - timedelta(days=first.weekday())).isoformat()
            column = replace(column, origin=origin, format=form)
        return column

    def _counts_on(self, cells: Any) -> bool:
        """Whether the cells are the numbers that follow, 1 more in each row, of which the first row's is 0 or 1."""
        if not self.rows:
            first = number_of(cells[0]) if len(cells) else None
            if first is None or first not in (0, 1):
                return False
            self.start = first
        if isinstance(cells, np.ndarray):
            return cells.dtype.kind in "iuf" and counts_rows(cells, self.start + self.rows)
        return all(number_of(cell) == self.start + self.rows + i for i, cell in enumerate(cells))

    def _formats(self, cell: Any) -> tuple[str | None, ...]:
        """How a cell may be read as a date."""
        if self.given not in (None, "datetime"):
            return ()
        return (self.format,) if self.format else (None, *formats_of(cell))

    def _date_formats(self) -> list[str | None]:
        """Those that most cells can be read by."""
        most = max(self.dates.values(), default=0)
        return [form for form, count in self.dates.items() if count == most]

    def _levels(self) -> Counter[str]:
        levels: Counter[str] = Counter()
        for cell, count in self.counts.items():
            levels[level_of(cell)] += count
        return levels

    def _kind(self, name: str) -> str | None:
        """None for texts that nearly all differ."""
        if self.flags == self.known:
            return "boolean"
        if self.dates[DAYS] == self.known and len(self.counts) >= _FEWEST_DAYS:
            return "datetime"
        if max(self.decimals.values()) + self.numbers >= _MOSTLY * self.known:
            return "numeric"
        if max(self.dates.values(), default=0) >= _MOSTLY * self.known:
            return "datetime"
        if self.numbers:
            raise InputError(
                f"Column {name} must be of one kind. Received: numbers in some rows and texts in others; "
                f'a schema such as {{"{name}": "categorical"}} says which.'
            )
        distinct = len(self._levels()) + self.beyond
        return None if distinct > max(MOST_LEVELS / 4, _MOST_DISTINCT * self.known) else "categorical"


def _counted(cells: Any) -> Counter[Any]:
    """How often each cell that is not missing occurs."""
    if isinstance(cells, Coded):
        counts = np.bincount(cells.codes, minlength=len(cells.values)).tolist()
        found: Counter[Any] = Counter()
        for value, count in zip(cells.values, counts, strict=True):
            if value is not None and count:
                found[value] += count
        return found
    known = [cell for cell in listed(cells) if cell is not None]
    try:
        return Counter(known)
    except TypeError:  # lists in cells
        return Counter(map(str, known))


def _is_flag(cell: Any) -> bool:
    return isinstance(cell, bool) or (isinstance(cell, str) and cell.lower() in _WORDS)


_WORDS = {word for word in TRUE | FALSE if word.isalpha()}


def _check_given(cells: Cells, source: str, given: Mapping[str, Any]) -> None:
    keys = ("kind", "nullable", "levels", "format", "decimal", "transform")
    known = {"kind": (*KINDS, "drop"), "decimal": DECIMALS[1:], "transform": ("quantile", "linear")}
    for name, of in given.items():
        if name not in cells.columns:
            raise InputError(f"A schema must be of columns of {source}. Received: {name!r}.")
        if not isinstance(of, Mapping) or set(of) - set(keys):
            raise InputError(f"The schema of column {name} must be of {', '.join(keys)}. Received: {of!r}.")
        for key, values in known.items():
            if of.get(key, values[0]) not in values:
                raise InputError(f"The {key} of column {name} must be one of {values}. Received: {of[key]!r}.")
