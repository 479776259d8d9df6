# %% [markdown]
# # A table with categories and gaps: an anomaly service
#
# Cars of 1970 to 1982, which the package `vega_datasets` ships: numbers, a category, a date, and some cells that nobody
# filled in. At the end there is a service over HTTP that says which car is none, and why.

# %%
import os
import subprocess
import sys

import numpy as np
import vega_datasets

import keras_ae
from keras_ae import runtime
from keras_ae.client import Client

QUICK = "QUICK" in os.environ  # the tests run it small
cars = vega_datasets.data.cars()
cars.to_csv("cars.csv", index=False)
print(cars.drop(columns="Name").describe().loc[["count", "min", "max"]].T.to_string())

# %% [markdown]
# ## Train
#
# The table goes in as it is. What each column is follows from its cells; `Name` has a different text in nearly every
# row, names rows and does not describe them, and is left out.

# %%
fitted = keras_ae.fit(
    "cars.csv",
    out="saved_models/cars",
    seed=1,
    epochs=1 if QUICK else None,
    hidden=[16] if QUICK else [64],
    report=not QUICK,
)
for column in fitted.manifest["table"]["columns"]:
    print(f"{column['name']:18} {column['kind']:12} {'may be missing' if column.get('nullable') else ''}")
print(*fitted.manifest["notes"], sep="\n")

# %% [markdown]
# ## Which cars are unusual
#
# A p-value says how many cars that were not trained on score at least as high. `explain` divides a score among the
# columns. A gap that is rare is unusual itself, so these are the cars without one.

# %%
model = runtime.load("saved_models/cars")
whole = cars.dropna().reset_index(drop=True)
scores = model.score(whole)
why = model.explain(whole)
for i in np.argsort(-scores["score"])[:5]:
    most = why.iloc[i].astype(float).idxmax()
    print(f"{whole.Name[i]:28} score {scores['score'][i]:5.2f}, p {scores['p_value'][i]:.3f}: {most} {whole[most][i]}")

# %% [markdown]
# ## Fill the gaps
#
# `impute` fills the cells that are missing with what goes with the rest of the row, and leaves all others.

# %%
gaps = cars[cars.Horsepower.isna()]
for name, horsepower in zip(gaps.Name, model.impute(gaps).Horsepower, strict=True):
    print(f"{name:22} {horsepower:4.0f} horsepower")

# %% [markdown]
# ## Serve
#
# In a terminal: `keras-ae serve saved_models/cars`. It needs `keras-ae[serve]` and no TensorFlow. Here a second process
# does.

# %%
port = 8571
command = [sys.executable, "-m", "keras_ae", "serve", "saved_models/cars", "--port", str(port)]
service = subprocess.Popen(command, stderr=subprocess.DEVNULL)

rows = {
    "Miles_per_Gallon": [31.0, 46.0, None],
    "Cylinders": [4, 8, 4],
    "Displacement": [97, 400, 97],
    "Horsepower": [75, 60, None],
    "Weight_in_lbs": [2100, 5000, 2100],
    "Acceleration": [16.0, 9.0, 16.0],
    "Year": ["1978-01-01", "1971-01-01", "1978-01-01"],
    "Origin": ["Japan", "Japan", "Japan"],
}
try:
    with Client(f"http://127.0.0.1:{port}", "cars", deadline=60, retries=60) as client:
        answer = client.score(rows)
    for name, score, p in zip(
        ("a usual car", "none", "one with gaps"), answer["score"], answer["p_value"], strict=True
    ):
        print(f"{name:14} score {score:6.2f}, p {p:.3f}")
finally:
    service.terminate()
    service.wait()

# %% [markdown]
# Any program can ask; columns go by their names, and null is a gap:
#
# ```bash
# curl localhost:8501/v1/models/cars:predict -d '{"signature_name": "score", "instances": [
#   {"Miles_per_Gallon": 31, "Cylinders": 4, "Displacement": 97, "Horsepower": null, "Weight_in_lbs": 2100,
#    "Acceleration": 16, "Year": "1978-01-01", "Origin": "Japan"}]}'
# ```
#
# ## What there is now
#
# The service takes up a new artifact in `saved_models/cars` while it runs. What it refuses, its limits and its metrics
# are in [Serving](../serving.md); how many alarms there will be follows from the level that is chosen
# ([Anomalies](../anomaly.md)).
