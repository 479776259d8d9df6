# %% [markdown]
# # Images: find similar ones, and make new ones
#
# Handwritten digits, which scikit-learn ships, become points of 16 numbers each. What looks alike lies close together
# there, so that the points are an index to search in. At the end there is a folder that any machine with ONNX Runtime
# can search.

# %%
import os

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import keras_ae
from keras_ae import runtime

QUICK = "QUICK" in os.environ  # the tests run it small
digits = load_digits()
images = digits.images[..., None].astype("float32")  # (1797, 8, 8, 1), pixels 0 to 16
print(images.shape)

# %% [markdown]
# ## Train
#
# `fit` splits, scales, trains and exports. `conv` is a network for images; labels are not used here.

# %%
fitted = keras_ae.fit(
    images,
    out="saved_models/images",
    network="conv",
    latent_dim=16,
    epochs=1 if QUICK else 60,
    filters=[8] if QUICK else [32, 64],
    report=not QUICK,
)
metrics = fitted.manifest["metrics"]
print(f"RMSE on unseen images: {metrics['rmse_test']:.3f}, of PCA {metrics['rmse_test_pca']:.3f}, in pixels of 0 to 16")

# %% [markdown]
# ## An index
#
# From here on neither Keras nor TensorFlow is needed: `runtime` opens the exported graphs. z of all images is the
# index, a file of 115 kB.

# %%
model = runtime.load("saved_models/images")
z = model.encode(images)
np.save("index.npy", z)


def similar(image, n=8):
    """Positions of the n images that are nearest to one, by z."""
    distance = np.linalg.norm(z - model.encode(image[None]), axis=1)
    return np.argsort(distance)[:n]


queries = np.random.default_rng(0).choice(len(images), 300, replace=False)
same = [digits.target[similar(images[i])[1:]] == digits.target[i] for i in queries]
print(f"{np.mean(same):.1%} of the seven nearest show the same digit")

# %%
figure = Figure(figsize=(6, 2.6), layout="constrained")
for row, query in zip(figure.subplots(3, 9), queries, strict=False):
    for axes, i in zip(row, [query, *similar(images[query])], strict=True):
        axes.imshow(images[i, ..., 0], cmap="gray_r")
        axes.set_axis_off()
figure.savefig("similar.png", dpi=80)

# %% [markdown]
# Left the image that is looked for; it finds itself first.
#
# ## New images
#
# The prior that was fitted to z gives new points, and the decoder makes images of them. A seed gives the same ones in
# every runtime. How far is each from the nearest image of training, beside the usual distance between two neighbours
# there?

# %%
new = model.generate(27, seed=0)
train = fitted.splits.train.reshape(-1, 64)
to_train = np.linalg.norm(new.reshape(-1, 1, 64) - train[None], axis=2).min(axis=1)
among = np.partition(np.linalg.norm(train[:200, None] - train[None], axis=2), 1, axis=1)[:, 1]
print(
    f"median distance of a new image to training {np.median(to_train):.1f}, of neighbours there {np.median(among):.1f}"
)

figure = Figure(figsize=(6, 2.2), layout="constrained")
for axes, image in zip(figure.subplots(3, 9).flat, new, strict=True):
    axes.imshow(image[..., 0], cmap="gray_r", vmin=0, vmax=16)
    axes.set_axis_off()
figure.savefig("new.png", dpi=80)

# %% [markdown]
# ## What there is now
#
# `saved_models/images`, the artifact, and `index.npy`. On another machine, `pip install keras-ae` without its extras,
# both files, and `similar` from above are a search by image. `keras-ae explore saved_models/images` shows the map in a
# browser. More images go into the index by `encode`, without training again.
