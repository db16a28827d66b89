import hashlib
import io
import os
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fusionlib.detection import load_yolov5
from fusionlib.peers import PEERS, build
from fusionlib.peers.sources import SOURCES
from fusionlib.utils.errors import FusionError

PARTS = ("Encoder_Base", "Encoder_Detail", "Decoder")


@pytest.fixture
def auif():
    """An AUIF whose every tensor differs from a fresh one's."""
    peer = build("AUIF")
    for value in peer.state_dict().values():
        value.add_(1)
    return peer


def same(a: nn.Module, b: nn.Module) -> bool:
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def part(peer, name, prefix=""):
    return {prefix + key: value for key, value in getattr(peer, name).state_dict().items()}


def test_a_release_in_one_file(auif, tmp_path):
    state = auif.state_dict()
    forms = {
        "plain.pth": state,
        "parallel.pt": {f"module.{key}": value for key, value in state.items()},
        "parts.pkl": {name: part(auif, name) for name in PARTS},
        "parallel parts.model": {name: part(auif, name, "module.") for name in PARTS} | {"epoch": 3},
        "wrapped.pth": {"model": state | {"model_clip.x": torch.ones(1)}, "optimizer": {"state": {}}, "epoch": 3},
        "derived.pth": state | {"a.relative_position_index": torch.zeros(1), "b.attn_mask": torch.zeros(1)},
    }
    for file, content in forms.items():
        torch.save(content, tmp_path / file)
        assert same(build("AUIF", tmp_path / file), auif), file
    save_file(state, tmp_path / "ours.safetensors")
    peer = build("auif", str(tmp_path / "ours.safetensors"))
    assert same(peer, auif) and not peer.training


def test_a_release_in_several_files(auif, tmp_path):
    paths = [tmp_path / f"{n}.model" for n in range(3)]
    for path, name in zip(paths, PARTS):
        torch.save(part(auif, name), path)
    (tmp_path / "README.md").write_text("not weights")
    for weights in (tmp_path, paths, paths[::-1], dict(zip(PARTS, paths))):
        assert same(build("AUIF", weights), auif)
    with pytest.raises(FusionError, match=r"0\.model and .*1\.model does not fit AUIF.* 6 missing \(first Decoder\."):
        build("AUIF", paths[:2])
    with pytest.raises(FusionError, match=r"missing \(first Encoder_Base\..* unexpected \(first Decoder\.conv1"):
        build("AUIF", dict(zip(reversed(PARTS), paths)))
    torch.save(part(auif, "Decoder"), tmp_path / "other.model")
    with pytest.raises(FusionError, match=r"2\.model and .*other\.model both hold Decoder\."):
        build("AUIF", tmp_path)


def test_another_network_is_named_and_nothing_loaded(auif, tmp_path):
    from fusionlib.peers.checkpoints import load

    torch.save(build("DATFuse").state_dict(), tmp_path / "dat.pth")
    peer, before = build("AUIF"), build("AUIF")
    before.load_state_dict(peer.state_dict())
    with pytest.raises(FusionError) as error:
        load(peer, tmp_path / "dat.pth")
    text = str(error.value)
    assert "dat.pth does not fit AUIF, which has 186 tensors" in text
    assert "186 missing (first Encoder_Base.conv1.0.kernel)" in text and "62 unexpected (first convolutional" in text
    state = auif.state_dict() | {"Decoder.decoder.1.weight": torch.ones(1, 1, 5, 5)}
    torch.save(state, tmp_path / "shape.pth")
    with pytest.raises(FusionError, match=r"1 of another shape \(first Decoder.* \[1, 1, 5, 5\] instead of \[1, 1, 3"):
        load(peer, tmp_path / "shape.pth")
    assert same(peer, before)


class Trap:
    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_no_code_of_a_file_is_run(tmp_path):
    torch.save({"x": Trap(tmp_path / "sprung")}, tmp_path / "trap.pth")
    torch.save(nn.Linear(2, 2), tmp_path / "module.pkl")
    with pytest.raises(FusionError, match=r"trap\.pth holds Python objects \(\w+\.mkdir\).*state_dict\(\)"):
        build("LRRNet", tmp_path / "trap.pth")
    with pytest.raises(FusionError, match=r"module\.pkl holds Python objects \(torch\.nn\.modules\.linear\.Linear\)"):
        build("LRRNet", tmp_path / "module.pkl")
    assert not (tmp_path / "sprung").exists()


def test_a_zip_with_compressed_parts_is_not_unpacked(tmp_path):
    """As torch never writes it: some kilobytes would fill the memory."""
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"layer.weight": torch.zeros(1 << 20)}, plain)
    with zipfile.ZipFile(plain) as parts, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in parts.namelist():
            target.writestr(name, parts.read(name))
    assert packed.stat().st_size < plain.stat().st_size / 100
    with pytest.raises(FusionError, match=r"packed\.pth.*its parts are compressed"):
        build("DATFuse", weights=packed)


