"""Series of different lengths: one array, features, losses, networks, and an artifact that takes and makes them."""

import math

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow.dataset import dataset

import keras_ae
from keras_ae import runtime
from keras_ae.data import load_source, padded, read_rows, unpadded
from keras_ae.data.sequences import Sequences, fit_sequences, lengths, of_steps
from keras_ae.errors import InputError
from keras_ae.explore import write_page
from keras_ae.files import run_file
from keras_ae.layers import LengthLoss, SequenceLoss, SequenceRMSELoss, SequenceScaling
from keras_ae.layers.sequences import log_prob_of_length, mean_of_features
from keras_ae.monitoring import monitor
from keras_ae.networks import NETWORKS
from keras_ae.serving.calls import prepare
from keras_ae.serving.rest import encoded
from keras_ae.serving.versions import Version

STEPS = 9


def waves(n: int, seed: int = 0) -> list[np.ndarray]:
    """Short quick waves and long slow ones, (steps, 2)."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        is_long = random.random() < 0.5
        t = np.arange(random.integers(7, STEPS + 1) if is_long else random.integers(2, 5))
        phase = random.uniform(0, 2 * np.pi)
        channels = [np.sin(0.5 * t + phase), 5.0 * is_long + np.cos(1.5 * t + phase)]
        made.append((np.stack(channels, axis=1) + 0.05 * random.normal(size=(len(t), 2))).astype("float32"))
    return made


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sequences")
    made = keras_ae.fit(waves(120), out=folder / "waves", latent_dim=4, epochs=12, filters=[8])
    return made, runtime.load(folder / "waves")


def test_series_become_one_array_and_come_back():
    series = waves(20)
    x = padded(series)
    assert x.shape == (20, STEPS, 2)
    assert lengths(x).tolist() == [len(one) for one in series]
    for one, back in zip(series, unpadded(x), strict=True):
        np.testing.assert_array_equal(one, back)
    np.testing.assert_array_equal(padded(of_steps(x, 30)), x)  # the longest length is kept, not the array's
    assert padded([[1.0, None, 3.0], [4.0]]).shape == (2, 3, 1)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([np.ones((2, 2)), np.ones((2, 3))], "3 in row 1, 2 before"),
        ([np.ones((2, 2)), np.full((2, 2), np.nan)], "row 1: must have a value"),
        ([np.ones((2, 2)), np.full((2, 2), np.inf)], "row 1, step 0, channel 0: must be finite"),
        ([["a"]], "row 0: must be numbers"),
        ([np.ones((1, 2, 3))], r"Received: shape \(1, 2, 3\)"),
    ],
)
def test_what_is_no_series_is_named(series, message):
    with pytest.raises(InputError, match=message):
        padded(series)


def test_series_that_the_model_does_not_take_are_named():
    known = Sequences(3, ("a", "b"), (0.0, 0.0), (1.0, 1.0))
    with pytest.raises(InputError, match=r"at most 3 steps.*Received: 4 in row 1"):
        known.padded([np.ones((2, 2)), np.ones((4, 2))])
    with pytest.raises(InputError, match=r"must have 2 channels\. Received: 1"):
        known.padded([[1.0, 2.0]])


def test_the_layer_scales_what_is_there_and_says_which_steps_are():
    x = padded(waves(30))
    x[3, 1, 0] = np.nan  # a gap
    known = fit_sequences(x, ("a", "b"))
    values = x.reshape(-1, 2)
    np.testing.assert_allclose(known.shift, np.nanmean(values, axis=0), rtol=1e-5)
    layer = SequenceScaling(STEPS, ("a", "b"))
    layer.set_statistics(known)
    f = np.asarray(layer(x))
    np.testing.assert_array_equal(np.isnan(f[..., :2]), np.isnan(x))
    np.testing.assert_array_equal(f[..., 2].sum(axis=1), lengths(x))
    np.testing.assert_array_equal(np.nan_to_num(f, nan=0.0), known.scaled(x))
    np.testing.assert_allclose(layer(f, inverse=True, like=x), x, atol=1e-5)
    np.testing.assert_allclose(layer(f, inverse=True), x, atol=1e-5)
    same = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert (same.names, same.raw_shape) == (("a", "b"), (STEPS, 2))


def test_the_probabilities_of_all_lengths_sum_to_one_and_are_the_mean():
    logits = np.random.default_rng(0).normal(size=(1, 6)).astype("float32")
    there = np.tril(np.ones((6, 6), "float32"))
    p = np.exp(np.asarray(log_prob_of_length(there, np.repeat(logits, 6, axis=0))))
    assert p.sum() == pytest.approx(1.0, abs=1e-6)
    go_on = 1 / (1 + np.exp(-logits[0]))
    assert p[2] == pytest.approx(go_on[1] * go_on[2] * (1 - go_on[3]), rel=1e-5)
    params = np.concatenate([np.zeros((1, 6, 1), "float32"), logits[..., None]], axis=-1)
    is_there = np.asarray(mean_of_features(params))[0, :, -1]
    np.testing.assert_allclose(is_there, p[::-1].cumsum()[::-1], rtol=1e-5)
    # A level that is uniform draws lengths of just these probabilities.
    layer = SequenceScaling(6, 1)
    epsilon = np.random.default_rng(1).standard_normal((20_000, 1), dtype="float32")
    features = np.repeat(np.asarray(mean_of_features(params)), len(epsilon), axis=0)
    drawn = lengths(np.asarray(layer(features, inverse=True, level=layer.level(epsilon))))
    np.testing.assert_allclose(np.bincount(drawn, minlength=7)[1:] / len(drawn), p, atol=0.015)


def test_losses_count_the_steps_that_are_there_alone():
    x, more = padded(waves(16)), of_steps(padded(waves(16)), STEPS + 4)
    random = np.random.default_rng(0)
    x_hat = random.normal(size=(16, STEPS + 4, 3)).astype("float32")
    known = ~np.isnan(x)
    error = np.square(x - x_hat[:, :STEPS, :2])[known]
    for rows in (x, more):
        steps = rows.shape[1]
        f = np.asarray(SequenceScaling(steps, 2)(rows))
        params = x_hat[:, :steps]
        rmse, length, nll = SequenceRMSELoss(skip_missing=True), LengthLoss(), SequenceLoss()
        nll.build(f.shape, params.shape)
        for layer in (rmse, length, nll):
            layer(f, params)
        assert float(rmse.losses[0]) == pytest.approx(math.sqrt(error.mean()), rel=1e-5)
        np.testing.assert_allclose(rmse.log_prob(f, params), nll.log_prob(f, params), rtol=1e-5)  # of a variance of 1
        if steps == STEPS + 4:
            continue
        of_values = 0.5 * (error + math.log(2 * math.pi)).sum() / 16
        assert float(nll.losses[0]) == pytest.approx(of_values + float(length.losses[0]), rel=1e-5)


SMALL = {
    "dense": {"hidden": [9]},
    "conv": {"filters": [6, 8]},
    "resnet": {"filters": [6, 8], "blocks": 1},
    "transformer": {"patch": 3, "width": 8, "heads": 2, "depth": 1},
    "tcn": {"filters": 6},
    "lstm": {"units": [5, 4]},
    "gru": {"units": [5]},
    "linear": {},
}


@pytest.mark.parametrize("network", SMALL)
def test_a_network_does_not_see_what_is_behind_the_end(network):
    """The same weights, in a model of longer series: those that it has besides are all behind the end."""
    random = np.random.default_rng(0)
    x = padded([random.normal(size=(steps, 2)) for steps in (12, 3, 7, 1, 10)])
    short, long = (keras_ae.build("ae", (n, 2), 3, network, sequences=True, **SMALL[network]) for n in (12, 16))
    for of_short, of_long in zip(short.encoder.weights, long.encoder.weights, strict=True):
        of_short.assign(random.normal(size=of_short.shape) * 0.3)
        weight = random.normal(size=of_long.shape)
        weight[tuple(slice(n) for n in of_short.shape)] = of_short
        of_long.assign(weight)
    z = short.encode(x)
    assert z.std() > 0.1
    np.testing.assert_allclose(long.encode(of_steps(x, 16)), z, atol=1e-5)
    assert np.isnan(short.reconstruct(x)).any(axis=-1).sum(axis=1).tolist() == [0, 9, 5, 11, 2]


def test_the_network_of_tables_alone_refuses_series():
    assert set(NETWORKS) - set(SMALL) == {"tabular"}
    with pytest.raises(ValueError, match="`input_shape` of a table must be"):
        keras_ae.build("ae", (STEPS, 2), 3, "tabular", sequences=True)


def test_sources_of_series(tmp_path):
    series = waves(20)
    x = padded(series)
    np.save(tmp_path / "x.npy", of_steps(x, 12))
    np.savez(tmp_path / "x.npz", X=x, y=np.arange(20) % 2)
    of_channels = {"flow": [one[:, 0] for one in series], "heat": [one[:, 1] for one in series]}
    pq.write_table(pa.table({"kind": ["a", "b"] * 10, **of_channels}), tmp_path / "two.parquet")
    pq.write_table(pa.table({"x": [one.tolist() for one in series], "id": range(20)}), tmp_path / "one.parquet")
    found = {
        "list": load_source(series),
        "array": load_source(of_steps(x, 12)),
        "npy": load_source(tmp_path / "x.npy"),
        "npz": load_source(tmp_path / "x.npz"),
        "two": load_source(tmp_path / "two.parquet", labels="kind"),
        "one": load_source(tmp_path / "one.parquet", drop=["id"]),
        "data set": load_source(dataset(tmp_path / "two.parquet"), labels="kind"),
        "dict": load_source(of_channels),
    }
    for name, source in found.items():
        np.testing.assert_array_equal(source.rows.x, x, err_msg=name)
    assert found["two"].rows.channels == found["dict"].rows.channels == ("flow", "heat")
    assert found["two"].rows.y.tolist() == ["a", "b"] * 10
    assert found["list"].rows.channels == ("channel 0", "channel 1")
    with pytest.raises(InputError, match=r"must be the labels, or dropped\. Received: id"):
        load_source(tmp_path / "one.parquet")
    with pytest.raises(InputError, match=r"must have a column 'class'\. Received: kind, flow, heat"):
        load_source(dataset(tmp_path / "two.parquet"), labels="class")
    with pytest.raises(InputError, match="not streamed"):
        load_source(tmp_path / "one.parquet", drop=["id"], stream=True)


def test_series_of_one_length_are_rows_as_ever_and_gaps_alone_are_refused():
    same = load_source([np.ones((4, 2)) * i for i in range(20)])
    assert (same.rows.x.shape, same.rows.channels) == ((20, 4, 2), None)
    assert load_source([[1.0, 2.0], [3.0, 4.0]]).rows.x.shape == (2, 2)
    x = np.ones((20, 4, 2))
    x[3, 1, 0] = np.nan
    with pytest.raises(InputError, match=r"row 3, column \(1, 0\): must be finite"):
        load_source(x)


@pytest.mark.parametrize("recipe", ["kl_ae", "contractive", "student_t", "masked"])
def test_recipes_that_say_themselves_what_x_is_refuse_series(recipe):
    with pytest.raises(ValueError, match="Series of different lengths must have a recipe whose only term on x"):
        keras_ae.build(recipe, (STEPS, 2), 2, sequences=True)


@pytest.mark.parametrize(
    "recipe",
    [
        "denoising",
        "iwae",
        "vamp_vae",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ae", "vq_vae", "adversarial_ae", "hvae")),
    ],
)
def test_recipes_learn_from_series(recipe):
    x = padded(waves(64))
    model = keras_ae.build(recipe, (STEPS, 2), 4, "dense", sequences=True, hidden=[16])
    model.compile("adam", jit_compile=False)
    history = model.fit(x, epochs=2, batch_size=32, verbose=0).history
    assert np.isfinite([value for values in history.values() for value in values]).all()
    assert np.isfinite(model.score(x)["score"]).all()


def test_a_model_of_series_keeps_their_length_and_their_values(fitted):
    made, model = fitted
    series = waves(30, seed=5)
    assert made.manifest["sequences"]["steps"] == STEPS
    assert made.manifest["metrics"]["rmse_test"] < made.manifest["metrics"]["rmse_test_pca"] * 1.2
    x = padded(series)
    x_hat = model.reconstruct(series)
    np.testing.assert_array_equal(np.isnan(x_hat), np.isnan(of_steps(x, STEPS)))
    np.testing.assert_allclose(made.model.reconstruct(series), x_hat, atol=1e-4)
    np.testing.assert_array_equal(model.encode(series), model.encode(of_steps(x, STEPS)))
    np.testing.assert_allclose(model.encode(series[3:4]), model.encode(series)[3:4], atol=1e-5)
    scores = model.score(series)
    np.testing.assert_allclose(model.explain(series).sum(axis=(1, 2)), scores["score"], rtol=1e-4)
    assert (model.explain(series)[np.isnan(of_steps(x, STEPS))] == 0).all()


def test_a_gap_is_skipped_and_told_from_the_rest(fitted):
    _, model = fitted
    x = of_steps(padded(waves(30, seed=5)), STEPS)
    row = int(np.argmax(lengths(x)))
    x[row, 3, 1] = np.nan
    x_hat = model.reconstruct(x)
    assert np.isfinite(x_hat[row, 3, 1])
    assert np.isfinite(model.score(x)["score"]).all()


def test_a_series_that_is_too_long_or_too_far_off_scores_high(fitted):
    _, model = fitted
    usual = waves(60, seed=6)
    odd = [one + 4.0 for one in usual[:10]]
    of_no_length = np.tile([0.0, 5.0], (6, 1))  # some have up to 4 steps, the others 7 or more
    odd += [of_no_length] * 3
    assert np.median(model.score(odd)["score"]) > np.quantile(model.score(usual)["score"], 0.9)


def test_what_is_generated_has_the_lengths_that_were_learned(fitted):
    made, model = fitted
    x = model.generate(600, seed=0)
    np.testing.assert_allclose(made.model.generate(600, seed=0), x, atol=1e-3)
    drawn, known = (np.bincount(of, minlength=STEPS + 1) / len(of) for of in (
        lengths(x), np.array([len(one) for one in waves(600, seed=7)])
    ))  # fmt: skip
    assert np.abs(drawn - known).sum() / 2 < 0.35, (drawn, known)  # total variation
    is_long = lengths(x) >= 7
    assert np.nanmean(x[is_long][..., 1]) > np.nanmean(x[~is_long][..., 1]) + 2.5


def test_files_of_series_go_in_and_come_out(fitted, tmp_path):
    _, model = fitted
    series = waves(12, seed=8)
    np.save(tmp_path / "x.npy", padded(series))
    pq.write_table(pa.table({"x": [one.tolist() for one in series]}), tmp_path / "x.parquet")
    for suffix in ("npy", "parquet"):
        run_file(model, "score", tmp_path / f"x.{suffix}", tmp_path / "scores.csv")
        written = np.genfromtxt(tmp_path / "scores.csv", delimiter=",", names=True)
        np.testing.assert_allclose(written["score"], model.score(series)["score"], rtol=1e-5)
    run_file(model, "reconstruct", tmp_path / "x.parquet", tmp_path / "back.parquet")
    back = read_rows(tmp_path / "back.parquet")
    assert back.channels == model.sequences.channels
    np.testing.assert_allclose(back.x, padded(unpadded(model.reconstruct(series))), rtol=1e-5)


def test_requests_of_series_hold_lists_of_their_lengths_and_nulls_come_back(fitted):
    _, model = fitted
    version = Version("waves", "1", model, model.signatures, {}, dict.fromkeys(model.signatures, STEPS * 2), (0, 0, 0))
    series = waves(3, seed=9)
    call = prepare(version, "reconstruct", {"x": [one.tolist() for one in series]}, 100)
    outputs = call.run()
    np.testing.assert_array_equal(outputs["x_hat"], model.reconstruct(series))
    assert b"null" in encoded({"outputs": outputs["x_hat"]})
    with pytest.raises(InputError, match="at most 9 steps"):
        prepare(version, "score", {"x": np.ones((1, STEPS + 1, 2)).tolist()}, 100)
    for wrong in (["a"], [1.0], {}, [[["a", "b"]]], [[[1.0, 10**400]]], [[]], None):
        with pytest.raises(InputError, match="`x`"):
            prepare(version, "score", {"x": wrong}, 100)


def test_log_likelihood_of_series_is_that_of_values_and_length(fitted):
    made, _ = fitted
    usual = made.model.log_likelihood(padded(waves(20, seed=3)), k=5).rows
    odd = made.model.log_likelihood(padded([one + 3.0 for one in waves(20, seed=3)]), k=5).rows
    assert np.isfinite(usual).all()
    assert usual.mean() > odd.mean() + 10


def test_monitor_sees_that_lengths_changed_and_the_report_is_there(fitted):
    made, model = fitted
    series = [one[:1] if len(one) < 5 else one[:7] for one in waves(80, seed=4)]
    shifts = {shift.of: shift for shift in monitor(model.path, series).shifts}
    assert shifts["length"].p_value < 0.05
    assert made.report is not None
    assert "channel 1" in made.report.read_text()


def test_what_takes_no_series_says_so(fitted, tmp_path):
    sklearn = pytest.importorskip("keras_ae.sklearn")
    _, model = fitted
    with pytest.raises(InputError, match="takes tables"):
        sklearn.AutoencoderTransformer.from_artifact(model.path)
    with pytest.raises(InputError, match="rows of different lengths"):
        sklearn.AnomalyDetector().fit(waves(20))
    # Where the page is not built there is none to show them.
    with pytest.raises(keras_ae.errors.KerasAEError, match=r"observations of one size|make web"):
        write_page(model.path, tmp_path / "page")


@pytest.mark.slow
@pytest.mark.parametrize("network", [name for name in SMALL if name != "conv"])
def test_every_network_exports_for_series(network, tmp_path):
    made = keras_ae.fit(
        waves(60), tmp_path / "art", latent_dim=3, network=network, epochs=1, report=False, **SMALL[network]
    )
    assert made.manifest["exports"]["onnx"]["max_rel_diff"] < 1e-5
