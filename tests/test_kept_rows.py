"""An artifact that keeps no rows holds none, in any file, and still scores."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import keras_ae
from keras_ae.errors import ArtifactError
from keras_ae.layers import AnomalyScore
from keras_ae.monitoring import monitor

ROWS = 613  # no size of anything else


def table(seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(ROWS, 2))
    x = np.concatenate([z, z @ np.random.default_rng(9).normal(size=(2, 3))], axis=1)
    return (x + 0.1 * rng.normal(size=x.shape)).astype("float32")


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    out = tmp_path_factory.mktemp("no rows") / "a"
    return keras_ae.fit(table(), out, epochs=10, hidden=[16], latent_dim=2, keep_rows=False)


def test_nothing_in_it_is_as_long_as_the_rows(fitted):
    kept = {path.name for path in fitted.artifact.rglob("*") if path.is_file()}
    assert not kept & {"reference.npz", "report.html"}
    assert fitted.manifest["keeps_rows"] is False
    sizes = {len(part) for part in fitted.splits.parts().values()}
    calibration = len(fitted.splits.calibration)  # whose scores are kept, a number each
    for weight in fitted.model.weights:
        assert not sizes & set(weight.shape) or weight.shape == (calibration,), weight.path
    assert "vamp" not in fitted.manifest["prior"]["nats"]
    total = sum(path.stat().st_size for path in (fitted.artifact / "onnx").rglob("*.data"))
    assert total < fitted.splits.train.nbytes


def test_it_scores_explains_and_leaves_with_parity(fitted):
    runtime, x = keras_ae.runtime.load(fitted.artifact), table(1)
    wrong = x.copy()
    wrong[:, 3] += 3 * x[:, 3].std()
    scores = [runtime.score(part)["score"] for part in (x, wrong)]
    assert roc_auc_score(np.repeat([0, 1], ROWS), np.concatenate(scores)) > 0.9
    np.testing.assert_allclose(scores[0], fitted.model.score(x)["score"], rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(runtime.explain(x).sum(axis=1), scores[0], rtol=1e-4)
    with pytest.raises(ArtifactError, match="with rows kept"):
        monitor(fitted.artifact, x)


def test_the_layer_comes_back_from_its_configuration(fitted):
    detector = fitted.model.detector
    assert detector.listens_to == ("error", "prior")
    again = AnomalyScore.from_config(detector.get_config())
    again.build()
    assert [weight.shape for weight in again.weights] == [weight.shape for weight in detector.weights]
