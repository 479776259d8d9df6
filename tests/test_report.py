"""The report: one page that needs nothing else, holds what evaluation found, and shows rows as what they are."""

import hashlib
import html
import importlib.util
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import keras_ae
from keras_ae import runtime
from keras_ae.artifact import read_manifest, verify_files
from keras_ae.cli import app
from keras_ae.data import load_source, split
from keras_ae.errors import InputError
from keras_ae.evaluation.result import COLUMNS, LABELS, MEANINGS
from keras_ae.judging import evaluate_artifact, judge
from keras_ae.report import add_report, pictures, write_report
from keras_ae.report.observations import Observations
from keras_ae.report.page import Page

ROOT = Path(__file__).parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Parsed(HTMLParser):
    void = ("meta", "img", "line", "path", "polyline", "circle", "br")

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text, self.addresses, self.unnamed = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        given = dict(attributes)
        self.addresses += [given[key] for key in ("src", "href") if key in given]
        if (tag == "img" and not given.get("alt")) or (tag == "svg" and not given.get("aria-label")):
            self.unnamed.append(tag)
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.void:
            self.open.pop()


@pytest.fixture(scope="module")
def page(digits_artifact, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "digits.html"
    found = write_report(digits_artifact, out, max_rows=60)
    return out, found, out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def table_page(tmp_path_factory):
    """Artifact and rows of a table, and its page by the command line."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) * [1, 10, 1000] + [0, 5, -100]
    np.savetxt(folder / "t.csv", x, delimiter=",", header="a,b,c", comments="")
    keras_ae.fit(folder / "t.csv", folder / "a", epochs=2, latent_dim=2, hidden=[8], report=False)
    result = CliRunner().invoke(app, ["report", str(folder / "a"), str(folder / "t.csv"), "--max-rows", "15"])
    assert result.exit_code == 0, result.output
    assert "drawn from P_d" in result.output
    return folder / "a", (folder / "a-report.html").read_text(encoding="utf-8")


def test_the_page_is_whole_and_asks_for_nothing_else(page):
    _, _, text = page
    parsed = Parsed(text)
    assert parsed.addresses
    assert all(address.startswith("data:image/png;base64,") for address in parsed.addresses)
    assert "url(" not in text
    assert "<script" not in text
    assert "prefers-color-scheme: dark" in text
    assert parsed.unnamed == []
    headings = [
        "Is the model good?",
        "Numbers",
        "Training",
        "Reconstructions",
        "Samples of each class",
        "Nearest to the training rows",
        "Distances",
        "Latent map",
        "Traversals",
        "Anomaly scores",
        "Are probabilities right?",
    ]
    assert [data for data in parsed.text if data in headings] == headings


def test_each_number_is_explained_where_it_is_met(page):
    _, found, text = page
    said = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text)
    expected = [(COLUMNS[name], MEANINGS[name]) for name in found.columns]
    expected += [(LABELS[name], MEANINGS[name]) for name in found.measured]
    assert [(html.unescape(label), html.unescape(meaning)) for label, meaning in said] == expected


def test_the_glossary_says_the_same_of_a_number():
    page = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
    terms = dict(re.findall(r"^\| ([^|]*) \| ([^|]*) \|$", page, re.MULTILINE))
    both = {name for name in LABELS if LABELS[name] in terms}
    assert both >= {"c_t", "coverage"}
    assert {name: terms[LABELS[name]] for name in both} == {name: MEANINGS[name] for name in both}


def test_its_numbers_and_its_verdict_are_those_of_the_evaluation(page, digits_artifact):
    _, found, text = page
    said = "".join(Parsed(text).text)
    for name, row in found.numbers.items():
        assert LABELS[name] in said
        for number in row.values():
            assert str(number).replace(" ", "", 1).replace(" [", "[") in said or str(number).partition(" ")[0] in said
    assert found.verdict.drawn_from_data.because in said
    manifest = json.loads((digits_artifact / "manifest.json").read_text())
    assert {"epochs", "nll", "kl", "val_nll"} <= set(manifest["training"]["history"])


def test_the_same_seed_gives_the_same_page(page, digits_artifact, tmp_path):
    _, _, text = page
    write_report(digits_artifact, tmp_path / "again.html", max_rows=60)
    again = (tmp_path / "again.html").read_text(encoding="utf-8")
    assert again == text


def test_fit_leaves_a_report_whose_hash_the_manifest_holds(digits_fitted):
    assert digits_fitted.report == digits_fitted.artifact / "report.html"
    text = digits_fitted.report.read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert "digits: report" in parsed.text
    assert "drawn by seed" not in text  # no row is left out of so few
    assert "NLL bound, nats a row" in parsed.text  # of the model that is at hand
    digest = hashlib.sha256(digits_fitted.report.read_bytes()).hexdigest()
    assert digits_fitted.manifest["files"]["report.html"] == digest
    assert verify_files(digits_fitted.artifact) == digits_fitted.manifest


def test_of_many_rows_some_are_looked_at(digits_artifact):
    model = runtime.load(digits_artifact)
    splits = split(load_source("digits"), 0)
    judged = judge(model, splits, 20, 0, lambda what, share: None, most=50)
    assert not judged.all_rows
    assert {len(rows) for rows in judged.splits.parts().values()} == {50}
    assert (np.diff(judged.test_rows) > 0).all()
    np.testing.assert_array_equal(judged.splits.test, splits.test[judged.test_rows])
    np.testing.assert_array_equal(judged.splits.labels["test"], splits.labels["test"][judged.test_rows])
    text = Page(model, judged, "some").content()
    assert "Of 50 training and 50 test rows, drawn by seed" in text


def test_rows_that_are_too_few_to_judge_leave_a_note_in_place_of_a_report(digits_artifact, tmp_path):
    folder = Path(shutil.copytree(digits_artifact, tmp_path / "a"))
    (folder / "report.html").unlink()
    splits = split(load_source("digits"), 0)
    manifest = add_report(folder, "a", replace(splits, test=splits.test[:4]), lambda what, share: None)
    assert "no report: `test` must have at least 10 rows" in manifest["notes"][-1]
    assert not (folder / "report.html").exists()
    assert verify_files(folder) == manifest


def test_the_worst_rows_name_the_columns_that_make_them_so(table_page):
    folder, text = table_page
    model = runtime.load(folder)
    test = split(load_source(folder.parent / "t.csv"), 0).test
    scores = model.score(test)["score"]
    worst = np.argsort(-scores)
    rows = re.findall(r'<tr><th scope="row">([\d,]+)</th>(.*?)</tr>', text.partition("Worst rows")[2])
    assert [int(number) for number, _ in rows] == worst[:10].tolist()
    parts = model.explain(test[worst[:1]])[0]
    most = [("a", "b", "c")[i] for i in np.argsort(-parts)]
    assert re.findall(r"<span>(\w) <b>", rows[0][1]) == most
    shares = [int(share) for share in re.findall(r"<b>(\d+)%</b>", rows[0][1])]
    np.testing.assert_allclose(shares, 100 * np.sort(parts / parts.sum())[::-1], atol=0.51)


def test_a_table_is_shown_by_profiles_and_without_labels_nothing_of_classes(table_page):
    _, text = table_page
    parsed = Parsed(text)
    assert "img" not in parsed.tags
    assert "Are probabilities right?" not in text
    assert "Samples of each class" not in text
    assert "NLL bound, nats a row" in parsed.text
    assert "a profile of a, b, c, from left to right" in text


def test_errors_of_columns_with_units_of_their_own_are_those_of_the_manifest(table_page):
    artifact, _ = table_page
    found = evaluate_artifact(artifact, artifact.with_name("t.csv"), max_rows=15)
    metrics = read_manifest(artifact)["metrics"]
    for rows in ("train", "test"):
        number = found.numbers[f"rmse_{rows}"]["model"].value
        assert number == pytest.approx(metrics[f"rmse_scaled_{rows}"], rel=1e-4)
        assert number < 2 < metrics[f"rmse_{rows}"]


@pytest.mark.skipif(not CHROMIUM or not importlib.util.find_spec("playwright"), reason="no playwright or no Chromium")
def test_nothing_runs_over_on_a_phone_or_a_desk(table_page, digits_fitted):
    """Tables and rows of pictures scroll within themselves; the page does not."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-quic"])
        for page in (table_page[0].with_name("a-report.html"), digits_fitted.report):
            for width in (390, 1280):
                tab = browser.new_page(viewport={"width": width, "height": 900})
                tab.goto(page.as_uri())
                assert tab.evaluate("document.documentElement.scrollWidth") <= width, (page, width)
                assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
                tab.close()
        browser.close()


