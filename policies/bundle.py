"""An exported policy: samples chunks with numpy and onnxruntime, and needs nothing else of this project.

`robot-rl export` puts a copy of this file into the bundle as `runtime.py`:

    from runtime import Bundle
    bundle = Bundle("path/of/the/bundle")
    chunk = bundle.sample({"state": history}, {"state": goal}, noise, seed=0, prefix=None)   # (H, A)

Shape letters: T observations, H horizon, A action, P prefix, K draws.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

FORMAT = "robot-rl policy bundle"
VERSION = 2
DESCRIPTION, GRAPH, WEIGHTS, RUNTIME = "bundle.json", "policy.onnx", "policy.safetensors", "runtime.py"
Array = np.ndarray[Any, Any]


class BundleError(ValueError):
    """A bundle that is not one, is damaged, or is asked for something it cannot do."""


class Bundle:
    """Implements `policies.sources.ChunkSource`."""

    def __init__(self, path: Path | str, threads: int = 1) -> None:
        """Raises `BundleError` when what lies at `path` is not a whole bundle."""
        path = Path(path)
        try:
            self.description = json.loads((path / DESCRIPTION).read_text())
            files = {name: (path / name).read_bytes() for name in (GRAPH, WEIGHTS)}
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} is not a whole policy bundle: {error}; copy all, or export again") from error
        try:
            if (self.description["format"], self.description["version"]) != (FORMAT, VERSION):
                raise BundleError(f"{path / DESCRIPTION} does not describe a {FORMAT} of version {VERSION}")
            wanted = {GRAPH: self.description["sha256"], WEIGHTS: self.description.get("weights_sha256")}
            for name, content in files.items():
                # bundles of before the weights had a checksum tell none
                if wanted[name] != hashlib.sha256(content).hexdigest() and (name, wanted[name]) != (WEIGHTS, None):
                    raise BundleError(f"{path / name} is not the one that {DESCRIPTION} describes; export again")
            self.horizon, self.history = int(self.description["horizon"]), int(self.description["history"])
            self.action_dim, self.draws = len(self.description["action"]["names"]), int(self.description["draws"])
            self.observation = {
                key: (tuple(shape), kind) for key, (shape, kind) in self.description["observation"].items()
            }
            self._goal = {key: (tuple(shape), kind) for key, (shape, kind) in self.description["goal"].items()}
            if min(self.horizon, self.history, self.action_dim) < 1 or self.draws < 0:
                raise ValueError("sizes of nothing")
            words = self.description["words"]
            self._words = None if words is None else {key: np.asarray(one, np.float32) for key, one in words.items()}
        except BundleError:
            raise
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise BundleError(f"{path / DESCRIPTION} is not the description of a bundle: {error!r}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = onnxruntime.get_available_providers()
        self._session = onnxruntime.InferenceSession(files[GRAPH], options, providers=providers)
        self._wanted = {
            one.name: (tuple(one.shape), np.dtype(np.uint8 if "uint8" in one.type else np.float32))
            for one in self._session.get_inputs()
        }

    def tell(self, goal: Mapping[str, Array], text: str, start: Mapping[str, Array]) -> dict[str, Array] | None:
        """What `sample` is given for a goal shown, told in words, or both, in an episode that begins with `start`."""
        words, said = self._words, " ".join(text.lower().split())
        if text and words is not None:
            if said not in words:
                raise BundleError(f"{text!r} is none of the words it was exported with: {', '.join(sorted(words))}")
            return {"text": words[said], "worded": np.ones((), np.float32)}
        if text and not goal:
            raise BundleError(f"the goal {text!r} is words alone, and this policy was trained without words")
        if not goal:
            return None
        told = {**goal, **({} if words is None else {f"start/{key}": start[key] for key in start})}
        self._check_goal(told)
        return told

    def _check_goal(self, goal: Mapping[str, Array]) -> None:
        """`BundleError` for a goal that is neither in words nor shown whole: zeros would stand for the rest."""
        shown = [key for key in self._goal if key not in ("text", "worded")]
        lacking = [key for key in shown if key not in goal and "text" not in goal]
        if lacking:
            raise BundleError(f"the goal lacks {lacking}; this policy is shown {shown}")

    def sample(
        self,
        observation: Mapping[str, Array],
        goal: Mapping[str, Array] | None,
        noise: Array,
        seed: int,
        prefix: Array | None,
    ) -> Array:
        """A chunk (H, A).

        Observations each (T, ...), the goal as `tell` returns it or None, unit Gaussian noise (H, A), and a prefix
        (P, A) of actions that are decided, or None. `seed` is of the noise that some samplers draw on the way.
        """
        shape = (self.horizon, self.action_dim)
        placed, mask = np.zeros(shape, np.float32), np.zeros(self.horizon, np.float32)
        if prefix is not None:
            if np.shape(prefix)[1:] != shape[1:] or len(prefix) > self.horizon:
                raise BundleError(f"the prefix is {np.shape(prefix)}, expected at most {shape}")
            placed[: len(prefix)], mask[: len(prefix)] = prefix, 1.0
        fresh = np.zeros((self.draws, 1, *shape), np.float32)
        if self.draws:
            fresh = np.random.default_rng(seed).standard_normal(fresh.shape, np.float32)
        given = {"noise": np.asarray(noise)[None], "prefix": placed[None], "prefix_mask": mask[None], "fresh": fresh}
        given["told"] = np.full(1, float(goal is not None), np.float32)
        for key in self.observation:
            if key not in observation:
                raise BundleError(f"the observation lacks {key!r}; this policy sees {list(self.observation)}")
            given[f"observation/{key}"] = np.asarray(observation[key])[None]
        if goal is not None:
            self._check_goal(goal)
        for key, (goal_shape, dtype) in self._goal.items():
            told = np.zeros(goal_shape, dtype) if goal is None or key not in goal else goal[key]
            given[f"goal/{key}"] = np.asarray(told)[None]
        feed = {name: self._fit(name, given[name]) for name in self._wanted}
        return np.asarray(self._session.run(None, feed)[0])[0]

    def _fit(self, name: str, value: Array) -> Array:
        """`value` in the precision that the graph takes; `BundleError` where its shape or kind is another."""
        shape, dtype = self._wanted[name]
        if value.shape != shape or (value.dtype != dtype and not np.can_cast(value.dtype, dtype, "same_kind")):
            raise BundleError(f"{name} is {value.shape} {value.dtype}, expected {shape} {dtype}")
        return np.ascontiguousarray(value, dtype)

    def sample_many(
        self,
        observation: Mapping[str, Array],
        goal: Mapping[str, Array] | None,
        noise: Array,
        seed: int,
        prefix: Array | None,
    ) -> Array:
        """Chunks (K, H, A) from noise of that shape, one after the other: the graph takes one."""
        return np.stack([self.sample(observation, goal, one, seed + i, prefix) for i, one in enumerate(noise)])

    def load(self, tensors: Mapping[str, Any]) -> None:
        """A bundle's weights are part of its graph: `BundleError` for any others."""
        if tensors:
            raise BundleError("an exported policy does not learn; run the policy itself, and export again")
