"""What MkDocs needs beside Markdown: pages that lie outside this folder, and formulas as MathML, without a script."""

import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

_ROOT = Path(__file__).parents[1]
_OUTSIDE = {
    "contributing.md": _ROOT / "CONTRIBUTING.md",
    "changelog.md": _ROOT / "CHANGELOG.md",
    **{f"results/{path.name}": path for path in sorted((_ROOT / "benchmarks/results").iterdir())},
}
_LINKS = {
    "](../benchmarks/results/": "](results/",
    "](../../docs/": "](../",
    "](../CONTRIBUTING.md": "](contributing.md",
    "](docs/": "](",
}
_CODE = re.compile(r"(```.*?```|`[^`\n]+`)", re.DOTALL)
_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\w$])\$([^$\n]+)\$(?![\w$])")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that lie outside."""
    for name, path in _OUTSIDE.items():
        files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links to those pages and from them, and formulas outside code."""
    for before, after in _LINKS.items():
        markdown = markdown.replace(before, after)
    parts = _CODE.split(markdown)
    parts[::2] = [_INLINE.sub(_mathml, _DISPLAY.sub(_displayed, part)) for part in parts[::2]]
    return "".join(parts)


def _mathml(match: re.Match[str]) -> str:
    return str(convert(match[1].strip()))


def _displayed(match: re.Match[str]) -> str:
    return str(convert(match[1].strip(), display="block"))
