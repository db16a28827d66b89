"""Tiny LLaVA models with random weights and a tokenizer of their own: the classes and files of the real ones.

`build("llava", folder)` takes a tenth of a second and 0.4 MB. The answers are nonsense that differs between images.
"""

import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForImageTextToText,
    CLIPImageProcessor,
    CLIPVisionConfig,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

FAMILIES = ("llava", "llava_next", "llava_onevision")
PATCH, SIDE = 14, 42  # the vision tower sees 3 x 3 patches
PINPOINTS = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "<video>"]

WORDS = """USER : ASSISTANT To improve the accuracy of pedestrian detection , how can the quality of this image be
enhanced ? increase brightness in shadows ; raise contrast between people and background sharpen edges . reduce noise
suppress glare headlights keep thermal targets bright fine textures clear is dark blurred pedestrians are hard to see"""

TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() }}: {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word or mark; <s> is put in front of every text, as LLaVA-1.5 has it."""
    words = SPECIAL + list(dict.fromkeys(re.findall(r"\w+|[^\w\s]", WORDS)))
    base = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    base.pre_tokenizer = pre_tokenizers.Whitespace()
    base.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=base, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        additional_special_tokens=["<image>", "<video>"], model_input_names=["input_ids", "attention_mask"],
    )


def build(family: str, folder: Path, seed: int = 0, template: str | None = TEMPLATE) -> Path:
    """Write a tiny model of one of FAMILIES, its processor and its tokenizer to `folder`, and return the folder."""
    words = tokenizer()
    image, video = words.convert_tokens_to_ids(["<image>", "<video>"])
    text = dict(
        vocab_size=len(words), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, initializer_range=0.3, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )
    sight = dict(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE,
        patch_size=PATCH, initializer_range=0.3,
    )
    square = {"height": SIDE, "width": SIDE}
    sizes = {"size": {"shortest_edge": SIDE}, "crop_size": square}
    ends = {"tokenizer": words, "chat_template": template}
    clip = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1, **ends}
    if family == "llava":
        config = LlavaConfig(
            vision_config=CLIPVisionConfig(**sight), text_config=LlamaConfig(**text), image_token_index=image
        )
        processor = LlavaProcessor(CLIPImageProcessor(**sizes), **clip)
    elif family == "llava_next":
        config = LlavaNextConfig(
            vision_config=CLIPVisionConfig(**sight), text_config=MistralConfig(**text), image_token_index=image,
            image_grid_pinpoints=PINPOINTS,
        )
        processor = LlavaNextProcessor(LlavaNextImageProcessor(image_grid_pinpoints=PINPOINTS, **sizes), **clip)
    elif family == "llava_onevision":
        config = LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(**sight), text_config=Qwen2Config(**text), image_token_index=image,
            video_token_index=video, image_grid_pinpoints=PINPOINTS,
        )
        processor = LlavaOnevisionProcessor(
            LlavaOnevisionImageProcessor(image_grid_pinpoints=PINPOINTS, size=square),
            video_processor=LlavaOnevisionVideoProcessor(size=square), num_image_tokens=(SIDE // PATCH) ** 2,
            vision_feature_select_strategy="full", **ends,
        )
    else:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, but is {family!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForImageTextToText.from_config(config)
    unsaid = words.convert_tokens_to_ids([word for word in SPECIAL if word != "</s>"])
    model.get_output_embeddings().weight.data[unsaid] = 0  # answers are made of words, as those of a trained model
    model.generation_config = GenerationConfig(pad_token_id=0, bos_token_id=1, eos_token_id=2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)
