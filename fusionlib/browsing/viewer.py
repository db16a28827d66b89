"""The widget: the page (static/) asks for pictures and findings, and this side answers.

A picture is answered at once. What takes a network waits in a queue of one thread, step by step, so that a long search
does not hold up a short one, and a newer request of a kind ends the older one. All of it works on any kernel thread.
"""

import base64
import io
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anywidget
import numpy as np
import torch
import traitlets

from fusionlib import metrics, plots
from fusionlib.browsing import pictures
from fusionlib.browsing.gallery import Entry, Gallery, file_name
from fusionlib.browsing.networks import Networks
from fusionlib.browsing.run_gallery import CONVENTION
from fusionlib.data.images import understand
from fusionlib.data.pairs import as_tensor
from fusionlib.errors import FusionError
from fusionlib.models.steering import INSTRUCTIONS

STATIC = Path(__file__).parent / "static"
INSTRUCTION = "instruction"  # the pane of what the user has typed
FIRST_LOOK = 640  # pixels of the longer side of the first image that an instruction gives
SHOWN_STILL = 3  # entries on the still sheet

Reply = tuple[dict, list[bytes]]


def _page() -> str:
    """The module of the page. anywidget takes one; for people it is in parts, which are joined here."""
    parts = ("dom", "boxes", "geometry", "pictures", "listing", "frames", "controls", "panels", "linked", "told", "choices",
             "replies", "keys", "viewer")  # fmt: skip
    return "\n".join((STATIC / f"{part}.js").read_text(encoding="utf-8") for part in parts)