def test_files_that_are_no_weights(tmp_path):
    torch.save(build("LRRNet").state_dict(), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    (tmp_path / "empty.pt").touch()
    (tmp_path / "text.pth").write_text("version https://git-lfs")
    (tmp_path / "text.safetensors").write_text("version https://git-lfs")
    for file in ("cut.pth", "empty.pt", "text.pth", "text.safetensors"):
        with pytest.raises(FusionError, match=f"{file} is .*copy it again"):
            build("LRRNet", tmp_path / file)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(FusionError, match=r"list\.pth: expected a state dict"):
        build("LRRNet", tmp_path / "list.pth")
    with pytest.raises(FusionError, match="gone: expected a weight file, found none"):
        build("LRRNet", tmp_path / "gone")
    (tmp_path / "folder").mkdir()
    with pytest.raises(FusionError, match="folder: expected a folder with weights"):
        build("LRRNet", tmp_path / "folder")
    with pytest.raises(FusionError, match="an empty list of files does not fit LRRNet"):
        build("LRRNet", [])
    with pytest.raises(FusionError, match="does not fit Mean, which has 0 tensors"):
        build("mean", tmp_path / "whole.pth")


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.sha256])
def test_official_files(shared, name):
    folder = shared / "peers" / "checkpoints" / name.lower()
    found = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
    assert found == SOURCES[name].sha256
    assert isinstance(build(name, folder), PEERS[name])


def pickled(*opcodes):
    """A file as torch saves it, with another pickle in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a/data.pkl", b"\x80\x02" + b"".join(opcodes) + b".")
        file.writestr("a/version", "3\n")
        file.writestr("a/byteorder", "little")
    return buffer.getvalue()


LAUGHS = [b")q\0", *(b"h%ch%c\x86q%c" % (number - 1, number - 1, number) for number in range(1, 60))]  # 2^59 tuples
PICKLES = {
    "nothing": [], "no memo": [b"h\x05"], "a list as key": [b"}]K\x01s"], "odd items": [b"}(K\x01u"],
    "state of a number": [b"K\x01}b"], "call of a number": [b"K\x01)R"], "a number as storage": [b"K\x01Q"],
    "huge text": [b"X\xff\xff\xff\x7fa"], "deep": [b")", b"\x85" * 100_000], "shared tuples": LAUGHS,
    "shared tuples as key": [*LAUGHS, b"}h\x3bK\x01s"], "no arguments": [b"ctorch._utils\n_rebuild_tensor_v2\n)R"],
    "wrong arguments": [b"ctorch._utils\n_rebuild_parameter\n(K\x01K\x02K\x03tR"],
    "a number as dict": [b"ccollections\nOrderedDict\nK\x01\x85R"], "system": [b"cposix\nsystem\nX\x01\0\0\0a\x85R"],
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("opcodes", PICKLES.values(), ids=PICKLES)
def test_pickles_of_somebody_else(tmp_path, opcodes):
    (tmp_path / "odd.pth").write_bytes(pickled(*opcodes))
    for read in (lambda path: build("LRRNet", path), load_yolov5):
        with pytest.raises(FusionError, match=r"odd\.pth") as error:
            read(tmp_path / "odd.pth")
        assert "\n" not in str(error.value)


class Counted:
    """Counts how often it is hashed, where it is an element of a tuple."""

    hashes = 0

    def __hash__(self):
        Counted.hashes += 1
        return 1


def test_shared_tuples_are_refused_before_they_are_hashed(tmp_path, monkeypatch):
    """Each level of tuples doubles torch's work, which the guard spares: counted for few levels, none for many."""

    def hashes(levels):
        inner = b"c%s\nCounted\n)\x81\x85q\0" % __name__.encode()  # a tuple of a new Counted
        pairs = [b"h%ch%c\x86q%c" % (level, level, level + 1) for level in range(levels)]
        (tmp_path / "odd.pth").write_bytes(pickled(inner, *pairs, b"}h%cK\x01s" % levels))  # {pair: 1}
        Counted.hashes = 0
        with torch.serialization.safe_globals([Counted]), pytest.raises(FusionError, match=r"odd\.pth") as error:
            build("LRRNet", tmp_path / "odd.pth")
        return Counted.hashes, "tuples of more elements" in str(error.value)

    once = hashes(0)[0]
    assert once > 0 and hashes(60) == (0, True)
    monkeypatch.setattr("fusionlib.utils.pickles._require_small", lambda opcodes: None)
    for levels in (1, 4, 12):
        assert hashes(levels) == (once << levels, False)  # and so for 60 levels


@pytest.mark.timeout(60)
@pytest.mark.parametrize("key", ["model", "state_dict", "params", "ema"])
def test_a_dict_in_itself(tmp_path, key):
    content = {}
    content |= {key: content, "model": content}
    torch.save(content, tmp_path / "loop.pth")
    for read in (lambda path: build("LRRNet", path), load_yolov5):
        with pytest.raises(FusionError, match=r"loop\.pth"):
            read(tmp_path / "loop.pth")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", [
    lambda t: t.to("meta"), lambda t: t.to_sparse(), lambda t: t.to(torch.complex64), lambda t: t * torch.nan,
    lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8),
], ids=["meta", "sparse", "complex", "NaN", "quantised"])  # fmt: skip
def test_tensors_of_somebody_else(tmp_path, change):
    state = build("DATFuse").state_dict()
    key = next(iter(state))
    torch.save(state | {key: change(state[key])}, tmp_path / "odd.pth")
    with pytest.raises(FusionError, match=rf"odd\.pth is damaged or not a weight file \(.*{key}"):
        build("DATFuse", tmp_path / "odd.pth")
