"""The widget: the page (static/) sends requests, and `RequestHandler` answers them.

An image is sent at once. Requests that take longer are put into the queue of one thread and done step by step, so that
a long sweep does not block a short request, and a newer request of the same kind cancels the older one.
"""

import base64
import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from IPython.display import HTML, display

from fusionlib.metrics import conventions
from fusionlib.training.instructions import INSTRUCTIONS
from fusionlib.utils.errors import FusionError
from fusionlib.viewer import encoding, ratings, uploads
from fusionlib.viewer.gallery import FUSED, Gallery
from fusionlib.viewer.requests import Reply, RequestHandler, finite
from fusionlib.viewer.run_gallery import CONVENTION
from fusionlib.viewer.session import Networks
from fusionlib.visualization import contact_sheets, style

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("dom", "boxes", "geometry", "pictures", "pixels", "entry_list", "frames", "controls", "panels",
           "linked_zoom", "pair_modes", "pointer", "status", "ratings", "toolbar", "downloads", "uploads", "handlers",
           "keys", "viewer")  # fmt: skip
STILL_ENTRIES = 3  # entries on the contact sheet that is shown without a front end
#: Shown until the page answers, which it never does where JupyterLab cannot load anywidgets.
LOADING = """<p>The viewer is being loaded. If it does not appear, JupyterLab runs in another environment than this
notebook's kernel, and lacks the viewer's side: install it there by <code>pip install anywidget</code>, and restart
JupyterLab.</p><details><summary>Some of the images as a picture</summary>
<img src="data:image/png;base64,{}"></details>"""
IMMEDIATE = ("image", "save", "rate")
QUEUED = ("thumbs", "people", "measures", "sweep", "warm", "instruct", "attend", "download", "swipe")
PALETTES = ("inferno", "turbo")  # pseudo-colours of infrared


