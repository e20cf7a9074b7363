"""Larger models that help where shape alone does not: depth from colour, detection, segmentation, features, captions.

Each is a `Perceiver`: it looks at a picture and adds to what those before it have found, so that a caption feeds a
detector and a detector's boxes a segmenter. All run through `transformers` from weights on disk; nothing is
downloaded and nothing unpickled (safetensors only). A package or weights that are absent raise `ConfigError`, which
says what to fetch and where to put it.

Shape letters: H W image height and width, K things, F features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from robot_rl.errors import ConfigError
from robot_rl.types import FloatArray


@dataclass(frozen=True)
class Percept:
    """What has been found in one picture so far."""

    depth_m: NDArray[np.float32] | None = None
    """(H, W) metres."""
    caption: str = ""
    """What is in the picture: names, divided by commas."""
    names: tuple[str, ...] = ()
    """K names."""
    scores: FloatArray = field(default_factory=lambda: np.zeros(0))
    """(K,) 0 ... 1."""
    boxes_px: FloatArray = field(default_factory=lambda: np.zeros((0, 4)))
    """(K, 4) left, top, right, bottom."""
    masks: NDArray[np.bool_] | None = None
    """(K, H, W)."""
    features: FloatArray | None = None
    """(K, F) of the things cut out."""


class Perceiver(Protocol):
    """Adds to what is known of a picture."""

    def add(self, color: NDArray[np.uint8], found: Percept) -> Percept:
        """`found` with this perceiver's share; `color` (H, W, 3) is RGB."""
        ...


@dataclass(frozen=True)
class MetricDepth:
    """Depth-Anything V2 (2406.09414) in its metric form, or another metric model for depth estimation."""

    weights: Path
    """Folder of e.g. depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf."""
    device: str = "cpu"
    """Of torch."""

    def add(self, color: NDArray[np.uint8], found: Percept) -> Percept:
        loaded = load(self.weights, "AutoModelForDepthEstimation", "AutoImageProcessor", self.device)
        if getattr(loaded.model.config, "depth_estimation_type", "metric") != "metric":
            raise ConfigError(
                f"the model in {self.weights} gives relative depth, without a unit; take a metric one, such as"
                " depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"
            )
        outputs = loaded(images=color)
        depth = loaded.processor.post_process_depth_estimation(outputs, target_sizes=[color.shape[:2]])[0]
        return replace(found, depth_m=depth["predicted_depth"].float().cpu().numpy().astype(np.float32))


@dataclass(frozen=True)
class Detector:
    """GroundingDINO (2303.05499): boxes of what words name."""

    weights: Path
    """Folder of e.g. IDEA-Research/grounding-dino-tiny."""
    words: tuple[str, ...] = ()
    """What is looked for; empty takes the caption's words."""
    threshold: float = 0.3
    """Boxes with a lower score are left out."""
    device: str = "cpu"
    """Of torch."""

    def add(self, color: NDArray[np.uint8], found: Percept) -> Percept:
        words = self.words or tuple(word.strip().lower() for word in found.caption.split(",") if word.strip())
        if not words:
            raise ConfigError("the detector is told no words; set `words`, or put a Captioner before it")
        loaded = load(self.weights, "AutoModelForZeroShotObjectDetection", "AutoProcessor", self.device)
        inputs = loaded.prepare(images=color, text=". ".join(words) + ".")
        result = loaded.processor.post_process_grounded_object_detection(
            loaded.run(inputs),
            inputs["input_ids"],
            threshold=self.threshold,
            text_threshold=self.threshold,
            target_sizes=[color.shape[:2]],
        )[0]
        names = tuple(str(one) for one in result["text_labels"])
        boxes = result["boxes"].float().cpu().numpy().reshape(-1, 4)
        return replace(found, names=names, boxes_px=boxes, scores=result["scores"].float().cpu().numpy())


@dataclass(frozen=True)
class Segmenter:
    """SAM 2 (2408.00714): the mask in each box that a detector found."""

    weights: Path
    """Folder of e.g. facebook/sam2.1-hiera-tiny."""
    device: str = "cpu"
    """Of torch."""

    def add(self, color: NDArray[np.uint8], found: Percept) -> Percept:
        if not len(found.boxes_px):
            raise ConfigError("the segmenter needs boxes; put a Detector before it (or it has found nothing)")
        loaded = load(self.weights, "AutoModelForMaskGeneration", "AutoProcessor", self.device)
        inputs = loaded.prepare(images=color, input_boxes=[found.boxes_px.tolist()])
        outputs = loaded.run(inputs, multimask_output=False)
        masks = loaded.processor.post_process_masks(outputs.pred_masks.cpu(), inputs["original_sizes"].cpu())[0]
        return replace(found, masks=masks[:, 0].numpy().astype(bool))


