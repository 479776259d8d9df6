import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prdc import compute_prdc
from scipy.stats import mannwhitneyu, norm
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture

from keras_ae.errors import InputError
from keras_ae.evaluation import LABELS, METRICS, Evaluation, Number, evaluate, judge
from keras_ae.evaluation.baselines import PCAMixture
from keras_ae.evaluation.classification import expected_calibration_error, log_loss
from keras_ae.evaluation.components import Components
from keras_ae.evaluation.fidelity import frechet, manifolds, probability_above, two_sample
from keras_ae.evaluation.neighbours import kth_squared_distance, nearest
from keras_ae.evaluation.novelty import Novelty, _mann_whitney_z
from keras_ae.evaluation.numbers import bootstrap, proportion
from keras_ae.evaluation.rows import Units
from keras_ae.evaluation.verdict import _different

pytestmark = pytest.mark.usefixtures("in_full")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# --- verdicts, on digits: 900 rows train, 500 judge, the rest and what is made of training rows play models


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(3).permutation(len(x))
    x, y = x[order].astype("float32"), y[order]
    return {"train": x[:900], "test": x[900:1400], "new": x[1400:], "y": (y[:900], y[900:1400]), "y_new": y[1400:]}


def _judged(digits, samples, **options):
    return evaluate(digits["train"], digits["test"], samples, latent_dim=8, **options)


def _novelty(digits, samples):
    """The half of the verdict that needs novelty alone."""
    numbers = _judged(digits, samples, metrics=["novelty"]).numbers
    return _different(numbers, len(samples), "model")


@pytest.fixture(scope="module")
def perfect(digits):
    return _judged(digits, digits["new"], labels=digits["y"])


def test_new_real_rows_pass_both(perfect):
    assert perfect.verdict.drawn_from_data.yes
    assert perfect.verdict.different_from_training.yes
    assert perfect.settings["rows"] == 250
    assert perfect.features == "last hidden layer (64) of a classifier of 10 labels"


def test_held_out_rows_pass_both_and_copies_are_not_different(perfect):
    held_out = judge(perfect.numbers, 250, "held_out")
    copies = judge(perfect.numbers, 250, "copies")
    assert held_out.drawn_from_data.yes
    assert held_out.different_from_training.yes
    assert copies.drawn_from_data.yes
    assert not copies.different_from_training.yes
    assert perfect.numbers["copied"]["copies"].value == 1
    assert perfect.numbers["nn_ratio"]["copies"].value == 0


def test_a_model_that_memorized_its_training_rows_fails(digits):
    different = _novelty(digits, digits["train"][:300])
    assert not different.yes
    assert "100.0% of samples are much closer to a training row" in str(different)


def test_one_copy_in_four_is_seen(digits):
    samples = np.concatenate([digits["new"][:190], digits["train"][:60]])
    assert not _novelty(digits, samples).yes


def test_where_held_out_rows_were_collected_apart_that_is_not_the_models_doing(rng):
    """New rows of the training rows' kind pass, though held-out rows are shifted: closer to each other than to X."""
    x, shifted = rng.normal(size=(1000, 4)), rng.normal(0.5, 1, size=(400, 4))
    verdict = evaluate(x[:700], shifted, x[700:], latent_dim=2).verdict
    assert verdict.drawn_from_data.yes
    assert verdict.different_from_training.yes


def test_a_training_set_that_repeats_itself_is_no_excuse_for_copies(rng):
    x = rng.normal(size=(700, 4))
    train = np.repeat(x[:300], 2, axis=0)
    evaluation = evaluate(train, x[300:], train[:300], latent_dim=2)
    assert evaluation.numbers["copied"]["left_out"].value == 1
    assert not evaluation.verdict.different_from_training.yes


def test_midpoints_of_training_pairs_are_not_different(digits):
    train = digits["train"]
    partner = nearest(train[:300], train, exclude=np.arange(300)[:, None])[0]
    assert not _novelty(digits, (train[:300] + train[partner]) / 2).yes


