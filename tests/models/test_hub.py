"""save_pretrained, from_pretrained and push_to_hub: in folders, and with a stand-in for the Hub."""

import json
import subprocess
import sys

import pytest
import torch
from huggingface_hub import HfApi, ModelCard

from fusionlib import models
from fusionlib.models import FusionNetwork, TextGuidedFusion
from fusionlib.models.hub import MODEL, STAGE_1, Hosted
from fusionlib.utils.errors import FusionError

ARGUMENTS = {"channels": [4, 8, 12], "block": 2, "merge": "max-min", "norm": "none", "output": "clip"}


@pytest.fixture
def network():
    return FusionNetwork(**ARGUMENTS).eval()


@pytest.fixture
def refined(network):
    model = TextGuidedFusion(network, 16, "ca2").eval()
    torch.nn.init.normal_(model.harmonise["ir"].layers[-1].weight)
    return model


def test_stage_1_comes_back_as_it_was(network, tmp_path):
    assert network.save_pretrained(tmp_path / "mine") is None
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["README.md", "config.json", MODEL]
    assert json.loads((tmp_path / "mine" / "config.json").read_text()) == {"architecture": "FusionNetwork", **ARGUMENTS}
    again = FusionNetwork.from_pretrained(str(tmp_path / "mine"))
    assert again.config == network.config and not again.training
    image = torch.rand(1, 1, 20, 30), torch.rand(1, 1, 20, 30)
    assert torch.equal(again(*image), network(*image))
    assert models.load(tmp_path / "mine" / MODEL).config == network.config  # the same file as of notebooks


def test_stage_2_brings_its_stage_1(refined, tmp_path):
    refined.save_pretrained(tmp_path)
    assert (tmp_path / STAGE_1).is_file()
    again = TextGuidedFusion.from_pretrained(tmp_path)
    mask = torch.ones(1, 5, dtype=torch.bool)
    inputs = torch.rand(1, 1, 20, 30), torch.rand(1, 1, 20, 30), torch.rand(1, 5, 16), mask
    assert torch.equal(again(*inputs), refined(*inputs)) and not again.network.training
    assert all(not p.requires_grad for p in again.network.parameters())
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {"architecture": "TextGuidedFusion", "channels": 12, "text_dim": 16, "variant": "ca2",
                      "network": ARGUMENTS}  # fmt: skip
    with pytest.raises(FusionError, match=r"holds a TextGuidedFusion: load it by TextGuidedFusion\.from_pretrained"):
        FusionNetwork.from_pretrained(tmp_path)
    refined.network.save_pretrained(tmp_path)  # in its place
    assert not (tmp_path / STAGE_1).exists()
    assert FusionNetwork.from_pretrained(tmp_path).config == refined.network.config


def test_the_card_has_a_header_and_what_is_known(network, refined, tmp_path):
    known = {"training": "On 40 pairs of my street.", "name": "me/street"}
    network.save_pretrained(tmp_path / "1", model_card_kwargs=known)
    card = ModelCard.load(tmp_path / "1" / "README.md")
    assert (card.data.license, card.data.library_name, card.data.pipeline_tag) == ("agpl-3.0", "fusionlib",
                                                                                   "image-to-image")  # fmt: skip
    assert {"image-fusion", "infrared"} <= set(card.data.tags)
    assert "On 40 pairs of my street." in card.text and 'FusionNetwork.from_pretrained("me/street")' in card.text
    assert f"{sum(p.numel() for p in network.parameters()):,} parameters" in card.text
    assert "Not stated yet: say here on which pairs, by which convention" in card.text  # nothing is made up
    (tmp_path / "1" / "README.md").write_text("my own")
    network.save_pretrained(tmp_path / "1")
    assert (tmp_path / "1" / "README.md").read_text() == "my own"
    refined.save_pretrained(tmp_path / "2")
    text = (tmp_path / "2" / "README.md").read_text()
    assert text.startswith("---\n") and "fuse(network, ir, visible, fl.feedback.encode([words])[0])" in text


