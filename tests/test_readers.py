"""Images in nested folders and TFRecord files: the same rows in memory and streamed, and errors by file."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import keras_ae
from keras_ae import files, runtime
from keras_ae.data import joining, load_source, split
from keras_ae.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (1_500, 6, 5), "uint8")


def streamed(data):
    return np.concatenate([block["x"] for block in data.stream.blocks(100, None, 0)])


def as_set(*parts):
    return {row.tobytes() for part in parts for row in part}


def all_of(data):
    held_out = [data.stream.samples[name][0] for name in ("validation", "calibration", "test")]
    return as_set(streamed(data), *held_out)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for i, pixels in enumerate(PIXELS):
        path = folder / f"{'dark' if pixels.mean() < 127 else 'light'}/of{i % 7}/{i:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def test_images_of_folders_and_globs_are_streamed_with_their_labels(pictures):
    whole = load_source(pictures).rows
    assert as_set(whole.x) == as_set(PIXELS)
    for source in (pictures, pictures / "**/*.png", pictures / "*/of?"):
        data = load_source(source, stream=True)
        assert data.rows.x.shape[1:] == (6, 5)
        assert all_of(data) == as_set(PIXELS)
        assert data.stream.describe()["files"] == 1_500
        for block in data.stream.labelled(("dark", "light")).blocks(64, 1, 0):
            np.testing.assert_array_equal(block["label"], block["x"].mean(axis=(1, 2)) >= 127)
    some = load_source(pictures / "dark/of[01]/*.png")
    assert set(some.rows.y) == {"of0", "of1"}
    assert len(some.rows.x) == sum(1 for i, p in enumerate(PIXELS) if p.mean() < 127 and i % 7 < 2)


def test_large_folders_of_images_are_streamed_unasked_and_split_by_pixels(pictures, monkeypatch):
    monkeypatch.setattr(joining, "MEMORY_BYTES", PIXELS.size - 1)
    data = load_source(pictures)
    assert data.stream is not None
    few = load_source(pictures / "dark", stream=True)
    assert as_set(split(few, 0).test) <= as_set(split(data, 0).test)


@pytest.mark.slow
def test_images_are_learned_from_as_they_are_read(pictures):
    fitted = keras_ae.fit(pictures, recipe="ae", network="dense", epochs=1, hidden=[8], stream=True, labels=False)
    assert fitted.manifest["stream"]["rows"] == 1_500
    assert fitted.manifest["metrics"]["rmse_test"] == pytest.approx(
        fitted.manifest["metrics"]["rmse_test_pca"], rel=0.05
    )


def test_an_image_that_is_none_any_more_is_named(tmp_path):
    for i, pixels in enumerate(PIXELS[:1_000]):
        Image.fromarray(pixels).save(tmp_path / f"{i:04d}.png")
    data = load_source(tmp_path, stream=True)
    (tmp_path / "0500.png").write_bytes(b"none")
    with pytest.raises(InputError, match=r"0500.png is not a readable image"):
        streamed(data)
    with pytest.raises(InputError, match=r"0500.png is not a readable image"):
        load_source(tmp_path, stream=True)
    Image.fromarray(PIXELS[0][:5]).save(tmp_path / "0500.png")
    with pytest.raises(InputError, match=r"0500.png must be of \(6, 5\). Received: \(5, 5\)"):
        streamed(data)


def write(path, examples):
    with tf.io.TFRecordWriter(str(path)) as file:
        for features in examples:
            of = {
                name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                if isinstance(value, bytes)
                else tf.train.Feature(int64_list=tf.train.Int64List(value=value))
                if all(isinstance(number, int) for number in value)
                else tf.train.Feature(float_list=tf.train.FloatList(value=value))
                for name, value in features.items()
            }
            file.write(tf.train.Example(features=tf.train.Features(feature=of)).SerializeToString())


NUMBERS = np.random.default_rng(0).normal(size=(1_200, 4)).astype("float32")


@pytest.fixture
def records(tmp_path):
    folder = tmp_path / "records"
    (folder / "more").mkdir(parents=True)
    for i, part in enumerate(np.array_split(NUMBERS, 3)):
        rows = [{"v": row[:3].tolist(), "t": [float(row[3])], "y": [int(row[3] > 0)]} for row in part]
        write(folder / f"{'more/' * (i > 1)}{i}.tfrecord", rows)
    return folder


def test_records_are_rows_of_their_features(records):
    whole = load_source(records, labels="y")
    assert whole.rows.columns == ("t", "v0", "v1", "v2")
    np.testing.assert_array_equal(whole.rows.x, NUMBERS[:, [3, 0, 1, 2]])
    np.testing.assert_array_equal(whole.rows.y, (NUMBERS[:, 3] > 0).astype(int))
    data = load_source(records / "**/*.tfrecord", labels="y", stream=True)
    assert all_of(data) == as_set(whole.rows.x)
    for block in data.stream.labelled(("0", "1")).blocks(64, 1, 0):
        np.testing.assert_array_equal(block["label"], block["x"][:, 0] > 0)
    assert len(load_source(records / "0.tfrecord", labels="y").rows.x) == 400


def test_labels_of_records_may_be_text(tmp_path):
    write(tmp_path / "x.tfrecord", [{"v": row.tolist(), "y": b"up" if row[0] > 0 else b"down"} for row in NUMBERS])
    data = load_source(tmp_path / "x.tfrecord", labels="y", stream=True)
    for block in data.stream.labelled(("down", "up")).blocks(64, 1, 0):
        np.testing.assert_array_equal(block["label"], block["x"][:, 0] > 0)


def test_a_feature_of_bytes_is_a_row_of_uint8(tmp_path):
    write(tmp_path / "x.tfrecord", [{"image": pixels.tobytes()} for pixels in PIXELS])
    np.testing.assert_array_equal(load_source(tmp_path / "x.tfrecord").rows.x, PIXELS.reshape(len(PIXELS), -1))
    write(tmp_path / "y.tfrecord", [{"image": PIXELS[0].tobytes()}, {"image": b"short"}])
    with pytest.raises(InputError, match=r"y.tfrecord, record 1, feature image: must have 30 bytes.*Received: 5"):
        load_source(tmp_path / "y.tfrecord")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", r"1.tfrecord, after record 0, could not be read"),
        ("empty", r"1.tfrecord is empty"),
        ("unreachable", r"No such file: .*1.tfrecord"),
        ("other features", r"1.tfrecord, after record 0, could not be read: .*v"),
        ("not finite", r"1.tfrecord, row 1, column t: must be finite"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_bad_file_of_records_is_named(records, how, said, stream):
    file = records / "1.tfrecord"
    if how == "cut":
        file.write_bytes(file.read_bytes()[:-7])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "unreachable":
        file.unlink()
        file.symlink_to("gone")
    elif how == "other features":
        write(file, [{"w": [1.5, 2.5, 3.5], "t": [1.5], "y": [1]}])
    else:
        write(file, [{"v": [1.5] * 3, "t": [t], "y": [1]} for t in (1.5, float("nan"))])
    with pytest.raises(InputError, match=said):
        load_source(records, labels="y", stream=stream)


def test_records_that_make_no_rows_are_refused(tmp_path):
    write(tmp_path / "x.tfrecord", [{"a": b"text", "b": [1.5]}])
    with pytest.raises(InputError, match=r"must have features of numbers, or one of bytes. Received: a \(bytes\), b"):
        load_source(tmp_path / "x.tfrecord")
    with pytest.raises(InputError, match=r"must have a feature 'c' of one label. Received: a, b"):
        load_source(tmp_path / "x.tfrecord", labels="c")
    (tmp_path / "x.tfrecord").write_bytes(b"no records at all")
    with pytest.raises(InputError, match=r"x.tfrecord is not a readable file of tf.train.Example"):
        load_source(tmp_path / "x.tfrecord")


@pytest.fixture(scope="module")
def grey(pictures, tmp_path_factory):
    """A model of images."""
    out = tmp_path_factory.mktemp("grey") / "artifact"
    keras_ae.fit(pictures / "dark", out, "ae", 2, epochs=0, network="dense", hidden=[4], report=False, labels=False)
    return runtime.load(out)


def test_images_go_through_an_artifact_in_the_order_of_their_paths(run, grey, pictures, tmp_path):
    paths = sorted(pictures.rglob("*.png"))
    x = np.stack([np.asarray(Image.open(path)) for path in paths])
    expected = grey.score(x)["score"]
    told = []
    files.run_file(grey, "score", pictures, tmp_path / "of_folder.npz", on_rows=lambda *n: told.append(n))
    assert told[-1] == (1_500, 1_500)
    done = run("score", grey.path, pictures / "**/*.png", "--out", tmp_path / "of_glob.npz")
    assert done.exit_code == 0, done.stderr
    for name in ("of_folder", "of_glob"):
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npz")["score"], expected, rtol=1e-5)
    done = run("encode", grey.path, paths[7], "--out", tmp_path / "z.npy")
    assert done.exit_code == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), grey.encode(x[7:8]), rtol=1e-5, atol=1e-6)
    done = run("monitor", grey.path, pictures / "dark", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["rows"] == len([*(pictures / "dark").rglob("*.png")])


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("damaged", r"0.png is not a readable image"),
        ("coloured", r"0.png must be grey, as the images learned from. Received: RGB"),
        ("of another size", r"0.png must be of \(6, 5\). Received: \(5, 5\)"),
        ("deep", r"0.tif must have 8 bits a channel"),
    ],
)
def test_an_image_that_an_artifact_does_not_take_is_named(grey, tmp_path, how, said):
    out = tmp_path / "scores.csv"
    out.write_text("as it was")
    pixels = {
        "coloured": np.stack([PIXELS[0]] * 3, axis=2),
        "of another size": PIXELS[0][:5],
        "deep": PIXELS[0].astype("int32"),
    }
    for name in ("a", "b"):
        Image.fromarray(PIXELS[0]).save(tmp_path / f"{name}.png")
    if how == "damaged":
        (tmp_path / "a0.png").write_bytes(b"none")
    else:
        Image.fromarray(pixels[how]).save(tmp_path / ("a0.tif" if how == "deep" else "a0.png"))
    with pytest.raises(InputError, match=said):
        files.run_file(grey, "score", tmp_path, out)
    assert out.read_text() == "as it was"


def test_images_go_through_a_model_of_images_alone(grey, digits_artifact, pictures, tmp_path):
    with pytest.raises(InputError, match=r"Images are for a model of images.* Received: one of float32 \(64,\)"):
        files.run_file(runtime.load(digits_artifact), "score", pictures, tmp_path / "scores.csv")
    with pytest.raises(InputError, match=r"Latents must be in files of .npy"):
        files.run_file(grey, "decode", pictures, tmp_path / "x.npy")


def digits():
    return load_source("digits").rows.x[:300]


def test_records_and_data_sets_go_through_an_artifact(run, digits_artifact, tmp_path):
    import pyarrow as pa
    import pyarrow.dataset

    x = digits()
    model = runtime.load(digits_artifact)
    expected = model.score(x)["score"]
    for i, part in enumerate(np.array_split(x, 3)):
        write(tmp_path / f"{i}.tfrecord", [{"pixels": row.tolist()} for row in part])
    done = run("score", digits_artifact, tmp_path / "*.tfrecord", "--out", tmp_path / "scores.npz")
    assert done.exit_code == 0, done.stderr
    np.testing.assert_allclose(np.load(tmp_path / "scores.npz")["score"], expected, rtol=1e-4)
    table = pa.table({f"p{i}": column for i, column in enumerate(x.T)})
    dataset = pa.dataset.dataset(table)
    files.run_file(model, "score", dataset, tmp_path / "scores.npz")
    np.testing.assert_allclose(np.load(tmp_path / "scores.npz")["score"], expected, rtol=1e-4)
    words = table.set_column(0, "p0", [["a"] * len(x)])
    with pytest.raises(InputError, match=r"column p0: must be numeric. Received: 'a'"):
        files.run_file(model, "score", pa.dataset.dataset(words), tmp_path / "scores.npz")
    cut = tmp_path / "1.tfrecord"
    cut.write_bytes(cut.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"1.tfrecord, after record 0, could not be read"):
        files.run_file(model, "score", tmp_path / "*.tfrecord", tmp_path / "scores.npz")
    np.testing.assert_allclose(np.load(tmp_path / "scores.npz")["score"], expected, rtol=1e-4)


def test_features_of_records_are_matched_by_name_and_labels_left_out(digits_artifact, tmp_path):
    model = runtime.load(digits_artifact)
    model.columns = tuple(f"p{i}" for i in range(64))
    model.manifest["labels_column"] = "y"
    x = digits()[:20]
    for name, of in (("new", {}), ("known", {"y": [1]})):
        rows = [{**{f"p{i}": [float(pixel)] for i, pixel in enumerate(row)}, **of} for row in x]
        write(tmp_path / f"{name}.tfrecord", rows)
        files.run_file(model, "encode", tmp_path / f"{name}.tfrecord", tmp_path / "z.npy")
        np.testing.assert_allclose(np.load(tmp_path / "z.npy"), model.encode(x), rtol=1e-4, atol=1e-5)
    write(tmp_path / "more.tfrecord", [{"p0": [1.5], "q": [1.5]}])
    with pytest.raises(InputError, match=r"more.tfrecord misses column p1, p2, "):
        files.run_file(model, "encode", tmp_path / "more.tfrecord", tmp_path / "z.npy")
