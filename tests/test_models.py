"""Recipes, networks and the model: built, trained, saved, loaded, trained on; shapes that don't fit are refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA

import keras_ae
from keras_ae.callbacks import BestWeights, WeightAnnealing
from keras_ae.distributed import tuning
from keras_ae.layers import GaussianKLLoss, RMSELoss, Sampling
from keras_ae.networks import NETWORKS, fit_pca, gaussian_head, start_from_pca
from keras_ae.recipes import RECIPES

DIGITS = load_digits().data.astype("float32")
LABELS = load_digits().target.astype("int32")
OPTIONS = {"ae": {"reduction": "sample", "weight": 2.0}, "vae": {"free_bits": 0.01}, "linear": {}}
NETWORK_OPTIONS = {"dense": {"hidden": [32]}, "conv": {"filters": [4, 8]}, "linear": {}}


def built(recipe, network, latent_dim=6):
    keras.utils.set_random_seed(0)
    shape = (8, 8) if network == "conv" else (64,)
    model = keras_ae.build(recipe, shape, latent_dim, network, **OPTIONS[recipe], **NETWORK_OPTIONS[network])
    return model, DIGITS.reshape(-1, *shape)


def test_generate_is_fresh_without_a_seed_and_the_same_with_one():
    model, _ = built("vae", "dense")
    np.testing.assert_array_equal(model.generate(3, seed=1), model.generate(3, seed=1))
    assert not np.array_equal(model.generate(3, seed=1), model.generate(3, seed=2))
    assert not np.array_equal(model.generate(3), model.generate(3))


def test_a_prior_fitted_to_the_latents_has_their_mean_and_covariance():
    model, x = built("ae", "dense", latent_dim=3)
    model.fit_prior(x)
    z = model.encode(x)
    epsilon = np.random.default_rng(0).standard_normal((200_000, 4)).astype("float32")
    epsilon = epsilon[:, : model.prior.epsilon_dim]
    drawn = np.asarray(model.prior(epsilon))
    np.testing.assert_allclose(drawn.mean(0), z.mean(0), atol=0.05 * z.std())
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(z.T), rtol=0.1, atol=0.05 * np.cov(z.T).max())


@pytest.mark.parametrize("network", ["dense", "conv"])
@pytest.mark.parametrize("shape", [(5,), (27, 27), (9, 7, 3), (28, 28, 1), (33, 2), (5, 6, 7, 2), (1, 3)])
def test_networks_give_back_any_shape(network, shape):
    encoder = NETWORKS[network].encoder(shape, 3, **NETWORK_OPTIONS[network])
    decoder = NETWORKS[network].decoder(shape, 3, **NETWORK_OPTIONS[network])
    assert encoder.output_shape == (None, 3)
    assert decoder.output_shape == (None, *shape)
    assert [encoder.inputs[0].name, decoder.inputs[0].name] == ["x", "z"]
    x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
    assert decoder(encoder(x)).shape == x.shape


@pytest.mark.parametrize("recipe", ["linear", "ae"])
@pytest.mark.parametrize("network", ["dense", "conv", "linear"])
def test_the_linear_path_starts_at_pca(recipe, network):
    if RECIPES[recipe].network not in (None, network):
        return
    model, x = built(recipe, network, latent_dim=5)
    centred = x - x.mean(axis=0)
    assert start_from_pca(model.encoder, model.decoder, fit_pca(centred, 5))
    flat = x.reshape(len(x), -1)
    expected = PCA(5, svd_solver="full").fit(flat)
    expected = expected.inverse_transform(expected.transform(flat)) - flat.mean(axis=0)
    got = np.asarray(model.decoder(model.encoder(centred))).reshape(len(x), -1)
    np.testing.assert_allclose(got, expected, atol=2e-4 * np.abs(expected).max())
    np.testing.assert_allclose(np.asarray(model.encoder(centred)).std(axis=0), 1.0, rtol=1e-3)


def test_pca_with_more_latents_than_rows_is_finite():
    x = np.random.default_rng(0).normal(size=(4, 30)).astype("float32")
    model = keras_ae.build("vae", 30, 10, hidden=[8])
    start_from_pca(model.encoder, model.decoder, fit_pca(x, 10))
    assert all(np.isfinite(w).all() for w in model.get_weights() if not np.isneginf(w).all())
    np.testing.assert_allclose(model.reconstruct(x), x, atol=1e-3)


def test_where_columns_have_units_of_their_own_their_errors_count_alike():
    x = load_wine().data  # proline goes to 1,680, hues to 1.71
    fitted = keras_ae.fit(x, recipe="linear", latent_dim=4)
    test, metrics = fitted.splits.test, fitted.manifest["metrics"]
    error = test - fitted.model.reconstruct(test)
    assert metrics["rmse_test"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-4)
    scaled = error / fitted.splits.train.std(axis=0)
    assert metrics["rmse_scaled_test"] == pytest.approx(np.sqrt(np.mean(scaled**2)), rel=1e-4)
    assert metrics["rmse_scaled_test_pca"] == pytest.approx(metrics["rmse_scaled_test"], rel=0.05)
    assert metrics["rmse_scaled_test"] < 1 < metrics["rmse_test"]
    # A search compares its trials by the same measure.
    assert tuning._measured(fitted, "rmse", 0) == metrics["rmse_scaled_validation"] < 1


def test_your_own_encoder_and_decoder():
    x = keras.Input((64,), name="x")
    encoder = keras.Model(x, keras.layers.Dense(8, "tanh")(x))
    z = keras.Input((3,), name="z")
    decoder = keras.Model(z, keras.layers.Dense(64)(z))
    model = keras_ae.Autoencoder(
        gaussian_head(encoder, 3),
        decoder,
        latent=Sampling(),
        reconstruction=RMSELoss(),
        regularizers=[GaussianKLLoss()],
    )
    model.compile("adam")
    history = model.fit(DIGITS, epochs=2, verbose=0).history
    assert {"loss", "rmse", "kl"} == set(history)
    assert model.encode(DIGITS[:4]).shape == (4, 3)


def test_spatial_latents():
    x = keras.Input((8, 8, 1), name="x")
    encoder = keras.Model(x, keras.layers.Conv2D(2, 3, strides=2, padding="same")(x))
    z = keras.Input((4, 4, 2), name="z")
    decoder = keras.Model(z, keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same")(z))
    model = keras_ae.Autoencoder(encoder, decoder)
    assert model.latent_dim == 32
    assert model.generate(3, seed=0).shape == (3, 8, 8, 1)


def dense(inputs, outputs):
    x = keras.Input((inputs,))
    return keras.Model(x, keras.layers.Dense(outputs)(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras_ae.Autoencoder(dense(8, 2), dense(2, 9)), r"\(batch, 8\).*\(batch, 9\)"),
        (lambda: keras_ae.Autoencoder(dense(8, 2), dense(3, 8)), r"\(batch, 2\).*\(batch, 3\)"),
        (lambda: keras_ae.Autoencoder(gaussian_head(dense(8, 4), 2), dense(2, 8)), r"Sampling"),
        (lambda: keras_ae.Autoencoder("encoder", dense(2, 8)), "encoder must be"),
        (lambda: keras_ae.build("nope", 8, 2), "nope.*vae"),
        (lambda: keras_ae.build("vae", 8, 2, network="nope"), "nope.*dense"),
        (lambda: keras_ae.build("vae", 8, 2, hiden=[3]), "hiden.*hidden"),
        (lambda: keras_ae.build("linear", 8, 2, hidden=[3]), "hidden.*Its options: reduction, weight"),
        (lambda: keras_ae.build("vae", 8, 9), "at most the number of features, 8.*9"),
        (lambda: keras_ae.build("vae", 8, 0), "at least 1.*0"),
        (lambda: keras_ae.build("vae", (8, 0), 1), r"\(8, 0\)"),
        (lambda: keras_ae.build("vae", 8, 2, hidden=[]), "hidden"),
        (lambda: keras_ae.build("denoising", 8, 2, noise="pink"), "pink"),
        (lambda: keras_ae.build("linear", 8, 2, network="dense"), "dense"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        make()


def test_arrays_of_the_wrong_shape_are_refused_with_both_shapes():
    model, _ = built("ae", "dense")
    model.compile("adam")
    for call in (model.encode, model.reconstruct, model.fit):
        with pytest.raises(ValueError, match=r"64\).*\(10, 63\)"):
            call(np.zeros((10, 63), "float32"))


def test_weight_annealing_moves_the_weight_without_a_new_trace():
    model, x = built("vae", "dense")
    model.compile("adam")
    history = model.fit(x[:256], epochs=4, callbacks=[WeightAnnealing("kl", epochs=2)], verbose=0).history
    assert history["kl_weight"] == [0.0, 0.5, 1.0, 1.0]
    assert history["loss"][0] == pytest.approx(history["nll"][0], rel=1e-5)
    assert history["loss"][3] == pytest.approx(history["nll"][3] + history["kl"][3], rel=1e-5)
    with pytest.raises(ValueError, match="kl, nll"):
        model.fit(x[:256], callbacks=[WeightAnnealing("nope")], verbose=0)


def test_best_weights_come_back_and_plateaus_cut_the_learning_rate():
    model, x = built("ae", "dense")
    model.compile(keras.optimizers.Adam(1e-3))
    best = BestWeights("val_rmse", patience=1, cuts=2, factor=0.1)
    # Far too high a rate from epoch 3 on: from there nothing can improve.
    spoil = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate if epoch < 3 else 10.0)
    history = model.fit(x[:600], validation_data=x[600:700], epochs=30, callbacks=[spoil, best], verbose=0).history
    assert len(history["loss"]) < 30
    assert best.best == min(history["val_rmse"])
    assert model.evaluate(x[600:700], verbose=0, return_dict=True)["rmse"] == pytest.approx(best.best, rel=0.05)


def test_what_is_traced_once_is_not_taken_for_what_is_traced_again_and_again(caplog):
    logger = tf.get_logger()
    logger.addHandler(caplog.handler)
    try:
        for _ in range(2):
            model = keras_ae.build("ae", 6, 2, hidden=[4])
            for function in ("encode", "reconstruct", "score", "generate"):
                taken = model.signatures[function]["inputs"]
                model.run(function, {name: np.zeros((2, *of["shape"]), of["dtype"]) for name, of in taken.items()})
    finally:
        logger.removeHandler(caplog.handler)
    assert "retracing" not in caplog.text
