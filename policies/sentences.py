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
OTHER = "Take a green cup out from some very old big bag."  # as many words: without a tokenizer they would be the same
SAME = 0.999
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")


class SentenceEncoder:
    """Vectors of sentences, of length one."""

    def __init__(self, folder: str = "") -> None:
        """`ConfigError` says how to get an encoder when there is none, or what is wrong with the one there."""
        self.path = _find(folder)
        _refuse_pickles(self.path)
        self._model = _load(self.path)
        self.fingerprint = self([PROBE])[0]
        """(E,): by which a policy recognises the encoder that it was trained with."""
        again = SentenceEncoder._encode(_load(self.path), [PROBE, OTHER])
        if not float(self.fingerprint @ again[0]) >= SAME:  # what lacks is drawn anew each time
            raise ConfigError(f"the sentence encoder at {self.path} lacks weights, or they are no numbers. {_advice()}")
        if not float(again[0] @ again[1]) < SAME:
            raise ConfigError(f"the sentence encoder at {self.path} cannot tell texts apart. {_advice()}")
        self.features = len(self.fingerprint)

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        """(N, E) of unit length."""
        return self._encode(self._model, texts)

    @staticmethod
    def _encode(model: Any, texts: Sequence[str]) -> FloatArray:
        found = model.encode(list(texts), normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, np.float32)


def _load(path: Path) -> Any:
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar
    except ImportError as error:
        raise ConfigError(f"goals in words need another package ({error}): pip install -e '.[words]'") from error
    disable_progress_bar()  # of reading the weights
    kwargs = {"use_safetensors": True}
    try:
        model = SentenceTransformer(str(path), device="cpu", local_files_only=True, model_kwargs=kwargs)
        model.encode([PROBE], show_progress_bar=False)
    except Exception as error:  # what a damaged folder raises there has no common base
        raise ConfigError(f"{path} holds no sentence encoder that can be read: {error}. {_advice()}") from error
    return model


def _refuse_pickles(path: Path) -> None:
    """Weights that would have to be unpickled are not opened; those beside safetensors are not looked at."""
    for file in path.rglob("*"):
        if file.suffix in PICKLES and not (file.parent / "model.safetensors").exists():
            raise ConfigError(f"{file} is not opened: weights must be safetensors. {_advice()}")


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