class Viewer(anywidget.AnyWidget):
    """A gallery to look at. Made by `fusionlib.browse` and `fusionlib.compare`.

    Args:
        gallery: what there is to look at.
        networks: what can be computed.
        runs, run: names of runs to choose among, and of this one.
        open_run: name -> gallery and networks of another run.
    """

    _esm = _page()
    _css = STATIC / "viewer.css"
    gallery = traitlets.Dict().tag(sync=True)  # what the page knows from the start, see `_index`
    entry = traitlets.Unicode().tag(sync=True)  # the name of the entry that is shown

    def __init__(self, gallery: Gallery, networks: Networks, runs: list[str] = (), run: str = "",
                 open_run: Callable[[str], tuple[Gallery, Networks]] | None = None):
        self._runs, self._open_run, self._number = list(runs), open_run, 0
        self._workers = {"thumbs": ThreadPoolExecutor(1), "": ThreadPoolExecutor(1)}
        self._tickets: dict[str, int] = {}
        super().__init__()
        self._take(gallery, networks, run)
        self.on_msg(self._hear)

    def _take(self, gallery: Gallery, networks: Networks, run: str) -> None:
        self._number += 1
        self._tickets.clear()
        self._gallery, self._networks = gallery, networks
        self._pair, self._refined = (-1, None), (-1, None)  # the last pair and the last refined image, by entry
        self.entry = gallery.entries[0].name
        self.gallery = self._index(run)

    def _index(self, run: str) -> dict:
        gallery = self._gallery
        return {
            "number": self._number, "title": gallery.title, "notes": gallery.notes, "runs": self._runs, "run": run,
            "panes": gallery.panes, "sources": list(gallery.sources or ()),
            "metrics": [{"name": name, "up": metrics.METRICS[name].higher_is_better} for name in metrics.PAPER],
            "convention": CONVENTION, "finds": self._networks.run is not None,
            "attends": self._networks.has_text_dfh, "colours": {"truth": plots.TRUTH, "found": plots.PREDICTION},
            "examples": [instruction.texts[0] for instruction in INSTRUCTIONS.values()],
            "entries": [_entry(entry, gallery) for entry in gallery.entries],
        }  # fmt: skip

    def __repr__(self) -> str:
        count = len(self._gallery.entries)
        return (f"{self._gallery.title}: {count} {'entry' if count == 1 else 'entries'} with "
                f"{', '.join(self._gallery.panes)}")

    def _repr_mimebundle_(self, **kwargs):
        """The widget, and a still picture for where there is no front end to show it."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        try:
            data["image/png"] = base64.b64encode(self.still()).decode()
        except FusionError:  # a picture that cannot be read is told on the page, beside the others
            pass
        return data, metadata

    def still(self) -> bytes:
        """A contact sheet of some of the entries, as png."""
        count = len(self._gallery.entries)
        chosen = self._gallery.entries[:: max(1, count // SHOWN_STILL)][:SHOWN_STILL]
        rows, boxes = [], []
        for entry in chosen:
            images = {pane: pictures.read(entry.images[pane], pane) for pane in self._gallery.panes
                      if pane in entry.images}  # fmt: skip
            width = next(iter(images.values())).shape[1]
            rows.append({pane: pictures.reduced(image, 480) for pane, image in images.items()})
            boxes.append(None if entry.truth is None
                         else entry.truth * next(iter(rows[-1].values())).shape[1] / width)  # fmt: skip
        buffer = io.BytesIO()
        sheet = plots.contact_sheet(rows, boxes, labels=[entry.name for entry in chosen], columns=6)
        sheet.savefig(buffer, format="png", dpi=plots.DPI, metadata={"Software": None})
        return buffer.getvalue()

    def close(self) -> None:
        """End the work and the widget."""
        self._tickets.clear()
        for worker in self._workers.values():
            worker.shutdown(wait=False, cancel_futures=True)
        super().close()

    # What the page asks

    def _hear(self, _, request: dict, __) -> None:
        kind = request.get("kind")
        if request.get("gallery") != self._number:  # about a run that has been left meanwhile
            return
        if kind in ("image", "open", "save"):
            try:
                self._answer(request, *getattr(self, f"_{kind}")(request))
            except Exception as error:
                self._complain(request, error)
        elif kind in ("thumbs", "people", "measures", "sweep", "instruct", "attend"):
            ticket = self._tickets[kind] = self._tickets.get(kind, 0) + 1
            self._queue(kind, ticket, getattr(self, f"_{kind}")(request), request)

    def _queue(self, kind: str, ticket: int, steps: Iterator[Reply], request: dict) -> None:
        try:
            self._workers.get(kind, self._workers[""]).submit(self._step, kind, ticket, steps, request)
        except RuntimeError:  # closed meanwhile
            return

    def _step(self, kind: str, ticket: int, steps: Iterator[Reply], request: dict) -> None:
        """Do one step of a request, and put the rest behind whatever waits; a newer request of the kind ends it."""
        if self._tickets.get(kind) != ticket:
            return
        try:
            reply = next(steps, None)
        except Exception as error:  # of a thread, which nobody would ever see
            self._complain(request, error)
            return
        if reply is not None and self._tickets.get(kind) == ticket:
            self._answer(request, *reply)
            self._queue(kind, ticket, steps, request)

    def _answer(self, request: dict, content: dict, buffers: list[bytes]) -> None:
        self.send({"gallery": request["gallery"], **content}, buffers)

    def _complain(self, request: dict, error: Exception) -> None:
        text = str(error) if isinstance(error, FusionError | OSError) else f"{type(error).__name__}: {error}"
        about = {key: request[key] for key in ("entry", "pane", "panes") if key in request}
        self._answer(request, {"kind": "problem", "of": request["kind"], "text": text, **about}, [])

    # Pictures

    def _picture(self, index: int, pane: str) -> np.ndarray:
        """uint8 [H,W] or [H,W,3] of an entry's pane."""
        if pane == INSTRUCTION and self._refined[0] == index:
            return self._refined[1]
        images = self._gallery.entries[index].images
        if pane not in images:
            raise FusionError(f"{self._gallery.entries[index].name} has no image {pane}")
        return pictures.read(images[pane], pane)

    def _image(self, request: dict) -> Reply:
        index, pane, exact = request["entry"], request["pane"], bool(request.get("exact"))
        image = self._picture(index, pane)
        return self._sent(index, pane, image, exact)

    def _sent(self, index: int, pane: str, image: np.ndarray, exact: bool, **more) -> Reply:
        shown = image if exact else pictures.reduced(image, pictures.LONGEST)
        data, mime = pictures.encode(shown, exact)
        size = {"width": image.shape[1], "height": image.shape[0]}
        return {"kind": "image", "entry": index, "pane": pane, "mime": mime, "exact": exact, **size, **more}, [data]

    def _thumbs(self, request: dict) -> Iterator[Reply]:
        for index in request["entries"]:
            images = self._gallery.entries[index].images
            pane = request["pane"] if request["pane"] in images else next(iter(images))
            try:
                data = pictures.thumbnail(pictures.read(images[pane], pane))
            except FusionError:  # the page says so when the entry is chosen
                continue
            yield {"kind": "thumb", "entry": index}, [data]

    # Findings

    def _people(self, request: dict) -> Iterator[Reply]:
        for pane in request["panes"]:
            yield self._found(request["entry"], pane)

    def _found(self, index: int, pane: str) -> Reply:
        entry = self._gallery.entries[index]
        found = entry.people.get(pane)
        if found is None:
            image = self._picture(index, pane)
            found = self._networks.find_people(_as_rgb(image)).numpy()
            if pane == INSTRUCTION:  # which may have been made at a smaller size
                found[:, :4] *= self._sources(index)[1].shape[2] / image.shape[1]
            else:
                entry.people[pane] = found
        return {"kind": "people", "entry": index, "pane": pane, "boxes": np.round(found, 3).tolist()}, []

    def _measures(self, request: dict) -> Iterator[Reply]:
        for pane in request["panes"]:
            yield self._measured(request["entry"], pane)

    def _measured(self, index: int, pane: str) -> Reply:
        entry = self._gallery.entries[index]
        values = entry.metrics.get(pane)
        if values is None or not set(metrics.PAPER) <= set(values):
            images = _as_rgb(self._picture(index, pane)), *self._sources(index)
            measured = metrics.evaluate(*(image[None] for image in images), metrics.PAPER, CONVENTION)
            values = {name: value.item() for name, value in measured.items()}
            if pane != INSTRUCTION:
                entry.metrics[pane] = values
        return {"kind": "measures", "entry": index, "pane": pane, "values": _finite(values)}, []

    def _sweep(self, request: dict) -> Iterator[Reply]:
        """People or metrics of many entries, for a filter or an order."""
        find = {"people": self._found, "measures": self._measured}[request["what"]]
        for done, index in enumerate(request["entries"], 1):
            try:
                content, buffers = find(index, request["pane"])
            except FusionError as error:
                content, buffers = {"kind": "problem", "of": "sweep", "text": str(error)}, []
            yield {**content, "done": done, "total": len(request["entries"])}, buffers

    def _sources(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Infrared [1,H,W] and visible [3,H,W] of an entry; the last pair stays in memory."""
        if self._pair[0] != index:
            sources = self._gallery.sources_of(self._gallery.entries[index])
            if sources is None:
                raise FusionError(f"{self._gallery.entries[index].name}: expected an infrared and a visible image, "
                                  "found not both")
            ir, visible = (understand(image, name) for image, name in zip(sources, ("infrared", "visible")))
            self._pair = index, (ir.as_infrared(), visible.as_visible())
        return self._pair[1]

    # Words

    def _instruct(self, request: dict) -> Iterator[Reply]:
        index, text = request["entry"], request["text"]
        ir, visible = self._sources(index)
        small = max(visible.shape[1:]) > FIRST_LOOK
        for longest in (FIRST_LOOK, 0) if small else (0,):
            began = time.perf_counter()
            refined = self._networks.refine(ir, visible, text, longest)
            image = refined.mul(255).round().byte().permute(1, 2, 0).numpy()
            self._refined = index, image
            took = round(1000 * (time.perf_counter() - began))
            content, buffers = self._sent(index, INSTRUCTION, image, False, text=text, milliseconds=took,
                                          last=not (small and longest))  # fmt: skip
            yield content, buffers

    def _attend(self, request: dict) -> Iterator[Reply]:
        index, (start, end) = request["entry"], request["word"]
        answer = self._gallery.entries[index].answer
        weights = self._networks.attention(*self._sources(index), answer, start, end)
        data, _ = pictures.encode(pictures.heat(weights), exact=True)
        yield {"kind": "attention", "entry": index, "word": [start, end]}, [data]

    # The rest

    def _save(self, request: dict) -> Reply:
        index, panes, region = request["entry"], request["panes"], request.get("region")
        entry, score = self._gallery.entries[index], request["score"]
        found = {pane: entry.people[pane] for pane in panes if pane in entry.people and request["found"]}
        figure = plots.contact_sheet(
            [{pane: self._picture(index, pane) for pane in panes}],
            [entry.truth if request["truth"] else None], [found or None], [region], [entry.name], score,
        )  # fmt: skip
        stem = f"09_view_{file_name(entry.name)}"
        taken = (self._gallery.saves / f"{stem}{number}.png" for number in ("", *(f"_{n}" for n in range(2, 1000))))
        path = plots.save(figure, next(path for path in taken if not path.exists()))
        return {"kind": "saved", "path": str(path)}, []

    def _open(self, request: dict) -> Reply:
        gallery, networks = self._open_run(request["run"])
        self._take(gallery, networks, request["run"])
        return {"kind": "opened"}, []


def _entry(entry: Entry, gallery: Gallery) -> dict:
    """What the page knows of an entry from the start; texts go as they are, the page shows them as text."""
    answer = entry.answer
    said = answer and {"text": answer.text, "model": answer.model}
    return {
        "name": entry.name, "group": entry.group, "panes": [pane for pane in gallery.panes if pane in entry.images],
        "truth": None if entry.truth is None else np.round(entry.truth, 1).tolist(), "answer": said,
        "measures": {pane: _finite(values) for pane, values in entry.metrics.items()},
    }  # fmt: skip


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _as_rgb(image: np.ndarray) -> torch.Tensor:
    return as_tensor(image).expand(3, -1, -1).contiguous()
