"""A sentence encoder of a few kilobytes with random weights: reads and behaves as one from the hub does."""

import string
from pathlib import Path


def make_encoder(path: Path, features: int = 32, seed: int = 0) -> Path:
    """Texts become vectors of `features` elements that tell them apart; nothing more is learned in them."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    letters = string.ascii_lowercase + string.digits + string.punctuation
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters)]
    bare = path / "bert"
    bare.mkdir(parents=True)
    (bare / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertTokenizer(str(bare / "vocab.txt")).save_pretrained(bare)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64, "initializer_range": 0.5}
        BertModel(BertConfig(vocab_size=len(vocabulary), hidden_size=features, **sizes)).save_pretrained(bare)
    encoder = SentenceTransformer(modules=[Transformer(str(bare)), Pooling(features)], device="cpu")
    encoder.save(str(path / "encoder"))
    return path / "encoder"
