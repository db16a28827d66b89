"""Tiny random LLaVA, LLaVA-NeXT and LLaVA-OneVision through the public API: answers and features against plain
transformers, batches, decoding, and models that are missing or unsuitable."""

import http.server
import json
import re
import shutil
import threading
from types import SimpleNamespace

import huggingface_hub
import pytest
import tiny_llava
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    BertConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
)

from fusionlib.data import layouts, load
from fusionlib.data.synthetic import scene
from fusionlib.feedback import QUESTION, pretrained
from fusionlib.feedback.backends import to_pil
from fusionlib.feedback.llava import Llava, SeededSampling
from fusionlib.utils.errors import FusionError

LONG = 16  # tokens


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {family: tiny_llava.build(family, tmp_path_factory.mktemp(family)) for family in tiny_llava.FAMILIES}


@pytest.fixture(scope="module", params=tiny_llava.FAMILIES)
def folder(request, models):
    return models[request.param]


@pytest.fixture
def copy(models, tmp_path):
    return shutil.copytree(models["llava"], tmp_path / "copy")


@pytest.fixture(scope="module")
def images():
    """Eight images of other sizes and aspect ratios each, one of them gray."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((100, 120), (300, 100), (100, 300), (64, 64), (51, 333), (200, 100), (48, 64), (64, 48))
    made = [torch.rand(3, *size, generator=generator) * (i + 2) / 9 for i, size in enumerate(sizes)]
    return [made[0][:1], *made[1:]]


@pytest.fixture(scope="module", params=["real pairs", "scenes"])
def fused(request):
    """Means of both images: 20 real pairs of five data sets, and embedded scenes for those who have no such pairs."""
    if request.param == "scenes":
        found = [scene.render(index) for index in range(4)]
        return [(torch.from_numpy(s.ir)[None] + torch.from_numpy(s.visible).permute(2, 0, 1)) / 510 for s in found]
    root = request.getfixturevalue("shared") / "data"
    names = ("LLVIP", "MSRS", "M3FD", "RoadScene", "TNO")
    return [sum(load(pair)) / 2 for name in names for pair in layouts.read(root, [name]).pairs[:4]]


def ask(folder, images, question=QUESTION, **options):
    return Llava(model=str(folder), **{"max_new_tokens": LONG, **options}).reply(images, question)


def alone(model, processor, image):
    """The answer to one image and the states of a forward pass over prompt and answer, by transformers only."""
    prompt = f"USER: <image>\n{QUESTION} ASSISTANT:"
    inputs = processor(images=to_pil(image), text=prompt, return_tensors="pt")
    start = inputs["input_ids"].shape[1]
    whole = model.generate(**inputs, max_new_tokens=LONG, do_sample=False)
    answer = whole[0, start:][: next((i for i, t in enumerate(whole[0, start:]) if t == 2), None)]
    with torch.no_grad():
        inputs |= {"input_ids": whole, "attention_mask": torch.ones_like(whole)}
        states = model(**inputs, output_hidden_states=True).hidden_states[-1][0]
    return processor.decode(answer), states[start - 1 : start - 1 + max(1, len(answer))]


def test_answers_and_features_are_those_of_a_teacher_forced_pass(folder, fused):
    llava = Llava(model=str(folder), max_new_tokens=LONG)
    replies = [reply for first in range(0, len(fused), 8) for reply in llava.reply(fused[first : first + 8], QUESTION)]
    assert len(replies) == len(fused)
    model, processor = AutoModelForImageTextToText.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    for image, reply in zip(fused, replies):
        text, states = alone(model, processor, image)
        assert reply.text == text
        assert reply.features.dtype == torch.float32 and reply.features.device.type == "cpu"
        torch.testing.assert_close(reply.features, states, atol=1e-4, rtol=0)
    assert len({reply.text for reply in replies}) > len(replies) / 2
    assert len({reply.features[0].numpy().tobytes() for reply in replies}) == len(replies)


@pytest.mark.parametrize("temperature", [0, 1.0])
def test_a_batch_of_eight_equals_eight_singles(folder, images, temperature):
    llava = Llava(model=str(folder), max_new_tokens=LONG, temperature=temperature)
    batch = llava.reply(images, QUESTION)
    singles = [llava.reply([image], QUESTION)[0] for image in images]
    assert [reply.text for reply in batch] == [reply.text for reply in singles]
    for one, other in zip(batch, singles):
        torch.testing.assert_close(one.features, other.features, atol=1e-4, rtol=0)
        assert one.features.untyped_storage().nbytes() == one.features.numel() * 4, "no more is kept than [L,D]"


def test_an_answer_stops_where_its_end_is(copy, images):
    full = ask(copy, images)
    words = [reply.text.split() for reply in full]
    end = words[0][0]  # the first word of one answer stands later or nowhere in others
    token = tiny_llava.tokenizer().convert_tokens_to_ids(end)
    config = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(config | {"eos_token_id": [2, token]}))
    short = ask(copy, images)
    kept = [said.index(end) if end in said else len(said) for said in words]
    assert kept[0] == 0 and len(set(kept)) > 2
    for reply, whole, said, length in zip(short, full, words, kept):
        assert reply.text.split() == said[:length]
        torch.testing.assert_close(reply.features, whole.features[: max(1, length)], atol=1e-4, rtol=0)


def test_pooled_features_are_the_mean_over_the_tokens(folder, images):
    for reply, pooled in zip(ask(folder, images), ask(folder, images, pool="mean")):
        assert pooled.text == reply.text
        torch.testing.assert_close(pooled.features, reply.features.mean(0)[None])


def test_a_template_that_begins_the_text_itself_does_not_begin_it_twice(models, images, tmp_path):
    tiny_llava.build("llava", tmp_path, template="<s>" + tiny_llava.TEMPLATE)
    assert [r.text for r in ask(tmp_path, images)] == [r.text for r in ask(models["llava"], images)]


def test_the_question_is_asked(folder, images):
    assert ask(folder, images[:1], "Is this image dark?")[0].text != ask(folder, images[:1])[0].text


def test_sources_are_shown_beside_the_fused_image(folder):
    llava = Llava(model=str(folder))
    one, other = torch.rand(2, 3, 40, 56)
    beside = llava.reply([(one, one[:1], other)], QUESTION)[0]
    panel = torch.cat([one, one[:1].expand(3, -1, -1), other], dim=2)
    assert torch.equal(beside.features, llava.reply([panel], QUESTION)[0].features)
    assert not torch.equal(beside.features, llava.reply([one], QUESTION)[0].features)


def test_drawing_is_reproducible_and_leaves_the_random_state_alone(folder, images):
    llavas = [Llava(model=str(folder), max_new_tokens=LONG, temperature=2, seed=seed) for seed in (1, 1, 2)]
    assert all(llava.network for llava in llavas)
    before = torch.get_rng_state()
    one, same, other = ([reply.text for reply in llava.reply(images, QUESTION)] for llava in llavas)
    assert torch.equal(torch.get_rng_state(), before)
    assert one == same and all(a != b for a, b in zip(one, other))


def test_tokens_are_drawn_with_the_probabilities_of_the_softmax():
    scores = torch.tensor([[1.0, 0.0, -2.0, -torch.inf]])
    draw = SeededSampling(2.0, [torch.Generator().manual_seed(0)])
    chosen = torch.cat([draw(None, scores).argmax(1) for _ in range(20_000)])
    expected = torch.tensor([0.5466, 0.3315, 0.1220, 0])  # e^(1/2) : 1 : e^-1 : 0
    torch.testing.assert_close(chosen.bincount(minlength=4) / 20_000, expected, atol=0.01, rtol=0)


def test_a_penalty_that_the_model_brings_along_is_not_applied(copy, images):
    text = ask(copy, images[:1])[0].text
    config = json.loads((copy / "generation_config.json").read_text())
    config |= {"do_sample": True, "temperature": 5.0, "top_k": 3, "repetition_penalty": 9.0}
    (copy / "generation_config.json").write_text(json.dumps(config))
    assert ask(copy, images[:1])[0].text == text


def test_settings_tell_what_decides_the_answer(copy, images):
    llava = Llava(model=str(copy))
    assert llava.model == "copy" and llava.encoder == "last hidden states"
    assert llava.settings == {
        "dtype": "float32", "quantize": "", "max_new_tokens": 128, "temperature": 0.0, "pool": "tokens"
    }
    assert json.loads(json.dumps(llava.settings)) == llava.settings
    assert Llava(model=str(copy), temperature=1.0, seed=3).settings["seed"] == 3
    half = Llava(model=str(copy), dtype="bfloat16", max_new_tokens=4)
    assert half.settings["dtype"] == "bfloat16" and half.network.dtype == torch.bfloat16
    assert half.reply(images[:2], QUESTION)[0].features.dtype == torch.float32
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    assert Llava(model=str(copy)).settings["dtype"] == "float16"


def test_the_revision_tells_weights_apart(models, copy, tmp_path):
    first = Llava(model=str(models["llava"])).revision
    assert re.fullmatch("[0-9a-f]{16}", first) and Llava(model=str(copy)).revision == first
    tiny_llava.build("llava", tmp_path / "other", seed=1)
    assert Llava(model=str(tmp_path / "other")).revision != first


def test_a_batch_that_memory_cannot_hold_is_asked_in_parts(models, images, monkeypatch):
    llava, sizes = Llava(model=str(models["llava"]), max_new_tokens=LONG), []
    generate, most = llava.network.generate, 3

    def limited(**inputs):
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(**inputs)

    monkeypatch.setattr(llava.network, "generate", limited)
    expected = [reply.text for reply in ask(models["llava"], images)]
    for _ in range(2):
        assert [reply.text for reply in llava.reply(images, QUESTION)] == expected
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2], "the second time no memory is overrun"
    most = 0
    with pytest.raises(FusionError, match="cpu has memory for the weights, but not for work on one image"):
        llava.reply(images, QUESTION)
    assert not llava.network.get_output_embeddings()._forward_pre_hooks


@pytest.mark.parametrize(
    "options, message",
    [
        ({"dtype": "int8"}, "dtype must be one of 'auto', 'float16', 'bfloat16', 'float32', but is 'int8'"),
        ({"quantize": "2bit"}, "quantize must be one of '', '4bit', '8bit', but is '2bit'"),
        ({"quantize": "4bit", "device": "cpu"}, "quantize=4bit needs CUDA and bitsandbytes .* the device is cpu"),
        ({"pool": "max"}, "pool must be one of 'tokens', 'mean', but is 'max'"),
        ({"max_new_tokens": 0}, "max_new_tokens must be 1 or more .* but are 0 and 0.0"),
        ({"temperature": float("nan")}, "temperature 0 or more, but are 128 and nan"),
        ({"device": "abacus"}, "device must be one that this machine has, such as .*, but is 'abacus'"),
    ],
)
def test_options_out_of_range_are_named(models, options, message):
    with pytest.raises(FusionError, match=message):
        Llava(model=str(models["llava"]), **options)


def test_a_folder_that_is_no_image_text_model_is_named(tmp_path, copy, images):
    with pytest.raises(FusionError, match=f"{tmp_path}: expected a model .* found no config.json"):
        Llava(model=str(tmp_path))
    with pytest.raises(FusionError, match=r"no/such/folder is neither a folder nor a name on the Hub"):
        Llava(model="no/such/folder")
    BertConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    with pytest.raises(FusionError, match=f"{tmp_path}: expected an image-text model .*BertConfig"):
        Llava(model=str(tmp_path))
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(FusionError, match=f"{copy}: expected a chat template.* add the model's chat_template.jinja"):
        Llava(model=str(copy))


def test_code_that_comes_with_a_model_is_not_run(copy, tmp_path):
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    config = {"model_type": "own", "auto_map": {"AutoConfig": "own.C", "AutoModelForImageTextToText": "own.M"}}
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(FusionError, match="expected an image-text model that transformers knows"):
        Llava(model=str(copy))
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_missing_damaged_or_pickled_are_named(copy, images):
    weights = copy / "model.safetensors"
    whole = weights.read_bytes()
    tensors = {name: t for name, t in load_file(weights).items() if not name.endswith("layers.1.mlp.down_proj.weight")}
    save_file(tensors, weights, {"format": "pt"})
    with pytest.raises(FusionError, match=r"found none for 1 of its tensors, such as .*layers\.1\.mlp\.down_proj"):
        ask(copy, images)
    weights.write_bytes(whole[:-100])
    with pytest.raises(FusionError, match=f"{copy}: the weights cannot be loaded"):
        ask(copy, images)
    weights.unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(FusionError, match=f"{copy}: expected the weights in model.safetensors, found no such"):
        ask(copy, images)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    (copy / "model-00001-of-00002.safetensors").touch()
    with pytest.raises(FusionError, match="expected the weights in model-00002-of-00002"):
        ask(copy, images)


@pytest.fixture
def seven_billion(copy):
    """The description of LLaVA-1.5 7B, without its weights."""
    (copy / "model.safetensors").unlink()
    sight = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14, projection_dim=768,
    )
    config = LlavaConfig(vision_config=sight, text_config=LlamaConfig(vocab_size=32064), dtype="float16")
    config.save_pretrained(copy)
    return copy


def test_a_model_too_large_for_the_memory_is_refused_before_its_weights_are_looked_for(
    seven_billion, images, monkeypatch
):
    monkeypatch.setattr(pretrained.psutil, "virtual_memory", lambda: SimpleNamespace(available=8e9))
    # 7.06e9 parameters (the model card says 7.06 B) of 2 bytes, and a twentieth
    with pytest.raises(FusionError, match=r"copy needs about 14\.8 GB of memory on cpu, and 8\.0 GB are free: take a"):
        ask(seven_billion, images)
    with pytest.raises(FusionError, match=r"needs about 29\.7 GB .* set dtype=bfloat16, or take a smaller model"):
        ask(seven_billion, images, dtype="float32")
    monkeypatch.setattr(pretrained.psutil, "virtual_memory", lambda: SimpleNamespace(available=16e9))
    with pytest.raises(FusionError, match="expected the weights in model"):
        ask(seven_billion, images)


def test_memory_of_a_graphics_card_and_of_quantised_weights(seven_billion, monkeypatch):
    model, _ = pretrained.read(seven_billion)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3.5e9, 24e9))
    card = torch.device("cuda")
    # embedding and head, 2 x 32064 x 4096, stay in 2 bytes; nearly all else is linear: 1 or 1/2 byte
    for quantize, needed, mend in (("", 14.8, "set quanti"), ("8bit", 7.7, "set quanti"), ("4bit", 4.1, "take a sm")):
        with pytest.raises(FusionError, match=f"about {needed} GB of memory on cuda, and 3.5 GB are free: {mend}"):
            pretrained.require_memory("LLaVA", model, torch.float16, quantize, card)


@pytest.fixture
def hub(models, tmp_path, monkeypatch):
    """A Hub on this machine and an empty cache. It has lab/tiny, the terms of lab/gated are not accepted, and it
    notes what is requested of it."""
    commit, requests = "0123456789abcdef0123456789abcdef01234567", []
    files = {path.name: path.read_bytes() for path in models["llava"].iterdir()}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            requests.append(self.path)
            name = self.path.partition("?")[0].rpartition("/")[2]
            if not self.path.startswith(("/api/models/lab/", "/lab/")):
                self.respond(404, b"", {"X-Error-Code": "RepoNotFound"})
            elif "/resolve/" in self.path:
                allowed = "/gated/" not in self.path
                extra = {"X-Repo-Commit": commit, "ETag": f'"{name}"'} if allowed else {"X-Error-Code": "GatedRepo"}
                self.respond(200 if allowed else 403, files[name], extra)
            elif "/tree/" in self.path:
                tree = [{"type": "file", "path": p, "size": len(c), "oid": p} for p, c in files.items()]
                self.respond(200, json.dumps(tree).encode())
            elif name in ("main", commit):
                siblings = [{"rfilename": path} for path in files]
                self.respond(200, json.dumps({"id": "lab/tiny", "sha": commit, "siblings": siblings}).encode())
            else:
                self.respond(404, b"", {"X-Error-Code": "RevisionNotFound"})

        do_GET = do_HEAD

        def respond(self, status, body, headers=()):
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **dict(headers)}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    for module in (huggingface_hub.constants, huggingface_hub.file_download):  # the second up to version 0
        template = address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    yield SimpleNamespace(commit=commit, requests=requests)
    server.shutdown()
    server.server_close()


def test_nothing_is_fetched_unasked(hub):
    with pytest.raises(FusionError, match=r"lab/tiny is not on this machine; .*`hf download lab/tiny`, or set down"):
        Llava(model="lab/tiny")
    with pytest.raises(FusionError, match=r"`hf download lab/tiny --revision v2`"):
        Llava(model="lab/tiny", revision="v2")
    assert hub.requests == []


def test_a_model_is_fetched_when_asked_for_and_found_ever_after(hub, models, images, monkeypatch):
    llava = Llava(model="lab/tiny", download=True, max_new_tokens=LONG)
    assert (llava.model, llava.revision) == ("lab/tiny", hub.commit)
    with monkeypatch.context() as patch, pytest.raises(FusionError, match="lab/tiny needs about"):
        patch.setattr(pretrained.psutil, "virtual_memory", lambda: SimpleNamespace(available=1))
        llava.reply(images, QUESTION)
    assert not any("safetensors" in path for path in hub.requests), "no weights are fetched that do not fit"
    with pytest.raises(FusionError, match=r"expected the weights in model.safetensors.* `hf download lab/tiny`"):
        Llava(model="lab/tiny").reply(images, QUESTION)
    fetched = llava.reply(images, QUESTION)
    assert any("safetensors" in path for path in hub.requests)
    hub.requests.clear()
    again = Llava(model="lab/tiny", download=True, max_new_tokens=LONG).reply(images, QUESTION)
    assert hub.requests == []
    assert [r.text for r in fetched] == [r.text for r in again] == [r.text for r in ask(models["llava"], images)]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"model": "lab/gated"}, "lab/gated is available only to those who accept its terms: .*lab/gated, .*`hf auth"),
        ({"model": "lab/tiny", "revision": "v9"}, "lab/tiny has no revision v9 on the Hub"),
        ({"model": "nobody/nothing"}, "nobody/nothing is not on the Hub, or private"),
    ],
)
def test_what_the_hub_refuses_is_told(hub, options, message):
    with pytest.raises(FusionError, match=message):
        Llava(download=True, **options)


def test_a_hub_that_cannot_be_reached_is_told(hub, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FusionError, match=r"lab/tiny is not on this machine, and the Hub cannot be reached \(.*\); c"):
        Llava(model="lab/tiny", download=True)
