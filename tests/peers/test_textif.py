"""Text-IF: the release's numbers, its three kinds of attention written out, and sentences through a small CLIP."""

import oracles
import pytest
import torch
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from fusionlib.peers import textif
from fusionlib.peers.textif import PROMPT, TextIF, sentence_vector
from fusionlib.utils.errors import FusionError


@pytest.fixture(scope="module")
def peer():
    torch.manual_seed(0)
    return TextIF().eval()


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A random text encoder of two layers, with the alphabet as its vocabulary."""
    return _save_clip(tmp_path_factory.mktemp("clip"), 512)


def _save_clip(folder, dim):
    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz./"
    names = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer({name: i for i, name in enumerate(names)}, []).save_pretrained(folder)
    config = CLIPTextConfig(vocab_size=len(names), hidden_size=16, intermediate_size=32, projection_dim=dim,
                            num_hidden_layers=2, num_attention_heads=2, eos_token_id=len(names) - 1)
    CLIPTextModelWithProjection(config).save_pretrained(folder)
    return folder


def test_gives_what_the_release_gives(shared):
    file = oracles.load(shared, "textif")
    oracles.assert_all_match(oracles.fill(TextIF(), file), file)


def test_has_the_keys_of_the_release(shared, peer):
    lines = (shared / "peers" / "layouts" / "Text-IF.txt").read_text().splitlines()[1:]
    assert {f"{key} {tuple(x.shape)}" for key, x in peer.state_dict().items()} == set(lines)


def test_counts_its_parameters(peer):
    assert sum(p.numel() for p in peer.parameters()) == 63_839_230
    assert len(peer.state_dict()) == 357


@torch.no_grad()
def test_cross_attention_asks_with_the_other_modality():
    attention = textif._CrossAttention(32)
    a, b = torch.randn(2, 2, 32, 5, 4)
    done = attention(a, b)
    norm_a, norm_b = attention.norm_A(a), attention.norm_B(b)
    of_a, of_b = (x.flatten(2).view(2, 3, 32, 20) for x in (attention.qkv_A(norm_a), attention.qkv_B(norm_b)))
    for result, normed, asks, answers, out in (
        (done[0], norm_a, of_b, of_a, attention.out_A), (done[1], norm_b, of_a, of_b, attention.out_B)
    ):
        weights = (torch.einsum("bcn,bcm->bnm", asks[:, 0], answers[:, 1]) / 32**0.5).softmax(-1)
        seen = torch.einsum("bnm,bcm->bcn", weights, answers[:, 2]).view_as(a)
        torch.testing.assert_close(result, normed + out(seen))


def test_fuse_keeps_size_and_channels_and_stretches_only_when_asked(peer):
    ir, visible, vector = torch.rand(1, 37, 50), torch.rand(3, 37, 50), torch.randn(1, 512)
    fused = peer.fuse(ir, visible, vector)
    assert fused.shape == (3, 37, 50)
    assert peer.fuse(ir, visible[:1], vector).shape == (1, 37, 50)
    stretched = peer.fuse(ir, visible, vector, official_postprocess=True)
    assert (stretched.min(), stretched.max()) == (0, 1)
    assert (fused.min(), fused.max()) != (0, 1)


def test_fuse_resizes_to_multiples_of_16_and_back(peer):
    """An image without detail is the same at any size, and the network is told nothing of the size."""
    ir, visible = torch.full((1, 1, 50, 37), 0.3), torch.tensor([0.7, 0.5, 0.2]).view(1, 3, 1, 1).expand(1, 3, 50, 37)
    vector = torch.randn(1, 512)
    small = peer.raw(ir[..., :48, :32], visible[..., :48, :32], vector)
    expected = torch.nn.functional.interpolate(small, (50, 37), mode="bilinear").clamp(0, 1)
    torch.testing.assert_close(peer.fuse(ir, visible, vector), expected, atol=1e-5, rtol=0)


def test_a_batch_shares_a_vector_or_has_one_per_image(peer):
    ir, visible, vectors = torch.rand(2, 1, 32, 16), torch.rand(2, 3, 32, 16), torch.randn(2, 512)
    both = peer.raw(ir, visible, vectors)
    for i in (0, 1):
        torch.testing.assert_close(peer.raw(ir, visible, vectors[i : i + 1])[i], both[i], atol=1e-5, rtol=1e-4)
    assert (peer.raw(ir, visible, vectors.flip(0)) - both).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(512,), (1, 768), (3, 512), (1, 77, 512)])
def test_refuses_vectors_of_another_shape(peer, shape):
    with pytest.raises(FusionError, match=r"expected CLIP's vector of a sentence, \[1,512\] .* found \["):
        peer.raw(torch.rand(2, 1, 16, 16), torch.rand(2, 3, 16, 16), torch.zeros(shape))


@torch.no_grad()
def test_a_sentence_becomes_the_projected_state_of_its_last_token(clip):
    model = CLIPTextModelWithProjection.from_pretrained(clip)
    ids = [56, *(letter - ord("a") for letter in b"fus"), ord("e") - ord("a") + 28, 57]  # one </w> ends the word
    state = model.text_model(torch.tensor([ids])).last_hidden_state[:, -1]
    torch.testing.assert_close(sentence_vector("Fuse", clip), state @ model.text_projection.weight.T)


def test_a_sentence_steers_as_its_vector_and_none_is_the_plain_prompt(peer, clip):
    peer.clip = clip
    ir, visible = torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16)
    sentence = "a dark scene"
    assert torch.equal(peer.raw(ir, visible, sentence), peer.raw(ir, visible, sentence_vector(sentence, clip)))
    assert torch.equal(peer.raw(ir, visible), peer.raw(ir, visible, PROMPT))
    assert torch.equal(sentence_vector(100 * "a ", clip), sentence_vector(75 * "a ", clip))
    assert not torch.equal(sentence_vector(75 * "a ", clip), sentence_vector(74 * "a ", clip))


def test_says_how_to_get_clip(peer, tmp_path):
    peer.clip = tmp_path / "nothing"
    with pytest.raises(FusionError, match=r"none at .*nothing on this machine.* `hf download openai/clip-"):
        peer.raw(torch.rand(1, 1, 16, 16), torch.rand(1, 3, 16, 16))
    with pytest.raises(FusionError, match="vectors have 512 numbers, found a model with 64"):
        sentence_vector("fuse", _save_clip(tmp_path, 64))