@dataclass(frozen=True)
class Features:
    """DINOv2 (2304.07193): a vector per thing, for matching by looks."""

    weights: Path
    """Folder of e.g. facebook/dinov2-small."""
    device: str = "cpu"
    """Of torch."""

    def add(self, color: NDArray[np.uint8], found: Percept) -> Percept:
        return replace(found, features=self.embed([crop(color, box) for box in found.boxes_px]))

    def embed(self, pictures: list[NDArray[np.uint8]]) -> FloatArray:
        """Unit vectors (K, F) of pictures (h, w, 3) RGB of any size."""
        loaded = load(self.weights, "AutoModel", "AutoImageProcessor", self.device)
        if not pictures:
            return np.zeros((0, int(loaded.model.config.hidden_size)))
        classes = loaded(images=pictures).last_hidden_state[:, 0].float().cpu().numpy()
        return classes / np.linalg.norm(classes, axis=1, keepdims=True)


@dataclass(frozen=True)
class Captioner:
    """A vision-language model that is asked what there is."""

    weights: Path
    """Folder of an image-text-to-text model, e.g. HuggingFaceTB/SmolVLM-256M-Instruct."""
    prompt: str = "Name the objects on the table, divided by commas."
    """The question."""
    max_tokens: int = 64
    """Longest answer."""
    device: str = "cpu"
    """Of torch."""

    def add(self, color: NDArray[np.uint8], found: Percept) -> Percept:
        loaded = load(self.weights, "AutoModelForImageTextToText", "AutoProcessor", self.device)
        text = self.prompt
        if getattr(loaded.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": self.prompt}]
            text = loaded.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
        inputs = loaded.prepare(images=color, text=text)
        tokens = loaded.model.generate(**inputs, max_new_tokens=self.max_tokens, do_sample=False)
        asked = inputs["input_ids"].shape[1]
        answer = loaded.processor.batch_decode(tokens[:, asked:], skip_special_tokens=True)[0]
        return replace(found, caption=answer.strip())


def crop(color: NDArray[np.uint8], box_px: FloatArray) -> NDArray[np.uint8]:
    """The part of a picture in a box (left, top, right, bottom), at least one pixel."""
    height, width = color.shape[:2]
    left, top = np.clip(np.floor(box_px[:2]).astype(int), 0, (width - 1, height - 1))
    right, bottom = np.clip(np.ceil(box_px[2:]).astype(int), (left + 1, top + 1), (width, height))
    return color[top:bottom, left:right]


@dataclass(frozen=True)
class Loaded:
    """A model with what prepares its input."""

    model: Any
    """Of transformers, in evaluation mode."""
    processor: Any
    """Pictures and words to tensors, and back."""
    device: str
    """Where the model is."""

    def prepare(self, **inputs: Any) -> Any:
        return self.processor(return_tensors="pt", **inputs).to(self.device)

    def run(self, inputs: Any, **options: Any) -> Any:
        with import_module("torch").no_grad():
            return self.model(**inputs, **options)

    def __call__(self, **inputs: Any) -> Any:
        return self.run(self.prepare(**inputs))


@lru_cache(maxsize=4)
def load(weights: Path, model_class: str, processor_class: str, device: str) -> Loaded:
    """A model and its processor from a folder; `ConfigError` says what is missing."""
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise ConfigError(f"plug-ins need transformers ({error}): pip install transformers torchvision") from error
    if not (Path(weights) / "config.json").is_file():
        raise ConfigError(
            f"no model in {weights}: fetch one on a machine with a network (huggingface-cli download NAME --local-dir"
            f" {weights}), with config.json, preprocessor files and model.safetensors in that folder"
        )
    try:
        kept = {"local_files_only": True}
        processor = getattr(transformers, processor_class).from_pretrained(weights, **kept)
        model = getattr(transformers, model_class).from_pretrained(weights, use_safetensors=True, **kept)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(f"the model in {weights} does not load as {model_class}: {error}") from error
    return Loaded(model.to(device).eval(), processor, device)
