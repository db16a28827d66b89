"""Find and check a pretrained model before its weights are loaded: files, architecture, memory.

A model is a folder, or a name on the Hugging Face Hub. Names are looked up in the Hub's cache on this machine; nothing
is downloaded unless the user asks for it.
"""

import hashlib
from pathlib import Path

import fastjsonschema
import psutil
import torch
from huggingface_hub import errors, snapshot_download
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from fusionlib.utils.errors import FusionError, first_line
from fusionlib.utils.files import below, load_json

DESCRIPTION = ["*.json", "*.jinja", "*.model", "*.txt"]  # configuration, processor, tokenizer
WEIGHTS = ["model*.safetensors"]
SMALLER = "take a smaller model, such as llava-hf/llava-onevision-qwen2-0.5b-ov-hf"
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_check_index = fastjsonschema.compile({"type": "object", "required": ["weight_map"],
                                       "properties": {"weight_map": _TEXTS}})
LINEAR_BYTES = {"4bit": 0.5, "8bit": 1.0}  # per weight of a linear layer


def find(model: str, revision: str | None = None, download: bool = False) -> Path:
    """The folder with a model's configuration, processor and tokenizer; its weights may still be missing.

    Args:
        model: a folder, or a name on the Hub such as llava-hf/llava-1.5-7b-hf.
        revision: commit hash, branch or tag of a name; None is the main branch.
        download: fetch these files from the Hub if they are not on this machine.

    Raises:
        FusionError: not on this machine and `download` not set, or not available from the Hub.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        return folder
    try:
        return Path(snapshot_download(model, revision=revision, local_files_only=True, allow_patterns=DESCRIPTION))
    except errors.HFValidationError:
        raise FusionError(f"{model} is neither a folder nor a name on the Hub; give an existing folder, or "
                          "owner/name") from None
    except errors.LocalEntryNotFoundError:
        if not download:
            raise FusionError(f"{model} is not on this machine; {_how_to_fetch(model, revision)}") from None
    return _fetch(model, revision, DESCRIPTION)


def read(folder: Path) -> tuple[nn.Module, AutoProcessor]:
    """The image-text model in a folder, on the meta device (without weights), and its processor.

    Code that comes with a model is not run.

    Raises:
        FusionError: no model, no image-text model, or no chat template.
    """
    if not (folder / "config.json").is_file():
        raise FusionError(f"{folder}: expected a model as save_pretrained writes it, found no config.json; give the "
                          "folder that holds it, or a name on the Hub such as llava-hf/llava-1.5-7b-hf")
    local = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = AutoConfig.from_pretrained(folder, **local)
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config)
        processor = AutoProcessor.from_pretrained(folder, **local)
        processor.tokenizer.padding_side = "left"  # the answers of a batch begin at the same position
    except Exception as error:  # each kind of model fails in its own way
        raise FusionError(f"{folder}: expected an image-text model that transformers knows, such as "
                          f"llava-hf/llava-1.5-7b-hf, found another one ({first_line(error)})") from error
    if not processor.chat_template:
        raise FusionError(f"{folder}: expected a chat template, which formats the question as in the model's training, "
                          "found none; add the model's chat_template.jinja, or use a newer revision")
    return model, processor


def require_memory(name: str, model: nn.Module, dtype: torch.dtype, quantize: str, device: torch.device) -> None:
    """Raise FusionError if the weights of a model and its activations need more memory than is free."""
    size = {p: dtype.itemsize for p in model.parameters()}
    if quantize:
        head = model.get_output_embeddings()
        linear = (m for m in model.modules() if isinstance(m, nn.Linear) and m is not head)
        size.update({m.weight: LINEAR_BYTES[quantize] for m in linear})
    needed = 1.05 * sum(p.numel() * bytes_each for p, bytes_each in size.items())  # 5 % for activations of one image
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        mend = ["set dtype=bfloat16, or "] if dtype.itemsize > 2 else []
        mend += ["set quantize=4bit, or "] if device.type == "cuda" and quantize != "4bit" else []
        raise FusionError(f"{name} needs about {needed / 1e9:.1f} GB of memory on {device}, and {free / 1e9:.1f} GB "
                          f"are free: {''.join(mend)}{SMALLER}")


def require_weights(folder: Path, model: str, revision: str | None = None, download: bool = False) -> None:
    """Ensure that `folder`, which `find` has returned, holds the model's weights as safetensors.

    Raises:
        FusionError: they are missing and `download` is not set, or not available from the Hub.
    """
    on_hub = not Path(model).expanduser().is_dir()
    if on_hub and download and _missing(folder):
        _fetch(model, folder.name, WEIGHTS)  # of the same commit as the configuration
    if missing := _missing(folder):
        mend = _how_to_fetch(model, revision) if on_hub else "copy all of the model, or save it with save_pretrained"
        raise FusionError(f"{folder}: expected the weights in {missing[0]}, found no such file; {mend}")


def version(folder: Path) -> str:
    """The commit hash of a model in the Hub's cache, or for any other folder a digest of the last MiB of each file.

    That covers small files whole, and the weights well enough: training changes all of them.
    """
    if folder.parent.name == "snapshots":
        return folder.name
    digest = hashlib.sha256()
    for path in sorted(p for pattern in DESCRIPTION + WEIGHTS for p in folder.glob(pattern)):
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            digest.update(f"{path.name} {path.stat().st_size} ".encode() + file.read())
    return digest.hexdigest()[:16]


def _missing(folder: Path) -> list[str]:
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.exists():
        names = load_json(index, "the index of a model's weights", "copy it again", _check_index)["weight_map"].values()
    return sorted(name for name in set(names) if not below(folder, name).is_file())


def _fetch(model: str, revision: str | None, patterns: list[str]) -> Path:
    page = f"https://huggingface.co/{model}"
    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=patterns))
    except errors.GatedRepoError:
        problem = f"is available only to those who accept its terms: accept them at {page}, then run `hf auth login`"
    except errors.RevisionNotFoundError:
        problem = f"has no revision {revision} on the Hub; {page}/commits lists them"
    except errors.RepositoryNotFoundError:
        problem = "is not on the Hub, or private: check the name or, if you have access, run `hf auth login`"
    except errors.LocalEntryNotFoundError as error:
        problem = (f"is not on this machine, and the Hub cannot be reached ({first_line(error)}); copy the model from "
                   "a machine that has it, and give its folder")
    except Exception as error:  # connection lost, disk full and so on, each with its library's own exception
        problem = f"could not be fetched ({first_line(error)}); try again, the download resumes where it stopped"
    raise FusionError(f"{model} {problem}")


def _how_to_fetch(model: str, revision: str | None) -> str:
    option = f" --revision {revision}" if revision else ""
    return f"fetch it once with `hf download {model}{option}`, or set download=True"
