"""Answer the page's requests about a gallery: each reply is a message for the page and its binary buffers.

`image`, `save` and `rate` reply at once. The other requests are generators that do one step of work for each reply.
"""

import functools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from fusionlib import metrics
from fusionlib.data.image_io import as_tensor, to_uint8
from fusionlib.data.image_types import to_image, to_infrared
from fusionlib.data.infrared import Reading
from fusionlib.inference.pair import advice
from fusionlib.metrics import conventions
from fusionlib.utils.errors import FusionError
from fusionlib.utils.files import read_bytes
from fusionlib.viewer import animation, encoding, ratings
from fusionlib.viewer.gallery import FUSED, Gallery, file_name
from fusionlib.viewer.run_gallery import CONVENTION
from fusionlib.viewer.session import Networks
from fusionlib.visualization import contact_sheets, style

INSTRUCTION = "instruction"  # the pane of the image that is refined by the user's instruction
PREVIEW = 640  # pixels of the longer side of its preview

Reply = tuple[dict, list[bytes]]


class RequestHandler:
    """Handlers of requests about one gallery, by the kind of request; results are stored in its entries."""

    def __init__(self, gallery: Gallery, networks: Networks):
        self.gallery, self.networks = gallery, networks
        self.refined = (-1, None, "")  # entry, image and text of the last instruction
        self.attended = (-1, None, None)  # entry, word and overlay of the last attention map
        self.sources = functools.lru_cache(maxsize=2)(self._sources)
        self.fused = functools.lru_cache(maxsize=4)(self._fused)

    def pixels(self, index: int, pane: str) -> np.ndarray:
        """An image, uint8 [H,W] or [H,W,3]. Raises FusionError where there is none, or it cannot be read."""
        if pane == INSTRUCTION and self.refined[0] == index:
            return self.refined[1]
        entry = self.gallery.entries[index]
        if self.is_made(index, pane):
            return self.fused(index)
        if pane not in entry.images:
            raise FusionError(f"{entry.name} has no image {pane}")
        infrared = self.gallery.sources and pane == self.gallery.sources[0]
        return encoding.read(entry.images[pane], pane, Reading(common=entry.ir_range) if infrared else None)

    def is_made(self, index: int, pane: str) -> bool:
        """Whether an image is made by stage 1 when it is looked at, which takes a while."""
        return pane == FUSED and self.gallery.entries[index].makes_fused

    def _fused(self, index: int) -> np.ndarray:
        return to_uint8(self.networks.fuse(*self.sources(index)))

    def _sources(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Infrared [1,H,W] and visible [3,H,W] of an entry."""
        entry = self.gallery.entries[index]
        pair = [entry.images[pane] for pane in self.gallery.sources or () if pane in entry.images]
        if len(pair) < 2:
            raise FusionError(f"{entry.name}: expected an infrared and a visible image, found at most one of them")
        ir = to_infrared(pair[0], "infrared", Reading(common=entry.ir_range))
        return ir.plane, to_image(pair[1], "visible").as_visible()

    def small(self, index: int, pane: str, longest: int) -> np.ndarray:
        """As `pixels`, reduced to a longer side of at most `longest` pixels."""
        if self.is_made(index, pane):
            return to_uint8(self.networks.fuse(*self.sources(index), longest))
        return encoding.reduced(self.pixels(index, pane), longest)

    def image(self, request: dict) -> Reply:
        """An image as jpg, or losslessly as png."""
        index, pane = request["entry"], request["pane"]
        return _image_reply(index, pane, self.pixels(index, pane), bool(request.get("exact")))

    def thumbs(self, request: dict) -> Iterator[Reply]:
        """Thumbnails of some entries."""
        for index in request["entries"]:
            images = self.gallery.entries[index].images
            pane = request["pane"] if request["pane"] in images else next(iter(images))
            try:
                data = encoding.thumbnail(self.pixels(index, pane))
            except FusionError:  # reported when the entry is selected
                continue
            yield {"kind": "thumb", "entry": index}, [data]

    def people(self, request: dict) -> Iterator[Reply]:
        """People in some panes of an entry."""
        return (self.detect(request["entry"], pane, request.get("detector", "")) for pane in request["panes"])

    def detect(self, index: int, pane: str, detector: str = "") -> Reply:
        """People in an image by one of the run's detectors, the first by default.

        Boxes are in pixels of the sources, with scores from `session.MIN_SCORE` on.
        """
        entry = self.gallery.entries[index]
        boxes = entry.people.get((pane, detector))
        if boxes is None:
            image = self.pixels(index, pane)
            boxes = self.networks.detect_people(_as_rgb(image), detector).numpy()
            if pane == INSTRUCTION:  # may be a preview, which is smaller
                boxes[:, :4] *= self.sources(index)[1].shape[2] / image.shape[1]
            else:
                entry.people[pane, detector] = boxes
        return {"kind": "people", "entry": index, "pane": pane, "detector": detector,
                "boxes": boxes.astype(float).round(3).tolist()}, []

    def measures(self, request: dict) -> Iterator[Reply]:
        """Metrics of some panes of an entry."""
        return (self.measure(request["entry"], pane) for pane in request["panes"])

    def measure(self, index: int, pane: str) -> Reply:
        """The paper's metrics of an image, as recorded by notebook 05 or else computed now."""
        entry = self.gallery.entries[index]
        values = entry.metrics.get(pane, {})
        if not set(conventions.PAPER) <= set(values):
            images = _as_rgb(self.pixels(index, pane)), *self.sources(index)
            results = metrics.evaluate(*(image[None] for image in images), conventions.PAPER, CONVENTION)
            values = {name: value.item() for name, value in results.items()}
            if pane != INSTRUCTION:
                entry.metrics[pane] = values
        return {"kind": "measures", "entry": index, "pane": pane, "values": finite(values)}, []

    def sweep(self, request: dict) -> Iterator[Reply]:
        """People or metrics of many entries, to filter or sort them."""
        detect = functools.partial(self.detect, detector=request.get("detector", ""))
        function = {"people": detect, "measures": self.measure}[request["what"]]
        for done, index in enumerate(request["entries"], 1):
            try:
                content, buffers = function(index, request["pane"])
            except FusionError as error:  # of this image; the sweep continues
                content, buffers = {"kind": "problem", "of": "sweep", "text": str(error)}, []
            yield {**content, "done": done, "total": len(request["entries"])}, buffers

    def warm(self, _: dict) -> Iterator[Reply]:
        """Load the networks that an instruction needs while the user is still typing."""
        try:
            self.networks.preload()
        except FusionError:  # reported when the instruction is sent
            return
        yield {"kind": "ready"}, []

    def instruct(self, request: dict) -> Iterator[Reply]:
        """A pair refined by an instruction: of a large one first a preview, then the full resolution.

        "auto" stands for what the rules advise on damages, as for `fusionlib.fuse`; they are asked once.
        """
        index, text = request["entry"], request["text"]
        ir, visible = self.sources(index)
        words, read = text, {}
        if text.strip().lower() == "auto":
            words = advice(ir, visible)
            read = {"advice": words or "no damage found"}
        for longest in (PREVIEW, 0) if max(visible.shape[1:]) > PREVIEW else (0,):
            start = time.perf_counter()
            image = to_uint8(self.networks.refine(ir, visible, words, longest))
            self.refined = index, image, text
            about = {"text": text, "milliseconds": round(1000 * (time.perf_counter() - start)), "last": not longest}
            yield _image_reply(index, INSTRUCTION, image, False, **about, **read)

    def attend(self, request: dict) -> Iterator[Reply]:
        """The attention map of a word of the answer, as a png to lay over the images."""
        index, (start, end) = request["entry"], request["word"]
        weights = self.networks.attention(*self.sources(index), self.gallery.entries[index].answer, start, end)
        self.attended = index, [start, end], encoding.heat(weights)
        data, _ = encoding.encode(self.attended[2], exact=True)
        yield {"kind": "attention", "entry": index, "word": [start, end]}, [data]

    def save(self, request: dict) -> Reply:
        """Save the view as a figure, png and pdf; no file is overwritten.

        It has the boxes, the enlarged region, the colours of infrared, the attention map and the instruction.
        """
        index, panes = request["entry"], request["panes"]
        entry, label = self.gallery.entries[index], self.gallery.entries[index].name
        images = {pane: self.pixels(index, pane) for pane in panes}
        if request.get("palette") and (ir := (self.gallery.sources or (None,))[0]) in images:
            images[ir] = encoding.coloured(images[ir], request["palette"])
        if request.get("word") and self.attended[:2] == (index, request["word"]):
            images = {pane: encoding.overlaid(image, self.attended[2]) for pane, image in images.items()}
            label += f", attention of “{entry.answer.text[slice(*request['word'])]}”"
        found = {pane: entry.people.get((pane, request.get("detector", ""))) for pane in panes if request["found"]}
        people = {pane: boxes for pane, boxes in found.items() if boxes is not None}
        if INSTRUCTION in images:
            title = f"“{self.refined[2]}”"
            images, people = ({title if pane == INSTRUCTION else pane: value for pane, value in values.items()}
                              for values in (images, people))
        figure = contact_sheets.contact_sheet([images], [entry.truth if request["truth"] else None], [people or None],
                                              [request.get("region")], [label], request["score"])
        stem, number = f"09_view_{file_name(entry.name)}", 1
        path = self.gallery.saves / f"{stem}.png"
        while path.exists():
            number += 1
            path = path.with_name(f"{stem}_{number}.png")
        return {"kind": "saved", "path": str(style.save(figure, path))}, []

    def download(self, request: dict) -> Iterator[Reply]:
        """An image at its full size: its own file, or a png of what has no file."""
        index, pane = request["entry"], request["pane"]
        entry = self.gallery.entries[index]
        source = None if pane == INSTRUCTION else entry.images.get(pane)
        name = f"{file_name(entry.name)}_{file_name(pane)}"
        if isinstance(source, str | Path):
            path = Path(source).expanduser()
            yield {"kind": "file", "name": f"{name}{path.suffix.lower()}"}, [read_bytes(path)]
        else:
            yield {"kind": "file", "name": f"{name}.png"}, [encoding.encode(self.pixels(index, pane), exact=True)[0]]

    def swipe(self, request: dict) -> Iterator[Reply]:
        """A GIF in which a line sweeps over two images, of the enlarged region if there is one."""
        index, panes = request["entry"], request["panes"]
        images = [_as_rgb(self.pixels(index, pane)) for pane in panes]
        data = animation.swipe([to_uint8(image) for image in images], panes, request.get("region"))
        yield {"kind": "file", "name": f"{file_name(self.gallery.entries[index].name)}_{'_'.join(panes)}.gif"}, [data]

    def rate(self, request: dict) -> Reply:
        """Rate an image from 1 to 5: a row is added to the gallery's ratings.csv."""
        entry, pane, score = self.gallery.entries[request["entry"]], request["pane"], int(request["score"])
        path = self.gallery.saves / ratings.NAME
        ratings.add(path, self.gallery.title, entry.name, pane, request.get("instruction", ""), score)
        about = {"entry": request["entry"], "pane": pane, "score": score}
        return {"kind": "rated", **about, "path": str(path.resolve())}, []


def finite(values: dict[str, float]) -> dict[str, float | None]:
    """Replace NaN and infinity, which JSON cannot express, by None."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _image_reply(index: int, pane: str, image: np.ndarray, exact: bool, **more) -> Reply:
    data, mime = encoding.encode(image if exact else encoding.reduced(image, encoding.LONGEST), exact)
    size = {"width": image.shape[1], "height": image.shape[0]}
    return {"kind": "image", "entry": index, "pane": pane, "mime": mime, "exact": exact, **size, **more}, [data]


def _as_rgb(image: np.ndarray) -> torch.Tensor:
    return as_tensor(image).expand(3, -1, -1).contiguous()
