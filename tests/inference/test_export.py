"""Export: the file computes what the library computes, in a process that has no fusionlib."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from fusionlib.inference import export as module
from fusionlib.inference import network as inference
from fusionlib.inference import pair as fusing
from fusionlib.inference.export import export
from fusionlib.models import FusionNetwork
from fusionlib.utils.errors import FusionError


@pytest.fixture(scope="module")
def pt2(tmp_path_factory):
    return export(tmp_path_factory.mktemp("export") / "new" / "fusion_network.pt2")


def test_the_file_gives_what_the_library_gives_without_it(pt2, tmp_path):
    """Sizes far from the traced one, the smallest and odd ones among them."""
    sizes = [(3, 3), (41, 29), (200, 120)]
    pairs = [(torch.rand(1, *size), torch.rand(3, *size)) for size in sizes]
    torch.save(pairs, tmp_path / "pairs.pt")
    code = f"""
import sys, torch
sys.modules["fusionlib"] = None
model = torch.export.load({str(pt2)!r}).module()
pairs = torch.load({str(tmp_path / "pairs.pt")!r}, weights_only=True)
with torch.no_grad():
    torch.save([model(ir[None], visible[None]) for ir, visible in pairs], {str(tmp_path / "fused.pt")!r})
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    for fused, pair in zip(torch.load(tmp_path / "fused.pt", weights_only=True), pairs):
        torch.testing.assert_close(fused[0], inference.fuse(fusing.fusion_network(), *pair), atol=1e-5, rtol=0)


def test_the_file_tells_nothing_of_this_machine(pt2):
    assert [path.name for path in pt2.parent.iterdir()] == ["fusion_network.pt2"]
    assert str(fusing.WEIGHTS.parent).encode() not in pt2.read_bytes()


@pytest.mark.parametrize("options, smallest", [({"channels": (2, 3, 4)}, 2),
                                               ({"channels": (4, 4, 4), "block": 2, "merge": "max-min"}, 3)])
def test_any_network_can_be_exported_and_stays_where_it_is(options, smallest, tmp_path):
    network = FusionNetwork(**options).eval()
    model = torch.export.load(export(tmp_path / "other.pt2", network)).module()
    for height, width in ((9, 8), (smallest, smallest)):
        ir, visible = torch.rand(1, 1, height, width), torch.rand(1, 3, height, width)
        torch.testing.assert_close(model(ir, visible)[0], inference.fuse(network, ir[0], visible[0]), atol=1e-5, rtol=0)


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setitem(module.WRITERS, ".pt2", lambda model, path: path.touch() or (lambda ir, visible: visible))
    with pytest.raises(FusionError, match=r"x.pt2: expected outputs that agree to 1e-05, found a difference of 0\.\d+"):
        export(tmp_path / "x.pt2")
    assert not list(tmp_path.iterdir())


def test_onnx(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    from onnx.reference import ReferenceEvaluator

    path = export(tmp_path / "fusion_network.onnx")
    ir, visible = torch.rand(1, 21, 34), torch.rand(3, 21, 34)
    fused, = ReferenceEvaluator(str(path)).run(["fused"], {"ir": ir[None].numpy(), "visible": visible[None].numpy()})
    np.testing.assert_allclose(fused[0], inference.fuse(fusing.fusion_network(), ir, visible), atol=1e-5)
    assert str(fusing.WEIGHTS.parent).encode() not in path.read_bytes()


def test_onnx_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(FusionError, match=r"pip install onnx onnxscript; or export to \.pt2"):
        export(tmp_path / "x.onnx")


@pytest.mark.parametrize(("name", "message"), [
    ("network.pth", r"network.pth: expected a file name that ends in \.pt2 or \.onnx, found \.pth; rename it"),
    ("network", r"network: expected a file name that ends in \.pt2 or \.onnx, found no ending; rename it"),
    ("file/x.pt2", r"file/x.pt2: cannot be written \("),
])
def test_wrong_places_are_refused(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(FusionError, match=message):
        export(tmp_path / name)
