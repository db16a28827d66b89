"""What the page may ask about a gallery. An answer is a message for the page, with bytes.

`image` and `save` answer at once. The others are generators: each step is a piece of work with an answer of its own.
"""

import functools
import math
import time
from collections.abc import Iterator

import numpy as np
import torch

from fusionlib import metrics
from fusionlib.data.image_io import as_tensor, to_uint8
from fusionlib.data.image_types import to_image
from fusionlib.metrics import conventions
from fusionlib.utils.errors import FusionError
from fusionlib.viewer import encoding
from fusionlib.viewer.gallery import Gallery, file_name
from fusionlib.viewer.run_gallery import CONVENTION
from fusionlib.viewer.session import Networks
from fusionlib.visualization import contact_sheets, style

INSTRUCTION = "instruction"  # the pane of what the user has typed
FIRST_LOOK = 640  # pixels of the longer side of the first image that an instruction gives

Reply = tuple[dict, list[bytes]]


class Work:
    """Work on one gallery; what is found stays with its entries."""

    def __init__(self, gallery: Gallery, networks: Networks):
        self.gallery, self.networks = gallery, networks
        self.refined = (-1, None)  # entry and image of the last instruction
        self.sources = functools.lru_cache(maxsize=2)(self._sources)

    def picture(self, index: int, pane: str) -> np.ndarray:
        """uint8 [H,W] or [H,W,3] of an entry's pane. FusionError where it is not there, or cannot be read."""
        if pane == INSTRUCTION and self.refined[0] == index:
            return self.refined[1]
        entry = self.gallery.entries[index]
        if pane not in entry.images:
            raise FusionError(f"{entry.name} has no image {pane}")
        return encoding.read(entry.images[pane], pane)

    def _sources(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Infrared [1,H,W] and visible [3,H,W] of an entry."""
        entry = self.gallery.entries[index]
        if (found := self.gallery.sources_of(entry)) is None:
            raise FusionError(f"{entry.name}: expected an infrared and a visible image, found not both")
        ir, visible = (to_image(image, name) for image, name in zip(found, ("infrared", "visible")))
        return ir.as_infrared(), visible.as_visible()

    def image(self, request: dict) -> Reply:
        """A picture as jpg, or exactly, as png."""
        index, pane = request["entry"], request["pane"]
        return _sent(index, pane, self.picture(index, pane), bool(request.get("exact")))

    def thumbs(self, request: dict) -> Iterator[Reply]:
        """Small pictures of some entries."""
        for index in request["entries"]:
            images = self.gallery.entries[index].images
            pane = request["pane"] if request["pane"] in images else next(iter(images))
            try:
                data = encoding.thumbnail(self.picture(index, pane))
            except FusionError:  # which is told when the entry is chosen
                continue
            yield {"kind": "thumb", "entry": index}, [data]

    def people(self, request: dict) -> Iterator[Reply]:
        """People in some panes of an entry."""
        for pane in request["panes"]:
            yield self.found(request["entry"], pane)

    def found(self, index: int, pane: str) -> Reply:
        """People in an image; boxes are in pixels of the sources, scores are those from `networks.LEAST_SCORE` on."""
        entry = self.gallery.entries[index]
        boxes = entry.people.get(pane)
        if boxes is None:
            image = self.picture(index, pane)
            boxes = self.networks.find_people(_as_rgb(image)).numpy()
            if pane == INSTRUCTION:  # of a first look, which is smaller
                boxes[:, :4] *= self.sources(index)[1].shape[2] / image.shape[1]
            else:
                entry.people[pane] = boxes
        return {"kind": "people", "entry": index, "pane": pane, "boxes": boxes.astype(float).round(3).tolist()}, []

    def measures(self, request: dict) -> Iterator[Reply]:
        """Metrics of some panes of an entry."""
        for pane in request["panes"]:
            yield self.measured(request["entry"], pane)

    def measured(self, index: int, pane: str) -> Reply:
        """The paper's metrics of an image, as they were kept or as they are measured now."""
        entry = self.gallery.entries[index]
        values = entry.metrics.get(pane, {})
        if not set(conventions.PAPER) <= set(values):
            images = _as_rgb(self.picture(index, pane)), *self.sources(index)
            found = metrics.evaluate(*(image[None] for image in images), conventions.PAPER, CONVENTION)
            values = {name: value.item() for name, value in found.items()}
            if pane != INSTRUCTION:
                entry.metrics[pane] = values
        return {"kind": "measures", "entry": index, "pane": pane, "values": finite(values)}, []

    def sweep(self, request: dict) -> Iterator[Reply]:
        """People or metrics of many entries, for a filter or an order."""
        find = {"people": self.found, "measures": self.measured}[request["what"]]
        for done, index in enumerate(request["entries"], 1):
            try:
                content, buffers = find(index, request["pane"])
            except FusionError as error:  # of one picture; the others can be told
                content, buffers = {"kind": "problem", "of": "sweep", "text": str(error)}, []
            yield {**content, "done": done, "total": len(request["entries"])}, buffers

    def warm(self, _: dict) -> Iterator[Reply]:
        """Load what an instruction needs, while the user is still typing."""
        try:
            self.networks.get_ready()
        except FusionError:  # which is told about the instruction
            return
        yield {"kind": "ready"}, []

    def instruct(self, request: dict) -> Iterator[Reply]:
        """A pair refined by an instruction: small and soon, then whole."""
        index, text = request["entry"], request["text"]
        ir, visible = self.sources(index)
        large = max(visible.shape[1:]) > FIRST_LOOK
        for longest in (FIRST_LOOK, 0) if large else (0,):
            began = time.perf_counter()
            image = to_uint8(self.networks.refine(ir, visible, text, longest))
            self.refined = index, image
            took = round(1000 * (time.perf_counter() - began))
            last = not (large and longest)
            yield _sent(index, INSTRUCTION, image, False, text=text, milliseconds=took, last=last)

    def attend(self, request: dict) -> Iterator[Reply]:
        """Where a word of the answer looks, as a png to lay over the images."""
        index, (start, end) = request["entry"], request["word"]
        answer = self.gallery.entries[index].answer
        weights = self.networks.attention(*self.sources(index), answer, start, end)
        data, _ = encoding.encode(encoding.heat(weights), exact=True)
        yield {"kind": "attention", "entry": index, "word": [start, end]}, [data]

    def save(self, request: dict) -> Reply:
        """Write what is shown as a figure, png and pdf, with its boxes and the enlarged region."""
        index, panes = request["entry"], request["panes"]
        entry = self.gallery.entries[index]
        found = {pane: entry.people[pane] for pane in panes if pane in entry.people and request["found"]}
        figure = contact_sheets.contact_sheet(
            [{pane: self.picture(index, pane) for pane in panes}], [entry.truth if request["truth"] else None],
            [found or None], [request.get("region")], [entry.name], request["score"],
        )  # fmt: skip
        stem, number = f"09_view_{file_name(entry.name)}", 1
        path = self.gallery.saves / f"{stem}.png"
        while path.exists():
            number += 1
            path = path.with_name(f"{stem}_{number}.png")
        return {"kind": "saved", "path": str(style.save(figure, path))}, []


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON knows no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _sent(index: int, pane: str, image: np.ndarray, exact: bool, **more) -> Reply:
    data, mime = encoding.encode(image if exact else encoding.reduced(image, encoding.LONGEST), exact)
    size = {"width": image.shape[1], "height": image.shape[0]}
    return {"kind": "image", "entry": index, "pane": pane, "mime": mime, "exact": exact, **size, **more}, [data]


def _as_rgb(image: np.ndarray) -> torch.Tensor:
    return as_tensor(image).expand(3, -1, -1).contiguous()
