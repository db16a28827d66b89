"""Stage 1: structure, ranges and gradients of the fusion network, its loss, and its weights on disk."""

import numpy as np
import pytest
import torch
from scipy.ndimage import sobel as scipy_sobel

from fusionlib import models
from fusionlib.models import FusionLoss, FusionNetwork, sobel
from fusionlib.utils.errors import FusionError


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


def test_every_parameter_learns():
    network = FusionNetwork()
    ir, y = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    FusionLoss()(network(ir, y), ir, y)[0].backward()
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


def test_sobel_of_a_step():
    image = torch.zeros(1, 1, 5, 6)
    image[..., 3:] = 1
    assert sobel(image)[0, 0, 2].tolist() == [0, 0, 4, 4, 0, 0]


def test_weights_survive_the_disk(tmp_path):
    network = FusionNetwork((4, 8, 12)).eval()
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