def test_what_can_not_be_reported_is_refused_before_the_work(digits_artifact, tmp_path):
    for out, message in (("r.pdf", "must end in .html"), ("gone/r.html", "No such folder")):
        with pytest.raises(InputError, match=message):
            write_report(digits_artifact, tmp_path / out)
    with pytest.raises(InputError, match="must be what"):
        write_report(digits_artifact, tmp_path / "r.html", np.ones((50, 64)) * np.arange(50)[:, None])
    assert list(tmp_path.iterdir()) == []


# Observations


def of_shape(shape, columns=None, channels=None, table=None):
    model = SimpleNamespace(input_shape=shape, columns=columns, channels=channels or (), schema=table, table=table)
    train = np.random.default_rng(0).normal(size=(50, *shape)).astype("float32") * np.linspace(1, 9, shape[-1])
    return Observations(model, train), train


@pytest.mark.parametrize("channels", [None, ("flow", "<heat>")])
def test_a_signal_is_a_curve_for_each_channel_on_a_scale_of_its_own(channels):
    shown, x = of_shape((24, 2), channels=channels)
    names = channels or ("channel 0", "channel 1")
    assert not shown.is_image
    assert shown.pair(x[0], x[1], "two").count("<svg") == 2
    assert shown.pair(x[0], x[1], "two").count("<polyline") == 4
    assert shown.tile(x[0], "one").count("<polyline") == 2
    heights = [float(p.split(",")[1]) for p in re.findall(r'points="([^"]*)"', shown.tile(x[0], "one"))[0].split()]
    assert max(heights) - min(heights) > 20  # the narrow channel fills its picture too
    assert [shown.column(i) for i in (0, 5)] == [f"{names[0]}, row 0", f"{names[1]}, row 2"]
    assert ", ".join(names) in shown.legend


