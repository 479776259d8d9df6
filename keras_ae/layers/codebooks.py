"""Codes from a learned codebook (VQ-VAE, residual quantization), and categories (Gumbel-softmax)."""

import math
from typing import Any

import keras
from keras import ops

from keras_ae.layers.draws import uniform
from keras_ae.layers.losses import LossLayer


def _one_hot_of_highest(scores: Any) -> Any:
    """1 at the highest of the last axis, 0 elsewhere; of equal ones at the first. argmax has no ONNX form here."""
    highest = ops.top_k(scores, 1)[1]
    return ops.cast(ops.equal(highest, ops.arange(scores.shape[-1], dtype=highest.dtype)), "float32")


@keras.saving.register_keras_serializable(package="keras_ae")
class VectorQuantizer(keras.layers.Layer):
    """Replaces z by the nearest vectors of a codebook; the gradient passes through as if it did not (van den Oord et
    al. 2017, "Neural discrete representation learning", section 3.2).

    Called on what the encoder gives, (batch, n); returns z of that shape. z is cut into groups of `code_dim` numbers,
    each with a codebook of its own (Jegou et al. 2011, "Product quantization"). With several stages each quantizes what
    the one before left over, and the codes add up (Zeghidour et al. 2021, "SoundStream", algorithm 1). Train it with
    CommitmentLoss.

    Args:
        codes: vectors of a codebook, at least 2.
        code_dim: numbers of a vector, a divisor of n; by default 2 where n is even, else 1.
        stages: of residual quantization; 1 for plain.
        ema: codebooks follow running means of the vectors nearest to them (appendix A.1); else CommitmentLoss trains
            them by its gradient.
        decay: of the running means, in [0, 1).
        revive: a code whose running count falls below this share of its due, rows / codes, is put on a random row of
            the batch (Dhariwal et al. 2020, "Jukebox", section 3.1); 0 never does.
        seed: of those draws; None takes one from `keras.utils.set_random_seed`.

    Raises:
        ValueError: for options out of range, or a `code_dim` that does not divide n.
    """

    def __init__(
        self,
        codes: int = 64,
        code_dim: int | None = None,
        stages: int = 1,
        ema: bool = True,
        decay: float = 0.99,
        revive: float = 0.05,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        if codes < 2:
            raise ValueError(f"`codes` must be at least 2. Received: {codes}.")
        if stages < 1:
            raise ValueError(f"`stages` must be at least 1. Received: {stages}.")
        if not 0 <= decay < 1 or not 0 <= revive < 1:
            raise ValueError(f"`decay` and `revive` must be in [0, 1). Received: {decay} and {revive}.")
        super().__init__(autocast=False, **kwargs)
        self.codes, self.code_dim, self.stages, self.ema = int(codes), code_dim, int(stages), bool(ema)
        self.decay, self.revive, self.seed = float(decay), float(revive), seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape: Any) -> None:
        n = int(input_shape[-1])
        dim = self.code_dim if self.code_dim is not None else math.gcd(n, 2)
        if dim < 1 or n % dim:
            raise ValueError(f"`code_dim` must divide the {n} latents. Received: {dim}.")
        shape = (self.stages, n // dim, self.codes, dim)
        self.codebook = self.add_weight(
            shape=shape,
            initializer=keras.initializers.RandomNormal(stddev=1.0, seed=self.seed),
            dtype="float32",
            trainable=not self.ema,
            name="codebook",
        )
        self.counts = self.add_weight(
            shape=shape[:-1], initializer="ones", dtype="float32", trainable=False, name="counts"
        )

    def _groups(self, x: Any) -> Any:
        return ops.reshape(ops.cast(x, "float32"), (-1, self.codebook.shape[1], self.codebook.shape[3]))

    def _stages(self, x: Any) -> list[tuple[Any, Any, Any]]:
        """(what is left to quantize, one-hot of the code, its vector) of each stage."""
        left, found = self._groups(x), []
        for stage in range(self.stages):
            book = self.codebook[stage]
            # The squared distance, without the part that all codes share.
            score = 2.0 * ops.einsum("rgd,gcd->rgc", left, book) - ops.sum(ops.square(book), axis=-1)
            one_hot = _one_hot_of_highest(score)
            code = ops.einsum("rgc,gcd->rgd", one_hot, book)
            found.append((left, one_hot, code))
            # A later codebook does not train the ones before it.
            left = left - ops.stop_gradient(code)
        return found

    def nearest_code(self, z: Any) -> Any:
        """The code nearest to any z (batch, n)."""
        return self.coded(z)[0]

    def coded(self, z: Any) -> tuple[Any, Any]:
        """The code nearest to any z (batch, n), and the perplexity of the codes: exp of their entropy, the mean over
        codebooks, as many codes as are in use.
        """
        stages = self._stages(z)
        share = ops.stack([ops.mean(one_hot, axis=0) for _, one_hot, _ in stages])
        perplexity = ops.mean(ops.exp(-ops.sum(share * ops.log(ops.maximum(share, 1e-10)), axis=-1)))
        return ops.reshape(sum(code for _, _, code in stages), (-1, z.shape[-1])), perplexity

    def call(self, x: Any, training: bool = False) -> Any:
        stages = self._stages(x)
        code = ops.reshape(sum(code for _, _, code in stages), (-1, x.shape[-1]))
        x32 = ops.cast(x, "float32")
        z = x32 + ops.stop_gradient(code - x32)
        if training:
            self._update([(ops.stop_gradient(left), one_hot) for left, one_hot, _ in stages])
        return ops.cast(z, self.compute_dtype)

    def _update(self, stages: list[tuple[Any, Any]]) -> None:
        rows = ops.shape(stages[0][0])[0]
        due = ops.cast(rows, "float32") / self.codes
        books, counts = [], []
        for i, (left, one_hot) in enumerate(stages):
            count = self.decay * self.counts[i] + (1.0 - self.decay) * ops.sum(one_hot, axis=0)
            book = ops.convert_to_tensor(self.codebook[i])
            if self.ema:
                total = self.decay * self.counts[i][..., None] * book
                total += (1.0 - self.decay) * ops.einsum("rgc,rgd->gcd", one_hot, left)
                book = total / ops.maximum(count, 1e-10)[..., None]
            drawn = uniform((self.codes,), self.seed_generator) * ops.cast(rows, "float32")
            fresh = ops.transpose(ops.take(left, ops.cast(drawn, "int32"), axis=0), (1, 0, 2))
            dead = count < self.revive * due
            books.append(ops.where(dead[..., None], fresh, book))
            counts.append(ops.where(dead, due, count))
        self.codebook.assign(ops.stack(books))
        self.counts.assign(ops.stack(counts))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        options = {"codes": self.codes, "code_dim": self.code_dim, "stages": self.stages, "ema": self.ema}
        return {**super().get_config(), **options, "decay": self.decay, "revive": self.revive, "seed": self.seed}


@keras.saving.register_keras_serializable(package="keras_ae")
class CommitmentLoss(LossLayer):
    """Squared distance of the encoder's output from its code, mean over latents and batch: it pulls the encoder to the
    codes, and with a gradient codebook the codes to the encoder (van den Oord et al. 2017, equation 3). Reports the
    codes in use as `perplexity`.

    Called on `(x, z)` for what the encoder gives and its code, each (batch, n); returns z. Bound to a VectorQuantizer
    by the Autoencoder that holds both.

    Args:
        weight: of the pull on the encoder, the paper's beta; the codes are pulled with weight 1.

    Raises:
        ValueError: where the latent layer is no VectorQuantizer.
    """

    reads = ("posterior", "z")
    term = "commitment"

    def __init__(self, weight: float = 0.25, **kwargs: Any) -> None:
        super().__init__(weight, **kwargs)
        self.perplexity = keras.metrics.Mean(name="perplexity")

    def bind(self, encoder: Any, decoder: Any, latent: Any) -> None:
        """Takes the latent layer, which the model keeps."""
        if not isinstance(latent, VectorQuantizer):
            raise ValueError(f"CommitmentLoss needs a `latent` that is a VectorQuantizer. Received: {latent!r}.")
        self.borrow("_quantizer", latent)

    def call(self, x: Any, z: Any) -> Any:
        x32, rows = ops.cast(x, "float32"), ops.cast(ops.shape(x)[0], "float32")
        code, perplexity = self._quantizer.coded(x32)
        self.add_term(ops.mean(ops.square(x32 - ops.stop_gradient(code))), x)
        if not self._quantizer.ema:
            self.add_loss(ops.mean(ops.square(ops.stop_gradient(x32) - code)))
        self.perplexity.update_state(perplexity, sample_weight=rows)
        return z


@keras.saving.register_keras_serializable(package="keras_ae")
class GumbelSoftmax(keras.layers.Layer):
    """Categories drawn in a form that has a gradient: softmax((logits + g) / temperature) with g of the Gumbel
    distribution in training, the likeliest category in one-hot coding at inference (Jang et al. 2017, "Categorical
    reparameterization with Gumbel-softmax", equation 2; Maddison et al. 2017).

    Called on logits (batch, n); returns z of that shape: n / categories variables one after the other.

    Args:
        categories: of a variable, a divisor of n; by default that by which n numbers tell most: 3, else 4, 2, 5, ...
        temperature: 0 draws categories, infinity is flat; a non-trainable variable, so that a callback can lower it.
        seed: of the draws; None takes one from `keras.utils.set_random_seed`.

    Raises:
        ValueError: for a temperature that is not positive, fewer than 2 categories or ones that do not divide n.
    """

    def __init__(
        self, categories: int | None = None, temperature: float = 0.5, seed: int | None = None, **kwargs: Any
    ) -> None:
        if not temperature > 0:
            raise ValueError(f"`temperature` must be positive. Received: {temperature}.")
        super().__init__(autocast=False, **kwargs)
        self.categories, self.initial_temperature, self.seed = categories, float(temperature), seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.initial_temperature),
            dtype="float32",
            trainable=False,
            name="temperature",
        )

    def build(self, input_shape: Any) -> None:
        self.width = categories_of(int(input_shape[-1]), self.categories)

    def _grouped(self, x: Any) -> Any:
        return ops.reshape(ops.cast(x, "float32"), (-1, x.shape[-1] // self.width, self.width))

    def call(self, logits: Any, training: bool = False) -> Any:
        if not training:
            return self.nearest_code(logits)
        grouped = self._grouped(logits)
        noise = -ops.log(-ops.log(uniform(ops.shape(grouped), self.seed_generator)))
        z = ops.softmax((grouped + noise) / self.temperature, axis=-1)
        return ops.cast(ops.reshape(z, (-1, logits.shape[-1])), self.compute_dtype)

    def nearest_code(self, z: Any) -> Any:
        """The categories that any z (batch, n) is highest at, in one-hot coding."""
        return ops.reshape(_one_hot_of_highest(self._grouped(z)), (-1, z.shape[-1]))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "categories": self.categories,
            "temperature": self.initial_temperature,
            "seed": self.seed,
        }


def categories_of(n: int, categories: int | None) -> int:
    """Categories of a variable where n latents are cut into some; ValueError where that can't be."""
    if categories is None:
        divisors = (c for c in range(2, n + 1) if n % c == 0)
        categories = max(divisors, key=lambda c: (math.log(c) / c, c), default=n)
    if categories < 2 or n % categories:
        raise ValueError(f"`categories` must be at least 2 and divide the {n} latents. Received: {categories}.")
    return int(categories)


@keras.saving.register_keras_serializable(package="keras_ae")
class CategoricalKLLoss(LossLayer):
    """KL of the categories' distribution from the uniform one, in nats: summed over variables, mean over the batch.

    Called on logits (batch, n), as GumbelSoftmax is; returns them (Jang et al. 2017, section 3).

    Args:
        weight: factor of the term.
        categories: as GumbelSoftmax has them.
    """

    reads = ("posterior",)
    term = "kl"

    def __init__(self, weight: float = 1.0, categories: int | None = None, **kwargs: Any) -> None:
        super().__init__(weight, **kwargs)
        self.categories = categories

    def kl_of_rows(self, logits: Any) -> Any:
        """The KL of each row, (batch,) nats."""
        width = categories_of(logits.shape[-1], self.categories)
        log_q = ops.log_softmax(ops.reshape(ops.cast(logits, "float32"), (-1, logits.shape[-1] // width, width)))
        return ops.sum(ops.exp(log_q) * (log_q + math.log(width)), axis=(1, 2))

    def call(self, logits: Any) -> Any:
        self.add_term(ops.mean(self.kl_of_rows(logits)), logits)
        return logits

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "categories": self.categories}
