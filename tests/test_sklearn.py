"""The estimators keep scikit-learn's conventions, and do what they are for.

All of scikit-learn's own checks take minutes: `pytest -m slow tests/test_sklearn.py`; some run always.
"""

import copy
import pickle
import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from keras_ae import runtime
from keras_ae.errors import InputError
from keras_ae.sklearn import AnomalyDetector, AutoencoderClassifier, AutoencoderTransformer, Generator

ALWAYS = {
    "check_dont_overwrite_attributes",
    "check_estimators_pickle",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_subset_invariance",
    "check_n_features_in_after_fitting",
    "check_outliers_fit_predict",
    "check_transformer_general",
}
# The linear autoencoder is fitted in closed form; a likelihood needs a variational one.
QUICK = [
    AutoencoderTransformer(recipe="linear"),
    AnomalyDetector(recipe="linear"),
    AutoencoderClassifier(recipe="linear"),
    Generator(recipe="vae", epochs=0, options={"hidden": [8]}),
]
BENIGN, MALIGNANT = (load_breast_cancer().data[load_breast_cancer().target == y] for y in (1, 0))


CHECKS = [
    pytest.param(
        estimator,
        check,
        id=f"{type(estimator).__name__}-{check.func.__name__}",
        marks=() if check.func.__name__ in ALWAYS else pytest.mark.slow,
    )
    for model in QUICK
    for estimator, check in estimator_checks_generator(model)
]


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
def test_a_check_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def detector():
    return AnomalyDetector(epochs=20, options={"hidden": [32]}, random_state=0).fit(BENIGN[:250])


def test_the_detector_finds_tumours_by_benign_ones_alone(detector):
    rest, truth = np.concatenate([BENIGN[250:], MALIGNANT]), np.repeat([0, 1], [len(BENIGN) - 250, len(MALIGNANT)])
    assert roc_auc_score(truth, -detector.score_samples(rest)) > 0.94
    outliers = detector.predict(rest) == -1
    assert outliers[truth == 0].mean() < 0.1
    assert outliers[truth == 1].mean() > 0.5
    np.testing.assert_allclose(detector.explain(rest).sum(axis=1), -detector.score_samples(rest), rtol=1e-4)
    assert ((detector.p_values(rest) > 0) & (detector.p_values(rest) <= 1)).all()


def test_few_calibration_rows_alarm_at_the_lowest_level_that_there_is(detector):
    def alarms_of(scores, alpha=None):
        again = copy.copy(detector).set_params(alpha=alpha)
        again.model_.p_value.fit(np.asarray(scores))
        again._restore()
        return again.alpha_, int((np.asarray(scores) > -again.offset_).sum())

    scores = detector.model_.p_value.calibration_scores
    try:
        assert len(scores) == 25
        assert alarms_of(scores) == (1 / 26, 1)
        assert alarms_of(scores, 0.01) == (1 / 26, 0)  # nothing but what lies above them all
        assert alarms_of(scores, 0.1) == (2 / 26, 1)
        assert alarms_of([*scores, scores[-1]]) == (1 / 27, 0)  # as often as not a normal row has the highest score
        assert alarms_of(np.arange(1, 100)) == (1 / 100, 0)
        assert alarms_of(np.arange(1, 200)) == (2 / 200, 1)
    finally:
        detector.model_.p_value.fit(scores)


def test_pickle_and_artifact_keep_the_scores(detector, tmp_path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping variable loading")
        again = pickle.loads(pickle.dumps(detector))
    expected = detector.score_samples(MALIGNANT)
    np.testing.assert_array_equal(again.score_samples(MALIGNANT), expected)
    detector.to_artifact(tmp_path / "a", BENIGN[250:])
    loaded = AnomalyDetector.from_artifact(tmp_path / "a")
    np.testing.assert_allclose(loaded.score_samples(MALIGNANT), expected, rtol=1e-5)
    np.testing.assert_array_equal(loaded.predict(MALIGNANT), detector.predict(MALIGNANT))
    scores = runtime.load(tmp_path / "a").score(MALIGNANT.astype("float32"))["score"]
    np.testing.assert_allclose(scores, -expected, rtol=1e-3)


def test_rows_that_are_contaminated_are_left_out_of_training():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(400, 4)) @ rng.normal(size=(4, 4))
    wrong = rng.uniform(-9, 9, size=(30, 4))
    detector = AnomalyDetector(contamination=0.07, recipe="linear", random_state=0).fit(np.concatenate([normal, wrong]))
    assert roc_auc_score(np.repeat([0, 1], [400, 30]), -detector.score_samples(np.concatenate([normal, wrong]))) > 0.9
    for share in (0, 0.6, "some"):
        with pytest.raises(InputError, match="`contamination`"):
            AnomalyDetector(contamination=share).fit(normal)
    with pytest.raises(InputError, match="`alpha`"):
        AnomalyDetector(alpha=2).fit(normal)


