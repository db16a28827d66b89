"""Stage 2: Text-DFH starts as the identity, learns, leaves what is frozen alone, and grows linearly with pixels."""

import json

import pytest
import torch

from fusionlib import models
from fusionlib.models import VARIANTS, FusionNetwork, TextDFH, TextGuidedFusion, cross_attention
from fusionlib.models.cross_attention import BackToGrid, ImageGuided, LevelNorm, TextGuided, WideLinear
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


def formula(branch, q, k, v, mask=None):
    """softmax(QK^T / sqrt(d)) V of each head, as it is written: Q [B,N,h*d], K and V [B,M,h*d] -> [B,N,h*d]."""
    q, k, v = (x.unflatten(2, (branch.heads, -1)).transpose(1, 2) for x in (q, k, v))
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None, None], -torch.inf)
    return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


def finished(output, attended, residual):
    out = residual + output.project(attended)
    return out if output.mlp is None else out + output.mlp(out)


@pytest.mark.parametrize("piece", [4, 1000])
@pytest.mark.parametrize("levels", [False, True])
@pytest.mark.parametrize("channels, heads, mlp", [(8, 1, True), (32, 2, True), (32, 2, False)])
def test_attention_against_the_formula(channels, heads, mlp, levels, piece, monkeypatch):
    monkeypatch.setattr(cross_attention, "PIECE", piece)
    norm = LevelNorm if levels else torch.nn.LayerNorm
    one = TextGuided(channels, 24, norm_tokens=norm, mlp=mlp)
    two = ImageGuided(24, channels, width=channels, norm_context=norm, mlp=mlp)
    back = BackToGrid(two, channels, 24, mlp)
    for parameter in (each for module in (one, two, back) for each in module.parameters()):
        torch.nn.init.normal_(parameter, std=0.3)  # norms and biases too
    assert one.heads == two.heads == heads
    pixels, words = torch.randn(2, 30, channels, requires_grad=True), torch.randn(2, 7, 24, requires_grad=True)
    mask = torch.ones(2, 7, dtype=torch.bool)
    mask[0, 3:] = False
    found = [one(pixels, words, mask), two(words, pixels)]
    found.append(back(two, pixels, words, found[1], mask))
    tokens, context = one.norm_tokens(pixels), one.norm_context(words)
    q, k, v = one.to_query(tokens), one.to_key(context), one.to_value(context)
    expected = [finished(one.output, formula(one, q, k, v, mask), pixels)]
    tokens, context = two.norm_tokens(words), two.norm_context(pixels)
    q, k = two.to_query(tokens), two.to_key(context)
    expected.append(finished(two.output, formula(two, q, k, two.to_value(context)), words))
    expected.append(finished(back.output, formula(two, k, q, back.to_value(expected[1]), mask), pixels))
    inputs = [pixels, words, *(p for module in (one, two, back) for p in module.parameters())]
    for ours, plain in zip(found, expected):
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    for ours, plain in zip(*(torch.autograd.grad(sum(x.square().sum() for x in each), inputs)
                             for each in (found, expected))):
        torch.testing.assert_close(ours, plain, rtol=1e-3, atol=1e-3 * plain.abs().max().item() + 1e-3)


def test_level_norm_adds_mean_and_deviation():
    tokens = 3 * torch.randn(2, 5, 8) + 1
    norm = LevelNorm(8)
    torch.nn.init.normal_(norm.weight)
    found = norm(tokens)
    torch.testing.assert_close(found[..., :8], torch.nn.functional.layer_norm(tokens, (8,), norm.weight, norm.bias))
    torch.testing.assert_close(found[..., 8], tokens.mean(-1))
    torch.testing.assert_close(found[..., 9], tokens.std(-1, correction=0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("variant", ["full", "ca2", "wide", "blind"])
def test_words_find_in_an_image_in_strips_what_they_find_in_it_whole(variant):
    part = trained(variant).harmonise["ir"]
    features, (_, _, text, mask) = torch.randn(2, 8, 24, 31), sample()
    context = part.context(text, features.split([1, 7, 23], dim=3))
    torch.testing.assert_close(part(features, text, mask, context), part(features, text, mask), rtol=0, atol=1e-5)


@pytest.mark.parametrize("variant", ["ca1", "no_dfh"])
def test_variants_whose_words_do_not_look_at_the_image(variant):
    assert trained(variant).harmonise["ir"].context(torch.randn(1, 3, TEXT), [torch.randn(1, 8, 4, 4)]) is None


def test_attention_to_pieces_does_not_overflow():
    branch = TextDFH(32, TEXT).image_guided
    torch.nn.init.normal_(branch.to_query.weight, std=10)  # scores of hundreds, and exp(89) is too much for float32
    words, pixels = torch.randn(2, 3, 32), torch.randn(2, 40, 32)
    scores = branch.query(words) @ branch.key(pixels).transpose(2, 3) / 16**0.5
    assert scores.max() > 100
    ordered = pixels[torch.arange(2)[:, None], scores.amax((1, 2)).argsort()]  # the highest of all in the last part
    for context in (ordered, ordered.flip(1)):
        q, k, v = (f(x) for f, x in ((branch.to_query, branch.norm_tokens(words)),
                                     (branch.to_key, branch.norm_context(context)),
                                     (branch.to_value, branch.norm_context(context))))
        expected = finished(branch.output, formula(branch, q, k, v), words)
        for found in (branch(words, context), branch.over_pieces(words, context.split(7, dim=1))):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_word_attention_is_a_distribution_over_pixels():
    part = TextDFH(8, TEXT)
    maps = part.word_attention(torch.randn(2, 8, 6, 5), torch.randn(2, 3, TEXT))
    assert maps.shape == (2, 3, 6, 5)
    torch.testing.assert_close(maps.sum((2, 3)), torch.ones(2, 3))


@pytest.mark.parametrize("variant", ["ca1", "no_dfh", "blind"])
def test_without_words_that_attend_there_are_no_maps(variant):
    part = TextDFH(8, TEXT, variant)
    assert not part.has_word_attention
    with pytest.raises(FusionError, match=f"variant '{variant}' has no branch in which words attend to the image"):
        part.word_attention(torch.randn(1, 8, 6, 5), torch.randn(1, 3, TEXT))


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
