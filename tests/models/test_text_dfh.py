"""Stage 2: Text-DFH starts as the identity, learns, leaves what is frozen alone, and grows linearly with pixels."""

import json

import pytest
import torch

from fusionlib import models
from fusionlib.inference.network import streaming_attention
from fusionlib.models import VARIANTS, FusionNetwork, TextDFH, TextGuidedFusion
from fusionlib.models.cross_attention import WideLinear, as_tokens
from fusionlib.utils.errors import FusionError
from fusionlib.utils.tensors import serialise

TEXT = 24


def sample(batch=2, size=(24, 32), words=7):
    ir, y = torch.rand(2, batch, 1, *size)
    mask = torch.ones(batch, words, dtype=torch.bool)
    mask[0, words // 2 :] = False
    return ir, y, torch.randn(batch, words, TEXT), mask


def trained(variant="full"):
    """A model whose Text-DFH does something: the last convolutions are not zero."""
    model = TextGuidedFusion(FusionNetwork(), TEXT, variant).eval()
    for part in model.harmonise.values():
        *_, last = (layer for layer in part.layers.modules() if isinstance(layer, torch.nn.Conv2d))
        torch.nn.init.normal_(last.weight, std=0.1)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_untrained_returns_the_stage_1_image_exactly(variant):
    model = TextGuidedFusion(FusionNetwork(), TEXT, variant)
    ir, y, text, mask = sample()
    for training in (True, False):
        model.train(training)
        assert torch.equal(model(ir, y, text, mask), model.network(ir, y))


@pytest.mark.parametrize("variant", sorted({*VARIANTS} - {"blind"}))
def test_text_matters_and_padding_does_not(variant):
    model = trained(variant)
    ir, y, text, mask = sample()
    refined = model(ir, y, text, mask)
    assert not torch.allclose(refined, model.network(ir, y), atol=1e-4)
    assert not torch.allclose(refined, model(ir, y, text.flip(2), mask), atol=1e-6)
    other = torch.where(mask[..., None], text, 100.0)
    torch.testing.assert_close(model(ir, y, other, mask), refined)
    alone = model(ir[:1], y[:1], text[:1, : text.shape[1] // 2], mask[:1, : text.shape[1] // 2])
    torch.testing.assert_close(alone, refined[:1])


def test_blind_reads_no_text():
    model = trained("blind")
    ir, y, text, mask = sample()
    refined = model(ir, y, text, mask)
    assert not torch.allclose(refined, model.network(ir, y), atol=1e-4)
    assert torch.equal(refined, model(ir, y, torch.randn(2, 3, TEXT), torch.ones(2, 3, dtype=torch.bool)))


@pytest.mark.parametrize("variant", ["wide", "blind"])
def test_the_modulation_depends_on_the_level_of_the_whole_image(variant):
    part = TextDFH(8, TEXT, variant).eval()
    features, text, mask = torch.randn(1, 8, 20, 20), torch.randn(1, 4, TEXT), torch.ones(1, 4, dtype=torch.bool)
    part.layers.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    seen = []
    for level in (0.0, 0.5):
        part(features + level, text, mask)
    assert (seen[0] - seen[1]).abs().max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_text_dfh_learns_and_nothing_frozen_moves(variant):
    model = TextGuidedFusion(FusionNetwork(), TEXT, variant).train()
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    optimizer = torch.optim.Adam(model.harmonise.parameters(), 1e-2)
    ir, y, text, mask = sample()
    for step in range(3):
        optimizer.zero_grad()
        (model(ir, y, text, mask) - 0.5).abs().mean().backward()
        grads = {n: p.grad for n, p in model.harmonise.named_parameters()}
        assert step < 2 or all(g is not None and g.abs().sum() > 0 for n, g in grads.items() if "key.bias" not in n)
        optimizer.step()
    assert all(p.grad is None for p in model.network.parameters())
    assert all(torch.equal(v, before[k]) for k, v in model.network.state_dict().items())


def test_attention_against_the_formula():
    part = TextDFH(8, TEXT).eval()
    features, text, mask = torch.randn(1, 8, 5, 6), torch.randn(1, 4, TEXT), torch.ones(1, 4, dtype=torch.bool)
    pixels, words, branch = features.flatten(2).transpose(1, 2), part.embed(text), part.text_guided
    q = branch.to_query(branch.norm_tokens(pixels))
    k, v = (f(branch.norm_context(words)) for f in (branch.to_key, branch.to_value))
    weights = (q @ k.transpose(1, 2) / 16**0.5).softmax(-1)
    expected = pixels + branch.output.project(weights @ v)
    expected = expected + branch.output.mlp(expected)
    torch.testing.assert_close(branch(pixels, words, mask), expected)


@pytest.mark.parametrize("variant", ["full", "ca2", "wide", "blind"])
def test_words_find_in_an_image_in_strips_what_they_find_in_it_whole(variant):
    part = trained(variant).harmonise["ir"]
    features, (_, _, text, mask) = torch.randn(2, 8, 24, 31), sample()
    strips = map(as_tokens, features.split([1, 7, 23], dim=3))
    context = streaming_attention(part.image_guided, part.words(text), strips)
    torch.testing.assert_close(part(features, text, mask, context), part(features, text, mask), rtol=0, atol=1e-5)


def test_streaming_attention_does_not_overflow():
    branch = TextDFH(32, TEXT).image_guided
    torch.nn.init.normal_(branch.to_query.weight, std=10)  # scores of hundreds, and exp(89) is too much for float32
    words, pixels = torch.randn(2, 3, 32), torch.randn(2, 40, 32)
    scores = branch.query(words) @ branch.key(pixels).transpose(2, 3) / 16**0.5
    assert scores.max() > 100
    ordered = pixels[torch.arange(2)[:, None], scores.amax((1, 2)).argsort()]  # the highest of all in the last part
    for context in (ordered, ordered.flip(1)):
        in_parts = streaming_attention(branch, words, context.split(7, dim=1))
        torch.testing.assert_close(in_parts, branch(words, context), rtol=1e-4, atol=1e-4)


def test_word_attention_is_a_distribution_over_pixels():
    part = TextDFH(8, TEXT)
    maps = part.word_attention(torch.randn(2, 8, 6, 5), torch.randn(2, 3, TEXT))
    assert maps.shape == (2, 3, 6, 5)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 3))
    with pytest.raises(FusionError, match="no image-guided branch"):
        TextDFH(8, TEXT, "ca1").word_attention(torch.randn(1, 8, 6, 5), torch.randn(1, 3, TEXT))


def test_wide_features_get_one_head_for_16_channels():
    part = TextDFH(64, TEXT)
    assert part.text_guided.heads == 4
    out = part(torch.randn(1, 64, 8, 8), torch.randn(1, 3, TEXT), torch.ones(1, 3, dtype=torch.bool))
    assert out.shape == (1, 64, 8, 8)


def test_unknown_variant():
    with pytest.raises(FusionError, match="full, no_dfh, ca1, ca2"):
        TextDFH(8, TEXT, "ca3")


def test_weights_survive_the_disk_and_know_their_place(tmp_path):
    model = trained("ca2")
    path = models.save(model, tmp_path / "dfh.safetensors")
    ir, y, text, mask = sample()
    loaded = models.load(path, model.network)
    assert torch.equal(loaded(ir, y, text, mask), model(ir, y, text, mask))
    with pytest.raises(FusionError, match="give the fusion network"):
        models.load(path)
    with pytest.raises(FusionError, match="does not fit"):
        models.load(path, FusionNetwork((4, 8, 16)))


def bytes_for_backward(side):
    """Bytes of all distinct tensors that a forward pass at side x side keeps for the backward pass."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    part, text = TextDFH(8, 384), torch.randn(1, 64, 384)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        # the result is held: freed memory that is given out again would be counted once
        result = part(torch.randn(1, 8, side, side), text, torch.ones(1, 64, dtype=torch.bool))
    assert result.requires_grad
    return sum(kept.values())


def test_memory_grows_linearly_with_pixels():
    used = {side: bytes_for_backward(side) for side in (256, 512, 1024)}
    print({f"{side}x{side}": f"{n / 2**20:.0f} MiB" for side, n in used.items()})
    # attention between all pixels, HW x HW, would take sixteen times as much for four times the pixels
    assert used[512] / used[256] == pytest.approx(4, rel=0.02)
    assert used[1024] / used[512] == pytest.approx(4, rel=0.02)


def test_widening_is_a_linear_layer():
    torch.manual_seed(0)
    widen, plain = WideLinear(8, 32), torch.nn.Linear(8, 32)
    plain.load_state_dict(widen.state_dict())
    tokens = [torch.randn(2, 50, 8).requires_grad_()]
    tokens.append(tokens[0].detach().clone().requires_grad_())
    for layer, given in zip((widen, plain), tokens):
        layer(given).square().sum().backward()
    assert torch.allclose(widen(tokens[0]), plain(tokens[0]), atol=1e-6)
    for ours, theirs in zip((tokens[0], *widen.parameters()), (tokens[1], *plain.parameters())):
        assert torch.allclose(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("change", [
    *({"text_dim": value} for value in (None, "x", -1, 0, 1.5, [], {}, [TEXT], 10**9, 10**30, float("nan"))),
    *({"variant": value} for value in (None, 5, [], {}, "both", "wide")),
], ids=str)  # fmt: skip
def test_a_config_of_somebody_else(tmp_path, change):
    path, model = tmp_path / "w.safetensors", TextGuidedFusion(FusionNetwork(), TEXT)
    config = model.harmonise["ir"].config | change
    path.write_bytes(serialise(model.harmonise.state_dict(), {"kind": "TextDFH", "config": json.dumps(config)}))
    with pytest.raises(FusionError, match=r"w\.safetensors (should name the arguments|does not fit)") as error:
        models.load(path, model.network)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", ["text_dim", "variant"])
def test_a_config_without_an_argument(tmp_path, missing):
    path, model = tmp_path / "w.safetensors", TextGuidedFusion(FusionNetwork(), TEXT)
    config = {key: value for key, value in model.harmonise["ir"].config.items() if key != missing}
    path.write_bytes(serialise(model.harmonise.state_dict(), {"kind": "TextDFH", "config": json.dumps(config)}))
    with pytest.raises(FusionError, match=f"fits none \\('{missing}'\\)"):
        models.load(path, model.network)