def test_transformer_in_a_pipeline_a_grid_search_and_with_pandas():
    pandas = pytest.importorskip("pandas")
    x, y = load_iris(return_X_y=True, as_frame=True)
    pipe = make_pipeline(
        StandardScaler().set_output(transform="pandas"),
        AutoencoderTransformer(recipe="linear", random_state=0).set_output(transform="pandas"),
        LogisticRegression(),
    )
    search = GridSearchCV(pipe, {"autoencodertransformer__latent_dim": [1, 3]}, cv=2).fit(x, y)
    assert search.best_params_ == {"autoencodertransformer__latent_dim": 3}
    assert search.best_score_ > 0.9
    z = search.best_estimator_[:-1].transform(x)
    assert isinstance(z, pandas.DataFrame)
    assert list(z.columns) == [f"autoencodertransformer{i}" for i in range(3)]
    back = search.best_estimator_[1].inverse_transform(z)
    assert list(back.columns) == list(x.columns)
    assert np.square(back - search.best_estimator_[0].transform(x)).to_numpy().mean() < 0.05


def test_classifier_tells_classes_apart_and_keeps_their_names():
    x, y = load_iris(return_X_y=True)
    names = load_iris().target_names[y]
    classifier = AutoencoderClassifier(epochs=60, options={"hidden": [32]}, random_state=0).fit(x, names)
    assert list(classifier.classes_) == sorted(set(names))
    assert classifier.score(x, names) > 0.9
    probability = classifier.predict_proba(x)
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-5)


def test_generator_draws_rows_like_those_seen_and_scores_them():
    x = load_iris().data
    generator = Generator(epochs=60, options={"hidden": [32]}, random_state=0).fit(x)
    drawn = generator.sample(500, random_state=0)
    assert drawn.shape == (500, 4)
    np.testing.assert_array_equal(drawn, generator.sample(500, random_state=0))
    np.testing.assert_allclose(drawn.mean(axis=0), x.mean(axis=0), atol=0.4)
    assert generator.score(x) > generator.score(x + 3)
    assert generator.score_samples(x).shape == (150,)


def orders(n=300, seed=0):
    """A DataFrame of every kind: what goes together is a kind of order; some cells are missing."""
    pandas = pytest.importorskip("pandas")
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, 3, n)
    minutes = rng.integers(0, 200 * 24 * 60, n).astype("timedelta64[m]")
    frame = pandas.DataFrame(
        {
            "amount": np.exp(rng.normal(size=n) + kind),
            "items": rng.poisson(4 * kind + 1),
            "colour": np.array(["red", "green", "blue"])[kind],
            "member": kind > 0,
            "size": pandas.Categorical(kind + 36),
            "when": np.datetime64("2024-01-01T00:00") + minutes,
            "visits": pandas.array(np.where(rng.random(n) < 0.2, None, kind), "Int64"),
            "key": [f"order {i}" for i in range(n)],
        },
        index=np.arange(n) + 7,
    )
    frame.loc[rng.random(n) < 0.1, "colour"] = None
    return frame, np.array(["low", "middle", "top"])[kind]


@pytest.fixture(scope="module")
def detector_of_orders():
    return AnomalyDetector(recipe="linear", random_state=0).fit(orders()[0])


