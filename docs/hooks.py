"""What MkDocs needs beside Markdown: figures that lie outside this folder, and formulas as MathML, without a script."""

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

_RESULTS = Path(__file__).parents[1] / "benchmarks/results"
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\w$])\$([^$\n]+)\$(?![\w$])")


def on_files(files: Files, config: Any) -> Files:
    """Adds the figures of `benchmarks/results`."""
    for path in sorted(_RESULTS.iterdir()):
        files.append(File.generated(config, f"results/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to figures, and formulas outside code."""
    markdown = markdown.replace("](../benchmarks/results/", "](results/")
    markdown = re.sub(r"\]\(\.\./\.\./docs/", "](../", markdown)
    parts = _CODE.split(markdown)
    parts[::2] = [_INLINE.sub(_mathml, _DISPLAY.sub(_displayed, part)) for part in parts[::2]]
    return "".join(parts)


def _mathml(match: re.Match[str]) -> str:
    return str(convert(match[1].strip()))


def _displayed(match: re.Match[str]) -> str:
    return str(convert(match[1].strip(), display="block"))
