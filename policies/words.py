"""One space for what is to change, whether told in words or by two observations (GRIF, 2307.00117).

A change is embedded from the observation where it begins and the one where it is brought about; words from the vector
that a sentence encoder makes of them. On labelled windows both are drawn together by a contrastive loss, and the policy
acts on either: it learns to act from all of the play, and what the words mean from its labelled part.

Shape letters: B batch, L labelled windows, F features of an observation, E of a sentence, D of the common space.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from policies.sentences import SAME, SentenceEncoder, open_encoder
from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray, plain

TEMPERATURE = 0.07  # of CLIP (2103.00020) at the start


@dataclass(frozen=True)
class WordsConfig:
    """How goals in words enter a policy."""

    encoder: str = ""
    """Folder of the sentence encoder; by default $ROBOT_RL_SENTENCE_ENCODER or ~/.cache/robot-rl/sentence-encoder."""
    sentence_features: int = 384
    """Length of its vectors; that of all-MiniLM-L6-v2."""
    features: int = 64
    """Of the common space."""
    hidden: int = 256
    """Width of both networks into it."""
    told_share: float = 0.5
    """Share of the labelled windows whose goal the policy is told in words; the others', by observations."""
    align_weight: float = 0.1
    """Of the contrastive loss beside the policy's own."""

    def __post_init__(self) -> None:
        if min(self.sentence_features, self.features, self.hidden) < 1 or self.align_weight < 0.0:
            raise ConfigError(f"sizes must be positive, align_weight not negative; got {self}")
        if not 0.0 <= self.told_share <= 1.0:
            raise ConfigError(f"told_share must lie in [0, 1], got {self.told_share}")


class TaskSpace(nn.Module):
    """Embeds changes and words."""

    table: Tensor
    fingerprint: Tensor

    def __init__(self, config: WordsConfig, observed: int) -> None:
        """`observed`: features F of an observation."""
        super().__init__()
        self.config = config
        self.of_change = _network(2 * observed, config)
        self.of_words = _network(config.sentence_features, config)
        self.log_scale = nn.Parameter(torch.tensor(-math.log(TEMPERATURE)))
        # the training texts' vectors are data, not weights: not saved
        self.register_buffer("table", torch.zeros(0, config.sentence_features), persistent=False)
        self.register_buffer("fingerprint", torch.zeros(config.sentence_features))

    def change(self, start: Tensor, goal: Tensor) -> Tensor:
        """(B, D) of unit length, from features (B, F) of where it begins and of where it is brought about."""
        return functional.normalize(self.of_change(torch.cat([goal - start, goal], -1)), dim=-1)

    def words(self, sentences: Tensor) -> Tensor:
        """(B, D) of unit length, from the encoder's vectors (B, E)."""
        return functional.normalize(self.of_words(sentences), dim=-1)

    def align(self, changes: Tensor, words: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Contrastive loss (0-d) of L pairs (each (L, D)), and the share of changes nearest to words of their own.

        As CLIP's, both ways; all pairs of one text (numbers (L,)) belong together, so that saying the same twice is
        not pulled apart.
        """
        if len(text) < 2:
            nothing = 0.0 * (changes.sum() + words.sum() + self.log_scale)  # so that all has a gradient, of zero
            return nothing, changes.new_zeros(())
        likeness = self.log_scale.clamp(max=math.log(100.0)).exp() * changes @ words.T
        together = (text.unsqueeze(0) == text.unsqueeze(1)).to(likeness.dtype)
        wanted = together / together.sum(1, keepdim=True)
        loss = 0.5 * (functional.cross_entropy(likeness, wanted) + functional.cross_entropy(likeness.T, wanted))
        return loss, (text[likeness.detach().argmax(1)] == text).to(likeness.dtype).mean()

    def learn_texts(self, texts: list[str]) -> None:
        """Take the sentence encoder and the vectors of the training data's texts."""
        encoder = self._find_encoder()
        self.fingerprint.copy_(torch.from_numpy(encoder.fingerprint))
        if texts:
            self.table = torch.from_numpy(encoder(texts)).to(self.fingerprint.device)

    def encode(self, text: str) -> FloatArray:
        """The sentence's vector (E,), whatever its case. `ConfigError` if the encoder is not the training's."""
        self.check_encoder()
        return self._find_encoder()([plain(text)])[0]

    def check_encoder(self) -> None:
        """`ConfigError` unless the encoder is the one that these weights were learned with."""
        encoder = self._find_encoder()
        if not float(encoder.fingerprint @ self.fingerprint.cpu().numpy()) >= SAME:
            raise ConfigError(f"the sentence encoder at {encoder.path} is not the one that this policy learned with")

    def _find_encoder(self) -> SentenceEncoder:
        encoder = open_encoder(self.config.encoder)
        if encoder.features != self.config.sentence_features:
            raise ConfigError(
                f"the sentence encoder at {encoder.path} makes vectors of {encoder.features} elements: "
                f"set policy.inputs.words.sentence_features={encoder.features}"
            )
        return encoder


def _network(inputs: int, config: WordsConfig) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, config.hidden), nn.GELU(), nn.Linear(config.hidden, config.hidden), nn.GELU(),
        nn.Linear(config.hidden, config.features),
    )  # fmt: skip
