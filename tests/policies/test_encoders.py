"""Encoders see what they are given, in its place."""

import pytest
import torch

from policies.encoders import ImageEncoder, StateEncoder
from robot_rl.errors import ConfigError
from tests.learning import PIXEL_SPEC, make_networks, make_observation


def observe(seed=0, rows=3):
    import numpy as np

    arrays = make_observation(PIXEL_SPEC, np.random.default_rng(seed), rows)
    return {key: torch.from_numpy(array) for key, array in arrays.items()}


def test_state_passes_as_it_is_or_through_a_dense_layer():
    state = torch.randn(4, 5)
    assert torch.equal(StateEncoder(5)({"state": state}), state)
    dense = StateEncoder(5, 7)({"state": state})
    assert dense.shape == (4, 7) and (dense.abs() <= 1).all()


def test_every_input_reaches_its_own_part_of_the_features():
    encoder = make_networks(PIXEL_SPEC).encoder
    observation = observe()
    features = encoder(observation)
    assert features.shape == (3, 8 + 8 + 5)
    parts = {"image/front": slice(0, 8), "image/wrist": slice(8, 16), "state": slice(16, 21)}
    for key, part in parts.items():
        other = encoder(observation | {key: observe(1)[key]})
        same = torch.isclose(features, other).all(0)
        assert not same[part].all()
        same[part] = True
        assert same.all()


def test_rows_are_encoded_apart_and_scaled_from_uint8():
    encoder = ImageEncoder((20, 24), (4,), 6)
    images = observe()["image/front"]
    together = encoder(images)
    torch.testing.assert_close(together[1:2], encoder(images[1:2]), rtol=1e-4, atol=1e-5)
    seen = []
    encoder.convolutions.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encoder(torch.tensor([0, 255], dtype=torch.uint8).repeat(1, 20, 12).unsqueeze(-1).expand(-1, -1, -1, 3))
    assert seen[0].min().item() == -0.5 and seen[0].max().item() == pytest.approx(0.5)


def test_too_small_images_are_refused():
    with pytest.raises(ConfigError, match="too small"):
        ImageEncoder((6, 6), (4, 4, 4), 6)
