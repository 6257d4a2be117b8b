"""Weights to begin with, from folders of diffusers, from the Hub's cache, and in several processes."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import safelight as sl
from forks import serving
from safelight.engine.distributed import World
from safelight.engine.state import State
from safelight.export.diffusers import write_diffusers
from safelight.loading.init_source import init_product
from safelight.loading.transfer import Transfer
from safelight.recipe import load
from safelight.run import Run
from safelight.store import checkpoint, checkpoint_files
from safelight.store.directory import RunDirectory, find
from safelight.training.progress import Show
from safelight.training.start import begin
from safelight.types import DataSpec
from tiny import TINY

KEPT = {**TINY, "train.steps": 4, "checkpoint.every": 2, "watch.held_out": 0}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> RunDirectory:
    return begin(load("digits-class", KEPT), tmp_path_factory.mktemp("runs"), "a", World(), Show())


def averages(run: RunDirectory) -> dict[str, torch.Tensor]:
    kept = checkpoint.load(checkpoint_files.directory(run.path, 4))["averages"]
    return {key.removeprefix("ema."): value for key, value in kept.items() if key.startswith("ema.")}


def begun_with(reference: str, runs: Path) -> tuple[RunDirectory, dict[str, torch.Tensor]]:
    """A run of two steps that begins with other weights, and the networks it began with."""
    run = begin_from(reference, runs)
    return run, checkpoint.load(checkpoint_files.directory(run.path, 0), run.digests())["networks"]


def begin_from(reference: str, runs: Path) -> RunDirectory:
    sl.train("digits-class", {**KEPT, "train.steps": 2, "init.from": reference}, name="b", runs=runs)
    return find("b", runs)


def test_the_folder_that_export_writes_for_diffusers_gives_every_tensor_back(source, tmp_path):
    write_diffusers(Run(source).model, tmp_path / "out")
    assert (tmp_path / "out" / "denoiser" / "config.json").is_file()
    run, networks = begun_with(str(tmp_path / "out"), tmp_path)
    report = run.info().facts.init["networks"]["denoiser"]
    assert not report["new"]
    assert all(torch.equal(value, averages(source)[key]) for key, value in networks.items())


def split(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    """A pipeline's folder as diffusers has them: a network's config.json, and its weights in two files."""
    (folder / "denoiser").mkdir(parents=True)
    (folder / "model_index.json").write_text('{"_class_name": "Pipeline"}')
    (folder / "denoiser" / "config.json").write_text('{"_class_name": "UNet"}')
    names, index = sorted(weights), {}
    for number in range(2):
        file = f"diffusion_pytorch_model-{number + 1:05}-of-00002.safetensors"
        part = {name.removeprefix("denoiser."): weights[name].contiguous() for name in names[number::2]}
        save_file(part, folder / "denoiser" / file)
        index |= dict.fromkeys(part, file)
    where = folder / "denoiser" / "diffusion_pytorch_model.safetensors.index.json"
    where.write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def test_a_folder_in_several_files_is_one(source, tmp_path):
    run, networks = begun_with(str(split(tmp_path / "pipeline", averages(source))), tmp_path)
    assert not run.info().facts.init["networks"]["denoiser"]["new"]
    assert all(torch.equal(value, averages(source)[key]) for key, value in networks.items())


def test_the_hub_is_read_from_its_cache_without_a_network(source, tmp_path, monkeypatch):
    """As snapshot_download lays it out: refs/main names the folder of snapshots/."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repository = tmp_path / "hub" / "models--someone--digits"
    commit = "0123456789abcdef0123456789abcdef01234567"
    split(repository / "snapshots" / commit, averages(source))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    run, networks = begun_with("someone/digits", tmp_path)
    assert run.info().facts.init["reference"] == "someone/digits"
    assert all(torch.equal(value, averages(source)[key]) for key, value in networks.items())
    with pytest.raises(
        sl.UserError, match=r"^init\.from: someone/else is no path here, and the Hub does not"
    ):
        begun_with("someone/else", tmp_path / "other")


def test_an_autoencoder_of_diffusers_is_taken_tensor_by_tensor(tmp_path):
    """Its networks are those of `kl_encoder` and `kl_decoder`, by name; quant_conv is of no use here."""
    import diffusers

    theirs = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 16), layers_per_block=1, latent_channels=3, norm_num_groups=4,
    )  # fmt: skip
    theirs.save_pretrained(tmp_path / "pipeline" / "vae")
    common = {"groups": 4, "attention": True}
    changes = {f"network.{role}.{key}": value for role, section in {
        "encoder": {"latent": 3, "widths": [8, 16], "blocks": 1, **common},
        "decoder": {"widths": [16, 8], "blocks": 2, **common},
    }.items() for key, value in section.items()}  # fmt: skip
    for folder in ("pipeline", "pipeline/vae"):
        where = str(tmp_path / folder)
        recipe = load("skin-autoencoder", {**changes, "data.source": "tissue", "init.from": where})
        spec = DataSpec((3, 16, 16), {})
        transfer = Transfer(init_product(where, tmp_path), recipe.init, recipe.method(), spec)
        state = State(recipe.method(), spec, recipe.plan(10), torch.device("cpu"), "contiguous", transfer)
        weights = load_file(next((tmp_path / "pipeline").rglob("*.safetensors")))
        for role in ("encoder", "decoder"):
            assert not transfer.report[role].new, transfer.report[role].new
            for key, value in state.nets[role].state_dict().items():
                assert torch.equal(value, weights[f"{role}.{key}"])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_begin_alike_and_go_on_without_the_source(source, tmp_path):
    words = ["digits-class", *(f"{name}={json.dumps(value)}" for name, value in KEPT.items())]
    runs = ["--runs", str(tmp_path)]
    (tmp_path / "forks").mkdir()
    with serving(tmp_path / "forks") as forks:
        path = split(tmp_path / "pipeline", averages(source))
        forks.run("forks:command", ["train", *words, f"init.from={path}", "--name", "b", *runs], 2)
        run = find("b", tmp_path)
        first = checkpoint.load(checkpoint_files.directory(run.path, 0), run.digests())["networks"]
        assert all(torch.equal(value, averages(source)[key]) for key, value in first.items())
        end = checkpoint.load(checkpoint_files.directory(run.path, 4))["networks"]
        assert any(not torch.equal(value, first[key]) for key, value in end.items())
        for file in path.rglob("*.safetensors"):
            file.unlink()
        for step in (2, 4):
            for file in checkpoint_files.directory(run.path, step).iterdir():
                file.unlink()
            checkpoint_files.directory(run.path, step).rmdir()
        forks.run("forks:command", ["resume", "b", *runs], 2)
        again = checkpoint.load(checkpoint_files.directory(run.path, 4))["networks"]
        assert all(torch.equal(value, end[key]) for key, value in again.items())
