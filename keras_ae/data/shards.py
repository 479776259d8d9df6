"""Many files as one: a folder or a glob of files of rows, in the order of their paths."""

import glob
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from keras_ae.data.batches import read_batches
from keras_ae.data.cells import MOST_CELLS, Cells, cell_batches
from keras_ae.data.tables import ENDINGS, Rows, kind_of
from keras_ae.errors import InputError


def is_many(source: str | Path) -> bool:
    """Whether a source is a folder or a glob, and not one file whose name has such characters."""
    return os.path.isdir(source) or (glob.has_magic(str(source)) and not os.path.lexists(source))


def shards(source: str | Path, endings: tuple[str, ...] = ENDINGS) -> list[Path]:
    """The files of a source: itself, or all below a folder, or all that a glob (`*`, `?`, `[...]`, `**`) matches, by
    their paths. Names that begin with a dot or an underscore are of no rows (`_SUCCESS`), and neither is what lies in
    folders of such names. None is opened, or left out because it can't be: who reads it says so.

    Args:
        source: path or glob.
        endings: of the files that count.

    Raises:
        InputError: where there are none, or those of several endings.
    """
    path = Path(source)
    if not is_many(path):
        return [path]
    if path.is_dir():
        found = _below(path, Path())
    else:
        matched = [Path(match) for match in glob.glob(str(source), recursive=True)]
        found = [file for match in matched for file in (_below(match, Path()) if match.is_dir() else [match])]
    files = sorted({file for file in found if kind_of(file) in endings})
    if not files:
        raise InputError(f"{source} must hold files that end in {', '.join(endings)}. Received: none.")
    kinds = sorted({kind_of(file) for file in files})
    if len(kinds) > 1 and {*kinds} <= {*ENDINGS}:
        raise InputError(f"{source} must hold files of one ending; a glob can choose. Received: {', '.join(kinds)}.")
    return files


def base_of(source: str | Path) -> Path:
    """The folder that a source is, or that all its glob's matches are in."""
    path = Path(source)
    if path.is_dir():
        return path
    plain = path.parts[:-1]
    ends = next((i for i, part in enumerate(plain) if glob.has_magic(part)), len(plain))
    return Path(*plain[:ends])


def _below(folder: Path, inside: Path) -> list[Path]:
    try:
        entries = sorted(os.scandir(folder / inside), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder / inside} could not be read: {error.strerror or error}.") from error
    files: list[Path] = []
    for entry in entries:
        if not entry.name.startswith((".", "_")):
            files += _below(folder, inside / entry.name) if entry.is_dir() else [folder / inside / entry.name]
    return files


def batches_of(files: list[Path], without: tuple[str, ...] = ()) -> tuple[int | None, Iterator[tuple[Path, Rows]]]:
    """`read_batches` of one file after the other, each batch with its file; a file is opened when those before it are
    done. The number of rows is that of one file, None of many.

    Raises:
        InputError: as `read_batches`, and for a file whose rows are of another shape than those of the first.
    """
    total, first = read_batches(files[0], without=without)

    def every() -> Iterator[tuple[Path, Rows]]:
        shape: tuple[int, ...] | None = None
        for i, file in enumerate(files):
            for rows in first if i == 0 else read_batches(file, without=without)[1]:
                shape = shape or rows.x.shape[1:]
                if rows.columns is None and rows.x.shape[1:] != shape:
                    raise InputError(
                        f"{file} must have rows of shape {shape}, as {files[0]} has. Received: {rows.x.shape[1:]}."
                    )
                yield file, rows

    return total if len(files) == 1 else None, every()


def cells_of_shards(files: list[Path], without: tuple[str, ...] = (), most: int | None = MOST_CELLS) -> Iterator[Cells]:
    """`cell_batches` of one file after the other, their columns in the order of the first.

    Raises:
        InputError: as `cell_batches`, and for a file with other columns than the first.
    """
    names: tuple[str, ...] | None = None
    for file in files:
        for cells in cell_batches(file, without, most):
            names = names or tuple(cells.columns)
            check_columns(file, tuple(cells.columns), files[0], names)
            yield replace(cells, columns={name: cells.columns[name] for name in names})


def check_columns(file: Path | str, columns: tuple[str, ...], first: Path | str, names: tuple[str, ...]) -> None:
    """Raises InputError for a file that has other columns than the first."""
    missing, surplus = ([n for n in a if n not in b] for a, b in ((names, columns), (columns, names)))
    if missing or surplus:
        what = " and ".join(
            f"{verb} {', '.join(of)}" for verb, of in (("misses", missing), ("has besides", surplus)) if of
        )
        raise InputError(f"{file} must have the columns of {first}. Received: it {what}.")
