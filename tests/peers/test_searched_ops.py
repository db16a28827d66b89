"""Operations of the searched networks against values worked out by hand."""

import pytest
import torch

from fusionlib.peers.searched_ops import DenseBlock, ResidualModule, SpatialAttn, conv, preprocess


def test_dense_block_by_hand():
    block = DenseBlock(1, 1, scale=0.5)
    with torch.no_grad():
        block.lrelu.weight.fill_(0.25)
        for each, weights in zip((block.conv1, block.conv2, block.conv3), ([-2.0], [1.0, 3.0], [1.0, -4.0, 2.0])):
            each.conv.weight.copy_(torch.tensor(weights).view(1, -1, 1, 1))
        # first = PReLU(-4) = -1; second = PReLU(2 - 3) = -0.25; third = 2 + 4 - 0.5 = 5.5
        assert block(torch.full((1, 1, 1, 1), 2.0)).item() == pytest.approx(2 + 0.5 * 5.5)


def test_dense_block_in_groups_takes_neighbours_of_the_concatenation():
    block = DenseBlock(2, 1, scale=1.0, groups=2)
    assert block.conv2.conv.weight.shape == (2, 2, 1, 1)
    with torch.no_grad():
        block.conv1.conv.weight.fill_(1.0)
        block.conv2.conv.weight.copy_(torch.tensor([[1.0, 10.0], [1.0, 10.0]]).view(2, 2, 1, 1))
        block.conv3.conv.weight.copy_(torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]).view(2, 3, 1, 1))
        # x = (1, 2), first = (1, 2), second = (1 + 20, 1 + 20); the second group of (x, first, second) begins with 2
        assert block(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)).flatten().tolist() == [1.0, 4.0]


@pytest.mark.parametrize("kernel,reach", [(3, 3), (5, 4)])
def test_residual_module_adds_what_it_sees_in_a_square(kernel, reach):
    block = ResidualModule(1, kernel).eval()
    with torch.no_grad():
        for each in (block.op[0].conv, block.op[1], block.op[2]):
            each.weight.fill_(1.0)
        block.op[3].eps = 0.0
        image = torch.zeros(1, 1, 15, 15)
        image[..., 7, 7] = 1
        out = block(image) - image
    rows = out[0, 0].sum(1).nonzero().flatten()
    assert rows.tolist() == list(range(7 - reach, 8 + reach))
    assert out.sum().item() == pytest.approx(9 * kernel**2)  # both filters of ones pass the impulse everywhere


def test_spatial_attention_by_hand():
    attention = SpatialAttn(1)
    with torch.no_grad():
        attention.spatial.conv.weight.copy_(torch.tensor([1.0, -2.0]).view(1, 2, 1, 1))
        # maximum 3, mean 1.5: the map is sigmoid(3 - 3)
        assert attention(torch.tensor([0.0, 3.0]).view(1, 2, 1, 1)).flatten().tolist() == [0.0, 1.5]


def test_preprocess_cuts_before_it_mixes():
    cell = preprocess(2).eval()
    with torch.no_grad():
        cell.op[1].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, -1.0]]).view(2, 2, 1, 1))
        cell.op[2].eps = 0.0
        assert cell(torch.tensor([-5.0, 2.0]).view(1, 2, 1, 1)).flatten().tolist() == [2.0, -2.0]


@pytest.mark.parametrize("kernel,dilation", [(1, 1), (3, 1), (3, 2), (7, 1)])
def test_conv_keeps_the_size_and_has_no_bias(kernel, dilation):
    layer = conv(2, 6, kernel, groups=2, dilation=dilation)
    assert layer.bias is None and layer(torch.rand(1, 2, 5, 9)).shape == (1, 6, 5, 9)
