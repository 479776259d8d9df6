"""The negative log-likelihood of the published architecture 784-200-200-50 on dynamically binarized images.

Run: python benchmarks/likelihood.py DATA.npz [MINUTES], with x_train and x_test of grey images (MNIST). Training takes
so many minutes, the evaluation two or three more. Figures go to benchmarks/results/likelihood.md. Burda et al. 2016
("Importance weighted autoencoders", table 1) give 86.76 nats for this model after 3,280 epochs.
"""

import argparse
import datetime
import time
from pathlib import Path

import keras
import numpy as np

import keras_ae
from keras_ae import bench
from keras_ae.callbacks import CosineDecay

RESULT = Path(__file__).parent / "results/likelihood.md"
EVALUATED = 1_000
K = 5_000
BATCH = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("minutes", type=float, nargs="?", default=25.0)
    arguments = parser.parse_args()
    source = keras_ae.data.load_source(arguments.data)
    assert source.test is not None
    x, test = (rows.x.reshape(len(rows.x), -1) for rows in (source.rows, source.test))

    keras.utils.set_random_seed(0)
    model = keras_ae.build(
        "vae",
        x.shape[1],
        50,
        "dense",
        input_dtype="uint8",
        likelihood="bernoulli",
        hidden=[200, 200],
        activation="tanh",
        linear=False,
    )
    model.scaling.set_limit(255.0)
    model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-4))
    started = time.perf_counter()
    model.fit(x, batch_size=BATCH, epochs=1, verbose=0)
    once = time.perf_counter()
    model.fit(x, batch_size=BATCH, epochs=2, verbose=0)
    an_epoch = (time.perf_counter() - once) / 2
    epochs = max(1, int((60 * arguments.minutes - (time.perf_counter() - started)) / an_epoch))
    model.fit(x, batch_size=BATCH, epochs=epochs, callbacks=[CosineDecay(epochs)], verbose=0)
    seconds = time.perf_counter() - started

    rows = np.random.default_rng(0).choice(test, EVALUATED, replace=False)
    found = [model.log_likelihood(rows), model.log_likelihood(rows, k=K)]
    kept = model.log_likelihood(x[:EVALUATED], k=K)
    prior = model.fit_prior(x)
    fitted = model.log_likelihood(rows, k=K)
    lines = [
        ("ELBO, N(0, I)", found[0]),
        (f"L_{K}, N(0, I)", found[1]),
        (f"L_{K}, N(0, I), training rows", kept),
        (f"L_{K}, the fitted prior, {prior.kind}", fitted),
    ]
    table = "\n".join(f"| {name} | {-bound.mean:.2f} | {bound.standard_error:.2f} |" for name, bound in lines)
    RESULT.write_text(f"""# Negative log-likelihood

{arguments.data.stem}, dynamically binarized; 784-200-200-50, tanh, Bernoulli; {3 + epochs} epochs in
{seconds / 60:.0f} minutes.
{bench.machine()}; {datetime.date.today()}. {EVALUATED:,} rows are evaluated.
Regenerate: `python benchmarks/likelihood.py DATA.npz`.

| bound | nats a row | standard error |
|---|---|---|
{table}
""")
    print(RESULT.read_text())


if __name__ == "__main__":
    main()
