"""Training in bfloat16: products in half the bits, losses and everything that leaves in float32."""

import json

import tensorflow as tf

from keras_ae.errors import InputError
from keras_ae.models import Autoencoder
from keras_ae.processor import cpu_flags

POLICY = "mixed_bfloat16"
_CPU_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # Intel and AMD, Intel, Arm
_FIRST_CUDA = (8, 0)


def check_bfloat16() -> None:
    """Raises InputError where the processor has no instruction that multiplies bfloat16: it would be slower there."""
    for device in tf.config.list_physical_devices("GPU"):
        if tf.config.experimental.get_device_details(device).get("compute_capability", (0, 0)) >= _FIRST_CUDA:
            return
    if not _CPU_FLAGS & cpu_flags():
        raise InputError(
            "`dtype` bfloat16 needs a processor that multiplies in it (CPU flags avx512_bf16, amx_bf16 or bf16, or a "
            "GPU of compute capability 8.0). Received: a processor without, where it would be slower than float32."
        )


def in_float32(model: Autoencoder) -> Autoencoder:
    """A float32 model of the same weights, which are float32 in both; not compiled."""
    config = json.loads(json.dumps(model.get_config()).replace(f'"{POLICY}"', '"float32"'))
    twin = Autoencoder.from_config(config)
    twin.set_weights(model.get_weights())
    return twin
