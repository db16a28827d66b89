"""The `llava` back end: LLaVA, or another image-text model of transformers, on this machine."""

import functools
import hashlib
import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, GenerationConfig, LogitsProcessor

from fusionlib.feedback import pretrained
from fusionlib.feedback.backends import Reply, to_pil
from fusionlib.feedback.store import image_fingerprint
from fusionlib.utils import devices
from fusionlib.utils.errors import FusionError, first_line

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


class Llava:
    """Answers of a multimodal language model, with the hidden states of the answer's tokens as features.

    Row t of the features [L,D] is the last layer's hidden state, after its norm, from which token t of the answer was
    chosen. It is the state at the position of token t - 1 (for t = 0 at the end of the prompt), so it depends on the
    image, the question and the answer up to there. The states are recorded during generation; a forward pass over the
    finished answer would give the same, shifted by one. The end-of-sequence token has no row, but an empty answer has
    one: the state from which the end was chosen. So L is the number of tokens of the answer, and at least 1.

    Constructing the object reads the model's configuration; the first `reply` loads the weights. The model's own
    processor prepares the images: LLaVA-1.5 takes a central square crop, LLaVA-NeXT and LLaVA-OneVision the whole
    image. Decoding follows the arguments only: a model's default sampling settings and penalties are ignored.

    Args:
        model: a folder, or a name on the Hugging Face Hub: LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision.
        revision: commit hash, branch or tag of a name.
        dtype: "float16", "bfloat16", "float32", or "auto" for the model's own.
        quantize: "4bit" or "8bit" with bitsandbytes on CUDA, or "".
        device: such as "cuda:1"; by default the best one available.
        max_new_tokens: maximum length of an answer.
        temperature: 0 for greedy decoding. Above 0 tokens are sampled, with a random generator for each image, so that
            its answer does not depend on the other images of its batch.
        seed: of the sampling.
        pool: "tokens", or "mean" for the mean of the features over the tokens, [1,D].
        download: fetch the model from the Hub if it is not on this machine.

    Raises:
        FusionError: an option out of range, or a model that is missing, not accessible or not an image-text model.
    """

    encoder, batch = "last hidden states", 8

    def __init__(self, model: str = "llava-hf/llava-1.5-7b-hf", revision: str | None = None, dtype: str = "auto",
                 quantize: str = "", device: str | None = None, max_new_tokens: int = 128, temperature: float = 0.0,
                 seed: int = 0, pool: str = "tokens", download: bool = False):
        for name, value, choices in [("dtype", dtype, ["auto", *DTYPES]), ("pool", pool, ["tokens", "mean"]),
                                     ("quantize", quantize, ["", *pretrained.LINEAR_BYTES])]:
            if value not in choices:
                raise FusionError(f"{name} must be one of {', '.join(map(repr, choices))}, but is {value!r}")
        if max_new_tokens < 1 or not 0 <= temperature < math.inf:
            raise FusionError("max_new_tokens must be 1 or more and temperature 0 or more, but are "
                              f"{max_new_tokens} and {temperature}")
        self.device = devices.device_of(device)
        if quantize and (self.device.type != "cuda" or importlib.util.find_spec("bitsandbytes") is None):
            raise FusionError(f"quantize={quantize} needs CUDA and bitsandbytes (pip install bitsandbytes), but the "
                              f"device is {self.device}: leave quantize empty, or {pretrained.SMALLER}")
        self.source = {"model": str(model), "revision": revision, "download": download}
        self.folder = pretrained.find(**self.source)
        self.skeleton, self.processor = pretrained.read(self.folder)
        self.model = self.folder.resolve().name if Path(model).expanduser().is_dir() else model
        self.revision = pretrained.version(self.folder)
        self.dtype = DTYPES[dtype] if dtype != "auto" else self.skeleton.config.dtype or torch.float32
        self.settings = {"dtype": str(self.dtype).removeprefix("torch."), "quantize": quantize,
                         "max_new_tokens": max_new_tokens, "temperature": temperature, "pool": pool}
        if temperature:
            self.settings["seed"] = seed
        self._max_batch = None  # images that fit into memory at once; None until it has run out

    def require_weights(self) -> None:
        """FusionError if the weights are missing or do not fit into memory."""
        pretrained.require_memory(self.model, self.skeleton, self.dtype, self.settings["quantize"], self.device)
        pretrained.require_weights(self.folder, **self.source)

    @functools.cached_property
    def network(self) -> nn.Module:
        """The model with its weights, on its device; FusionError if they are missing or do not fit into memory."""
        quantize = self.settings["quantize"]
        self.require_weights()
        quantization = BitsAndBytesConfig(load_in_4bit=quantize == "4bit", load_in_8bit=quantize == "8bit",
                                          bnb_4bit_compute_dtype=self.dtype)
        options = {"quantization_config": quantization} if quantize else {}
        try:
            network, loaded = AutoModelForImageTextToText.from_pretrained(
                self.folder, dtype=self.dtype, device_map={"": self.device}, use_safetensors=True,
                local_files_only=True, trust_remote_code=False, output_loading_info=True, **options,
            )
        except Exception as error:  # truncated file, other shapes, no memory: each raises its own type
            raise FusionError(f"{self.folder}: the weights cannot be loaded ({first_line(error)}); if {self.device} "
                              "has free memory, a file is damaged: fetch the model again") from error
        if missing := loaded["missing_keys"]:  # transformers would initialise them at random
            raise FusionError(f"{self.folder}: expected weights for all of the model, found none for {len(missing)} of "
                              f"its tensors, such as {min(missing)}; fetch the model again")
        default, tokenizer = network.generation_config, self.processor.tokenizer
        network.generation_config = GenerationConfig(
            eos_token_id=tokenizer.eos_token_id if default.eos_token_id is None else default.eos_token_id,
            pad_token_id=tokenizer.pad_token_id if default.pad_token_id is None else default.pad_token_id,
            max_new_tokens=self.settings["max_new_tokens"], do_sample=False,
        )
        return network.eval()

    def reply(self, images: Sequence[Tensor], question: str) -> list[Reply]:
        """Ask about images [1|3,H,W] in 0..1 of any sizes, all at once or, if memory runs out, in smaller batches.

        In half precision, rounding can make an answer depend on the other images of its batch.

        Raises:
            FusionError: weights that are missing or too large, or too little memory for a single image.
        """
        replies = []
        while len(replies) < len(images):
            batch = images[len(replies) :][: self._max_batch]
            try:
                replies += self._answer(batch, question)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise FusionError(f"{self.model}: {self.device} has memory for the weights, but not for work on "
                                      f"one image: set max_new_tokens lower, or {pretrained.SMALLER}") from error
                self._max_batch = len(batch) // 2
        return replies

    @torch.no_grad()
    def _answer(self, images: Sequence[Tensor], question: str) -> list[Reply]:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        prompt = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        bos = self.processor.tokenizer.bos_token
        inputs = self.processor(
            images=[to_pil(image) for image in images], text=[prompt] * len(images), padding=True, return_tensors="pt",
            add_special_tokens=bos is None or not prompt.startswith(bos),
        ).to(self.device, self.dtype)

        # The input of the head is the state that a token is chosen from. output_hidden_states would hold all layers at
        # all positions of the prompt too: for 8 images 1.6 GB with LLaVA-1.5 7B, 6 GB with LLaVA-NeXT, instead of 8 MB.
        network, states = self.network, []
        head = network.get_output_embeddings()
        hook = head.register_forward_pre_hook(lambda _, arguments: states.append(arguments[0][:, -1].clone()))
        try:
            tokens = network.generate(**inputs, logits_processor=self._sampling(images, question))
        finally:
            hook.remove()
        tokens = tokens[:, inputs["input_ids"].shape[1] :].cpu()
        ends = torch.isin(tokens, torch.tensor(network.generation_config.eos_token_id))
        lengths = (ends.cumsum(1) == 0).sum(1).tolist()
        rows = torch.stack(states, 1).float().cpu()
        return [self._reply(t[:n], r[: max(1, n)].clone()) for t, r, n in zip(tokens, rows, lengths)]

    def _reply(self, tokens: Tensor, features: Tensor) -> Reply:
        text = self.processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return Reply(text, features if self.settings["pool"] == "tokens" else features.mean(0, keepdim=True))

    def _sampling(self, images: Sequence[Tensor], question: str) -> list[LogitsProcessor]:
        if not self.settings["temperature"]:
            return []
        names = [f"{self.settings['seed']} {image_fingerprint(image)} {question}".encode() for image in images]
        seeds = [int.from_bytes(hashlib.sha256(name).digest()[:8], "little") >> 1 for name in names]
        generators = [torch.Generator(self.device).manual_seed(seed) for seed in seeds]
        return [SeededSampling(self.settings["temperature"], generators)]


class SeededSampling(LogitsProcessor):
    """Turn greedy decoding into sampling from softmax(scores / temperature) by Gumbel noise, one generator per row."""

    def __init__(self, temperature: float, generators: list[torch.Generator]):
        self.temperature, self.generators = temperature, generators

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores [B,V] of the next token, divided by the temperature, plus Gumbel noise."""
        exponential = [torch.empty_like(row).exponential_(generator=g) for row, g in zip(scores, self.generators)]
        return scores / self.temperature - torch.stack(exponential).log()