def test_the_detector_takes_dataframes(detector_of_orders, tmp_path):
    detector, x = detector_of_orders, orders()[0]
    scores = detector.score_samples(x)
    odd = detector.explain(x.assign(member=~x["member"]))
    assert list(odd.columns) == [name for name in x.columns if name != "key"]
    assert odd["member"].mean() > detector.explain(x)["member"].mean()
    assert (odd.index == x.index).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(detector)).score_samples(x), scores)
    detector.to_artifact(tmp_path / "a", x)
    loaded = AnomalyDetector.from_artifact(tmp_path / "a")
    np.testing.assert_allclose(loaded.score_samples(x), scores, rtol=1e-5)  # the key that it never saw and all
    np.testing.assert_allclose(-runtime.load(tmp_path / "a").score(x)["score"], scores, rtol=1e-4)
    with pytest.warns(UserWarning, match="valid feature names"):
        np.testing.assert_array_equal(detector.score_samples(x.to_numpy()), scores)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x.drop(columns="size"), "missing:\n- size"),
        (lambda x: x.rename(columns={"size": "width"}), "unseen at fit time:\n- width"),
        (lambda x: x[x.columns[::-1]], "in the same order"),
        (lambda x: x.assign(new=1), "unseen at fit time:\n- new"),
        (lambda x: x.assign(amount=["much", *x["amount"][1:]]), "row 0, column amount: must be a finite.*'much'"),
        (lambda x: x.assign(amount=np.nan), "row 0, column amount: must be a finite number. Received: none. .300 such"),
        (lambda x: x.assign(when="soon"), "row 0, column when: must be a date or time.*'soon'"),
        (lambda x: x.assign(member=[2, *x["member"][1:]]), "row 0, column member: must be true or false.*2"),
    ],
)
def test_a_dataframe_that_is_not_as_in_fit_is_refused_by_column_and_row(detector_of_orders, change, said):
    with pytest.raises(ValueError, match=said):
        detector_of_orders.score_samples(change(orders()[0]))


def test_latents_go_back_to_dataframes_and_samples_have_their_dtypes():
    x, y = orders()
    learned = x.drop(columns="key")
    pipe = make_pipeline(AutoencoderTransformer(recipe="linear", latent_dim=8), LogisticRegression())
    assert pipe.fit(x, y).score(x, y) > 0.9
    back = pipe[0].inverse_transform(pipe[0].transform(x))
    assert (back.dtypes == learned.dtypes).all()
    assert (back["size"].to_numpy() == x["size"].to_numpy()).mean() > 0.95
    assert abs((back["when"].to_numpy() - x["when"].to_numpy()) / np.timedelta64(1, "D")).mean() < 30
    assert set(back["when"].dt.hour) > set(range(5, 15))
    again = pipe[0].inverse_transform(pipe[0].set_output(transform="pandas").transform(x))
    assert (again.index == x.index).all()

    generator = Generator(epochs=0, options={"hidden": [8]}, schema={"items": "categorical"}, random_state=0).fit(x)
    drawn = generator.sample(50, random_state=0)
    assert (drawn.dtypes == learned.dtypes).all()
    assert set(drawn["items"]) <= set(x["items"])
    assert generator.score(x) > generator.score(x.assign(amount=1e4))


def test_the_classifier_takes_dataframes_and_its_artifact_knows_the_names():
    x, y = orders()
    classifier = AutoencoderClassifier(recipe="linear", random_state=0).fit(x, y)
    assert classifier.score(x, y) > 0.9
    assert classifier.model_.classes == ("low", "middle", "top")
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        classifier.fit(x, y[:-1])


def test_arrays_of_numbers_may_have_missing_cells():
    x = np.random.default_rng(0).normal(size=(200, 3)) @ [[1, 0, 1], [0, 1, 1], [0, 0, 0.1]]
    x[np.random.default_rng(1).random(200) < 0.2, 2] = np.nan
    detector = AnomalyDetector(recipe="linear", random_state=0).fit(x)
    assert np.isfinite(detector.score_samples(x)).all()
    assert detector.explain(x).shape == x.shape
    for row, said in (([np.nan, 1, 1], "row 0, column x0.*nan"), ([1, np.inf, 1], "row 0, column x1.*inf")):
        with pytest.raises(InputError, match=said):
            detector.score_samples([row])
    with pytest.raises(InputError, match="`schema` is of the columns of a DataFrame"):
        AnomalyDetector(recipe="linear", schema={"x0": "categorical"}).fit(BENIGN)


def test_an_artifact_of_images_is_no_estimator(tmp_path):
    import keras_ae

    keras_ae.save(keras_ae.build("ae", (5, 5), 2, "dense", hidden=[2]), tmp_path / "a")
    with pytest.raises(InputError, match=r"takes tables.*Received: an artifact of \(5, 5\)"):
        AutoencoderTransformer.from_artifact(tmp_path / "a")
