"""A sentence encoder found on disk: words to vectors, by the sentence-transformers package.

Nothing is downloaded. The folder is that of any sentence-transformers model with weights as safetensors, looked for in
the configuration (`policy.inputs.words.encoder`), in $ROBOT_RL_SENTENCE_ENCODER and in `DEFAULT_FOLDER`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray

VARIABLE = "ROBOT_RL_SENTENCE_ENCODER"
DEFAULT_FOLDER = Path("~/.cache/robot-rl/sentence-encoder")
RECOMMENDED = "sentence-transformers/all-MiniLM-L6-v2"
PROBE = "Put the red block to the left of the blue one."
SAME = 0.999


class SentenceEncoder:
    """Vectors of sentences, of length one."""

    def __init__(self, folder: str = "") -> None:
        """`ConfigError` says how to get an encoder when there is none."""
        path = _find(folder)
        try:
            from sentence_transformers import SentenceTransformer
            from transformers.utils.logging import disable_progress_bar
        except ImportError as error:
            raise ConfigError(f"goals in words need another package ({error}): pip install -e '.[words]'") from error
        disable_progress_bar()  # of reading the weights
        try:
            self._model: Any = SentenceTransformer(
                str(path), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, KeyError) as error:
            raise ConfigError(f"{path} holds no sentence encoder that can be read: {error}. {_advice()}") from error
        self.path = path
        self.features = len(self(["probe"])[0])

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        """(N, E) of unit length."""
        found = self._model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, np.float32)

    @property
    def fingerprint(self) -> FloatArray:
        """(E,): by which a policy recognises the encoder that it was trained with."""
        return self([PROBE])[0]


@lru_cache
def open_encoder(folder: str) -> SentenceEncoder:
    """The encoder of `folder` (see `SentenceEncoder`), read once in a process."""
    return SentenceEncoder(folder)


def _find(folder: str) -> Path:
    for place in (folder, os.environ.get(VARIABLE, "")):
        if place:
            path = Path(place).expanduser()
            if not path.is_dir():
                raise ConfigError(f"there is no sentence encoder at {path}. {_advice()}")
            return path
    path = DEFAULT_FOLDER.expanduser()
    if not path.is_dir():
        raise ConfigError(f"goals in words need a sentence encoder on disk, and there is none at {path}. {_advice()}")
    return path


def _advice() -> str:
    return (
        f"Get one with: hf download {RECOMMENDED} --local-dir {DEFAULT_FOLDER}   "
        f"(any sentence-transformers model will do; another folder: ${VARIABLE} or policy.inputs.words.encoder)"
    )
