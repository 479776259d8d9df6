"""What stands between and around an encoder and a decoder, and what of it is another for tables and for series."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import keras

from keras_ae.data.columns import layout
from keras_ae.data.schema import Schema
from keras_ae.layers import (
    ColumnLoss,
    ColumnScaling,
    ImportanceWeightedLoss,
    JacobianLoss,
    LengthLoss,
    RMSELoss,
    Scaling,
    SequenceLoss,
    SequenceRMSELoss,
    SequenceScaling,
    ValuesOnly,
)


@dataclass(frozen=True)
class Parts:
    """What a recipe puts between and around the encoder and the decoder.

    Attributes:
        reconstruction: loss layer on (x, x_hat).
        latent: layer from posterior to z; a Sampling makes the encoder give (mean, log_var).
        regularizers: further loss layers.
        front: layer between scaled x and the encoder, which becomes part of the encoder.
        bridge: layer between z and the decoder, which becomes part of the decoder.
        scaling: layer between raw and network units.
        output_activation: of the decoder, over all features.
    """

    reconstruction: keras.layers.Layer
    latent: keras.layers.Layer | None = None
    regularizers: Sequence[keras.layers.Layer] = ()
    front: keras.layers.Layer | None = None
    bridge: keras.layers.Layer | None = None
    scaling: Callable[[], keras.layers.Layer] = Scaling
    output_activation: str | None = None


def for_table(parts: Parts, schema: Schema) -> Parts:
    """The same for rows of a table: the error or the likelihood of each kind of column, without cells that are missing.

    Raises:
        ValueError: for a recipe that says itself what x is, or whose terms compare x with what the decoder says of it.
    """
    loss, where = parts.reconstruction, layout(schema)
    levels = tuple(end - first for first, end in where.blocks)
    of_kinds = ColumnLoss(where.gaussian, where.bernoulli, levels, loss.initial_weight)
    # The Jacobian is that of the encoder, which fills what is missing.
    told = replace(parts, regularizers=[term for term in parts.regularizers if not isinstance(term, JacobianLoss)])
    known = _of_incomplete("A table with categories, dates or missing cells", told, of_kinds, RMSELoss)
    return replace(parts, reconstruction=known, scaling=lambda: ColumnScaling(schema.describe()))


def for_sequences(parts: Parts, steps: int, channels: tuple[str, ...]) -> Parts:
    """The same for series of different lengths: the error or the likelihood of the values that are there, and
    p(length | z).

    Raises:
        ValueError: as `for_table`.
    """
    of_values = SequenceLoss(parts.reconstruction.initial_weight)
    known = _of_incomplete("Series of different lengths", parts, of_values, SequenceRMSELoss)
    # A likelihood has the length's in it. Beside an error, which is a mean over steps, it is one too.
    of_length = [] if getattr(known, "is_likelihood", False) else [LengthLoss(1.0 / steps)]
    return replace(
        parts,
        reconstruction=known,
        regularizers=[*parts.regularizers, *of_length],
        front=None if parts.front is None else ValuesOnly(parts.front, name="values_only"),
        scaling=lambda: SequenceScaling(steps, channels),
    )


def _of_incomplete(
    what: str, parts: Parts, likelihood: keras.layers.Layer, error: type[RMSELoss]
) -> keras.layers.Layer:
    """The reconstruction of rows that lack values: the likelihood in place of another, or an RMSE of what is there."""
    loss = parts.reconstruction
    reads_x = [term.name for term in parts.regularizers if "x" in getattr(term, "reads", ())]
    if parts.scaling is Scaling and not reads_x:
        if type(loss) is ImportanceWeightedLoss:
            return ImportanceWeightedLoss(likelihood, loss.initial_weight)
        if type(loss) is RMSELoss:
            return likelihood if loss.calibrated else error(loss.initial_weight, loss.reduction, skip_missing=True)
    received = f"a term, {reads_x[0]}, that reads x" if reads_x else f"{type(loss).__name__}"
    raise ValueError(
        f"{what} must have a recipe whose only term on x is an RMSE or a likelihood of real numbers, such as vae. "
        f"Received: {received}."
    )
