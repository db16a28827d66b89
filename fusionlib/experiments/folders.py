"""The folders of a stage's results: one per fingerprint, <stage>, which was asked for last, and <stage>@<fingerprint>.

Results of another fingerprint are moved aside and never deleted. What another process uses is not moved: then the new
results get <stage>@<fingerprint> at once. fingerprint.json in each folder has a number that grows with every claim, so
that it is known which results were asked for last.
"""

import glob
import os
from contextlib import nullcontext
from pathlib import Path

import fastjsonschema

from fusionlib.utils.files import read_json, write_json
from fusionlib.utils.locks import Presence

_OBJECT, _TEXT, _DIGEST = {"type": "object"}, {"type": "string"}, {"type": "string", "pattern": "^[0-9a-f]+$"}
_check_mark = fastjsonschema.compile({**_OBJECT, "required": ["fingerprint"], "properties": {
    "fingerprint": _DIGEST, "claimed": {"type": "integer"}}})  # fmt: skip
#: Raises ValueError for what is not the content of a provenance.json.
check_record = fastjsonschema.compile({
    **_OBJECT, "required": ["fingerprint", "date", "profile", "inputs"], "properties": {
        "fingerprint": _DIGEST, "date": _TEXT, "profile": _OBJECT, "inputs": _OBJECT, "data_root": _TEXT,
        "facts": {**_OBJECT, "properties": {"root": _TEXT}}}})  # fmt: skip


def claim(folder: Path, digest: str, presence: Presence) -> Path:
    """Prepare the folder for results of a stage: <stage> itself, unless another process uses it for other results.

    Args:
        folder: <stage>.
        digest: fingerprint of the results.
        presence: of this process in the run's folder.
    """
    own = aside(folder, digest)
    with presence.alone():
        last = max(map(_claimed, versions(folder)), default=0)
        held = _mark(folder).get("fingerprint")
        if own.exists() and presence.used_by_others(own):
            place = own
        elif held in (None, digest) or not presence.used_by_others(folder):
            place = folder
            if held not in (None, digest):
                os.replace(folder, aside(folder, held))
            if own.exists() and not folder.exists():
                os.replace(own, folder)
        else:
            place = own
            print(f"{folder.name}: another process uses these results of other settings; the new ones go to {own.name}")
        place.mkdir(parents=True, exist_ok=True)
        write_json(place / "fingerprint.json", {"fingerprint": digest, "claimed": last + 1})
        presence.use(place)
    return place


def find(folder: Path, presence: Presence | None, digest: str = "") -> Path:
    """The folder of a stage's results: <stage>, unless finished results were asked for after those in it.

    Args:
        folder: <stage>.
        presence: of this process, which uses the results from now on; None: it looks at them only.
        digest: fingerprint of the results, wherever they are.
    """
    with presence.alone() if presence else nullcontext():
        finished = {place: record["fingerprint"] for place in versions(folder)
                    if (record := read_json(place / "provenance.json", check_record))}  # fmt: skip
        if digest:
            chosen = [place for place, found in finished.items() if found == digest]
        else:
            chosen = [place for place in finished if place == folder or _claimed(place) > _claimed(folder)]
        place = max(chosen, key=_claimed, default=folder)
        if presence and chosen:
            presence.use(place)
    if place != folder and not digest:
        print(f"{folder.name}: those in {place.name} are used, which were asked for last")
    return place


def versions(folder: Path) -> list[Path]:
    """<stage> and all <stage>@<fingerprint> that there are."""
    return [place for place in (folder, *sorted(folder.parent.glob(f"{glob.escape(folder.name)}@*"))) if place.exists()]


def aside(folder: Path, digest: str) -> Path:
    """<stage>@<fingerprint>."""
    return folder.with_name(f"{folder.name}@{digest[:12]}")


def _mark(place: Path) -> dict:
    return read_json(place / "fingerprint.json", _check_mark) or {}


def _claimed(place: Path) -> int:
    return _mark(place).get("claimed", 0)
