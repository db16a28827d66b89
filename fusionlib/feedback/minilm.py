"""The sentence encoder MiniLM-L6-v2 as published, made of torch's layers: importing `transformers` takes seconds.

Reference: Wang et al., MiniLM: deep self-attention distillation for task-agnostic compression of pre-trained
transformers, NeurIPS 2020.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn

DIM = 384
LONGEST = 512  # tokens, with the special ones at both ends
#: Names of the published weights and of torch's, within a layer.
_LAYER = {"attention.output.dense": "self_attn.out_proj", "attention.output.LayerNorm": "norm1",
          "intermediate.dense": "linear1", "output.dense": "linear2", "output.LayerNorm": "norm2"}


class MiniLM(nn.Module):
    """A BERT of six layers: token numbers [B,L] and mask [B,L], False for padding -> last hidden states [B,L,384]."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.words = nn.Embedding(vocabulary, DIM)
        self.positions = nn.Embedding(LONGEST, DIM)
        self.norm = nn.LayerNorm(DIM, eps=1e-12)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(DIM, 12, 4 * DIM, activation="gelu", batch_first=True,
                                                               layer_norm_eps=1e-12) for _ in range(6))

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """[B,L], [B,L] -> [B,L,384]."""
        states = self.norm(self.words(ids) + self.positions.weight[: ids.shape[1]])
        for layer in self.layers:
            states = layer(states, src_key_padding_mask=~mask)
        return states


def load(folder: Path) -> tuple[Tokenizer, MiniLM]:
    """The tokenizer, which pads and truncates, and the encoder in evaluation mode, from a folder as published."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding()
    published = load_file(folder / "model.safetensors")
    model = MiniLM(len(published["embeddings.word_embeddings.weight"]))
    model.load_state_dict(_renamed(published))
    return tokenizer, model.eval()


def _renamed(published):
    """The published weights under the names of `MiniLM`."""
    kind = published["embeddings.token_type_embeddings.weight"][0]  # of a first sentence; there is no second one
    weights = {"words.weight": published["embeddings.word_embeddings.weight"],
               "positions.weight": published["embeddings.position_embeddings.weight"] + kind}
    for end in ("weight", "bias"):
        weights[f"norm.{end}"] = published[f"embeddings.LayerNorm.{end}"]
        for number in range(6):
            ours, theirs = f"layers.{number}", f"encoder.layer.{number}"
            weights[f"{ours}.self_attn.in_proj_{end}"] = torch.cat(
                [published[f"{theirs}.attention.self.{name}.{end}"] for name in ("query", "key", "value")])
            weights |= {f"{ours}.{new}.{end}": published[f"{theirs}.{name}.{end}"] for name, new in _LAYER.items()}
    return weights