def test_half_of_the_classes_is_not_drawn_from_the_data(digits):
    samples = digits["new"][digits["y_new"] < 5]
    verdict = _judged(digits, samples, labels=digits["y"]).verdict
    assert not verdict.drawn_from_data.yes
    assert "coverage" in verdict.drawn_from_data.because
    assert verdict.different_from_training.yes


def test_a_single_gaussian_is_not_drawn_from_the_data(digits, rng):
    train = digits["train"]
    samples = rng.multivariate_normal(train.mean(0), np.cov(train, rowvar=False), 300, method="svd")
    verdict = _judged(digits, samples).verdict
    assert not verdict.drawn_from_data.yes
    assert verdict.different_from_training.yes


def test_smooth_rows_are_not_taken_for_copies(rng):
    """Without their noise, new rows lie nearer to X than real rows do, but no nearer than to other rows."""
    plane = rng.normal(size=(2, 20))
    clean = rng.normal(size=(1400, 2)) @ plane
    noisy = clean + rng.normal(0, 0.5, clean.shape)
    evaluation = evaluate(noisy[:700], noisy[700:1100], clean[1100:], latent_dim=2)
    assert evaluation.numbers["nn_ratio"]["model"].high < evaluation.numbers["nn_ratio"]["held_out"].low
    assert evaluation.verdict.different_from_training.yes
    assert "not trained on" in evaluation.verdict.different_from_training.because
    assert not evaluation.verdict.drawn_from_data.yes


# --- the whole table


@pytest.fixture(scope="module")
def whole():
    """A line with noise in six columns of different units, and anomalies off the line."""
    rng = np.random.default_rng(1)

    def draw(n):
        group = rng.integers(0, 2, n)
        line = rng.normal(size=n) + 4 * group
        return np.stack([line * unit + rng.normal(0, 0.3 * unit, n) for unit in (1, 1e3, 1e-3, 5, 1, 1)], 1), group

    (train, y_train), (test, y_test), (samples, _) = draw(300), draw(120), draw(100)
    anomalous = np.arange(120) >= 100
    test[anomalous] += rng.normal(0, 3, (20, 6)) * [1, 1e3, 1e-3, 5, 1, 1]
    z = train[:, :1], test[:, :1]
    score = np.abs(test / [1, 1e3, 1e-3, 5, 1, 1] - test[:, :1]).sum(axis=1)
    inputs = {
        "reconstructed": (train + 1, test + 2),
        "z": z,
        "labels": (y_train, y_test),
        "anomalous": anomalous,
        "score": score,
        "p_value": np.linspace(0, 1, 120),
        "nll": np.linspace(3, 5, 120),
    }
    return (train, test, samples), inputs


@pytest.fixture(scope="module")
def everything(whole):
    arrays, inputs = whole
    heard = []
    evaluation = evaluate(*arrays, latent_dim=2, **inputs, progress=lambda what, share: heard.append(share))
    return evaluation, heard


def test_every_number_is_there_and_its_interval_holds_it(everything):
    evaluation, heard = everything
    assert set(evaluation.numbers) == set(LABELS)
    assert evaluation.skipped == {}
    assert evaluation.settings["scaling"] == "per feature"
    assert heard == sorted(heard)
    assert heard[-1] == 1
    for name, row in evaluation.numbers.items():
        for number in row.values():
            low, high = number.bounds()
            assert low - 1e-9 <= number.value <= high + 1e-9, name


def test_simple_numbers_are_what_numpy_says(everything, whole):
    (train, test, _), inputs = whole
    numbers = everything[0].numbers
    assert numbers["rmse_train"]["model"].value == pytest.approx(1, abs=1e-4)  # float32 of thousands
    assert numbers["rmse_test"]["model"].value == pytest.approx(2, abs=1e-4)
    assert numbers["auroc"]["model"].value == roc_auc_score(inputs["anomalous"], inputs["score"])
    assert numbers["false_positive_rate"]["model"].value == 0.02  # 0 and 1/119 of the first hundred
    assert numbers["nll"]["model"].value == pytest.approx(inputs["nll"][:100].mean())
    # A Gaussian per group along a line in raw units: the baseline's density, by hand with the full covariance.
    mixture = GaussianMixture(2, random_state=0).fit(train)
    assert numbers["nll"]["baseline"].value == pytest.approx(-mixture.score(test[:100]), abs=1.0)


