# %% [markdown]
# # Your own encoder, decoder and loss as a recipe
#
# You have a network of your own in Keras, or a loss from a paper. Here both become names that `fit` takes, with all
# that comes after training: comparison with PCA, calibrated scores, exports that are proven to agree, the report. The
# data are measurements of benign tumours, which scikit-learn ships; malignant ones are the anomalies.

# %%
import os

import keras
import numpy as np
from keras import ops
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score

import keras_ae
from keras_ae import runtime
from keras_ae.layers.losses import LossLayer
from keras_ae.networks import NETWORKS, Network
from keras_ae.parts import Parts
from keras_ae.recipes import RECIPES, Recipe

QUICK = "QUICK" in os.environ  # the tests run it small
data = load_breast_cancer()
benign, malignant = (data.data[data.target == label].astype("float32") for label in (1, 0))
print(benign.shape, malignant.shape)

# %% [markdown]
# ## A network
#
# Two functions, encoder and decoder, that make ordinary Keras models. The options that they share become options of
# `fit`. This one gates each layer by a second one (gated linear units, Dauphin et al. 2017).


# %%
def gated(x, width, name):
    gate = keras.layers.Dense(width, "sigmoid", name=f"{name}_gate")(x)
    return keras.layers.multiply([keras.layers.Dense(width, name=name)(x), gate])


def with_linear_path(x, inputs, width, name):
    linear = keras.layers.Dense(width, use_bias=False, name=f"{name}_linear")(inputs)
    return keras.layers.add([keras.layers.Dense(width, name=f"{name}_gated")(x), linear], name=name)


def gated_encoder(input_shape, latent_dim, gaussian=False, width=64):
    x = inputs = keras.Input(input_shape, name="x")
    for i in range(2):
        x = gated(x, width, f"encoder_{i}")
    z = with_linear_path(x, inputs, latent_dim, "z")
    if gaussian:  # recipes with a Sampling ask for a mean and a logarithm of the variance
        return keras.Model(inputs, [z, keras.layers.Dense(latent_dim, name="log_var")(x)], name="encoder")
    return keras.Model(inputs, z, name="encoder")


def gated_decoder(output_shape, latent_dim, output_activation=None, parameters=1, width=64):
    x = inputs = keras.Input((latent_dim,), name="z")
    for i in range(2):
        x = gated(x, width, f"decoder_{i}")
    x_hat = with_linear_path(x, inputs, parameters * output_shape[-1], "x_hat")
    return keras.Model(inputs, keras.layers.Activation(output_activation)(x_hat), name="decoder")


NETWORKS["gated"] = Network(gated_encoder, gated_decoder)

# %% [markdown]
# ## A loss
#
# A loss layer takes its tensors, adds one named term and hands them on; the term then shows in `History` and
# TensorBoard by that name. log cosh grows like the square of small errors and like the absolute value of large ones, so
# that a few wild rows weigh less.


# %%
@keras.saving.register_keras_serializable(package="tutorial")
class LogCoshLoss(LossLayer):
    """log cosh(x - x_hat), sum over features, mean over the batch."""

    reads = ("x", "x_hat")

    def call(self, x, x_hat):
        error = ops.abs(x - x_hat)
        # log cosh e = |e| + log(1 + exp(-2|e|)) - log 2, which can't overflow
        self.add_term(ops.mean(ops.sum(error + ops.softplus(-2 * error) - np.log(2), axis=-1)), x)
        return x_hat


def log_cosh(shape, weight: float = 1.0):
    return Parts(LogCoshLoss(weight, name="log_cosh"))


RECIPES["log_cosh"] = Recipe(log_cosh, "Autoencoder with the log-cosh error.", "this page")

# %% [markdown]
# ## Fit, as any other

# %%
fitted = keras_ae.fit(
    benign, out="saved_models/tumours", recipe="log_cosh", network="gated", latent_dim=8, width=16 if QUICK else 64,
    epochs=1 if QUICK else 200, report=False,
)  # fmt: skip
print({name: round(values[-1], 3) for name, values in fitted.training.history.items() if "val" not in name})
print({name: round(fitted.manifest["metrics"][name], 2) for name in ("rmse_test", "rmse_test_pca")})
print({name: f"{of['max_rel_diff']:.0e}" for name, of in fitted.manifest["exports"].items()})

# %% [markdown]
# Each graph was compared with Keras before the artifact was written. It runs without this code, and without Keras:

# %%
model = runtime.load("saved_models/tumours")
unseen = fitted.splits.test
scores = np.concatenate([model.score(unseen)["score"], model.score(malignant)["score"]])
is_malignant = np.repeat([0, 1], [len(unseen), len(malignant)])
print(f"AUROC of malignant among unseen benign tumours: {roc_auc_score(is_malignant, scores):.3f}")
print(f"alarms at p <= 0.05: {np.mean(model.score(malignant)['p_value'] <= 0.05):.0%} of malignant,", end=" ")
print(f"{np.mean(model.score(unseen)['p_value'] <= 0.05):.0%} of unseen benign")

# %% [markdown]
# ## What there is now
#
# A module with these lines, imported before `fit`, is a recipe of your own. `keras_ae.load` gives back the Keras model
# to train on, where the module is imported; `runtime.load` needs none of it. Without a recipe,
# `keras_ae.Autoencoder(encoder, decoder)` and `keras_ae.save` do the same for a single model ([Python](../python.md)).
