"""Stage 1: structure, ranges and gradients of the fusion network, its loss, and its weights on disk."""

import json
import resource

import numpy as np
import pytest
import torch
from kornia.metrics import ssim
from safetensors import safe_open
from safetensors.torch import load
from scipy.ndimage import gaussian_filter
from scipy.ndimage import sobel as scipy_sobel

from fusionlib import models
from fusionlib.inference.pair import WEIGHTS
from fusionlib.models import FusionLoss, FusionNetwork, MultiscaleFusionLoss, fusion_loss, sobel
from fusionlib.utils.errors import FusionError
from fusionlib.utils.tensors import serialise


def widths(module):
    return [(m.in_channels, m.out_channels) for m in module.modules() if isinstance(m, torch.nn.Conv2d)]


@pytest.mark.parametrize(
    "channels, decoder",
    [((4, 8, 8), [(16, 8), (8, 4), (4, 1)]), ((16, 32, 64), [(128, 64), (64, 32), (32, 1)])],
)
def test_structure_is_the_papers(channels, decoder):
    network = FusionNetwork(channels)
    c1, c2, c3 = channels
    assert widths(network.ir_encoder) == widths(network.vi_encoder) == [(1, c1), (c1, c2), (c2, c3)]
    assert widths(network.decoder) == decoder
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()) == 3 + 3 + 2
    assert all(m.padding_mode == "reflect" for m in network.modules() if isinstance(m, torch.nn.Conv2d))


def test_forward_is_encode_then_decode_and_stays_in_range():
    network = FusionNetwork().eval()
    ir, y = torch.rand(2, 1, 37, 53), torch.rand(2, 1, 37, 53)
    f_ir, f_vi = network.encode(ir, y)
    assert f_ir.shape == f_vi.shape == (2, 8, 37, 53)
    fused = network(ir, y)
    assert torch.equal(fused, network.decode(f_ir, f_vi))
    assert fused.shape == ir.shape and 0 <= fused.min() and fused.max() <= 1


BLOCKS = {"channels": (16, 32, 32), "block": 2, "merge": "max-min", "norm": "none", "output": "clip"}


