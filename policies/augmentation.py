"""Image augmentation for learning. Shape letters: B batch, H W image, C channels."""

from __future__ import annotations

import torch
from torch import Tensor

PAD = 4 / 128  # HIL-SERL: 4 of 128 px. A larger share hides where exactly an object is, and the grasp needs that.


def random_crop(images: Tensor, generator: torch.Generator, pad_px: int | None = None) -> Tensor:
    """DrQ's random shift (2004.13649): pad by replication, crop back at random, each image for itself.

    `images` (B, H, W, C) uint8 to the same shape and type; `pad_px` is by default `PAD` of the height.
    """
    batch, height, width, channels = images.shape
    device = images.device
    if pad_px is None:
        pad_px = max(round(PAD * height), 1)
    shifts = torch.randint(-pad_px, pad_px + 1, (2, batch, 1), generator=generator, device=device)
    # A row or column beyond the edge is the edge's: the padded image itself is never needed. Whole rows first,
    # then columns within them, is several times as fast as picking pixel by pixel.
    rows = (shifts[0] + torch.arange(height, device=device)).clamp_(0, height - 1)
    columns = (shifts[1] + torch.arange(width, device=device)).clamp_(0, width - 1)
    first_row = torch.arange(batch, device=device).unsqueeze(1) * height
    shifted = images.reshape(batch * height, -1).index_select(0, (first_row + rows).view(-1))
    elements = columns.unsqueeze(2) * channels + torch.arange(channels, device=device)
    elements = elements.view(batch, 1, -1).expand(-1, height, -1)
    return shifted.view(batch, height, -1).gather(2, elements).view(images.shape)
