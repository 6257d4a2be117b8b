"""A recipe that needs another training: trained first, found again, resumed, noticed when it changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import tomli_w
import torch

from safelight.config import Reference, UserError
from safelight.engine.distributed import World
from safelight.engine.loop import Signals
from safelight.loading.dependencies import of_run, pretrained, products_of, references
from safelight.recipe import Recipe, load
from safelight.store import checkpoint, checkpoint_files
from safelight.store.directory import RunDirectory, names
from safelight.store.journal_writer import JournalWriter
from safelight.store.listing import summary
from safelight.training import session
from safelight.training.progress import Show
from safelight.training.stages import stage_of, train_stages
from safelight.training.start import resume

METHOD = """
from safelight.config import Reference
from safelight.methods.diffusion import Diffusion, DiffusionConfig

class NeedingConfig(DiffusionConfig):
    name: str = "needing"
    encoder: Reference

class Needing(Diffusion):
    Config = NeedingConfig
"""


@pytest.fixture
def first(tmp_path: Path, tiny: dict[str, object]) -> Path:
    """The recipe of an earlier stage."""
    path = tmp_path / "first.toml"
    path.write_text(tomli_w.dumps(load("digits-class", {**tiny, "train.steps": 4}).tree))
    return path


def needing(tmp_path: Path, tiny: dict[str, object], reference: str) -> Recipe:
    """A recipe whose method needs an encoder."""
    (tmp_path / "needing.py").write_text(METHOD)
    changes = {"method.name": str(tmp_path / "needing.py"), "method.encoder": reference, "train.steps": 3}
    return load("digits-class", {**tiny, **changes, "data.size": 20})


def recorder() -> tuple[list[str], Show]:
    lines: list[str] = []
    return lines, Show(tell=lines.append)


def test_a_stage_is_trained_first_and_then_found(tmp_path, tiny, first):
    recipe = needing(tmp_path, tiny, f"recipe:{first}")
    assert references(recipe) == {"method.encoder": f"recipe:{first}"}
    lines, show = recorder()
    run = train_stages(recipe, tmp_path / "runs", "main", World(), lambda: show)
    (stage,) = set(names(tmp_path / "runs")) - {"main"}
    assert stage.startswith("first-")
    assert f"trains first {stage}, for method.encoder of digits-class" in lines
    product = products_of(run)["method.encoder"]
    assert (product.run, product.step) == (stage, 4)
    newest = checkpoint_files.newest_good(tmp_path / "runs" / stage)
    assert newest
    assert product.digest == newest.digest
    lines.clear()
    train_stages(recipe, tmp_path / "runs", "again", World(), lambda: show)
    assert not [line for line in lines if "first-" in line]
    assert len(names(tmp_path / "runs")) == 3  # main, again, and one stage


def test_a_stage_sees_the_images_of_the_recipe_that_needs_it(tmp_path, tiny, first):
    stage = stage_of(str(first), needing(tmp_path, tiny, f"recipe:{first}"))[0]
    assert stage.data.size == 20
    other = stage_of(str(first), load("digits-class", {**tiny, "data.size": 24}))[0]
    assert other.data.size == 24


def test_a_stage_that_was_stopped_goes_on_and_nothing_follows_before(tmp_path, tiny, first, monkeypatch):
    recipe = needing(tmp_path, tiny, f"recipe:{first}")
    with monkeypatch.context() as patch:
        patch.setattr(session, "interrupts", pressed)
        stopped = train_stages(recipe, tmp_path / "runs", "main", World(), Show)
    assert summary(stopped).status == "stopped"
    assert names(tmp_path / "runs") == [stopped.name]
    lines, show = recorder()
    train_stages(recipe, tmp_path / "runs", "main", World(), lambda: show)
    assert f"goes on with first {stopped.name}, for method.encoder of digits-class" in lines
    assert summary(stopped).status == "finished"
    assert names(tmp_path / "runs") == [stopped.name, "main"]


@contextmanager
def pressed(signals: Signals, alone: bool) -> Iterator[None]:
    """Ctrl-C during the first step."""
    signals.stop = True
    yield


def test_a_changed_product_is_noticed(tmp_path, tiny, first):
    recipe = needing(tmp_path, tiny, f"recipe:{first}")
    run = train_stages(recipe, tmp_path / "runs", "main", World(), Show)
    stage = RunDirectory(tmp_path / "runs" / products_of(run)["method.encoder"].run)
    moved = stage.path.with_name("elsewhere")
    stage.path.rename(moved)
    with pytest.raises(UserError, match="no such run"):
        resume(run, World(), Show())
    moved.rename(stage.path)
    resume(run, World(), Show())
    (newest,) = (
        checkpoint_files.directory(stage.path, step) for step in checkpoint_files.list_steps(stage.path)
    )
    newest.rename(tmp_path / "gone")
    with pytest.raises(UserError, match="has no good last checkpoint; make it again with: safelight resume"):
        resume(run, World(), Show())
    saved = checkpoint.save(stage.path, 4, {"networks": {"x": torch.zeros(1)}}, {"edits": 0})
    with pytest.raises(UserError, match="00000004: is another than the run saved"):
        resume(run, World(), Show())
    with JournalWriter(stage.journal_path) as writer:
        writer.checkpoint(4, saved.digest)
    with pytest.raises(UserError, match="has other weights than the run began with"):
        resume(run, World(), Show())


def test_a_run_that_is_not_finished_is_no_product(tmp_path, tiny):
    with pytest.raises(UserError, match="no such run"):
        of_run("run:none", "none", tmp_path)
    recipe = needing(tmp_path, tiny, "run:none")
    with pytest.raises(UserError, match="none: no such run"):
        train_stages(recipe, tmp_path / "runs", "main", World(), Show)


def test_pretrained_weights_are_known_by_their_bytes(tmp_path):
    folder = tmp_path / "vae"
    folder.mkdir()
    with pytest.raises(UserError, match="holds no"):
        pretrained("data.latents.autoencoder", str(folder))
    (folder / "model.safetensors").write_bytes(b"weights")
    first_key = pretrained("k", str(folder))
    (folder / "model.safetensors").write_bytes(b"wieghts")
    other = pretrained("k", str(folder))
    assert first_key.digest != other.digest
    assert first_key.run is None
    with pytest.raises(UserError, match="k: /no/where does not exist"):
        pretrained("k", "/no/where")


def test_paths_are_recorded_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Reference._made("./vae") == str(tmp_path / "vae")
    assert Reference._made("recipe:mine.toml") == f"recipe:{tmp_path}/mine.toml"
    assert Reference._made("recipe:skin-autoencoder") == "recipe:skin-autoencoder"
    assert Reference._made("owner/name") == "owner/name"
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert Reference._made("owner/name") == str(tmp_path / "owner/name")
