"""Random crops: each image is a shift of itself with its edge repeated, uniformly, and repeatably."""

import numpy as np
import pytest
import torch

from policies.augmentation import random_crop


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_every_result_is_a_pad_and_crop_of_its_own_image():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 11, 13, 3), np.uint8)
    cropped = random_crop(torch.from_numpy(images), generator(), pad_px=2).numpy()
    assert cropped.dtype == np.uint8 and cropped.shape == images.shape
    found = []
    for image, result in zip(images, cropped, strict=True):
        padded = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode="edge")
        shifts = [
            (row, column)
            for row in range(5)
            for column in range(5)
            if np.array_equal(padded[row : row + 11, column : column + 13], result)
        ]
        assert len(shifts) == 1
        found += shifts
    assert len(set(found)) > 10


def test_all_shifts_are_equally_likely():
    image = torch.arange(16, dtype=torch.uint8).view(1, 4, 4, 1).expand(9000, -1, -1, 3)
    corner = random_crop(image, generator(), pad_px=1)[:, 1, 1, 0]  # shows which of the 9 neighbours moved there
    counts = np.bincount(corner.numpy(), minlength=16)[[0, 1, 2, 4, 5, 6, 8, 9, 10]]
    assert counts.sum() == 9000 and np.abs(counts - 1000).max() < 150


@pytest.mark.parametrize("contiguous", [True, False])
def test_seed_repeats_and_layout_does_not_matter(contiguous):
    images = torch.randint(0, 256, (6, 3, 9, 9), dtype=torch.uint8, generator=generator()).permute(0, 2, 3, 1)
    given = images.contiguous() if contiguous else images
    assert torch.equal(random_crop(given, generator(1)), random_crop(images.contiguous(), generator(1)))
    assert not torch.equal(random_crop(given, generator(1)), random_crop(given, generator(2)))


@pytest.mark.parametrize(("height", "shift_px"), [(128, 4), (84, 3), (64, 2), (8, 1)])
def test_the_shift_keeps_hil_serls_share_of_the_image(height, shift_px):
    ramp = torch.arange(height, dtype=torch.uint8).view(1, height, 1, 1).expand(2000, -1, height, 3)
    middle = random_crop(ramp, generator())[:, height // 2, 0, 0].int() - height // 2
    assert sorted(set(middle.tolist())) == list(range(-shift_px, shift_px + 1))