def test_only_what_is_asked_for_is_measured(whole):
    arrays, inputs = whole
    found = evaluate(*arrays, latent_dim=2, **inputs, metrics=["false_positives"])
    assert set(found.numbers) == {"false_positive_rate"}
    assert (found.verdict, found.neighbours, found.features) == (None, {}, "")


def test_a_verdict_needs_its_numbers_and_no_others(everything):
    numbers = everything[0].numbers
    needed = ("c2st_auc", "frechet", "precision", "recall", "coverage", "c_t", "nn_ratio", "authenticity", "preference")
    these = {name: numbers[name] for name in (*needed, "copied")}
    assert str(judge(these, 60)) == str(judge(numbers, 60))
    for name in these:
        assert judge({other: row for other, row in these.items() if other != name}, 60) is None


def test_result_is_json_and_text(everything):
    evaluation, _ = everything
    assert json.loads(json.dumps(evaluation.to_dict()))["verdict"]["different_from_training"]["yes"]
    text = str(evaluation)
    assert all(label in text for label in LABELS.values())
    assert "drawn from P_d: yes, because" in text


def test_neighbours_are_indices_into_what_was_given(everything, whole):
    (train, test, samples), _ = whole
    evaluation, _ = everything
    scale = train.std(axis=0)
    for column, rows in (("model", samples), ("held_out", test)):
        found = evaluation.neighbours[column]
        gaps = np.linalg.norm((rows[found.rows] - train[found.index]) / scale, axis=1)
        assert gaps == pytest.approx(found.distance, rel=1e-3)  # six columns: all components, float32
    assert not set(evaluation.neighbours["held_out"].rows) & set(range(100, 120))


def test_same_seed_same_numbers(whole, everything):
    arrays, inputs = whole
    again = evaluate(*arrays, latent_dim=2, **inputs)
    assert again.to_dict() == everything[0].to_dict()


def test_without_samples_there_is_no_verdict(whole):
    (train, test, _), inputs = whole
    evaluation = evaluate(train, test, latent_dim=2, reconstructed=inputs["reconstructed"])
    assert set(evaluation.numbers) == {"rmse_train", "rmse_test"}
    assert evaluation.verdict is None
    assert evaluation.skipped["novelty"] == "needs `samples`"
    assert set(evaluation.skipped) == set(METRICS) - {"reconstruction"}


@pytest.mark.parametrize(("rows", "features"), [(30, 4), (30, 300)])
def test_thirty_rows_are_enough_to_measure(rows, features, rng):
    x = rng.normal(size=(3 * rows, features))
    evaluation = evaluate(x[:rows], x[rows : 2 * rows], x[2 * rows :], latent_dim=3)
    assert evaluation.verdict.drawn_from_data.yes
    assert evaluation.verdict.different_from_training.yes
    assert "15 rows allow" in evaluation.verdict.drawn_from_data.because


def test_rows_of_few_values_with_many_duplicates(rng):
    """Held-out rows that equal a training row are no copies where real rows do the same."""
    x = rng.integers(0, 3, size=(400, 3)).astype("float32")
    evaluation = evaluate(x[:200], x[200:300], x[300:], latent_dim=2)
    assert evaluation.verdict.drawn_from_data.yes
    assert evaluation.verdict.different_from_training.yes
    assert evaluation.to_dict()["numbers"]["nn_ratio"]["model"]["value"] is None


# --- bad input


