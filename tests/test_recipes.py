"""What every recipe keeps: it learns digits, beats the mean, is saved whole, and generates from its seed."""

import json

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_ae
from keras_ae.recipes import RECIPES

X = load_digits().data.astype("float32")
TRAIN, TEST = X[:1200], X[1200:]
# Options that are not the defaults, so that a saved model that forgets them differs.
OPTIONS = {
    "ae": {"reduction": "sample"},
    "vae": {"beta": 0.5, "likelihood": "feature_gaussian"},
    "student_t": {"df": 3.0},
    "rmse_vae": {"kl_weight": 1e-2},
    "beta_vae": {"capacity": 20.0, "capacity_steps": 50},
    "cvae": {"free_bits": 0.1},
    "kl_ae": {"weight": 2.0},
    "denoising": {"noise": "salt_and_pepper", "level": 0.1},
    "sparse": {"penalty": "top_k", "k": 5},
    "contractive": {"weight": 1e-3, "probes": 2},
    "masked": {"rate": 0.3},
    "rae_l2": {"weight": 1e-2},
    "rae_gp": {"penalty": 0.01},
    "adversarial_ae": {"weight": 0.05},
    "wae_mmd": {"weight": 0.2},
    "swae": {"projections": 20},
    "fsq": {"levels": 5},
    "vq_vae": {"codes": 32, "ema": False},
    "residual_vq": {"stages": 2, "code_dim": 4},
    "gumbel": {"categories": 4, "temperature": 0.7},
    "beta_tc_vae": {"beta": 2.0},
    "factor_vae": {"gamma": 2.0},
    "dip_vae": {"kind": 2},
    "info_vae": {"alpha": 0.3, "likelihood": "student_t"},
    "iwae": {"samples": 3, "likelihood": "discretized_logistic"},
    "miwae": {"samples": 3, "likelihood": "feature_gaussian"},
    "svae": {"beta": 0.5, "likelihood": "feature_gaussian"},
    "vamp_vae": {"components": 8},
    "hvae": {"inference": "ladder", "top_dims": [3, 2], "likelihood": "feature_gaussian"},
    "flow_vae": {"steps": 2, "flow": "posterior", "likelihood": "continuous_bernoulli"},
    "vae_gan": {"weight": 0.5},
    "linear": {},
}
# The recipes whose training graph sees more of x than its features one by one.
CONV = ["vae", "masked", "vq_vae", "contractive", "vae_gan"]
# Those that differ from another by a term or a weight.
ALIKE = {"rmse_vae", "beta_tc_vae", "dip_vae", "info_vae", "miwae", "rae_l2", "swae", "student_t", "residual_vq"}
ALIKE |= {"factor_vae"}
CASES = [pytest.param("dense", name, marks=[pytest.mark.slow] if name in ALIKE else []) for name in OPTIONS]
CASES += [pytest.param("conv", name, marks=pytest.mark.slow) for name in CONV[1:]] + [("conv", CONV[0])]


def test_every_recipe_has_a_case():
    assert set(OPTIONS) == set(RECIPES)


def trained(network, recipe, epochs=15, jit_compile=False):
    keras.utils.set_random_seed(0)
    shape = (8, 8) if network == "conv" else (64,)
    rows = TRAIN.reshape(-1, *shape)
    classes = ("even", "odd") if RECIPES[recipe].conditional else ()
    y = load_digits().target[:1200] % 2 if classes else None
    own = {} if recipe == "linear" else {"hidden": [64]} if network == "dense" else {"filters": [16]}
    # Without the linear path, which starts at PCA and would beat the mean untrained.
    own |= {} if recipe == "linear" else {"linear": False}
    model = keras_ae.build(
        recipe, shape, 8, None if recipe == "linear" else network, classes=classes, **own, **OPTIONS[recipe]
    )
    keras_ae.training.start(model, rows, keras_ae.data.fit_scaling(rows))
    # XLA takes longer to compile than these steps do.
    model.compile(keras.optimizers.Adam(3e-3), jit_compile=jit_compile)
    history = model.fit(rows, y, batch_size=64, epochs=epochs, verbose=0).history
    return model, rows, y, history


def config_of(model, part):
    layers = getattr(model, part)
    configs = [layer and layer.get_config() for layer in (layers if isinstance(layers, list) else [layers])]
    return json.dumps(configs)  # a file holds lists for tuples


@pytest.mark.parametrize(("network", "recipe"), CASES)
def test_a_recipe_keeps_its_contract(network, recipe, tmp_path):
    model, rows, y, history = trained(network, recipe)
    test = TEST.reshape(-1, *rows.shape[1:])
    assert all(np.isfinite(values).all() for values in history.values())
    term = model.reconstruction.name
    assert history[term][-1] < history[term][0]
    x_hat = model.reconstruct(test)
    assert keras_ae.training.rmse(test, x_hat) < keras_ae.training.rmse(test, np.broadcast_to(rows.mean(0), test.shape))

    model.fit_prior(rows[:200], y=None if y is None else y[:200])  # too few for mixtures, which take longer
    model.calibrate(test, None)
    fresh = [model.generate(6, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(fresh[0], fresh[1])
    assert not np.allclose(fresh[0], fresh[2])
    score = model.score(test)
    np.testing.assert_array_equal(score["score"], model.score(test)["score"])
    assert set(score) == {"score", "p_value"}

    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    for part in ("reconstruction", "latent", "regularizers"):
        assert config_of(again, part) == config_of(model, part)
    np.testing.assert_allclose(again.reconstruct(test), model.reconstruct(test), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(again.generate(6, seed=0), fresh[0], rtol=1e-4, atol=1e-3)
    again.run_eagerly = True  # one batch takes less than a graph for it
    terms = again.evaluate(test, batch_size=len(test), verbose=0, return_dict=True)
    assert set(terms) >= {"loss", term}
    assert np.isfinite(list(terms.values())).all()


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in OPTIONS if name != "linear"])
def test_every_recipe_is_compiled_by_xla(recipe):
    model, _, _, history = trained("dense", recipe, epochs=2, jit_compile=True)
    assert model.jit_compile
    assert all(np.isfinite(values).all() for values in history.values())
    assert history[model.reconstruction.name][1] < history[model.reconstruction.name][0]


def test_one_number_is_a_network_of_one_layer():
    one, some = (keras_ae.build("ae", 6, 2, hidden=hidden) for hidden in (8, [8]))
    assert one.encoder.count_params() == some.encoder.count_params()
