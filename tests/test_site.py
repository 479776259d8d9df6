"""The site of the documentation builds: every link leads somewhere, every name of the reference exists."""

import os
import re
from pathlib import Path

import pytest

os.environ.setdefault("NO_MKDOCS_2_WARNING", "1")
mkdocs = pytest.importorskip("mkdocs")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    config.plugins.run_event("startup", command="build", dirty=False)
    build(config)  # strict: a warning is an error
    return folder


def test_every_page_is_in_the_site_and_asks_for_nothing_from_elsewhere(site):
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    assert {page.relative_to(site) for page in site.rglob("*.html")} >= pages
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|link)[^>]*(?:src|href)=\"(https?://[^\"]+)", page.read_text())
        assert [url for url in loaded if "canonical" not in url] == []


def test_the_reference_holds_what_people_call(site):
    reference = (site / "api/fit.html").read_text()
    assert 'id="keras_ae.pipeline.fit"' in reference
    assert "on_divergence" in reference
    assert 'id="keras_ae.layers.losses.RMSELoss"' in (site / "api/layers.html").read_text()


def test_formulas_are_mathml(site):
    page = (site / "performance.html").read_text()
    assert "<math" in page
    assert "$$" not in page