def _bad(name, whole):
    (train, test, samples), inputs = whole
    one_class = (np.zeros(300), np.zeros(120))
    return {
        "nan": ((train, test * np.nan, samples), {}, "`test` must be finite"),
        "features": ((train, test[:, :5], samples), {}, "6 features, as `train`. Received: 5"),
        "text": ((train.astype(str), test, samples), {}, "`train` must be numbers"),
        "few": ((train[:9], test, samples), {}, "`train` must have at least 10 rows. Received: 9"),
        "same": ((np.ones((20, 6)), test, samples), {}, "rows that differ"),
        "normals": ((train, test, samples), {"anomalous": np.arange(120) > 5}, "at least 10 rows that are not"),
        "components": ((train, test, samples), {"mixture_components": 301}, "at most the 300 rows of `train`"),
        "labels": (
            (train, test, samples),
            {"labels": (np.zeros(299), np.zeros(120))},
            "each of the 300 rows of `train`",
        ),
        "z": ((train, test, samples), {"z": (train[:5], test)}, "`z` must be a pair"),
        "nll": ((train, test, samples), {"nll": np.zeros(3)}, "`nll` must have one value for each of the 120 rows"),
        "latent": ((train, test, samples), {"latent_dim": 0}, "`latent_dim` must be at least 1"),
        "rows": ((train, test, samples), {"max_rows": 9}, "`max_rows` at least 10"),
        "no alpha": ((train, test, samples), {"alpha": 0.0}, "`alpha` between 0 and 1. Received: 2, 5000, 0.0"),
        "all alpha": ((train, test, samples), {"alpha": 1.0}, "`alpha` between 0 and 1. Received: 2, 5000, 1.0"),
        "unknown": ((train, test, samples), {"metrics": ["fid"]}, "`metrics` must be of reconstruction"),
        "needs": ((train, test), {"metrics": ["novelty"]}, "`novelty` needs `samples`"),
        "needs two": (
            (train, test),
            {"metrics": ["representation"], "labels": inputs["labels"]},
            "`representation` needs `z`",
        ),
        "no anomaly": (
            (train, test),
            {"metrics": ["anomaly"], "anomalous": np.zeros(120, bool), "score": np.zeros(120)},
            "rows of `test` that `anomalous` marks",
        ),
        "one class": (
            (train, test),
            {"metrics": ["representation"], "labels": one_class, "z": (train, test)},
            "two classes",
        ),
    }[name]


NAMES = """nan;features;text;few;same;normals;components;labels;z;nll;latent;rows;no alpha;all alpha;unknown;needs;\
needs two;no anomaly;one class"""


@pytest.mark.parametrize("name", NAMES.split(";"))
def test_bad_input_says_what_is_missing(name, whole):
    arrays, options, message = _bad(name, whole)
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        evaluate(*arrays, **{"latent_dim": 2, **options})


# --- each number against something independent


def test_frechet_distance_of_gaussians_has_a_closed_form(rng):
    """For commuting covariances it is |m1 - m2|^2 + sum (sd1 - sd2)^2; 40,000 rows leave 1 % of noise."""
    a = rng.normal([0, 0, 0], [1, 2, 3], (40_000, 3))
    b = rng.normal([1, 0, 2], [2, 2, 1], (40_000, 3))
    number = frechet(a, b, seed=0)
    assert number.value == pytest.approx(5 + 1 + 0 + 4, rel=0.03)
    assert frechet(a, a, seed=0).value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("n", [40, 700])
def test_manifolds_agree_with_prdc(n, capsys, rng):
    real, made = rng.normal(size=(n, 5)), rng.normal(0.4, 0.9, size=(n, 5))
    theirs = compute_prdc(real, made, nearest_k=5)
    ours = manifolds(real, made, seed=0)
    assert {name: number.value for name, number in ours.items()} == pytest.approx(theirs, abs=1e-12)
    capsys.readouterr()


