"""Milliseconds of one draw of standard normal noise, compiled by XLA: Keras's own and the package's. Prints JSON."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import json
import time

import keras
import tensorflow as tf

from keras_ae.layers.draws import normal

SHAPE = (128, 16)
DRAWS = 500


def main() -> None:
    generator = keras.random.SeedGenerator(0)
    ways = {
        "`keras.random.normal`": lambda: keras.random.normal(SHAPE, seed=generator),
        "`keras_ae.layers.draws.normal`": lambda: normal(SHAPE, generator),
    }
    compiled = {name: tf.function(draw, jit_compile=True) for name, draw in ways.items()}
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(DRAWS):
        for name, draw in compiled.items():
            started = time.perf_counter()
            draw()
            milliseconds[name].append(1e3 * (time.perf_counter() - started))
    print(json.dumps({name: times[DRAWS // 10 :] for name, times in milliseconds.items()}))


if __name__ == "__main__":
    main()