def test_the_code_of_the_card_runs(refined, tmp_path):
    import fusionlib as fl

    model = TextGuidedFusion(refined.network, fl.feedback.text_encoder.DIM)
    model.save_pretrained(tmp_path, model_card_kwargs={"name": str(tmp_path)})
    code = ModelCard.load(tmp_path / "README.md").text.partition("```python\n")[2].partition("```")[0]
    code = code.replace("ir, visible = fl.data.load(pair)", "")
    names = {"ir": torch.rand(1, 20, 30), "visible": torch.rand(3, 20, 30), "words": "Brighten the image."}
    exec(code, names)
    assert names["fused"].shape == (3, 20, 30)


def test_push_to_hub_uploads_the_folder(refined, monkeypatch):
    uploaded = {}

    def upload(self, *, repo_id, folder_path, commit_message, **_):
        uploaded.update({path.name: path.read_bytes() for path in folder_path.iterdir()}, message=commit_message)
        return f"https://hub/{repo_id}/commit/1"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **_: type("Url", (), {"repo_id": repo_id}))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert refined.push_to_hub("me/refined", commit_message="first") == "https://hub/me/refined/commit/1"
    assert set(uploaded) == {"README.md", "config.json", MODEL, STAGE_1, "message"} and uploaded["message"] == "first"


def test_a_repository_is_fetched_by_its_name(network, tmp_path, monkeypatch):
    """As if from the Hub's cache: the name is looked up there, and nothing else."""
    network.save_pretrained(tmp_path / "cached")
    asked = []
    monkeypatch.setattr("fusionlib.models.hub.snapshot_download",
                        lambda name, **options: asked.append((name, options)) or str(tmp_path / "cached"))
    monkeypatch.setattr("huggingface_hub.hub_mixin.hf_hub_download", lambda **_: str(tmp_path / "cached/config.json"))
    again = FusionNetwork.from_pretrained("me/street", revision="v2")
    assert again.config == network.config
    (name, options), = asked
    assert name == "me/street" and options["revision"] == "v2" and options["allow_patterns"] == ["*.safetensors"]


@pytest.mark.parametrize(("source", "message"), [
    ("nowhere/to be found", "expected a folder of save_pretrained, or the name of a repository on the Hub"),
    ("empty", "expected a folder of save_pretrained with model.safetensors, found none"),
    ("damaged", "model.safetensors is not a readable safetensors file"),
    ("alone", "holds Text-DFH weights: give the fusion network"),
    ("me/street", "found none that can be read"),
])
def test_what_cannot_be_loaded_is_told_in_one_sentence(refined, tmp_path, monkeypatch, source, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / MODEL).write_bytes(b"no tensors")
    refined.save_pretrained(tmp_path / "alone")
    (tmp_path / "alone" / STAGE_1).unlink()
    with pytest.raises(FusionError, match=message):
        TextGuidedFusion.from_pretrained(source, local_files_only=True, cache_dir=tmp_path / "cache")


def test_the_mixin_is_imported_on_first_use():
    code = ("import sys, fusionlib as fl; fl.fuse, fl.models.TextGuidedFusion.save_pretrained\n"
            "print('huggingface_hub' in sys.modules, 'fusionlib.models.hub' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
    assert issubclass(Hosted, __import__("huggingface_hub").ModelHubMixin)


def test_command_line_fuses_by_a_folder_of_weights(refined, tmp_path):
    from fusionlib.experiments import fusers

    refined.network.save_pretrained(tmp_path)
    fuser = fusers.of_networks([tmp_path])
    image = torch.rand(1, 20, 30), torch.rand(3, 20, 30)
    from fusionlib import inference

    torch.testing.assert_close(fuser.fuse(*image, None), inference.fuse(refined.network, *image), rtol=0, atol=1e-5)