def test_two_sample_finds_a_shift_and_nothing_where_nothing_is(rng):
    a, b = rng.normal(size=(2, 300, 4))
    same, shifted = two_sample(a, b, 0), two_sample(a, b + np.eye(4)[0], 0)
    assert same["c2st_p_value"].value > 0.01
    assert shifted["c2st_p_value"].value < 1e-6
    # The best classifier of N(0, 1) and N(1, 1) has AUC Phi(1 / sqrt(2)) = 0.76; no classifier passes it but by chance.
    assert 0.65 < shifted["c2st_auc"].value < 0.80


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 5), min_size=2, max_size=30).map(np.array),
    st.lists(st.integers(0, 5), min_size=2, max_size=30).map(np.array),
)
def test_mann_whitney_agrees_with_scipy(a, b):
    result = mannwhitneyu(a, b, use_continuity=False, method="asymptotic", alternative="two-sided")
    assert probability_above(a, b) == pytest.approx(result.statistic / (len(a) * len(b)))
    z = _mann_whitney_z(a, b)
    expected = 1.0 if z == 0 else result.pvalue
    assert 2 * norm.sf(abs(z)) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 1200), st.integers(1, 5), st.integers(0, 1000))
def test_nearest_agrees_with_all_pairs(n, features, seed):
    x = np.random.default_rng(seed).normal(size=(n, features)).astype("float32")
    distances = np.linalg.norm(x[:, None].astype("float64") - x, axis=2)
    np.fill_diagonal(distances, np.inf)
    # Rows have lengths of about 1 to 5, of which float32 products lose what is below a thousandth.
    assert nearest(x, x, exclude=np.arange(n)[:, None])[1] == pytest.approx(distances.min(axis=1), abs=5e-3)
    assert nearest(x, x)[1] == pytest.approx(0, abs=5e-3)
    ordered = np.square(np.sort(distances, axis=1))
    for k in {1, min(3, n - 1), min(5, n - 1)}:
        assert kth_squared_distance(x, k) == pytest.approx(ordered[:, k - 1], rel=1e-5, abs=1e-9)


def test_c_t_is_near_zero_for_real_rows_low_for_copies_high_for_far_rows(rng):
    train, reference, held_out, other = (rng.normal(size=(n, 3)).astype("float32") for n in (1000, 300, 300, 300))
    novelty = Novelty(train, reference, held_out, seed=0)

    def c_t(rows):
        return novelty.measure(rows, np.arange(len(rows)))[1]["c_t"].value

    # Under the null each of the 10 cells has z ~ N(0, 1), and the mean of them a deviation of about 0.32.
    assert abs(c_t(other)) < 1.2
    assert c_t(train[:300] + np.float32(1e-3)) < -5
    assert c_t(2 * other) > 2


def test_authenticity_of_copies_and_of_rows_far_away(rng):
    train, reference, held_out = (rng.normal(size=(200, 2)).astype("float32") for _ in range(3))
    novelty = Novelty(train, reference, held_out, seed=0)
    for rows, share in ((train, 0.0), (train + np.float32(100), 1.0)):
        assert novelty.measure(rows, np.arange(200))[1]["authenticity"].value == share


def test_training_rows_left_out_get_what_a_training_set_without_them_gives(rng):
    train, reference, held_out = (rng.normal(size=(n, 3)).astype("float32") for n in (120, 40, 40))
    rows = np.array([3, 50, 119])
    found, numbers = Novelty(train, reference, held_out, seed=0).left_out(rows)
    authentic = []
    for row, index, distance in zip(rows, found.index, found.distance, strict=True):
        others = np.delete(train, row, axis=0)
        gaps = np.linalg.norm(others - train[row], axis=1)
        assert distance == pytest.approx(gaps.min(), rel=1e-5)
        assert (train[index] == others[gaps.argmin()]).all()
        own = np.linalg.norm(np.delete(others, gaps.argmin(), axis=0) - train[index], axis=1).min()
        authentic.append(distance > own)
    assert numbers["authenticity"].value == np.mean(authentic)


def test_density_of_the_baseline_integrates_to_one(rng):
    """In two dimensions with one latent: a Riemann sum over a grid wide enough to leave nothing out."""
    x = np.concatenate([rng.normal([0, 0], [1, 0.3], (300, 2)), rng.normal([4, 2], [0.5, 0.4], (300, 2))])
    units = Units.fit(x.astype("float32"))
    scaled = units(x.astype("float32"))
    baseline = PCAMixture(Components(scaled, 1, 0), scaled, 1, 2, 0)
    axis = np.linspace(-12, 16, 561)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype("float32")
    density = np.exp(-(baseline.nll(units(grid)) + units.log_volume()))
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-3)