class Viewer(anywidget.AnyWidget):
    """The viewer of a gallery, made by `fusionlib.browse` and `fusionlib.compare`.

    runs, run: names of the runs that can be selected, and of the current one. open_run: returns the gallery and the
    networks of a run by its name.
    """

    # anywidget takes one module; its source is split by topic.
    _esm = "\n".join((STATIC / f"{script}.js").read_text(encoding="utf-8") for script in SCRIPTS)
    _css = (STATIC / "viewer.css").read_text(encoding="utf-8")
    gallery = traitlets.Dict().tag(sync=True)  # what the page needs from the start, see `_open`
    entry = traitlets.Unicode().tag(sync=True)  # name of the current entry

    def __init__(self, gallery: Gallery, networks: Networks, runs: Sequence[str] = (), run: str = "",
                 open_run: Callable[[str], tuple[Gallery, Networks]] | None = None):
        self._runs, self._open_run = list(runs), open_run
        self._thumbs, self._worker = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._number, self._tickets = 0, {}  # numbers of the gallery, and of the newest request of each kind
        self._upload: uploads.Upload | None = None  # the pair that is being sent
        self._loading = None  # display of `LOADING`
        super().__init__()
        self._open(gallery, networks, run)
        self.on_msg(self._receive)

    def _open(self, gallery: Gallery, networks: Networks, run: str, entry: str = "") -> None:
        self._number += 1
        self._tickets.clear()
        self._handler = RequestHandler(gallery, networks)
        self.entry = entry or gallery.entries[0].name
        rated = ratings.read(gallery.saves / ratings.NAME, gallery.title)
        self.gallery = {
            "number": self._number, "title": gallery.title, "notes": gallery.notes, "runs": self._runs, "run": run,
            "panes": gallery.panes, "sources": list(gallery.sources or ()),
            "metrics": [{"name": name, "up": conventions.METRICS[name].higher_is_better} for name in conventions.PAPER],
            "convention": CONVENTION, "finds": bool(networks.detectors), "attends": networks.has_text_dfh,
            "detectors": list(networks.detectors), "answers_from": networks.answers_from,
            "palettes": {name: encoding.palette(name) for name in PALETTES}, "most": uploads.MAX_BYTES,
            "colours": {"truth": style.TRUTH, "found": style.PREDICTION},
            "examples": ["auto", *(instruction.texts[0] for instruction in INSTRUCTIONS.values())],
            "entries": [{
                "name": entry.name, "group": entry.group, "makes_fused": entry.makes_fused,
                "panes": [p for p in gallery.panes if p in entry.images or (p == FUSED and entry.makes_fused)],
                "truth": None if entry.truth is None else np.round(entry.truth.astype(float), 1).tolist(),
                "answer": entry.answer and {"text": entry.answer.text, "model": entry.answer.model},
                "measures": {pane: finite(values) for pane, values in entry.metrics.items()},
                "ratings": ratings.of_entry(rated, entry.name, gallery.panes),
            } for entry in gallery.entries],
        }

    def __repr__(self) -> str:
        gallery = self._handler.gallery
        count = len(gallery.entries)
        return f"{gallery.title}: {count} {'entry' if count == 1 else 'entries'} with {', '.join(gallery.panes)}"

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and a contact sheet for where there is no front end to show it."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        with contextlib.suppress(FusionError):  # the page reports an unreadable image in its place
            data["image/png"] = base64.b64encode(self.still()).decode()
        return data, metadata

    def _ipython_display_(self):
        """In JupyterLab: `LOADING` and the widget."""
        if "JPY_SESSION_NAME" not in os.environ:  # which a Jupyter server sets: here no page will answer
            raise NotImplementedError  # so IPython displays the bundle
        data, metadata = self._repr_mimebundle_()
        self._loading = display(HTML(LOADING.format(data.get("image/png", ""))), display_id=True)
        display(data, metadata=metadata, raw=True)

    def still(self) -> bytes:
        """A contact sheet of a few entries, as png. Raises FusionError for an image that cannot be read."""
        gallery = self._handler.gallery
        most = max(len(entry.images) for entry in gallery.entries)  # those with all images, such as a run's test pairs
        whole = [(index, entry) for index, entry in enumerate(gallery.entries) if len(entry.images) == most]
        chosen = whole[:: max(1, len(whole) // STILL_ENTRIES)][:STILL_ENTRIES]
        rows, boxes = [], []
        for index, entry in chosen:
            panes = [pane for pane in gallery.panes if pane in entry.images or self._handler.is_made(index, pane)]
            rows.append({pane: self._handler.small(index, pane, 480) for pane in panes})
            original, small = self._handler.pixels(index, panes[0]), rows[-1][panes[0]]
            boxes.append(None if entry.truth is None else entry.truth * small.shape[1] / original.shape[1])
        sheet = contact_sheets.contact_sheet(rows, boxes, labels=[entry.name for _, entry in chosen], columns=6)
        buffer = io.BytesIO()
        sheet.savefig(buffer, format="png", dpi=style.DPI, metadata={"Software": None})
        return buffer.getvalue()

    def close(self) -> None:
        """Cancel all requests and close the widget."""
        self._tickets.clear()
        for worker in (self._thumbs, self._worker):
            worker.shutdown(wait=False, cancel_futures=True)
        super().close()

    def _receive(self, _, request: dict, buffers: Sequence[bytes]) -> None:
        if self._loading:
            self._loading.update(HTML(""))
            self._loading = None
        kind = request.get("kind")
        if request.get("gallery") != self._number:  # about a run that has been left
            return
        try:
            if kind == "open":
                self._open(*self._open_run(request["run"]), request["run"])
            elif kind == "upload":
                self._collect(request, buffers)
            elif kind == "image" and self._handler.is_made(request["entry"], request["pane"]):
                self._queue(None, (self._handler.image(each) for each in [request]), request)
            elif kind in IMMEDIATE:
                self._reply(request, *getattr(self._handler, kind)(request))
            elif kind in QUEUED:
                ticket = self._tickets[kind] = self._tickets.get(kind, 0) + 1
                self._queue(ticket, getattr(self._handler, kind)(request), request)
        except Exception as error:
            self._report(request, error)

    def _collect(self, request: dict, part: Sequence[bytes]) -> None:
        """Collect a pair that comes in parts; after the last one it is an entry, at which the page begins anew."""
        if request.get("names"):
            self._upload = uploads.Upload(request["names"])
        upload, self._upload = self._upload, None  # after an error, the remaining parts are ignored
        if upload is None:
            return
        upload.add(request["file"], bytes(part[0]))
        if not request["last"]:
            self._upload = upload
            return
        gallery = self._handler.gallery
        entry = uploads.add_entry(gallery, *upload.pair())
        self._open(gallery, self._handler.networks, self.gallery["run"], entry.name)

    def _queue(self, ticket: int | None, steps: Iterator[Reply], request: dict) -> None:
        worker = self._thumbs if request["kind"] == "thumbs" else self._worker
        with contextlib.suppress(RuntimeError):  # the viewer has been closed
            worker.submit(self._step, ticket, steps, request)

    def _step(self, ticket: int | None, steps: Iterator[Reply], request: dict) -> None:
        """Do one step of a request unless it is cancelled, and queue the rest behind the requests that wait."""
        if not self._is_current(ticket, request):
            return
        try:
            reply = next(steps, None)
        except Exception as error:  # nobody would see it in a thread
            self._report(request, error)
            return
        if reply is not None and self._is_current(ticket, request):
            self._reply(request, *reply)
            self._queue(ticket, steps, request)

    def _is_current(self, ticket: int | None, request: dict) -> bool:
        return request["gallery"] == self._number and ticket in (None, self._tickets.get(request["kind"]))

    def _reply(self, request: dict, content: dict, buffers: Sequence[bytes] = ()) -> None:
        self.send({"gallery": request["gallery"], **content}, buffers)

    def _report(self, request: dict, error: Exception) -> None:
        text = str(error) if isinstance(error, FusionError | OSError) else f"{type(error).__name__}: {error}"
        about = {key: request[key] for key in ("entry", "pane", "panes") if key in request}
        self._reply(request, {"kind": "problem", "of": request["kind"], "text": text, **about})
