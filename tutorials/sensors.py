# %% [markdown]
# # Sensor windows: which days were strange
#
# Rain, highest and lowest temperature, and wind in Seattle, day by day, which `vega_datasets` ships. Three years train;
# the fourth is judged, window by window. At the end there are alarms by date, and a check of drift that a nightly job
# can run.

# %%
import os
from pathlib import Path

import pandas as pd
import vega_datasets
from matplotlib.figure import Figure

import keras_ae
from keras_ae import runtime
from keras_ae.data import Windowing, load_source
from keras_ae.files import run_file
from keras_ae.monitoring import monitor_file

QUICK = "QUICK" in os.environ  # the tests run it small
weather = vega_datasets.local_data.seattle_weather().drop(columns="weather")
before, after = weather[weather.date < "2015"], weather[weather.date >= "2015"]
before.to_csv("before.csv", index=False)
after.to_csv("after.csv", index=False)
print(f"{len(before)} days train, {len(after)} are new")

# %% [markdown]
# ## Train on windows
#
# A window is seven consecutive days of all channels. The column of dates is found by itself; a gap in it would end a
# window.

# %%
source = load_source("before.csv", windowing=Windowing.asked(7))
fitted = keras_ae.fit(
    source,
    out="saved_models/weather",
    epochs=1 if QUICK else None,
    hidden=[16] if QUICK else [64],
    network="dense",
    report=not QUICK,
)
print(f"{fitted.manifest['window']['channels']}, windows of {fitted.manifest['window']['length']}")
print({part: of["rows"] for part, of in fitted.manifest["splits"].items()})

# %% [markdown]
# ## Judge the new year
#
# `score` of a file gives a row for each day: the highest score, and lowest p-value, of the seven windows that hold it.
# At a level of 0.01 one normal window in a hundred gives an alarm, and with it up to seven days.

# %%
model = runtime.load("saved_models/weather")
run_file(model, "score", Path("after.csv"), Path("scores.csv"), alpha=0.01)
scores = pd.read_csv("scores.csv", parse_dates=["date"])
alarms = scores[scores.anomaly == 1]
print(f"{len(alarms)} days in alarm")
print(alarms.sort_values("p_value").head(5).to_string(index=False))

# %%
figure = Figure(figsize=(7, 3.2), layout="constrained")
top, bottom = figure.subplots(2, 1, sharex=True)
top.plot(after.date, after.temp_max, lw=0.8, label="highest")
top.plot(after.date, after.temp_min, lw=0.8, label="lowest")
top.bar(after.date, after.precipitation, color="gray", width=1, label="rain, mm")
top.set(ylabel="degrees Celsius")
top.legend(fontsize=7, ncols=3)
bottom.plot(scores.date, scores.score, lw=0.8, color="black")
bottom.plot(alarms.date, alarms.score, "r.", ms=3)
bottom.set(ylabel="score")
figure.savefig("alarms.png", dpi=80)

# %% [markdown]
# Red are the days in alarm. What in them was strange?

# %%
run_file(model, "explain", Path("after.csv"), Path("why.csv"))
why = pd.read_csv("why.csv", parse_dates=["date"]).set_index("date")
for day in alarms.sort_values("p_value").head(3).date:
    print(day.date(), *(f"{name} {value:.2f}" for name, value in why.loc[day].sort_values(ascending=False).items()))

# %% [markdown]
# ## Drift
#
# One strange week is an alarm. A whole year that differs from the three before is drift: the model itself has become
# old. Latents are compared by a classifier that tries to tell old windows from new ones, with an AUC of 0.5 where it
# can't.

# %%
print(monitor_file("saved_models/weather", Path("after.csv")))

# %% [markdown]
# ## What there is now
#
# `saved_models/weather` scores new days by `keras-ae score saved_models/weather new.csv --out scores.csv --alpha 0.01`,
# and `keras-ae monitor saved_models/weather new.csv` says when to train again. [Time series](../series.md) has more.