def test_baseline_of_full_size_is_the_mixture_itself(rng):
    x = rng.normal(size=(400, 3)).astype("float32") @ np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1]], "float32")
    units = Units.fit(x)
    baseline = PCAMixture(Components(units(x), 3, 0), units(x), 3, 1, 0)
    nats = baseline.nll(units(x)).mean() + units.log_volume()
    entropy = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(x, rowvar=False, bias=True))[1]
    assert nats == pytest.approx(entropy, abs=1e-3)  # the maximum likelihood Gaussian's NLL is its entropy
    assert np.allclose(baseline.reconstruct(units(x)), units(x), atol=1e-4)


def test_features_share_a_unit_where_their_deviations_are_alike(rng):
    alike, apart = rng.normal(size=(500, 3)) * [1, 2, 3], rng.normal(size=(500, 3)) * [1, 100, 10_000]
    of_alike, of_apart = Units.fit(alike), Units.fit(apart)
    assert (of_alike.shared, of_apart.shared) == (True, False)
    np.testing.assert_allclose(of_alike.scale, np.sqrt(np.mean(alike.var(axis=0))), rtol=1e-4)
    np.testing.assert_allclose(of_apart.scale, apart.std(axis=0), rtol=1e-4)
    # What moves by a millionth of its size or less is constant: the last digits of float32 are no scale.
    step = np.tile([-1.0, 1.0], 250)
    nearly = np.stack([30 + 30 * size * step for size in (1.5e-6, 0.7e-6, 0.0)], axis=1)
    found = Units.fit(np.concatenate([apart, nearly], axis=1))
    np.testing.assert_allclose(found.scale[3:], [45e-6, 1, 1], rtol=0.1)
    same = Units.fit(np.concatenate([alike, nearly[:, 1:]], axis=1))
    np.testing.assert_allclose(same.scale, of_alike.scale[0], rtol=1e-6)


def test_what_is_not_defined_is_null_in_json():
    numbers = {"auroc": {"model": Number(float("nan"), 0.5, float("nan"))}, "coverage": {"model": Number(0.25)}}
    found = Evaluation(numbers, None, {}, {}, "", {}).to_dict()["numbers"]
    assert found["auroc"]["model"] == {"value": None, "low": 0.5, "high": None}
    assert found["coverage"]["model"] == {"value": 0.25, "low": None, "high": None}


def test_calibration_error_is_that_of_bins_by_hand():
    confidence = np.repeat([0.55, 0.6, 0.9, 1.0], 10)  # upper edges belong to their bins: (8/15, 9/15] and the next
    right = np.concatenate([np.arange(10) < n for n in (5, 4, 10, 5)])
    probability = np.stack([confidence, 1 - confidence], axis=1).astype("float64")
    of_bins = [(20, 0.575, 9 / 20), (10, 0.9, 1.0), (10, 1.0, 0.5)]
    expected = sum(rows * abs(mean - accuracy) for rows, mean, accuracy in of_bins) / 40
    assert expected_calibration_error(probability, np.where(right, 0, 1)) == pytest.approx(expected)


def test_a_sure_and_right_classifier_has_no_loss():
    assert str(log_loss(np.eye(2), np.array([0, 1]))) == "0.0"
    assert log_loss(np.full((3, 4), 0.25), np.array([0, 1, 3])) == pytest.approx(np.log(4))


def test_bootstrap_interval_of_a_mean_is_the_textbooks(rng, monkeypatch):
    monkeypatch.setattr("keras_ae.evaluation.numbers.RESAMPLES", 2000)
    values = rng.normal(5, 2, 400)
    number = bootstrap(lambda i: float(values[i].mean()), 400, seed=0)
    half = 1.96 * values.std() / 20
    assert number.bounds() == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)


def test_exact_interval_of_no_hit():
    """The upper end for 0 of n at 95 % is 1 - 0.025^(1/n)."""
    assert proportion(np.zeros(50, bool)).bounds() == pytest.approx((0, 1 - 0.025 ** (1 / 50)))
