"""The widget: the page (static/) asks, `Work` answers.

A picture is answered at once. What takes longer waits in a queue, of one thread, from which it is done step by step: so
a long search does not hold up a short one, and a newer request of a kind ends the older one.
"""

import base64
import io
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from fusionlib.metrics import conventions
from fusionlib.training.instructions import INSTRUCTIONS
from fusionlib.utils.errors import FusionError
from fusionlib.viewer import encoding
from fusionlib.viewer.gallery import Entry, Gallery
from fusionlib.viewer.requests import Reply, Work, finite
from fusionlib.viewer.run_gallery import CONVENTION
from fusionlib.viewer.session import Networks
from fusionlib.visualization import contact_sheets, style

STATIC = Path(__file__).parent / "static"
PARTS = ("dom", "boxes", "geometry", "pictures", "entry_list", "frames", "controls", "panels", "linked_zoom", "status",
         "toolbar", "handlers", "keys", "viewer")  # fmt: skip
SHOWN_STILL = 3  # entries on the still sheet
AT_ONCE, QUEUED = ("image", "save"), ("thumbs", "people", "measures", "sweep", "warm", "instruct", "attend")


def page() -> str:
    """The module of the page. anywidget takes one file; for readers it is in parts, which are joined here."""
    return "\n".join((STATIC / f"{part}.js").read_text(encoding="utf-8") for part in PARTS)


class Viewer(anywidget.AnyWidget):
    """A gallery to look at. Made by `fusionlib.browse` and `fusionlib.compare`.

    Args:
        gallery: what there is to look at.
        networks: what can be computed.
        runs, run: names of runs to choose among, and of this one.
        open_run: name -> gallery and networks of another run.
    """

    _esm = page()
    _css = (STATIC / "viewer.css").read_text(encoding="utf-8")
    gallery = traitlets.Dict().tag(sync=True)  # what the page knows from the start, see `_index`
    entry = traitlets.Unicode().tag(sync=True)  # the name of the entry that is shown

    def __init__(self, gallery: Gallery, networks: Networks, runs: Sequence[str] = (), run: str = "",
                 open_run: Callable[[str], tuple[Gallery, Networks]] | None = None):
        self._runs, self._open_run, self._number = list(runs), open_run, 0
        self._thumbs, self._worker = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._tickets: dict[str, int] = {}
        super().__init__()
        self._take(gallery, networks, run)
        self.on_msg(self._hear)

    def _take(self, gallery: Gallery, networks: Networks, run: str) -> None:
        self._number += 1
        self._tickets.clear()
        self._work = Work(gallery, networks)
        self.entry = gallery.entries[0].name
        self.gallery = self._index(gallery, networks, run)

    def _index(self, gallery: Gallery, networks: Networks, run: str) -> dict:
        return {
            "number": self._number, "title": gallery.title, "notes": gallery.notes, "runs": self._runs, "run": run,
            "panes": gallery.panes, "sources": list(gallery.sources or ()),
            "metrics": [{"name": name, "up": conventions.METRICS[name].higher_is_better} for name in conventions.PAPER],
            "convention": CONVENTION, "finds": networks.run is not None, "attends": networks.has_text_dfh,
            "colours": {"truth": style.TRUTH, "found": style.PREDICTION},
            "examples": [instruction.texts[0] for instruction in INSTRUCTIONS.values()],
            "entries": [_entry(entry, gallery) for entry in gallery.entries],
        }  # fmt: skip

    def __repr__(self) -> str:
        gallery = self._work.gallery
        count = len(gallery.entries)
        return f"{gallery.title}: {count} {'entry' if count == 1 else 'entries'} with {', '.join(gallery.panes)}"

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and a still picture for where there is no front end to show it."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        try:
            data["image/png"] = base64.b64encode(self.still()).decode()
        except FusionError:  # a picture that cannot be read is told on the page, beside the others
            pass
        return data, metadata

    def still(self) -> bytes:
        """A contact sheet of some of the entries, as png. FusionError for a picture that cannot be read."""
        gallery = self._work.gallery
        chosen = gallery.entries[:: max(1, len(gallery.entries) // SHOWN_STILL)][:SHOWN_STILL]
        rows, boxes = [], []
        for entry in chosen:
            images = {pane: encoding.read(entry.images[pane], pane) for pane in gallery.panes if pane in entry.images}
            rows.append({pane: encoding.reduced(image, 480) for pane, image in images.items()})
            (before, *_), (after, *_) = images.values(), rows[-1].values()
            boxes.append(None if entry.truth is None else entry.truth * after.shape[1] / before.shape[1])
        sheet = contact_sheets.contact_sheet(rows, boxes, labels=[entry.name for entry in chosen], columns=6)
        buffer = io.BytesIO()
        sheet.savefig(buffer, format="png", dpi=style.DPI, metadata={"Software": None})
        return buffer.getvalue()

    def close(self) -> None:
        """End the work and the widget."""
        self._tickets.clear()
        for worker in (self._thumbs, self._worker):
            worker.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _hear(self, _, request: dict, __) -> None:
        kind = request.get("kind")
        if request.get("gallery") != self._number:  # about a run that has been left meanwhile
            return
        try:
            if kind == "open":
                self._take(*self._open_run(request["run"]), request["run"])
            elif kind in AT_ONCE:
                self._answer(request, *getattr(self._work, kind)(request))
            elif kind in QUEUED:
                ticket = self._tickets[kind] = self._tickets.get(kind, 0) + 1
                self._queue(ticket, getattr(self._work, kind)(request), request)
        except Exception as error:
            self._complain(request, error)

    def _queue(self, ticket: int, steps: Iterator[Reply], request: dict) -> None:
        worker = self._thumbs if request["kind"] == "thumbs" else self._worker
        try:
            worker.submit(self._step, ticket, steps, request)
        except RuntimeError:  # closed meanwhile
            return

    def _step(self, ticket: int, steps: Iterator[Reply], request: dict) -> None:
        """Do one step of a request, and put the rest behind whatever waits; a newer request of the kind ends it."""
        if not self._current(ticket, request):
            return
        try:
            reply = next(steps, None)
        except Exception as error:  # of a thread, which nobody would ever see
            self._complain(request, error)
            return
        if reply is not None and self._current(ticket, request):
            self._answer(request, *reply)
            self._queue(ticket, steps, request)

    def _current(self, ticket: int, request: dict) -> bool:
        return request["gallery"] == self._number and self._tickets.get(request["kind"]) == ticket

    def _answer(self, request: dict, content: dict, buffers: list[bytes]) -> None:
        self.send({"gallery": request["gallery"], **content}, buffers)

    def _complain(self, request: dict, error: Exception) -> None:
        text = str(error) if isinstance(error, FusionError | OSError) else f"{type(error).__name__}: {error}"
        about = {key: request[key] for key in ("entry", "pane", "panes") if key in request}
        self._answer(request, {"kind": "problem", "of": request["kind"], "text": text, **about}, [])


def _entry(entry: Entry, gallery: Gallery) -> dict:
    """What the page knows of an entry from the start; texts go as they are, since the page shows them as text."""
    answer = entry.answer
    return {
        "name": entry.name, "group": entry.group, "panes": [pane for pane in gallery.panes if pane in entry.images],
        "truth": None if entry.truth is None else np.round(entry.truth.astype(float), 1).tolist(),
        "answer": answer and {"text": answer.text, "model": answer.model},
        "measures": {pane: finite(values) for pane, values in entry.metrics.items()},
    }  # fmt: skip
