"""Image augmentation for learning. Shape letters: B batch, H W image, C channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

PAD_PX = 4


def random_crop(images: Tensor, generator: torch.Generator, pad_px: int = PAD_PX) -> Tensor:
    """DrQ's random shift (2004.13649): pad by replication, crop back at random, each image for itself.

    `images` (B, H, W, C) uint8 to the same shape and type.
    """
    batch, height, width, _ = images.shape
    padded = F.pad(images.permute(0, 3, 1, 2).float(), (pad_px,) * 4, mode="replicate").to(images.dtype)
    shifts = torch.randint(0, 2 * pad_px + 1, (2, batch), generator=generator, device=images.device)
    rows = shifts[0][:, None] + torch.arange(height, device=images.device)
    columns = shifts[1][:, None] + torch.arange(width, device=images.device)
    each = torch.arange(batch, device=images.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[each, rows[:, :, None], columns[:, None, :]]
