"""The explorer: what the folder holds, and the page in a real browser, its numbers beside those of the runtime."""

import base64
import importlib.util
import io
import json
import shutil
import urllib.error
import urllib.request

import numpy as np
import onnx
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from keras_ae import artifact, explore, runtime, views
from keras_ae.data import load_source, split
from keras_ae.errors import InputError, KerasAEError

BUILT = explore._BUILT
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def _why_no_browser():
    if not (BUILT / "index.html").is_file():
        return "the page is not built: `make web` needs npm"
    if importlib.util.find_spec("playwright") is None:
        return "playwright is not installed"
    return "" if CHROMIUM else "no Chromium on PATH"


in_browser = pytest.mark.skipif(bool(_why_no_browser()), reason=_why_no_browser() or "runs")


@pytest.fixture
def built(tmp_path, monkeypatch):
    """A stand-in for the built page, where only the folder is looked at."""
    folder = tmp_path / "built"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    monkeypatch.setattr(explore, "_BUILT", folder)


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def data_of(folder):
    return json.loads((folder / "data.json").read_text())


def files_of(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def rewritten(original, folder, **changes):
    """A copy of an artifact whose manifest says something else."""
    shutil.copytree(original, folder)
    content = artifact.read_manifest(folder)
    for key in ("format", "schema", "files", "manifest_sha256"):
        content.pop(key)
    artifact.write_manifest(folder, {**content, **changes})
    return folder


CONDITIONAL = {
    "encode": "(float[N,4] x) => (float[N,2] z) <float[4,2] w = {1,0, 0,1, 1,0, 0,1}> { z = MatMul(x, w) }",
    "decode": "(float[N,2] z, int32[N] label) => (float[N,4] x) <float[2,4] w = {1,0,1,0, 0,1,0,1}, "
    "float[4,4] t = {0,0,0,0, 5,0,0,0, 0,6,0,0, 0,0,7,0}, int32[1] one = {1}> "
    "{ y = MatMul(z, w) i = Add(label, one) e = Gather(t, i) x = Add(y, e) }",
    "reconstruct": "(float[N,4] x) => (float[N,4] x_hat) { x_hat = Identity(x) }",
    "score": "(float[N,4] x) => (float[N] score) { score = ReduceMean<axes = [1], keepdims = 0>(x) }",
    "generate": "(float[N,3] epsilon, int32[N] label) => (float[N,4] x) <float[3,4] w = {1,0,1,0, 0,1,0,1, 1,1,0,0}, "
    "float[4,4] t = {0,0,0,0, 5,0,0,0, 0,6,0,0, 0,0,7,0}, int32[1] one = {1}> "
    "{ y = MatMul(epsilon, w) i = Add(label, one) e = Gather(t, i) x = Add(y, e) }",
}


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """An artifact of four columns and three classes, written out by hand: its decoder adds 5, 6 or 7 to a column."""
    folder = tmp_path_factory.mktemp("conditional")
    (folder / "onnx/float32").mkdir(parents=True)
    for name, graph in CONDITIONAL.items():
        text = f'<ir_version: 8, opset_import: ["": 13]> {name} {graph}'
        onnx.save(onnx.parser.parse_model(text), folder / f"onnx/float32/{name}.onnx")
    content = {
        "name": "by_hand",
        "input": {"shape": [4], "dtype": "float32"},
        "columns": ["a", "b", "c, d", "e"],
        "latent_dim": 2,
        "latent_shape": [2],
        "epsilon_dim": 3,
        "classes": ["red", "green", "blue"],
        "conditional": True,
        "functions": list(CONDITIONAL),
        "versions": {"keras_ae": "0"},
    }
    artifact.write_manifest(folder, content)
    return folder


# The folder


@pytest.mark.usefixtures("built")
def test_the_folder_holds_the_graphs_unchanged_and_rows_that_were_trained_on(digits_artifact, tmp_path):
    page = explore.write_page(digits_artifact, tmp_path / "page")
    data = data_of(page.folder)
    points = data["points"]
    train = split(load_source("digits"), 0).train
    assert (page.points, page.rows, page.note) == (len(train), len(train), None)
    for name in files_of(page.folder / "model"):
        assert (page.folder / "model" / name).read_bytes() == (digits_artifact / "onnx/float32" / name).read_bytes()
    # A byte a number is exact to half of a 255th of a column's range, 16 at most.
    low, high = floats(data["features"]["low"]), floats(data["features"]["high"])
    levels = np.frombuffer(base64.b64decode(points["levels"]), "uint8").reshape(train.shape)
    np.testing.assert_allclose(low + levels / 255 * (high - low), train, atol=16 / 255 / 2 + 1e-5)
    z = floats(points["z"]).reshape(len(train), -1)
    np.testing.assert_allclose(z, runtime.load(digits_artifact).encode(train), atol=1e-5)
    pca = PCA(2).fit(z)
    components = floats(points["components"]).reshape(2, -1)
    np.testing.assert_allclose(np.abs((components * pca.components_).sum(axis=1)), 1, atol=1e-4)  # up to the sign
    np.testing.assert_allclose(points["share"], pca.explained_variance_ratio_, atol=1e-4)
    assert points["label_names"] == [str(i) for i in range(10)]
    assert len(points["labels"]) == len(train)


@pytest.mark.usefixtures("built")
def test_labels_are_those_of_the_rows(digits_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(explore, "MOST_POINTS", 50)
    points = data_of(explore.write_page(digits_artifact, tmp_path / "page").folder)["points"]
    digits = load_digits()
    levels = np.frombuffer(base64.b64decode(points["levels"]), "uint8").reshape(50, 64)
    features = data_of(tmp_path / "page")["features"]
    rows = floats(features["low"]) + levels / 255 * (floats(features["high"]) - floats(features["low"]))
    for row, label in zip(rows, points["labels"], strict=True):
        nearest = np.square(digits.data - row).sum(axis=1).argmin()
        assert int(points["label_names"][label]) == digits.target[nearest]


@pytest.mark.usefixtures("built")
def test_without_rows_nothing_of_the_training_rows_travels(digits_artifact, tmp_path):
    page = explore.write_page(digits_artifact, tmp_path / "page", rows=False)
    points = data_of(page.folder)["points"]
    assert (page.rows, points["rows"], points["levels"], points["labels"]) == (0, 0, "", None)
    assert "request" in points["note"]
    z = floats(points["z"]).reshape(page.points, -1)
    model = runtime.load(digits_artifact)
    trained = model.encode(split(load_source("digits"), 0).train)
    assert np.abs(z[:, None] - trained[None]).max(axis=2).min() > 1e-6
    np.testing.assert_allclose(z, model.encode(model.example("encode", page.points)), atol=1e-5)
    with pytest.raises(InputError, match="no rows wanted"):
        explore.write_page(digits_artifact, tmp_path / "page", "digits", rows=False)


@pytest.mark.usefixtures("built")
def test_a_source_that_is_gone_is_told_and_one_that_is_wrong_refused(digits_artifact, tmp_path):
    moved = rewritten(digits_artifact, tmp_path / "moved", source="gone.csv")
    page = explore.write_page(moved, tmp_path / "page")
    assert "gone.csv" in page.note
    # Of the page anyone may be a reader: it tells no path, and ends the sentence itself.
    assert data_of(page.folder)["points"]["note"] == "they are not at hand"
    with pytest.raises(InputError, match="unchanged"):
        explore.write_page(digits_artifact, tmp_path / "page", load_digits().data.astype("float32")[::-1])


@pytest.mark.usefixtures("built")
def test_only_a_page_is_replaced(digits_artifact, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "data.json").write_text("{}")
    with pytest.raises(InputError, match="a page to replace"):
        explore.write_page(digits_artifact, mine)
    assert files_of(mine) == ["data.json"]
    explore.write_page(digits_artifact, tmp_path / "page")
    (tmp_path / "page/old.txt").write_text("")
    explore.write_page(digits_artifact, tmp_path / "page", rows=False)
    assert "old.txt" not in files_of(tmp_path / "page")
    assert "request" in data_of(tmp_path / "page")["points"]["note"]


@pytest.mark.usefixtures("built")
def test_a_damaged_graph_is_not_copied(digits_artifact, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(digits_artifact, damaged)
    (damaged / "onnx/float32/decode.onnx").write_bytes(b"other")
    with pytest.raises(KerasAEError, match="changed"):
        explore.write_page(damaged, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_a_page_that_is_not_built_says_how(digits_artifact, tmp_path, monkeypatch):
    monkeypatch.setattr(explore, "_BUILT", tmp_path)
    with pytest.raises(KerasAEError, match="make web"):
        explore.write_page(digits_artifact, tmp_path / "page")


def _smooth(rows, size, seed=0):
    """Sums of three slow waves of random phase."""
    random = np.random.default_rng(seed)
    t = np.linspace(0, 1, size)
    waves = [np.sin(2 * np.pi * (f * t + random.random((rows, 1)))) * random.normal(size=(rows, 1)) for f in (1, 2, 3)]
    return np.sum(waves, axis=0).astype("float32")


def _kind(model_shape, flat, columns=None):
    return views.view(model_shape, columns, flat)["kind"]


def test_what_is_shown_as_an_image():
    digits = load_digits().data.astype("float32")
    assert _kind((64,), digits) == "image"
    assert _kind((64,), digits[:, np.random.default_rng(0).permutation(64)]) == "curve"
    assert _kind((64,), digits, tuple(f"c{i}" for i in range(64))) == "table"
    assert _kind((12, 10), digits[:, :120]) == "image"
    assert _kind((12, 10, 3), digits) == "image"
    assert _kind((12, 10, 2), digits) == "curve"
    assert _kind((144,), _smooth(300, 144)) == "curve"
    assert _kind((140,), _smooth(300, 140)) == "curve"
    assert _kind((100,), np.random.default_rng(0).normal(size=(300, 100)).astype("float32")) == "curve"


def test_windows_of_a_series_are_curves_of_their_channels():
    flat = np.zeros((3, 64), "float32")
    assert views.view((32, 2), None, flat, ("flow", "heat")) == {
        "kind": "channels",
        "names": ["flow", "heat"],
        "length": 32,
    }


def test_the_usual_distance_is_the_median_to_the_nearest_other_row():
    rows = np.random.default_rng(0).normal(size=(300, 5)).astype("float32")
    rows[7] = rows[8]  # a copy does not count
    distances = np.sqrt(np.square(rows[:, None] - rows[None]).mean(axis=2))
    distances[distances < 1e-6] = np.inf
    assert explore._usual_distance(rows) == pytest.approx(np.median(distances.min(axis=1)), rel=1e-5)


def test_one_latent_has_a_second_component_of_zeros():
    z = np.random.default_rng(0).normal(size=(50, 1))
    mean, components, share = views.plane(z)
    assert mean == pytest.approx(z.mean())
    assert components.tolist() == [[1.0], [0.0]]
    assert share == [1.0, 0.0]


# The server


def test_the_server_knows_types_and_answers_for_this_machine_alone(tmp_path):
    for name in ("index.html", "a.js", "b.mjs", "c.wasm", "d.onnx"):
        (tmp_path / name).write_text("text")
    with explore.serving(tmp_path) as address:
        types = {}
        for name in ("", "a.js", "b.mjs", "c.wasm", "d.onnx"):
            with urllib.request.urlopen(address + name) as response:
                types[name] = response.headers.get_content_type()
        assert types == {
            "": "text/html",
            "a.js": "text/javascript",
            "b.mjs": "text/javascript",
            "c.wasm": "application/wasm",
            "d.onnx": "application/octet-stream",
        }
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(address, headers={"Host": f"elsewhere.example:{port}"}))
        assert refused.value.code == 403
        with pytest.raises(InputError, match="must be free"), explore.serving(tmp_path, port):
            pass


# The page


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, tmp_path):
    """Opens the page of an artifact; afterwards, nothing may have gone wrong or elsewhere."""
    opened, wrong, asked = [], [], []

    def call(path, width=1280, **options):
        page = explore.write_page(path, tmp_path / f"page{len(opened)}", **options)
        server = explore.serving(page.folder)
        address = server.__enter__()
        context = chromium.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        opened.append((context, server))
        tab = context.new_page()
        tab.on("console", lambda message: message.type == "error" and wrong.append(message.text))
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on("request", lambda request: asked.append((request.url, address)))
        tab.goto(address)
        tab.wait_for_selector("#steps li", timeout=60_000)
        return tab

    yield call
    for context, server in opened:
        context.close()
        server.__exit__(None, None, None)
    assert wrong == []
    assert [url for url, address in asked if not url.startswith((address, "blob:", "data:"))] == []


def saved(tab, what):
    """The row that a button saves, and its names."""
    with tab.expect_download() as download:
        tab.click(f"#save-{what}")
    names, row = download.value.path().read_text().splitlines()
    return names, np.array(row.split(","), "float32")[None]


def settled(tab, text):
    """Waits until the page has said where it is, which it does after it has come to rest."""
    tab.wait_for_function("text => document.getElementById('announce').textContent.includes(text)", arg=text)


def agrees(tab, model):
    """Whether what is shown is what the runtime decodes."""
    (_, z), (_, x) = saved(tab, "z"), saved(tab, "x")
    np.testing.assert_allclose(x, model.decode(z).reshape(1, -1), atol=1e-4)
    return z, x


@in_browser
def test_the_map_by_mouse_and_by_keyboard(visit, digits_artifact):
    model = runtime.load(digits_artifact)
    tab = visit(digits_artifact)
    settled(tab, "Training row")
    _, x = agrees(tab, model)
    first = tab.eval_on_selector("#now canvas", "canvas => canvas.toDataURL()")
    box = tab.locator("#map").bounding_box()
    centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    tab.mouse.move(*centre)
    tab.mouse.down()
    tab.mouse.move(centre[0] + 40, centre[1] - 60, steps=5)
    tab.mouse.move(centre[0] + 90, centre[1] - 70, steps=5)
    tab.mouse.up()
    settled(tab, "this place")
    z_dragged, x_dragged = agrees(tab, model)
    assert np.abs(x_dragged - x).max() > 0.1
    assert tab.eval_on_selector("#now canvas", "canvas => canvas.toDataURL()") != first
    # The place of the pointer is the place of z: of its two components, in the map's units.
    points = data_of_tab(tab)["points"]
    components = floats(points["components"]).reshape(2, -1)
    places = (floats(points["z"]).reshape(-1, 8) - floats(points["mean"])) @ components.T
    half = 1.08 * np.abs(places).max()
    wanted = np.array([90, 70]) / box["width"] * 2 * half
    np.testing.assert_allclose((z_dragged[0] - floats(points["mean"])) @ components.T, wanted, atol=0.02 * half)

    tab.focus("#map")
    tab.keyboard.press("Shift+ArrowLeft")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    settled(tab, "Training row")
    z_taken, _ = agrees(tab, model)
    rows = floats(points["z"]).reshape(-1, 8)
    assert np.abs(rows - z_taken).max(axis=1).min() < 1e-6


def data_of_tab(tab):
    return tab.evaluate("fetch('./data.json').then(response => response.json())")


@in_browser
def test_sliders_walk_samples_and_neighbours(visit, digits_artifact):
    model = runtime.load(digits_artifact)
    tab = visit(digits_artifact)
    slider = tab.get_by_role("slider", name="Latent 3", exact=True)
    slider.focus()
    tab.keyboard.press("End")
    settled(tab, "latent 3")
    z, _ = agrees(tab, model)
    assert z[0, 3] == pytest.approx(float(slider.get_attribute("max")), rel=0.02)

    assert tab.locator("#steps li").count() == 7
    tab.click("#steps li:last-child button")
    settled(tab, "100 %")
    b, _ = agrees(tab, model)
    tab.click("#steps li:first-child button")
    settled(tab, "Decoded 0 %")
    a, _ = agrees(tab, model)
    tab.click("#steps li:nth-child(4) button")
    settled(tab, "50 %")
    middle, _ = agrees(tab, model)
    np.testing.assert_allclose(middle, (a + b) / 2, atol=1e-5)

    tab.click("#sample")
    settled(tab, "new sample")
    (_, z), (_, x) = saved(tab, "z"), saved(tab, "x")
    np.testing.assert_allclose(z, model.encode(x), atol=1e-4)
    train = split(load_source("digits"), 0).train
    distances = np.sort(np.sqrt(np.square(train - x).mean(axis=1)))[:6]
    shown = [float(text) for text in tab.locator("#near .quiet").all_text_contents()]
    np.testing.assert_allclose(shown, distances, atol=0.05)  # rows at a byte a number, four digits
    tab.click("#near li:nth-child(2) button")
    settled(tab, "Training row")


@in_browser
def test_your_own_row_and_image_are_scored_as_by_the_runtime(visit, digits_artifact, tmp_path):
    from PIL import Image

    model = runtime.load(digits_artifact)
    tab = visit(digits_artifact)
    rows = load_digits().data[:3].astype("float32")
    (tmp_path / "rows.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    tab.set_input_files("#file", tmp_path / "rows.csv")
    tab.wait_for_selector("#score")
    settled(tab, "row 1")
    check_scored(tab, model, rows[:1])
    tab.fill("#line", "3")
    tab.keyboard.press("Enter")
    settled(tab, "row 3")
    check_scored(tab, model, rows[2:])

    tab.fill("#paste", "1,2,3")
    tab.click("#read")
    assert "must have 64 numbers. Received: 3" in tab.inner_text("#own-error")
    tab.fill("#paste", ",".join(["1"] * 63 + ["one"]))
    tab.click("#read")
    tab.wait_for_function("document.getElementById('own-error').textContent.includes('names only')")

    pixels = np.arange(64, dtype="uint8").reshape(8, 8) * 4
    image = io.BytesIO()
    Image.fromarray(pixels).save(image, "PNG")
    tab.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": image.getvalue()})
    settled(tab, "Your observation")
    check_scored(tab, model, pixels.reshape(1, 64) / 255 * 16)
    assert tab.inner_text("#own-error") == ""


def check_scored(tab, model, x):
    expected = model.score(x.astype("float32"))
    step = 1.01 / (1 + model.manifest["calibration_rows"])  # of a p-value, where a score is that of a calibration row
    for name, key, least in (("score", "score", 1e-4), ("p-value", "p_value", step)):
        assert float(tab.get_attribute(f"#{name}", "value")) == pytest.approx(float(expected[key][0]), abs=least)
    _, z = saved(tab, "z")
    np.testing.assert_allclose(z, model.encode(x.astype("float32")), atol=1e-4)


@in_browser
def test_a_table_shows_its_columns_by_name(visit, digits_artifact, tmp_path):
    names = [f"pixel {i}" for i in range(64)]
    tab = visit(rewritten(digits_artifact, tmp_path / "table", columns=names))
    settled(tab, "Training row")
    _, x = saved(tab, "x")
    values = tab.locator("#now td data")
    assert tab.locator("#now th").all_text_contents() == names
    np.testing.assert_allclose([float(v.get_attribute("value")) for v in values.all()], x[0], atol=1e-6)
    row = load_digits().data[0]
    order = np.random.default_rng(0).permutation(64)
    cells = (str(row[i]).replace(".", ",") for i in order)  # as spreadsheets of many countries write them
    tab.fill("#paste", ";".join(names[i] for i in order) + "\n" + ";".join(cells))
    tab.click("#read")
    settled(tab, "Your observation")
    check_scored(tab, runtime.load(digits_artifact), row[None])
    tab.fill("#paste", "a,b\n1,2")
    tab.click("#read")
    tab.wait_for_function("document.getElementById('own-error').textContent.includes('must have column pixel 0')")


@in_browser
def test_categories_dates_and_booleans_are_shown_and_read_as_people_write_them(visit, digits_artifact, tmp_path):
    names = [f"pixel {i}" for i in range(64)]
    kinds = {
        20: {"kind": "categorical", "levels": [f"level {i}" for i in range(17)], "nullable": True},
        21: {"kind": "datetime", "origin": "2025-01-06", "clock": True},
        22: {"kind": "boolean", "levels": ["no", "yes"]},
        23: {"kind": "datetime", "origin": "2025-01-06", "format": "%Y%m%d"},
        24: {"kind": "datetime", "origin": "1900-01-01", "format": "%H:%M", "clock": True},
        25: {"kind": "numeric", "decimal": "."},
    }
    columns = [{"name": name, "kind": "numeric"} | kinds.get(i, {}) for i, name in enumerate(names)]
    table = {"columns": columns, "dropped": []}
    artifact_of_table = rewritten(digits_artifact, tmp_path / "table", columns=names, table=table)
    model = runtime.load(artifact_of_table)
    tab = visit(artifact_of_table)
    x = load_digits().data[:1].astype("float32")
    x[0, 20:26] = [3, 2.5, 1, 4, 0.25, -1.5]
    cells = [f"{value:g}" for value in x[0]]
    cells[20:26] = ["level 3", "2025-01-08 12:00", "yes", "20250110", "6:00", "($1.50)"]
    tab.fill("#paste", ",".join(names) + "\n" + ",".join(cells))
    tab.click("#read")
    settled(tab, "Your observation")
    check_scored(tab, model, x)
    shown = tab.locator("#own-result td.value").all_text_contents()
    assert shown[20].startswith("level 3 → level ")
    assert shown[21].startswith("2025-01-08 12:00 → 20")
    assert shown[22].startswith("yes → ")
    assert shown[23].startswith("20250110 → 20")
    assert shown[24].startswith("06:00 → ")
    assert shown[25].startswith("\u22121.5 → ")

    cells[20] = ""
    x[0, 20] = np.nan
    tab.fill("#paste", ",".join(names) + "\n" + ",".join(cells))
    tab.click("#read")
    tab.wait_for_function("document.querySelector('#own-result').textContent.includes('missing')")
    for at, wrong, said in (
        (21, "soon", "pixel 21 must be a date"),
        (22, "maybe", "pixel 22 must be true or false"),
        (23, "20250132", "pixel 23 must be a date or time, %Y%m%d"),
    ):
        broken = [*cells[:at], wrong, *cells[at + 1 :]]
        tab.fill("#paste", ",".join(names) + "\n" + ",".join(broken))
        tab.click("#read")
        tab.wait_for_function(f"document.getElementById('own-error').textContent.includes('{said}')")


@in_browser
def test_a_signal_is_a_curve(visit, digits_artifact, monkeypatch):
    monkeypatch.setattr(views, "_is_image", lambda flat, side: False)
    tab = visit(digits_artifact)
    settled(tab, "Training row")
    before = tab.get_attribute("#now .line:last-child", "d")
    assert before.count("L") == 63
    tab.click("#sample")
    settled(tab, "new sample")
    assert tab.get_attribute("#now .line:last-child", "d") != before


@in_browser
def test_a_conditional_decoder_takes_the_chosen_class(visit, conditional, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(2000, 4)).astype("float32")
    monkeypatch.setattr(runtime.Model, "example", lambda self, function, n: rows[:n])
    tab = visit(conditional)
    settled(tab, "Sample")
    names, free = saved(tab, "x")
    assert names == 'a,b,"c, d",e'
    tab.select_option("#class", label="green")
    tab.wait_for_timeout(300)
    _, green = saved(tab, "x")
    np.testing.assert_allclose(green - free, [[0, 6, 0, 0]], atol=1e-5)
    assert "holds no training rows" in tab.inner_text("#near-text")
    assert "No training rows" in tab.inner_text("#holds")


@in_browser
@pytest.mark.parametrize("width", [390, 768, 1280, 1920])
def test_nothing_is_wider_than_the_window_and_everything_has_a_name(visit, digits_artifact, width):
    tab = visit(digits_artifact, width=width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = """[...document.querySelectorAll('button, input, select, textarea, canvas[tabindex], [role=img]')]
        .filter(e => !(e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim()))
        .map(e => e.outerHTML)"""
    assert tab.evaluate(unnamed) == []


@in_browser
def test_without_rows_the_page_says_so(visit, digits_artifact):
    tab = visit(digits_artifact, rows=False)
    settled(tab, "Sample")
    agrees(tab, runtime.load(digits_artifact))
    assert "No training rows" in tab.inner_text("#holds")
    assert tab.locator("#near li").count() == 0
