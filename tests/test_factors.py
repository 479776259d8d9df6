"""Latents that are factors, mixtures of them, or noise."""

import numpy as np
import pytest

from keras_ae.errors import InputError
from keras_ae.evaluation import disentanglement

RNG = np.random.default_rng(0)
FACTORS = np.stack([RNG.integers(0, n, 2000) for n in (3, 6, 10)], axis=1)


def test_a_latent_for_each_factor_is_perfect():
    z = np.concatenate([FACTORS[:, [2, 0, 1]] * [1.0, -2.0, 0.1], RNG.normal(size=(2000, 2))], axis=1)
    found = disentanglement(z, FACTORS)
    assert found.mig > 0.97  # noise tells a little of 2,000 rows
    assert min(found.disentanglement, found.completeness, found.informativeness) > 0.97
    assert found.importance.argmax(axis=0).tolist() == [1, 2, 0]
    assert found.information[1, 0] == pytest.approx(np.log(3), rel=0.01)


def test_a_rotation_tells_as_much_and_disentangles_nothing():
    standard = (FACTORS - FACTORS.mean(0)) / FACTORS.std(0)
    rotation = np.linalg.qr(RNG.normal(size=(3, 3)))[0]
    apart, turned = disentanglement(standard, FACTORS), disentanglement(standard @ rotation, FACTORS)
    assert turned.mig < 0.5 * apart.mig
    assert turned.disentanglement < 0.6
    assert turned.completeness < 0.6
    assert turned.informativeness > 0.6


def test_two_latents_of_one_factor_have_no_gap_and_one_latent_of_two_factors_is_not_apart():
    one = FACTORS[:, :1].astype(float)
    twice = disentanglement(np.concatenate([one, one, FACTORS[:, 1:]], axis=1), FACTORS)
    assert twice.mig == pytest.approx(2 / 3, abs=0.03)  # the other two factors have theirs
    assert twice.completeness < 0.95
    both = FACTORS[:, :1] * 6 + FACTORS[:, 1:2] + RNG.normal(size=(2000, 2)) * [0.0, 1.0]
    together = disentanglement(both, FACTORS[:, :2])
    assert together.disentanglement < 0.3
    assert together.completeness > 0.5


def test_noise_tells_nothing_and_the_same_seed_gives_the_same():
    z = RNG.normal(size=(2000, 4))
    first, second = disentanglement(z, FACTORS, seed=3), disentanglement(z, FACTORS, seed=3)
    assert first.mig < 0.02
    assert first.disentanglement < 0.1
    assert (first.mig, first.disentanglement) == (second.mig, second.disentanglement)


def test_a_factor_of_which_the_forests_see_one_value_has_no_latent():
    rare = np.arange(200) == np.random.default_rng(0).permutation(200)[-1]
    found = disentanglement(RNG.normal(size=(200, 2)), rare[:, None])
    assert (found.importance == 0).all()
    assert (found.disentanglement, found.completeness) == (0, 0)


@pytest.mark.parametrize(
    ("z", "factors", "said"),
    [
        (np.zeros((200, 1)), FACTORS[:200], "two latents"),
        (np.zeros((200, 2)), FACTORS[:100], "shapes"),
        (np.full((200, 2), np.nan), FACTORS[:200], "finite"),
        (np.zeros((200, 2)), np.zeros((200, 2)), "one value of factor 0"),
    ],
)
def test_what_can_not_be_measured_is_refused(z, factors, said):
    with pytest.raises(InputError, match=said):
        disentanglement(z, factors)
