"""The shipped stage-1 network as one file that runs without this package: torch.export or ONNX."""

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
SIZES = ((1, 37, 53), (2, 96, 64))  # batch, height, width of the check; none is the traced one


class ColourFusion(nn.Module):
    """What is exported: the fusion network with colour around it, as `inference.fuse` does it."""

    def __init__(self, network: FusionNetwork):
        super().__init__()
        self.network = network

    def forward(self, ir: Tensor, visible: Tensor) -> Tensor:
        """Infrared [B,1,H,W] and visible RGB [B,3,H,W] in 0..1 -> fused RGB [B,3,H,W] in 0..1."""
        y, cbcr = split_luma(visible)
        return merge_luma(self.network(ir, y), cbcr)


def export(path: str | Path, network: FusionNetwork | None = None) -> Path:
    """Write a fusion network for use without this package, and check that the file computes the same.

    The model in the file takes "ir" [B,1,H,W] and "visible" [B,3,H,W] RGB, float32 in 0..1, and gives "fused" [B,3,H,W]
    RGB. Batch, height and width are free, sides from 2 pixels on.

    Args:
        path: ends in .pt2, for `torch.export.load(path).module()`; or in .onnx, for ONNX Runtime, TensorRT, OpenVINO,
            OpenCV and others, which needs the packages onnx and onnxscript.
        network: stage 1, by default with the weights of this package.

    Returns:
        The path; the file appears whole and checked, or not at all.

    Raises:
        FusionError: another suffix, packages that are missing, a file that cannot be written, or outputs that differ
            by more than 1e-5 at a size that was not traced.
    """
    path = Path(path).expanduser()
    if path.suffix not in WRITERS:
        raise FusionError(f"{path}: expected a file name that ends in {' or '.join(WRITERS)}, found another one")
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
                                  f"{difference:.2g} at {width}x{height} pixels; nothing is kept, try another format")
        data = unchecked.read_bytes()
    try:
        write_atomically(path, data)
    except OSError as error:
        raise FusionError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from None
    return path


def _program(model: nn.Module) -> torch.export.ExportedProgram:
    """The graph, with batch, height and width left open."""
    batch, height, width = (torch.export.Dim(name, min=least) for name, least in
                            (("batch", 1), ("height", 2), ("width", 2)))  # fmt: skip
    free = {0: batch, 2: height, 3: width}
    example = torch.rand(2, 1, 16, 24), torch.rand(2, 3, 16, 24)
    program = torch.export.export(model, example, dynamic_shapes=(free, free))
    for node in program.graph.nodes:  # where the code lies on this machine is nobody's business
        node.meta.pop("stack_trace", None)
    return program


def _write_pt2(model: nn.Module, path: Path) -> Callable:
    """Write the graph, and return what the file computes."""
    torch.export.save(_program(model), path)
    return torch.export.load(path).module()


def _write_onnx(model: nn.Module, path: Path) -> Callable:
    """Write the graph, and return what the file computes by the reference implementation of ONNX."""
    try:
        import onnxscript  # noqa: F401  torch's exporter needs it
        from onnx.reference import ReferenceEvaluator
    except ImportError:
        raise FusionError("ONNX needs two more packages: pip install onnx onnxscript; or export to .pt2") from None
    names = {"input_names": ["ir", "visible"], "output_names": ["fused"]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that both inputs have the same height is what is meant
        torch.onnx.export(_program(model), dynamo=True, verbose=False, **names).save(path)
    network = ReferenceEvaluator(str(path))
    return lambda ir, visible: torch.from_numpy(network.run(None, {"ir": ir.numpy(), "visible": visible.numpy()})[0])


WRITERS = {".pt2": _write_pt2, ".onnx": _write_onnx}
