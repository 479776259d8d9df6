"""Tables as text: records of a .csv, whatever separates them, and blocks of numbers. NumPy only."""

import csv
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from keras_ae.errors import CellError, InputError, reading

DECIMAL_COMMA = re.compile(r"\s*([+-]?\d*(?:\.\d{3})*),(\d+(?:[eE][+-]?\d+)?)\s*")
"""Of a number between semicolons: what is before it, with points between thousands, and behind it."""
_GROUPS = re.compile(r"\.(?=(?:\d{3}\.)*\d{3},\d)")
"""Points between the thousands of such numbers in a line."""

Block = Callable[[int | None], np.ndarray]
"""The next rows of numbers, all or so many, float64 (rows, columns)."""


def delimiter_of(path: Path) -> str:
    """Tab, semicolon, comma or bar: the first that cuts the first two records into as many cells, two or more; else the
    one that cuts the first into most. Where it is a semicolon a number may have a decimal comma, as spreadsheets of
    many countries write it, and points between its thousands then.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for _, line in zip(range(2), filter(str.strip, file), strict=False)]
    counts = {
        delimiter: [len(next(csv.reader([line], delimiter=delimiter))) for line in lines] for delimiter in "\t;,|"
    }
    even = (delimiter for delimiter, of in counts.items() if of and of[0] > 1 and len(set(of)) == 1)
    return next(even, max(",;\t|", key=lambda delimiter: counts[delimiter][:1]))


def csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each record that is not blank, and the number of its last line; numbers have decimal points."""
    delimiter = delimiter_of(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=delimiter)
        for cells in filter(None, reader):
            yield reader.line_num, cells if delimiter != ";" else [_with_point(cell) for cell in cells]


def csv_header(path: Path) -> tuple[tuple[str, ...] | None, int]:
    """The names of the columns, or None where the first row is of numbers, and the lines that they take."""
    line, first = next(csv_records(path), (0, []))
    return (tuple(cell.strip() for cell in first), line) if _are_names(first) else (None, 0)


def csv_column(path: Path, name: str) -> np.ndarray:
    """The cells of a column, as text; rows that are too short are found where their numbers are read."""
    with csv_text(path):
        names, _ = csv_header(path)
        if names is None or name not in names:
            known = ", ".join(names or ()) or "numbers in its first line"
            raise InputError(f"{path} must have a column {name!r} for labels. Received: {known}.")
        position = names.index(name)
        rows = islice(csv_records(path), 1, None)
        return np.array([row[position].strip() if len(row) > position else "" for _, row in rows], dtype=object)


@contextmanager
def csv_text(path: Path) -> Iterator[None]:
    """What makes a file no CSV becomes InputError."""
    with reading(path, ".csv", csv.Error, OSError), reading(path, "UTF-8 text", UnicodeDecodeError):
        yield


@contextmanager
def open_csv(path: Path, without: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...] | None, Block]]:
    """The names of the columns that are not left out, or None, and what reads their next rows. What is wrong in a cell
    that the block reads becomes InputError.
    """
    with csv_text(path):
        columns, header_lines = csv_header(path)
        kept = None
        if columns is not None and set(columns) & set(without):
            kept = tuple(i for i, name in enumerate(columns) if name not in without)
            columns = tuple(columns[i] for i in kept)
            if not columns:
                raise InputError(f"{path} must have a column beside {', '.join(without)}. Received: none.")
        delimiter = delimiter_of(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = file if delimiter != ";" else (_GROUPS.sub("", line).replace(",", ".") for line in file)

            def block(rows: int | None) -> np.ndarray:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)  # that there are no rows is said elsewhere
                    x = np.loadtxt(lines, delimiter=delimiter, max_rows=rows, ndmin=2, dtype="float64", quotechar='"',
                                   comments=None, usecols=kept)  # fmt: skip
                if columns is not None and x.size and x.shape[1] != len(columns):
                    raise ValueError  # below the search for the line begins
                return x

            for _ in range(header_lines):
                next(file)
            try:
                yield columns, block
            except (InputError, UnicodeDecodeError):
                raise
            except ValueError as error:
                raise _cell_error(path, without) from error


def _with_point(cell: str) -> str:
    match = DECIMAL_COMMA.fullmatch(cell)
    return f"{match[1].replace('.', '')}.{match[2]}" if match else cell


def _are_names(first: list[str]) -> bool:
    """Whether the first record is no row of numbers. That of 0, 1, 2, ..., behind an empty cell or not, names columns:
    pandas writes it where they have no names.
    """
    counted = first[1:] if first[:1] == [""] else first
    is_count = len(counted) > 2 and counted == [str(i) for i in range(len(counted))]
    return is_count or not all(map(_is_number, first))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip() == ""
    return cell.isascii() and "_" not in cell  # Python's numbers are more than those of a table


def _cell_error(path: Path, without: tuple[str, ...] = ()) -> InputError:
    """The first cell that is not a number, by row and column; NumPy counts from the first row that it was given."""
    first: list[str] = []
    for line, cells in csv_records(path):
        where = f"{path}, line {line}"
        if not first:
            first = cells
            has_header = _are_names(first)
            if has_header:
                continue
        if len(cells) != len(first):
            return InputError(f"{where}: must have {of_columns(len(first))}. Received: {len(cells)}.")
        for i, cell in enumerate(cells):
            name = first[i].strip() if has_header else f"number {i}"
            if (not _is_number(cell) or not cell.strip()) and name not in without:
                what = "an empty cell" if not cell.strip() else repr(cell)
                return CellError(f"{where}, column {name}: must be a number. Received: {what}.")
    return InputError(f"{path}, line 1: must be numbers or column names. Received: {first}.")


def of_columns(count: int) -> str:
    """For a message."""
    return f"{count} column{'' if count == 1 else 's'}"
