"""Runs tutorials and writes their pages, with what they printed and drew: python tutorials/render.py [NAME ...]

A tutorial is a script of cells: `# %% [markdown]` and comments are prose, `# %%` is code. A picture that a cell saves
in the working folder is shown below it.
"""

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from keras_ae.processor import cpu_name

FOLDER = Path(__file__).parent
PAGES = FOLDER.parent / "docs/tutorials"
PICTURES = (".png", ".svg")
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.name != Path(__file__).name)
_MARK = re.compile(r"^# %%(.*)\n", re.MULTILINE)
_SHOWN = re.compile(r"\n```text\n.*?```\n|\n!\[.*?\]\(.*?\)\n|\n\*`tutorials/.*?\*\n", re.DOTALL)


class Cell(NamedTuple):
    """Prose, or code and the line that it begins at."""

    is_code: bool
    text: str
    line: int

    @property
    def shown(self) -> str:
        """In the page, before what it printed."""
        return f"\n```python\n{self.text}\n```\n" if self.is_code else f"\n{self.text}\n"


def cells(name: str) -> list[Cell]:
    """Of a tutorial, in order."""
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    marks = list(_MARK.finditer(source))
    found = []
    for mark, end in zip(marks, [*(m.start() for m in marks[1:]), len(source)], strict=True):
        is_code = "[markdown]" not in mark[1]
        text = source[mark.end() : end].strip("\n")
        prose = "\n".join(line.removeprefix("#").removeprefix(" ") for line in text.splitlines())
        found.append(Cell(is_code, text if is_code else prose, source.count("\n", 0, mark.end())))
    return found


def run(name: str) -> Iterator[tuple[Cell, str, list[Path]]]:
    """Each cell with what it printed and the pictures that it saved, run in this process and the working folder."""
    # Classes of a tutorial are found by their module when Keras loads them, as they are where it is run as a script.
    namespace = {"__name__": f"tutorial_{name}"}
    seen: set[Path] = set()
    for cell in cells(name):
        printed = io.StringIO()
        if cell.is_code:
            # Empty lines in front, so that a traceback shows the line of the file.
            code = compile("\n" * cell.line + cell.text, str(FOLDER / f"{name}.py"), "exec")
            with contextlib.redirect_stdout(printed):
                exec(code, namespace)
        pictures = sorted(path for path in Path().iterdir() if path.suffix in PICTURES and path not in seen)
        seen.update(pictures)
        yield cell, printed.getvalue(), pictures


def source_of(page: str) -> str:
    """A page without what was printed and drawn."""
    return _SHOWN.sub("", page)


def write(name: str) -> None:
    """Runs a tutorial in a folder of its own and writes its page and pictures."""
    home = Path.cwd()
    page = ""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for cell, printed, pictures in run(name):
                page += cell.shown
                if printed:
                    page += "\n```text\n" + "\n".join(map(str.rstrip, printed.rstrip().splitlines())) + "\n```\n"
                for picture in pictures:
                    shown = f"{name}_{picture.name}"
                    shutil.copyfile(picture, PAGES / "images" / shown)
                    page += f"\n![{picture.stem}](images/{shown})\n"
        finally:
            os.chdir(home)
    page += f"\n*`tutorials/{name}.py`, run on {_where()}.*\n"
    (PAGES / f"{name}.md").write_text(page.lstrip("\n"), encoding="utf-8")


def _where() -> str:
    """The day, the versions and the machine."""
    day = datetime.now(UTC).date().isoformat()
    versions = ", ".join(f"{name} {version(name)}" for name in ("keras-ae", "keras", "tensorflow", "onnxruntime"))
    return f"{day} with {versions}, on {os.cpu_count()} x {cpu_name()}"


if __name__ == "__main__":
    for asked in sys.argv[1:] or NAMES:
        write(asked)
