"""Plug-ins: the real code path of transformers on tiny models with random weights, and what is said without weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from robot_rl.errors import ConfigError
from sim.cousins.plugins import Captioner, Detector, Features, MetricDepth, Percept, Segmenter, crop

transformers = pytest.importorskip("transformers")

COLOR = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
BOXES = np.array([[5.0, 5.0, 30.0, 40.0], [40.0, 10.0, 70.0, 50.0]])
WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "cup", "box", "what", "is")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def dinov2_config() -> object:
    return transformers.Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )


def save_depth(folder: Path, kind: str) -> Path:
    config = transformers.DepthAnythingConfig(
        backbone_config=dinov2_config(),
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        depth_estimation_type=kind,
        max_depth=5,
        patch_size=14,
    )
    transformers.DepthAnythingForDepthEstimation(config).save_pretrained(folder)
    transformers.DPTImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder


def save_features(folder: Path) -> Path:
    transformers.Dinov2Model(dinov2_config()).save_pretrained(folder)
    size = {"height": 28, "width": 28}
    transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size=size).save_pretrained(folder)
    return folder


def tokenizer(folder: Path) -> object:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    return transformers.BertTokenizerFast(vocab_file=str(folder / "vocab.txt"), vocab=str(folder / "vocab.txt"))


def test_metric_depth_has_the_size_of_the_picture_and_is_in_metres(tmp_path: Path) -> None:
    plugin = MetricDepth(save_depth(tmp_path, "metric"))
    depth = plugin.add(COLOR, Percept()).depth_m
    assert depth is not None and depth.shape == (60, 80) and depth.dtype == np.float32
    assert (depth >= 0).all() and (depth <= 5).all()
    assert np.array_equal(depth, plugin.add(COLOR, Percept()).depth_m)


def test_relative_depth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"relative depth.*Metric"):
        MetricDepth(save_depth(tmp_path, "relative")).add(COLOR, Percept())


def test_features_are_unit_vectors_of_each_box(tmp_path: Path) -> None:
    plugin = Features(save_features(tmp_path))
    features = plugin.add(COLOR, Percept(boxes_px=BOXES)).features
    assert features is not None and features.shape == (2, 16)
    assert np.allclose(np.linalg.norm(features, axis=1), 1.0, atol=1e-5)
    assert np.allclose(features[1], plugin.embed([COLOR[10:50, 40:70]])[0], atol=1e-5)
    assert not np.allclose(features[0], features[1])
    assert plugin.add(COLOR, Percept()).features.shape == (0, 16)  # type: ignore[union-attr]


def test_detector_gives_boxes_in_pixels_of_the_picture(tmp_path: Path) -> None:
    text = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    backbone = transformers.SwinConfig(
        image_size=64, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, out_indices=[2, 3, 4]
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=backbone,
        text_config=text,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=6,
        num_feature_levels=4,
        max_text_len=32,
    )
    transformers.GroundingDinoForObjectDetection(config).save_pretrained(tmp_path)
    image = transformers.GroundingDinoImageProcessor(size={"shortest_edge": 128, "longest_edge": 192})
    transformers.GroundingDinoProcessor(image, tokenizer(tmp_path / "words")).save_pretrained(tmp_path)
    found = Detector(tmp_path, ("cup", "box"), threshold=0.0).add(COLOR, Percept())
    assert found.boxes_px.shape == (len(found.names), 4) and len(found.scores) == len(found.names) > 0
    centres = (found.boxes_px[:, :2] + found.boxes_px[:, 2:]) / 2
    assert (centres >= 0).all() and (centres <= (80, 60)).all() and found.boxes_px.max() > 2.0
    named = Detector(tmp_path, threshold=0.0).add(COLOR, Percept(caption="Cup, box"))
    assert np.allclose(named.boxes_px, found.boxes_px)


def test_segmenter_gives_a_mask_per_box(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="SAM 2's image processor needs torchvision")
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8,
        num_attention_heads=1,
        image_size=[64, 64],
        blocks_per_stage=[1, 1, 1, 1],
        embed_dim_per_stage=[8, 16, 32, 64],
        num_attention_heads_per_stage=[1, 1, 1, 1],
        window_size_per_stage=[4, 4, 4, 4],
        global_attention_blocks=[],
        window_positional_embedding_background_size=[4, 4],
    )
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone,
        backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
        fpn_hidden_size=32,
    )
    prompt = transformers.Sam2PromptEncoderConfig(hidden_size=32, image_size=64, mask_input_channels=4)
    decoder = transformers.Sam2MaskDecoderConfig(
        hidden_size=32, mlp_dim=32, num_hidden_layers=1, num_attention_heads=2, iou_head_hidden_dim=16
    )
    config = transformers.Sam2Config(vision_config=vision, prompt_encoder_config=prompt, mask_decoder_config=decoder)
    transformers.Sam2Model(config).save_pretrained(tmp_path)
    image = transformers.Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    transformers.Sam2Processor(image, target_size=64).save_pretrained(tmp_path)
    found = Segmenter(tmp_path).add(COLOR, Percept(boxes_px=BOXES, names=("cup", "box")))
    assert found.masks is not None and found.masks.shape == (2, 60, 80) and found.masks.dtype == bool
    assert found.names == ("cup", "box")


def test_without_words_or_boxes_is_said_not_skipped(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no words"):
        Detector(tmp_path).add(COLOR, Percept())
    with pytest.raises(ConfigError, match="needs boxes"):
        Segmenter(tmp_path).add(COLOR, Percept())


@pytest.mark.parametrize("plugin", [MetricDepth, Features, Captioner, lambda folder: Detector(folder, ("cup",))])
def test_absent_weights_name_the_folder_and_the_way(plugin: type[Captioner], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no model in .*absent.*huggingface-cli download"):
        plugin(tmp_path / "absent").add(COLOR, Percept(boxes_px=BOXES))


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not load as AutoModelForDepthEstimation"):
        MetricDepth(save_features(tmp_path)).add(COLOR, Percept())


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    save_features(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="does not load"):
        Features(tmp_path).add(COLOR, Percept(boxes_px=BOXES))


def test_crops_stay_in_the_picture() -> None:
    assert crop(COLOR, np.array([-5.0, -5.0, 10.0, 10.0])).shape == (10, 10, 3)
    assert crop(COLOR, np.array([79.5, 59.5, 200.0, 200.0])).shape == (1, 1, 3)