def test_two_axes_are_an_image_where_none_is_time():
    shown, x = of_shape((8, 6))
    assert shown.is_image
    assert shown.pair(x[0], x[1], "a").count("<img") == 3
    assert shown.column(13) == "row 2, column 1"
    assert of_shape((24, 8), channels=tuple("abcdefgh"))[0].tile(np.zeros((24, 8)), "w").count("<svg") == 6
    assert of_shape((2, 3, 4, 5))[0].column(1) == "feature (0, 0, 0, 1)"
    assert of_shape((7,))[0].column(3) == "feature 3"


def test_cells_are_shown_as_the_table_had_them():
    cells = {"a": np.array([1.25], "float32"), "b": np.array(["red"], object), "c": np.array([None], object)}
    cells["d"] = np.array([True], object)
    shown, x = of_shape((4,), tuple(cells), table=lambda rows: cells)
    assert shown.cells(x[0]) == ["1.25", "red", "missing", "True"]
    assert shown.pair(x[0], x[1], "row").count("<polyline") == 2


# Pictures


def test_images_are_pngs_of_the_values():
    import base64
    import io

    from PIL import Image

    x = np.array([[0.0, 4.0], [8.0, 16.0]])
    tag = pictures.image(x, 0, 16, 'a "b"')
    assert 'alt="a &quot;b&quot;"' in tag
    data = tag.split("base64,")[1].split('"')[0]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))), [[0, 63], [127, 255]])
    assert pictures.image(np.zeros((2, 2, 3)), 0, 1, "c").startswith("<img")


def test_curves_go_from_corner_to_corner_and_skip_what_is_not_finite():
    drawn = pictures.lines({"a": ([0, 1, 2], [0, np.nan, 10]), "<b>": ([0, 2], [10, 0])}, "two", "t")
    assert drawn.count("<polyline") == 2
    assert "nan" not in drawn
    assert "&lt;b&gt;" in drawn
    assert f'points="46.0,{pictures.HEIGHT - 22:.1f} {pictures.WIDTH - 8:.1f},8.0"' in drawn
    flat = pictures.lines({"a": ([0, 1], [3, 3])}, "flat")
    assert "nan" not in flat
