# %% [markdown]
# # Few labels: p(y | x) and p(x | y)
#
# Of 1,797 digits only five of each class have their label. The autoencoder learns from all of them what digits look
# like, and from the few which is which: it tells classes apart, p(y | x), and makes the one that is asked for, p(x |
# y).

# %%
import os

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

import keras_ae
from keras_ae import runtime

QUICK = "QUICK" in os.environ  # the tests run it small
x, y = load_digits(return_X_y=True)
x = x.astype("float32")
rng = np.random.default_rng(0)
held = rng.permutation(len(x))[:360]  # never shown to any model below
rest = np.setdiff1d(np.arange(len(x)), held)
labels = np.full(len(rest), -1)  # -1: nobody has looked
for digit in range(10):
    chosen = rng.choice(np.flatnonzero(y[rest] == digit), 5, replace=False)
    labels[chosen] = digit
np.savez("few.npz", x=x[rest], y=labels)
print(f"{(labels >= 0).sum()} labels for {len(rest)} rows")

# %%
fitted = keras_ae.fit(
    "few.npz", out="saved_models/few", labels=True, epochs=1 if QUICK else 60, latent_dim=8 if QUICK else 16,
    hidden=[16] if QUICK else [256, 128], report=False,
)  # fmt: skip
print(*fitted.manifest["notes"], sep="\n")

# %% [markdown]
# ## The discriminator p(y | x)
#
# Beside it a logistic regression on the same fifty rows, which can't learn from the others.

# %%
model = runtime.load("saved_models/few")
probability = model.classify(x[held])  # (360, 10)
accuracy = (probability.argmax(axis=1) == y[held]).mean()
known = labels >= 0
alone = LogisticRegression(max_iter=2000).fit(x[rest][known] / 16, labels[known]).score(x[held] / 16, y[held])
print(f"accuracy on {len(held)} unseen rows: {accuracy:.3f}, of logistic regression {alone:.3f}")

# %% [markdown]
# A probability should mean what it says: of the rows that are called with 90 %, nine in ten should be right. Five
# labels a class leave few to calibrate by, and the model is too sure; with all labels of the digits the error of
# calibration is about 2 %.

# %%
confidence = probability.max(axis=1)
right = probability.argmax(axis=1) == y[held]
for low, high in ((0, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.01)):
    rows = (confidence >= low) & (confidence < high)
    if rows.any():
        print(f"{rows.sum():4} rows called with {confidence[rows].mean():.2f}, right {right[rows].mean():.2f}")

# %% [markdown]
# ## The generator p(x | y)

# %%
figure = Figure(figsize=(5, 2.4), layout="constrained")
grid = figure.subplots(4, 10)
for digit, column in zip(model.classes, grid.T, strict=True):
    for axes, row in zip(column, model.generate(4, y=digit, seed=int(digit)), strict=True):
        axes.imshow(row.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        axes.set_axis_off()
figure.savefig("classes.png", dpi=80)

made = np.concatenate([model.generate(50, y=digit, seed=1) for digit in model.classes])
judge = LogisticRegression(max_iter=2000).fit(
    x[rest] / 16, y[rest]
)  # with all true labels, which the model did not have
print(
    f"{judge.score(made / 16, np.repeat(np.arange(10), 50)):.1%} of new digits are taken for the one that was asked for"
)

# %% [markdown]
# ## What there is now
#
# A classifier and a generator in one folder, which need no TensorFlow:
#
# ```bash
# keras-ae classify saved_models/few rows.npy --out classes.csv
# keras-ae generate saved_models/few --n 100 --label 7 --out sevens.csv
# ```
#
# Which rows to label next? Those with the lowest confidence. [Labels](../labels.md) says how the two opinions are
# pooled.
