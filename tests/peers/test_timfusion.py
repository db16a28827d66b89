"""TIMFusion and its light variant: the release's numbers for every stage, sizes, and what their parts do."""

import oracles
import pytest
import torch

from fusionlib import peers
from fusionlib.peers.timfusion import TIMFusion, TIMFusionLight, _BlurPool, _Down, _SelectiveFusion, _Up

PARTS = ("model_1.", "model_2.")
BOTH = pytest.mark.parametrize("kind", [TIMFusion, TIMFusionLight])


def test_numbers_of_the_release(shared):
    file = oracles.load(shared, "timfusion")
    oracles.assert_all_match(oracles.fill(TIMFusion(), file, PARTS), file)


def test_numbers_of_the_release_light(shared):
    file = oracles.load(shared, "timlight")
    oracles.assert_all_match(oracles.fill(TIMFusionLight(), file), file)


@torch.no_grad()
def test_numbers_of_both_stages(shared):
    file = oracles.load(shared, "timfusion")
    peer = oracles.fill(TIMFusion(), file, PARTS)
    for case in oracles.letters(file):
        ir, visible, fused = (file[f"{name}_{case}"] for name in ("ir", "vi", "fused_1"))
        oracles.assert_matches(peer.model_1(torch.cat([ir, visible], 1)), fused)
        outputs = peer.model_2(visible, ir, fused)
        for output, name in zip(outputs, ("aux_2", "aux_3", "out")):
            oracles.assert_matches(output, file[f"{name}_{case}"])


def test_size_of_the_networks():
    peer = TIMFusion()
    counts = [sum(p.numel() for p in part.parameters()) for part in (peer.model_1, peer.model_2, TIMFusionLight())]
    assert counts == [994_917, 237_308, 127_358]


def test_keys_are_those_of_the_release(shared):
    whole = TIMFusion()
    parts = {"TIM_model_1": whole.model_1, "TIM_model_2": whole.model_2, "TIM_light": TIMFusionLight()}
    for layout, part in parts.items():
        lines = (shared / "peers" / "layouts" / f"{layout}.txt").read_text().splitlines()[1:]
        official = {line for line in lines if ".filt " not in line}  # a constant, which follows from the architecture
        assert {f"{key} {tuple(value.shape)}" for key, value in part.state_dict().items()} == official


def test_loads_from_one_file_per_stage_with_the_filters_of_the_release(tmp_path):
    trained = TIMFusion()
    files = [tmp_path / "weights_1.pt", tmp_path / "weights_2.pt"]
    filters = {f"{name}.filt": m.filt for name, m in trained.model_1.named_modules() if isinstance(m, _BlurPool)}
    assert len(filters) == 6
    torch.save(trained.model_1.state_dict() | filters, files[0])
    torch.save(trained.model_2.state_dict(), files[1])
    loaded = peers.build("TIMFusion", files).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in trained.state_dict().items())


@BOTH
@pytest.mark.parametrize("size", [(37, 53), (1, 1), (3, 18)])
def test_any_size_and_colour(kind, size):
    peer = kind().eval()
    ir, gray = torch.rand(1, *size), torch.rand(1, *size)
    fused = peer.fuse(ir, gray)
    assert fused.shape == (1, *size) and fused.min() >= 0 and fused.max() <= 1
    colour = peer.fuse(ir, gray.expand(3, -1, -1))
    torch.testing.assert_close(colour, fused.expand(3, -1, -1), rtol=0, atol=1e-3)  # no colour stays no colour


@BOTH
def test_images_of_a_batch_do_not_meet(kind):
    peer = kind().eval()
    ir, visible = torch.rand(2, 1, 16, 24), torch.rand(2, 1, 16, 24)
    both = peer.raw(ir, visible)
    torch.testing.assert_close(both[1:], peer.raw(ir[1:], visible[1:]), rtol=0, atol=1e-5)


def test_second_stage_in_training_mode_uses_the_image_as_the_authors_script_does(shared):
    file = oracles.load(shared, "timfusion")
    peer = oracles.fill(TIMFusion(), file, PARTS)
    peer.model_2.train()
    with torch.no_grad():
        for norm in (m for m in peer.model_2.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.running_mean.fill_(100)  # statistics that would show if they were used
    out = peer.raw(file["ir_a"], file["vi_a"])
    assert out.abs().max() < 5 and (out - file["out_a"]).abs().max() > file["out_a"].abs().max()


def test_blur_pool_by_hand():
    image = torch.zeros(1, 2, 6, 6)
    image[0, 0, 2, 3], image[0, 1] = 16, 1
    out = _BlurPool(2)(image)
    assert out[0, 0].tolist() == [[0, 0, 0], [0, 2, 2], [0, 0, 0]]  # 16 * 1/2 in its row, 1/4 in the columns beside it
    assert torch.equal(out[0, 1], torch.ones(3, 3))  # mirrored edges keep a constant
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    assert _BlurPool(1)(ramp)[0, 0, 0].tolist() == [0.5, 2.0, 4.0]  # (1 + 0 + 0 + 1) / 4 at the edge


def test_scales_of_the_branches():
    x = torch.rand(1, 8, 12, 20)
    assert _Down(8)(x).shape == (1, 16, 6, 10)
    assert _Up(8)(x).shape == (1, 4, 24, 40)


def test_selective_fusion_without_preference_is_the_mean():
    merge = _SelectiveFusion(16)
    maps = torch.rand(3, 2, 16, 4, 5)
    with torch.no_grad():
        for fc in merge.fcs:
            fc.weight.fill_(0.0)
        torch.testing.assert_close(merge(*maps), maps.mean(0))
        merge.conv_du[0].weight.fill_(1.0)
        merge.fcs[2].weight.fill_(10.0)
        torch.testing.assert_close(merge(*maps), maps[2])
