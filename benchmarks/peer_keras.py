"""Worker: the autoencoder of this package, trained by its own `fit` or by plain Keras's."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from protocol import Peer, serve

import keras_ae


def prepare(case: dict[str, Any], x: np.ndarray) -> Peer:
    tf.config.threading.set_intra_op_parallelism_threads(case["threads"])
    keras.utils.set_random_seed(case["seed"])
    # Without the linear path: the peers have none.
    model = keras_ae.build("vae", x.shape[1:], case["latents"], linear=False, **case["network"])
    # The same layers and losses in a model that knows nothing of resident rows.
    trained = keras.Model(model.inputs, model.outputs) if case["way"] == "keras" else model
    trained.compile(keras.optimizers.Adam(case["learning_rate"]), jit_compile=True if "xla" in case["way"] else "auto")

    def forward(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        mean, log_var = model.encoder(rows)
        return mean.numpy(), log_var.numpy(), model.decoder(mean).numpy()

    return Peer(
        parameters=sum(int(np.prod(v.shape)) for v in trained.trainable_variables),
        versions={"TensorFlow": tf.__version__, "Keras": keras.__version__, "keras_ae": keras_ae.__version__},
        train=lambda epochs: trained.fit(x, batch_size=case["batch"], epochs=epochs, verbose=0),
        forward=forward,
        tensor=tf.constant,
        matmul=tf.matmul,
    )


if __name__ == "__main__":
    serve(prepare)
