"""Networks as folders or repositories of the Hugging Face Hub, through the mixin of huggingface_hub.

It takes a third of a second to import, so the networks import it when one of `models.fusion_network.OnHub` is called.
"""

from pathlib import Path

from huggingface_hub import ModelHubMixin, snapshot_download

from fusionlib.models import weights
from fusionlib.models.fusion_network import FusionNetwork
from fusionlib.models.text_dfh import TextGuidedFusion
from fusionlib.utils.errors import FusionError, first_line

#: The weights of the network, of a TextGuidedFusion those of Text-DFH; and of the stage 1 that these belong to.
MODEL, STAGE_1 = "model.safetensors", "fusion_network.safetensors"
CARD = """---
{{ card_data }}
---

# {{ title | default("Infrared and visible image fusion") }}

{{ what }}

{{ parameters }} parameters, float32, as safetensors; arguments: `{{ arguments }}`.

## Use

```python
import fusionlib as fl

network = fl.models.{{ kind }}.from_pretrained({{ name | default("this folder, or its name on the Hub") | tojson }})
ir, visible = fl.data.load(pair)  # or any infrared [1,H,W] and visible RGB [3,H,W] in 0..1
fused = fl.inference.fuse({{ call }})  # RGB [3,H,W] in 0..1
```

On the command line: `python -m fusionlib fuse --ir DIR --visible DIR --out DIR --weights THIS_FOLDER`.

## Training

{{ training | default("Not stated yet: say here on which pairs it was trained, by which settings, and how it was chosen.", true) }}

## Evaluation

{{ evaluation | default("Not stated yet: say here on which pairs, by which convention of metrics, and how it compares.", true) }}

## Limits

{{ limits | default("The two images must be registered. A fused image is for looking at: it is no measurement of temperature.", true) }}

## The method

Wang et al., Infrared and visible image fusion driven by multimodal large language models, Frontiers in Physics 13, 2025,
[10.3389/fphy.2025.1599937](https://doi.org/10.3389/fphy.2025.1599937).
"""  # noqa: E501  a paragraph of the card is a line
WHAT = {
    FusionNetwork: "Stage 1 of the method below: it fuses an infrared image with the luma of a visible one.",
    TextGuidedFusion: "Stage 2 of the method below: the frozen fusion network with Text-DFH, which harmonises its "
                      "features by a text.",
}  # fmt: skip


class Hosted(
    ModelHubMixin, library_name="fusionlib", license="agpl-3.0", pipeline_tag="image-to-image",
    tags=["image-fusion", "infrared", "thermal", "visible"], model_card_template=CARD,
    paper_url="https://doi.org/10.3389/fphy.2025.1599937",
):  # fmt: skip
    """A network with `save_pretrained`, `from_pretrained` and `push_to_hub` of huggingface_hub."""

    def __init__(self, model: FusionNetwork | TextGuidedFusion):
        self.model, kind = model, type(model)
        config = model.config if kind is FusionNetwork else {
            **model.harmonise["ir"].config, "network": model.network.config}  # fmt: skip
        self._hub_mixin_config = {"architecture": kind.__name__, **config}

    def _save_pretrained(self, save_directory: Path) -> None:
        (save_directory / STAGE_1).unlink(missing_ok=True)  # of another network that was saved there
        weights.save(self.model, save_directory / MODEL)
        if isinstance(self.model, TextGuidedFusion):
            weights.save(self.model.network, save_directory / STAGE_1)

    @classmethod
    def _from_pretrained(cls, *, model_id, revision, cache_dir, force_download, local_files_only, token, **_):
        if not Path(model_id).is_dir():
            model_id = snapshot_download(
                model_id, revision=revision, cache_dir=cache_dir, force_download=force_download, token=token,
                local_files_only=local_files_only, allow_patterns=["*.safetensors"])  # fmt: skip
        stage_1, *text_dfh = reversed(files_of(model_id))
        network = weights.load(stage_1)
        return cls(weights.load(text_dfh[0], network) if text_dfh else network)

    def generate_model_card(self, **values):
        """The card (README.md), whose YAML header names licence, library and tags; `values` fill in what it lacks."""
        kind = type(self.model)
        facts = {"kind": kind.__name__, "what": WHAT[kind], "arguments": self._hub_mixin_config,
                 "parameters": f"{sum(p.numel() for p in self.model.parameters()):,}",
                 "call": "network, ir, visible" + (", fl.feedback.encode([words])[0]" * (kind is TextGuidedFusion))}
        return super().generate_model_card(**{**facts, **values})


def files_of(folder: str | Path) -> list[Path]:
    """The weight files in a folder of `save_pretrained`: of the network, and where that is Text-DFH, of its stage 1.

    Raises FusionError where there is none.
    """
    files = [Path(folder) / name for name in (MODEL, STAGE_1)]
    if not files[0].is_file():
        raise FusionError(f"{folder}: expected a folder of save_pretrained with {MODEL}, found none: give the folder "
                          "that holds it, or a file of weights")
    return [file for file in files if file.is_file()]


def load(kind: type, source: str | Path, **options) -> FusionNetwork | TextGuidedFusion:
    """Load a network of a kind from a folder or the Hub, see `OnHub.from_pretrained`."""
    source = Path(source).expanduser() if Path(source).expanduser().is_dir() else source
    try:
        model = Hosted.from_pretrained(str(source), **options).model
    except FusionError:
        raise
    except Exception as error:  # of the name, the connection, the repository or the disk, each with its own type
        raise FusionError(f"{source}: expected a folder of save_pretrained, or the name of a repository on the Hub, "
                          f"found none that can be read ({first_line(error)}); check the name, or `hf auth login` if "
                          "it is private") from error
    if type(model) is not kind:
        raise FusionError(f"{source} holds a {type(model).__name__}: load it by {type(model).__name__}.from_pretrained")
    return model
