"""The report: one page that needs nothing else, holds what evaluation found, and shows rows as what they are."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

import keras_ae
from keras_ae.cli import app
from keras_ae.errors import InputError
from keras_ae.evaluation.result import LABELS
from keras_ae.report import pictures, write_report


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


def test_a_table_is_shown_by_profiles_and_without_labels_nothing_of_classes(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) * [1, 10, 1000] + [0, 5, -100]
    np.savetxt(tmp_path / "t.csv", x, delimiter=",", header="a,b,c", comments="")
    keras_ae.fit(tmp_path / "t.csv", tmp_path / "a", epochs=2, latent_dim=2, hidden=[8])
    arguments = ["report", str(tmp_path / "a"), str(tmp_path / "t.csv"), "--max-rows", "15"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "a-report.html").read_text(encoding="utf-8")
    parsed = Parsed(text)
    assert "img" not in parsed.tags
    assert "Are probabilities right?" not in text
    assert "Samples of each class" not in text
    assert "drawn from P_d" in result.output


def test_what_can_not_be_reported_is_refused_before_the_work(digits_artifact, tmp_path):
    for out, message in (("r.pdf", "must end in .html"), ("gone/r.html", "No such folder")):
        with pytest.raises(InputError, match=message):
            write_report(digits_artifact, tmp_path / out)
    with pytest.raises(InputError, match="must be what"):
        write_report(digits_artifact, tmp_path / "r.html", np.ones((50, 64)) * np.arange(50)[:, None])
    assert list(tmp_path.iterdir()) == []


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