def test_blocks_have_the_features_of_their_pixels():
    network = FusionNetwork(**BLOCKS).eval()
    assert widths(network.ir_encoder) == widths(network.vi_encoder) == [(4, 16), (16, 32), (32, 32)]
    assert widths(network.decoder) == [(64, 32), (32, 16), (16, 4)] and network.feature_channels == 32
    for size in ((38, 54), (37, 53), (2, 3)):
        ir, y = torch.rand(2, 2, 1, *size)
        f_ir, f_vi = network.encode(ir, y)
        blocks = tuple(max(2, -(-side // 2)) for side in size)
        assert f_ir.shape == f_vi.shape == (2, 32, *blocks) and network(ir, y).shape == (2, 1, *size)


def test_a_block_of_pixels_is_a_strided_convolution():
    network = FusionNetwork(**BLOCKS).eval()
    image, (layer, *_) = torch.rand(1, 1, 12, 16), network.ir_encoder[0]
    # Block (i, j) has pixels (2i, 2j), (2i, 2j+1), (2i+1, 2j), (2i+1, 2j+1) as channels.
    kernel = torch.zeros(16, 1, 6, 6)
    for pixel in range(4):
        kernel[:, 0, pixel // 2 :: 2, pixel % 2 :: 2] = layer.weight[:, pixel]
    expected = torch.nn.functional.conv2d(image, kernel, layer.bias, stride=2)  # inside, where no padding is seen
    found = layer(torch.nn.functional.pixel_unshuffle(image, 2))
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected)


@pytest.mark.parametrize("options", [{**BLOCKS, "block": 1, "channels": (1, 2, 2)}, BLOCKS])
def test_a_network_may_begin_as_the_maximum(options):
    network = FusionNetwork(**options).eval()
    network.init_maximum(noise=0)
    ir, y = torch.rand(2, 1, 1, 17, 24)
    ir[..., :3, :3], y[..., :3, :3], ir[..., 5:8, 5:8], y[..., 9:, 9:] = 0, 0, 1, 1
    torch.testing.assert_close(network(ir, y), torch.maximum(ir, y), atol=1e-6, rtol=0)
    network.init_maximum()
    assert torch.corrcoef(torch.stack([network(ir, y).flatten(), torch.maximum(ir, y).flatten()]))[0, 1] > 0.98


@pytest.mark.parametrize("options", [{"channels": (2, 8, 8)}, {"channels": (4, 8, 6)}, {"merge": "concatenate"},
                                     {"norm": "batch"}])
def test_what_cannot_begin_as_the_maximum(options):
    with pytest.raises(FusionError, match='needs merge "max-min", norm "none" and layers of at least 4 channels, but'):
        FusionNetwork(**{**BLOCKS, **options}).init_maximum()


def test_the_decoder_sees_the_larger_and_the_smaller_feature():
    network = FusionNetwork(merge="max-min").eval()
    a, b = torch.randn(2, 1, 8, 5, 6)
    seen = torch.cat([torch.where(a > b, a, b), torch.where(a > b, b, a)], 1)
    assert torch.equal(network.decode(a, b), (network.decoder(seen) + 1) / 2)
    assert torch.equal(network.decode(a, b), network.decode(b, a))
    paper = FusionNetwork().eval()
    assert torch.equal(paper.decode(a, b), (paper.decoder(torch.cat([a, b], 1)) + 1) / 2)


@pytest.mark.parametrize("options, message", [({"block": 0}, "block must be"),
                                              ({"output": "relu"}, "output must be one of tanh, clip"),
                                              ({"norm": "layer"}, "norm must be one of batch, none")])
def test_impossible_networks_are_refused(options, message):
    with pytest.raises(FusionError, match=message):
        FusionNetwork(**options)


@pytest.mark.parametrize("options, loss", [({}, FusionLoss()), (BLOCKS, MultiscaleFusionLoss())])
def test_every_parameter_learns(options, loss):
    network = FusionNetwork(**options)
    ir, y = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    loss(network(ir, y), ir, y)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("channels", [(4, 8), (4, 8, 7), (0, 8, 8)])
def test_impossible_channels_are_refused(channels):
    with pytest.raises(FusionError, match="channels must be"):
        FusionNetwork(channels)


@pytest.mark.parametrize("ir, y", [((1, 1, 8, 8), (1, 1, 8, 9)), ((1, 3, 8, 8), (1, 3, 8, 8)), ((1, 8, 8), (1, 8, 8))])
def test_pairs_that_do_not_match_are_refused(ir, y):
    with pytest.raises(FusionError, match="one size"):
        FusionNetwork()(torch.rand(ir), torch.rand(y))


def test_loss_against_scipy():
    fused, ir, y = torch.rand(3, 2, 1, 20, 30)
    total, parts = FusionLoss(intensity=0.2, edge=1.0)(fused, ir, y)
    f, a, b = (t.double().numpy()[:, 0] for t in (fused, ir, y))

    def edges(images):
        return np.stack([sum(np.abs(scipy_sobel(i, axis=k, mode="nearest")) for k in (0, 1)) for i in images])

    intensity = np.abs(f - np.maximum(a, b)).mean()
    edge = np.abs(edges(f) - np.maximum(edges(a), edges(b))).mean()
    assert parts["intensity"].item() == pytest.approx(intensity, rel=1e-5)
    assert parts["edge"].item() == pytest.approx(edge, rel=1e-5)
    assert total.item() == pytest.approx(0.2 * intensity + edge, rel=1e-5)


def test_loss_is_zero_where_one_image_dominates_everywhere():
    y = torch.rand(1, 1, 16, 16)
    assert FusionLoss()(y, torch.zeros_like(y), y)[0].item() == 0


def test_multiscale_loss_against_scipy_and_kornia():
    fused, ir, y = torch.rand(3, 2, 1, 24, 40)
    loss = MultiscaleFusionLoss(intensity=0.4, edge=1.0, structure=0.1, scales=(4, 2, 1), gain=1.1)
    total, parts = loss(fused, ir, y)
    f, a, b = (t.double().numpy()[:, 0] for t in (fused, ir, y))
    blurred = [gaussian_filter(image, 2, mode="mirror", radius=6) for image in f - np.maximum(a, b)]
    assert parts["intensity"].item() == pytest.approx(np.abs(blurred).mean(), rel=1e-5)

    edges, images = [], (f, a, b)
    for scale in range(3):
        of_f, of_a, of_b = (np.stack([[scipy_sobel(i, axis=k, mode="nearest") for i in image] for k in (1, 0)])
                            for image in images)
        larger = np.abs(of_a) >= np.abs(of_b) if scale else np.hypot(*of_a) >= np.hypot(*of_b)
        edges.append(np.abs(of_f - 1.1 * np.where(larger, of_a, of_b)).sum(0).mean())
        images = [image.reshape(2, image.shape[1] // 2, 2, -1, 2).mean((2, 4)) for image in images]
    assert parts["edge"].item() == pytest.approx(np.average(edges, weights=(4, 2, 1)), rel=1e-5)

    similarity = (ssim(fused, ir, 11).mean() + ssim(fused, y, 11).mean()).item() / 2
    assert parts["structure"].item() == pytest.approx(1 - similarity, rel=1e-4)
    assert total.item() == pytest.approx(sum(w * parts[n].item() for n, w in
                                             (("intensity", 0.4), ("edge", 1.0), ("structure", 0.1))), rel=1e-5)


def test_multiscale_loss_sees_the_sign_of_an_edge_and_wide_edges():
    ramp = torch.linspace(0.3, 0.7, 64).expand(1, 1, 64, 64)
    flat = torch.full_like(ramp, 0.5)
    edge = {name: MultiscaleFusionLoss(gain=1.0)(image, flat, ramp)[1]["edge"].item()
            for name, image in {"ramp": ramp, "negative": 1 - ramp, "flat": flat}.items()}
    assert edge["ramp"] == pytest.approx(0, abs=1e-5) and edge["negative"] > 1.9 * edge["flat"] > 0
    assert FusionLoss()(1 - ramp, flat, ramp)[1]["edge"].item() == pytest.approx(0, abs=1e-5)  # the paper's does not


def test_multiscale_loss_of_small_images():
    total, _ = MultiscaleFusionLoss()(*torch.rand(3, 1, 1, 3, 5))
    assert torch.isfinite(total)


def test_losses_by_name():
    assert type(fusion_loss("paper")) is FusionLoss and type(fusion_loss("multiscale")) is MultiscaleFusionLoss
    with pytest.raises(FusionError, match="fusion_loss must be one of paper, multiscale, but is 'l2'"):
        fusion_loss("l2")


def test_the_same_weights_are_the_same_file(tmp_path):
    """safetensors puts metadata into random order."""
    network = FusionNetwork()
    written = {models.save(network, tmp_path / "w.safetensors").read_bytes() for _ in range(20)}
    assert len(written) == 1
    with safe_open(tmp_path / "w.safetensors", framework="pt") as file:
        assert file.metadata() == {"kind": "FusionNetwork", "config": json.dumps(network.config)}
        assert all(torch.equal(file.get_tensor(name), value) for name, value in network.state_dict().items())


def test_sobel_of_a_step():
    image = torch.zeros(1, 1, 5, 6)
    image[..., 3:] = 1
    assert sobel(image)[0, 0, 2].tolist() == [0, 0, 4, 4, 0, 0]


def test_weights_survive_the_disk(tmp_path):
    network = FusionNetwork((4, 8, 12), block=2, merge="max-min", norm="none", output="clip").eval()
    loaded = models.load(models.save(network, tmp_path / "w.safetensors"))
    ir, y = torch.rand(2, 1, 1, 16, 16)
    assert torch.equal(network(ir, y), loaded(ir, y)) and not loaded.training
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_bad_weight_files_are_named(tmp_path):
    with pytest.raises(FusionError, match=r"missing\.safetensors: expected a weight file"):
        models.load(tmp_path / "missing.safetensors")
    whole = models.save(FusionNetwork(), tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:500])
    with pytest.raises(FusionError, match=r"cut\.safetensors is not a readable"):
        models.load(tmp_path / "cut.safetensors")
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(FusionError, match="should hold weights of"):
        models.load(tmp_path / "other.safetensors")


def test_channels_pass_on_the_brightness_of_both_images():
    torch.manual_seed(0)
    ir, y = torch.rand(2, 1, 1, 6, 8)
    network = FusionNetwork((3, 4, 6))
    for layer in (module for module in network.modules() if isinstance(module, torch.nn.Conv2d)):
        layer.weight.data.zero_()
        layer.bias is None or layer.bias.data.zero_()
    network.init_identity(1.0)
    f_ir, f_vi = network.eval().encode(ir, y)  # BatchNorm has seen nothing yet, and changes as good as nothing
    assert torch.corrcoef(torch.cat([ir.flatten()[None], f_ir.detach()[0].flatten(1)])).min() > 0.999
    assert torch.corrcoef(torch.cat([y.flatten()[None], f_vi.detach()[0].flatten(1)])).min() > 0.999
    ir, y = ir / 30, y / 30  # so that Tanh does not saturate
    fused = network(ir, y)
    assert (network(ir + 0.01, y) > fused).all() and (network(ir, y + 0.01) > fused).all()


def test_nothing_is_passed_on_by_default():
    torch.manual_seed(0)
    before, network = FusionNetwork().state_dict(), FusionNetwork()
    network.load_state_dict(before)
    network.init_identity(0.0)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


CONFIGS = [None, 5, "x", [], [[1]], True, {"surprise": 1}, {"self": 1}, *(
    {key: value} for key, values in {
        "channels": [None, 5, "4,8,8", "abc", [], [4, 8], [4, 8, -8], [4, 8, 7], [4.5, 8, 8], [4, 8, None],
                     [True, 8, 8], ["a", "b", "c"], [8, 8, 8], [4, 8, 10**6], [10**9] * 3, [4, 8, 10**30],
                     [float("nan"), 8, 8]],
        "block": [None, "2", [], {}, 0, -1, 2, 10**6, 10**9, 10**400, float("inf"), float("nan")],
        "merge": [None, 1, [], {}, "sum"], "norm": [None, [], "layer"], "output": [[1], {}, "relu"],
    }.items() for value in values)]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: str(config)[:40])
def test_a_config_of_somebody_else(tmp_path, config):
    path, network = tmp_path / "w.safetensors", FusionNetwork()
    config = network.config | config if isinstance(config, dict) else config
    path.write_bytes(serialise(network.state_dict(), {"kind": "FusionNetwork", "config": json.dumps(config)}))
    with pytest.raises(FusionError, match=r"w\.safetensors (should name the arguments|does not fit)") as error:
        models.load(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 700


@pytest.mark.parametrize("text", [None, "", "{", "[" * 100_000, "9" * 5000, "NaN"], ids=lambda text: str(text)[:10])
def test_a_config_that_is_no_json(tmp_path, text):
    metadata = {"kind": "FusionNetwork"} | ({} if text is None else {"config": text})
    (tmp_path / "w.safetensors").write_bytes(serialise(FusionNetwork().state_dict(), metadata))
    with pytest.raises(FusionError, match="should name the arguments of a FusionNetwork in its config, but does not"):
        models.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite(tmp_path, value):
    network = FusionNetwork()
    next(network.parameters()).data.view(-1)[0] = value
    with pytest.raises(FusionError, match="is not finite everywhere"):
        models.load(models.save(network, tmp_path / "w.safetensors"))


def test_a_huge_config_takes_no_memory(tmp_path):
    """Its 40 GB are never there, and the random numbers are those of before."""
    path, state = tmp_path / "w.safetensors", torch.get_rng_state()
    config = json.dumps(FusionNetwork().config | {"channels": [10**4, 10**5, 10**4]})
    torch.set_rng_state(state)
    path.write_bytes(serialise({"x": torch.zeros(1)}, {"kind": "FusionNetwork", "config": config}))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(FusionError, match="does not fit"):
        models.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000  # kB
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", ["fusion_network", "text_dfh"])
def test_the_packaged_weights_load_as_they_are(name):
    """Also written again, when only the order of their metadata may change."""
    network = models.load(WEIGHTS / "fusion_network.safetensors")
    model = models.load(WEIGHTS / f"{name}.safetensors", network)
    module = getattr(model, "harmonise", model)
    with safe_open(WEIGHTS / f"{name}.safetensors", framework="pt") as file:
        assert all(torch.equal(file.get_tensor(key), value) for key, value in module.state_dict().items())
        again = load(serialise(module.state_dict(), file.metadata()))
    assert all(torch.equal(again[key], value) for key, value in module.state_dict().items())
