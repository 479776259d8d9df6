# %% [markdown]
# # From an artifact to TF Serving, another language, and the browser
#
# One `fit`, one folder. Here it goes to four places, and each is asked for the same rows: ONNX Runtime in Python, TF
# Serving's own loader, Node.js, and a page that runs in the browser.

# %%
import csv
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import tensorflow as tf
from keras_ae.export.tf_serving import export_tf_serving
from sklearn.datasets import load_digits

import keras_ae
from keras_ae import runtime
from keras_ae.errors import KerasAEError
from keras_ae.explore import write_page

QUICK = "QUICK" in os.environ  # the tests run it small, on an artifact that is there
artifact = Path("saved_models/digits")
if not artifact.exists():
    keras_ae.fit("digits", out=artifact)
rows = load_digits().data[:5].astype("float32")
np.savetxt("rows.csv", rows, delimiter=",", fmt="%g")

# %% [markdown]
# ## ONNX Runtime in Python

# %%
model = runtime.load(artifact)
expected = model.score(rows)["score"]
print("Python   ", expected)

# %% [markdown]
# ## TF Serving
#
# A folder of numbered versions, with warm-up requests and the configuration of the official image, which `docker
# compose` starts. On the command line it is `keras-ae export saved_models/digits --to tf_serving --out models`. The
# graph that TF Serving will load is opened here by TensorFlow.

# %%
export_tf_serving(artifact, Path("models"))
print(*sorted(str(path) for path in Path("models").glob("*")), sep="\n")

served = tf.saved_model.load("models/digits/1")
print("SavedModel", served.signatures["score"](x=tf.constant(rows))["score"].numpy())

# %% [markdown]
# ## Node.js
#
# The graphs hold scaling, scores and p-values, so that the program in another language is short:
# `examples/deploy/run.mjs`, which [Deploy anywhere](../deploy.md#other-languages) shows whole, beside one in C++.

# %%
programs = Path(keras_ae.__file__).parents[1] / "examples/deploy"
if shutil.which("node") and (programs / "node_modules").exists():
    done = subprocess.run(
        ["node", programs / "run.mjs", artifact, "rows.csv"], capture_output=True, text=True, check=True
    )
    found = np.array([row["score"] for row in csv.DictReader(done.stdout.splitlines())], "float32")
    print("Node.js  ", found)
    np.testing.assert_allclose(found, expected, rtol=1e-4)

# %% [markdown]
# ## The browser
#
# A folder for any static host, with ONNX Runtime Web and the same graphs: `keras-ae explore saved_models/digits --out
# page`, and `python -m http.server -d page` shows it. In a clone the page has to be built once, by `make web`.

# %%
try:
    page = write_page(artifact, "page")
except KerasAEError as error:  # not built
    print(error)
else:
    size = sum(path.stat().st_size for path in page.folder.rglob("*") if path.is_file())
    print(f"{page.folder}: {', '.join(sorted(path.name for path in page.folder.iterdir()))}; {size / 1e6:.0f} MB")

# %% [markdown]
# ## What there is now
#
# `models/` for TF Serving, `page/` for a web server, and the artifact itself for whatever runs ONNX. `keras-ae verify`
# proves again that they agree, on the machine where it is run.
