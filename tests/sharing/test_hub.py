"""A run goes to the Hub and comes back the same; the Hub is one on this machine."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest
import torch

import safelight as sl
from command_line import run
from safelight.config import UserError
from safelight.recipe import load
from safelight.store import results
from safelight.store.directory import RunDirectory
from sharing.fake_hub import serving

pytest.importorskip("huggingface_hub")
PLACE = "hub:me/digits"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that its library is sent to, with a token and a cache of its own."""
    import huggingface_hub.constants as constants

    monkeypatch.setenv("HF_TOKEN", "hf_me")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    with serving() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.address)
        yield hub


@pytest.fixture(scope="module")
def measured(finished, tmp_path_factory) -> RunDirectory:
    """A copy of the finished run with an evaluation."""
    path = tmp_path_factory.mktemp("measured") / "whole"
    shutil.copytree(finished.path, path)
    fields = {"step": 30, "weights": "w", "extractor": "classifier", "basis": {"n": "500"}, "floor": "f",
              "results": {"FD-classifier": {"value": 12.5, "spread": None, "floor": 0.75}}}  # fmt: skip
    results.store(path, "00000030-classifier-00000000", fields)
    return RunDirectory(path)


@pytest.mark.filterwarnings("ignore")
def test_a_run_goes_to_the_hub_in_one_commit_and_comes_back_the_same(
    measured, hub, tmp_path, monkeypatch, capsys
):
    code, out, _ = run(
        monkeypatch, capsys, "push", str(measured.path), PLACE, "--license", "cc-by-4.0", "--private"
    )
    assert code == 0
    assert out.startswith(f"{hub.address}/me/digits\n")
    assert (hub.created, hub.commits) == ({"me/digits": True}, ["whole at step 30"])
    files = hub.files["me/digits"]
    assert {"README.md", "run.slr", "recipe.toml", "sheet.png", "model_index.json", "pipeline.py",
            "denoiser/diffusion_pytorch_model.safetensors", "safetensors/denoiser.safetensors",
            "safetensors/load.py"} <= files.keys()  # fmt: skip
    assert not [name for name in files if name.endswith((".pkl", ".pt", ".bin"))]
    card = files["README.md"].decode()
    assert card.startswith('---\nlicense: "cc-by-4.0"\nlibrary_name: "diffusers"\n')
    assert "| FD-classifier | 12.5 | 0.75 | 500 | 30 |" in card
    assert "`1,624 of digits`" in card
    assert "safelight pull hub:me/digits" in card

    runs = str(tmp_path / "runs")
    code, out, err = run(monkeypatch, capsys, "pull", PLACE, "--runs", runs)
    assert code == 0, err
    ours, theirs = sl.Run(measured), sl.open_run("digits", runs=runs)
    assert theirs.digest == ours.digest
    assert (theirs.sample(2, label=3).images == ours.sample(2, label=3).images).all()
    name = theirs.directory.path
    started = load("digits-class", {"init.from": str(name)})
    from safelight.loading.init_source import init_product, tensors_of

    tensors = tensors_of(init_product(str(started.init.from_), tmp_path), "averaged")
    net = ours.model.nets["denoiser"].state_dict()
    assert all(torch.equal(tensors[f"denoiser.{key}"], value) for key, value in net.items())

    hub.shutdown()  # offline: it is in the library's cache
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert sl.pull(PLACE, name="again", runs=tmp_path / "others").digest == ours.digest


def test_what_pull_reads_is_a_strangers_file(hub, tmp_path):
    hub.files["me/digits"] = {"run.slr": b"no zip", "README.md": b""}
    with pytest.raises(UserError, match=r"run\.slr: is not a whole zip archive"):
        sl.pull(PLACE, runs=tmp_path / "runs")
    hub.files["me/digits"] = {"evil.py": b""}
    with pytest.raises(
        UserError, match=r"^hub:me/digits: .*; it has to hold run\.slr, which safelight push writes$"
    ):
        sl.pull(PLACE, runs=tmp_path / "runs")
    with pytest.raises(UserError, match=r"^hub:you/nothing: .*; it has to hold run\.slr"):
        sl.pull("hub:you/nothing", runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "place", ["me/digits", "hub:digits", "hub:me/../x", "hub:me/a/b", "hub:me/a@", "hub:/a/b"]
)
def test_a_place_that_is_none_is_refused(place, finished):
    with pytest.raises(UserError, match="write hub:user/name"):
        sl.push(finished.path, place, licence="other")


@pytest.mark.filterwarnings("ignore")
def test_a_hub_that_refuses_is_one_line_and_nothing_is_there(finished, hub, monkeypatch):
    hub.broken = True
    with pytest.raises(UserError, match=r"^hub:me/digits: .*; log in with: hf auth login$") as error:
        sl.push(finished.path, PLACE, licence="other")
    assert "\n" not in str(error.value)
    assert hub.files["me/digits"] == {}
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(UserError, match="log in with"):
        sl.push(finished.path, "hub:me/other", licence="other")
    assert "me/other" not in hub.files


@pytest.mark.filterwarnings("ignore")
def test_a_folder_is_written_instead_whole_or_not_at_all(finished, tmp_path, monkeypatch, capsys):
    out = tmp_path / "folder"
    words = ["push", str(finished.path), PLACE, "--out", str(out)]
    code, _, err = run(monkeypatch, capsys, *words)
    assert (code, err.startswith("safelight: Missing option '--license'")) == (2, True)
    code, _, err = run(monkeypatch, capsys, *words, "--license", "as you like: #")
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert "write an identifier of the Hub" in err
    code, printed, _ = run(monkeypatch, capsys, *words, "--license", "other", "--json")
    assert (code, json.loads(printed)["address"]) == (0, str(out))
    assert zipfile.is_zipfile(out / "run.slr")
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(out, trust_remote_code=True)
    image = pipe(n=1, label="3").images[0]
    ours = sl.Run(finished).sample(1, label=3).images[0, ..., 0]
    assert (torch.from_numpy(ours).numpy() == image).all()
    code, _, err = run(monkeypatch, capsys, *words, "--license", "other")
    assert (code, "exists already" in err) == (2, True)
