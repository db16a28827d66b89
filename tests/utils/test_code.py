"""Results cannot go stale: an edit changes the digest of each result that depends on it, and of no other."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fusionlib

PACKAGE = Path(fusionlib.__file__).parent

#: What is computed, by the functions that `Run.stage`, `fuse_files` and `measure_method` name.
RESULTS = {
    "fused folder": "inference.pair:fuse_pair",
    "stage 1": "training.fusion:train_fusion_network",
    "fused images of a run": "inference.network:fuse_pairs",
    "answers": "feedback.querying:ask",
    "Text-DFH": "training.text_dfh:train_text_dfh",
    "detector": "training.detector:train_detector",
    "metrics": "metrics:evaluate",
    "AUIF": "peers.auif:AUIF",
    "DATFuse": "peers.datfuse:DATFuse",
}

#: Module edited -> the results that depend on it.
DEPENDENT = {
    "utils/errors.py": set(RESULTS),
    "utils/distributed.py": {"fused folder", "stage 1", "answers", "Text-DFH", "detector"},
    "utils/devices.py": {*RESULTS} - {"metrics", "AUIF", "DATFuse"},
    "data/color.py": {*RESULTS},  # false colours of infrared, which answers and metrics are about, too
    "data/image_io.py": {*RESULTS} - {"AUIF", "DATFuse"},
    "models/fusion_network.py": {"fused folder", "stage 1", "fused images of a run", "Text-DFH"},
    "models/losses.py": {"stage 1", "Text-DFH"},
    "feedback/rules.py": {"fused folder"},
    "feedback/text_encoder.py": {"fused folder", "answers", "Text-DFH"},
    "feedback/querying.py": {"answers"},
    "inference/registration.py": {"fused folder"},
    "inference/tiling.py": {"fused folder", "fused images of a run", "AUIF", "DATFuse"},
    "training/trainer.py": {"stage 1", "Text-DFH", "detector"},
    "detection/yolov5_loss.py": {"Text-DFH", "detector"},
    "detection/postprocessing.py": {"Text-DFH", "detector"},
    "metrics/gradient.py": {"metrics"},
    "peers/auif.py": {"AUIF"},
    "peers/peer.py": {"AUIF", "DATFuse"},
    "visualization/charts.py": set(),
    "viewer/gallery.py": set(),
    "models/__init__.py": set(),  # passes names on, and computes nothing
}

DIGESTS = """
import importlib, json, sys
from fusionlib.utils.code import code_of
def find(place):
    module, name = place.split(":")
    return getattr(importlib.import_module("fusionlib." + module), name)
print(json.dumps({name: code_of(find(place)) for name, place in json.loads(sys.argv[1]).items()}))
"""


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package, without its weights."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(PACKAGE, folder / "fusionlib", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def python(copy, *arguments):
    done = subprocess.run([sys.executable, *arguments], cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edit(file, old="", new="# edited\n"):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new) if old else text + new)
    return text


def test_an_edit_changes_the_digests_of_all_that_depends_on_it_and_of_nothing_else(copy):
    code = """
import sys
from pathlib import Path
from fusionlib.utils import code
results, edits = json.loads(sys.argv[1]), json.loads(sys.argv[2])
entries = {name: find(place) for name, place in results.items()}
digests = lambda: {name: code.code_of(entry) for name, entry in entries.items()}
before, changed = digests(), {}
for module in edits:
    file = Path(code.PACKAGE, module)
    text = file.read_text()
    file.write_text(text + "# edited\\n")
    code._imported.cache_clear()
    changed[module] = [name for name, digest in digests().items() if digest != before[name]]
    file.write_text(text)
print(json.dumps(changed))
"""
    changed = python(copy, "-c", DIGESTS.rsplit("print", 1)[0] + code, json.dumps(RESULTS), json.dumps([*DEPENDENT]))
    found = {module: set(names) for module, names in json.loads(changed).items()}
    assert found == DEPENDENT


def test_a_fused_picture_is_made_again_when_code_changes_and_only_then(copy):
    draw = np.random.default_rng(0)
    for kind, shape in (("ir", (24, 32)), ("visible", (24, 32, 3))):
        (copy / kind).mkdir()
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(copy / kind / "1.png")
    command = ["-m", "fusionlib", "fuse", "--ir", "ir", "--visible", "visible", "--out", "out", "--instruction", "auto"]
    picture = copy / "out" / "1.png"

    def fuse():
        python(copy, *command)
        return picture.read_bytes(), picture.stat().st_mtime_ns

    first = fuse()
    edit(copy / "fusionlib" / "visualization" / "charts.py")
    assert fuse() == first  # not even written again
    rules = copy / "fusionlib" / "feedback" / "rules.py"
    original = edit(rules, 'return "" if small', 'return "Make the image darker." if small')
    second = fuse()
    assert Image.open(picture).tobytes() != Image.open(io.BytesIO(first[0])).tobytes()
    assert fuse() == second
    rules.write_text(original)
    assert fuse()[0] == first[0]
    color = copy / "fusionlib" / "data" / "color.py"
    edit(color, "torch.cat([y, cbcr]", "torch.cat([y / 2, cbcr]")
    assert fuse()[0] != first[0]
