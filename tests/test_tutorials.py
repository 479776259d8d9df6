"""The tutorials run, and their pages show them: the very code, and pictures that are there and small."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_BYTES = 60_000  # of a picture
SLOW = ("images", "labels", "sensors")  # what they show is tested elsewhere; half a minute in all


def _render():
    spec = importlib.util.spec_from_file_location("render", ROOT / "tutorials/render.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


render = _render()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in render.NAMES]
)
def test_a_tutorial_runs(name, folder, monkeypatch):
    pytest.importorskip("vega_datasets")
    monkeypatch.setenv("QUICK", "1")
    from keras_ae.networks import NETWORKS
    from keras_ae.recipes import RECIPES

    for table, added in ((NETWORKS, "gated"), (RECIPES, "log_cosh")):  # are taken out again after the test
        monkeypatch.setitem(table, added, None)
        del table[added]
    drawn = [picture for _, _, pictures in render.run(name) for picture in pictures]
    assert {picture.name for picture in drawn} == {
        path.name.removeprefix(f"{name}_") for path in (render.PAGES / "images").glob(f"{name}_*")
    }


@pytest.mark.parametrize("name", render.NAMES)
def test_its_page_is_what_is_run(name):
    page = (render.PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert render.source_of(page) == "".join(cell.shown for cell in render.cells(name)).lstrip("\n")
    assert "```text" in page
    pictures = [render.PAGES / link for link in re.findall(r"!\[.*?\]\((.*?)\)", page)]
    assert [path.name for path in pictures if path.stat().st_size > MOST_BYTES] == []
    prose = "".join(cell.text for cell in render.cells(name) if not cell.is_code)
    links = re.findall(r"\[[^\]]*\]\(([^)#]+)", prose)
    assert [link for link in links if not (render.PAGES / link).exists()] == []
