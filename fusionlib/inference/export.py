"""Export the packaged stage-1 network as one file that runs without this package: torch.export or ONNX."""

import copy
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fusionlib.data.color import merge_luma, split_luma
from fusionlib.inference import pair
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import write_atomically

TOLERANCE = 1e-5
SIZES = ((1, 37, 53), (2, 96, 64))  # batch, height, width for the check; different from the traced one


class ColourFusion(nn.Module):
    """The exported module: the fusion network with conversion from and to RGB, as in `inference.fuse`."""

    def __init__(self, network: FusionNetwork):
        super().__init__()
        self.network = network

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Infrared [B,1,H,W] and visible RGB [B,3,H,W] in 0..1 -> fused RGB [B,3,H,W] in 0..1."""
        y, cbcr = split_luma(visible)
        return merge_luma(self.network(ir, y), cbcr)


def export(path: str | Path, network: FusionNetwork | None = None) -> Path:
    """Write a fusion network for use without this package, after a check that the file reproduces its outputs.

    The exported model takes "ir" [B,1,H,W] and "visible" [B,3,H,W] RGB, float32 in 0..1, and returns "fused" [B,3,H,W]
    RGB. Batch size, height and width are dynamic, with sides of at least 3 pixels.

    Args:
        path: ends in .pt2, for `torch.export.load(path).module()`; or in .onnx, for ONNX Runtime, TensorRT, OpenVINO,
            OpenCV and others, which needs the packages onnx and onnxscript.
        network: stage 1, by default with the weights of this package.

    Raises:
        FusionError: another suffix, missing packages, a file that cannot be written, or outputs that differ by more
            than 1e-5 at a size that was not traced.
    """
    path = Path(path).expanduser()
    if path.suffix not in WRITERS:
        raise FusionError(f"{path}: expected a file name that ends in {' or '.join(WRITERS)}, found "
                          f"{path.suffix or 'no ending'}; rename it")
    model = ColourFusion(copy.deepcopy(network or pair.fusion_network())).cpu().eval()
    with tempfile.TemporaryDirectory() as folder:
        unchecked = Path(folder) / path.name
        compute = WRITERS[path.suffix](model, unchecked)
        for batch, height, width in SIZES:
            ir, visible = torch.rand(batch, 1, height, width), torch.rand(batch, 3, height, width)
            with torch.no_grad():
                difference = (compute(ir, visible) - model(ir, visible)).abs().max().item()
            if not difference <= TOLERANCE:
                raise FusionError(f"{path}: expected outputs that agree to {TOLERANCE:g}, found a difference of "
                                  f"{difference:.2g} at {width}x{height} pixels; no file is kept, try another format")
        data = unchecked.read_bytes()
    try:
        write_atomically(path, data)
    except OSError as error:
        raise FusionError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None
    return path


def _program(model: nn.Module) -> torch.export.ExportedProgram:
    """The graph, with dynamic batch size, height and width."""
    least = max(2, model.network.block + 1)  # for the reflect padding of two blocks
    axes = ((0, "batch", 1), (2, "height", least), (3, "width", least))
    dynamic = {axis: torch.export.Dim(name, min=least) for axis, name, least in axes}
    example = torch.rand(2, 1, 16, 24), torch.rand(2, 3, 16, 24)
    program = torch.export.export(model, example, dynamic_shapes=(dynamic, dynamic))
    for node in program.graph.nodes:  # whose stack traces contain paths of this machine
        node.meta.pop("stack_trace", None)
    return program


def _write_pt2(model: nn.Module, path: Path) -> Callable:
    """Write the graph, and return the function that the file computes."""
    torch.export.save(_program(model), path)
    return torch.export.load(path).module()


def _write_onnx(model: nn.Module, path: Path) -> Callable:
    """As `_write_pt2`; the function is that of ONNX's reference implementation."""
    try:
        import onnxscript  # noqa: F401  torch's exporter needs it
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        raise FusionError("ONNX needs two more packages: pip install onnx onnxscript; or export to .pt2") from None
    names = {"input_names": ["ir", "visible"], "output_names": ["fused"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that both inputs share their height, as they should
        torch.onnx.export(_program(model), dynamo=True, verbose=False, **names).save(path)
    network = ReferenceEvaluator(str(path))
    return lambda ir, visible: torch.from_numpy(network.run(None, {"ir": ir.numpy(), "visible": visible.numpy()})[0])


WRITERS = {".pt2": _write_pt2, ".onnx": _write_onnx}
