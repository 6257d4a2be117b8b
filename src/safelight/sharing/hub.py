"""Runs on the Hugging Face Hub: pushed as a folder with a card, pulled as the one file that is checked."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safelight.config import UserError, install
from safelight.run import Run
from safelight.sharing import pack
from safelight.sharing.card import card
from safelight.sharing.opened import keep, opened
from safelight.store.directory import RECIPE, RunDirectory
from safelight.store.durable import mendable, publish, temporary_beside, write_text

FILE = "run.slr"
SHEETS = 4


def repository_of(text: str) -> tuple[str, str | None]:
    """("user/name", revision) of hub:user/name@revision. Raises UserError."""
    match = re.fullmatch(r"hub:([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,200}))?", text)
    if not match or ".." in text or "--" in match[1]:
        raise UserError(f"{text}: is no place on the Hub; write hub:user/name")
    return match[1], match[2]


def stage(run: Run, repository: str, licence: str, folder: Path, key: Path | None = None) -> list[str]:
    """Fill an empty folder with what the repository of a run holds. Returns a line about each part.

    diffusers' layout where it has one, else safetensors with a loader; run.slr with the weights; the recipe;
    sheets; README.md. Raises UserError.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{1,60}", licence):
        raise UserError(
            f"--license {licence}: write an identifier of the Hub, such as cc-by-4.0, apache-2.0 or other"
        )
    directory, lines, diffusers = run.directory, [], True
    folder.rmdir()
    try:
        run.export("diffusers", folder)
        lines.append("diffusers: open with DiffusionPipeline.from_pretrained")
    except UserError as error:
        diffusers = False
        lines.append(f"no diffusers layout: {error}")
    run.export("safetensors", folder / "safetensors")
    lines.append("safetensors/: open with load.py")
    pack.share(directory, folder / FILE, ["weights"], key)
    shutil.copyfile(directory.path / RECIPE, folder / RECIPE)
    sheets = sorted(directory.sheets.glob("[0-9]*.png")) if directory.sheets.is_dir() else []
    if sheets:
        (folder / "sheets").mkdir()
        for sheet in sheets[-SHEETS:]:
            shutil.copyfile(sheet, folder / "sheets" / sheet.name)
        shutil.copyfile(sheets[-1], folder / "sheet.png")
    write_text(folder / "README.md", card(directory, repository, licence, folder, diffusers))
    return lines


def push(
    run: Run, place: str, licence: str, private: bool = False, key: Path | None = None
) -> tuple[str, list[str]]:
    """Put a run on the Hub, in one commit. Returns its address and a line about each part.

    Raises UserError.
    """
    repository, revision = repository_of(place)
    hub = _hub()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "repository"
        folder.mkdir()
        lines = stage(run, repository, licence, folder, key)
        try:
            hub.create_repo(repository, private=private, exist_ok=True)
            message = f"{run.directory.name} at step {run.step}"
            hub.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=message, revision=revision
            )
        except Exception as error:
            raise _refused(place, error, "log in with: hf auth login") from error
    return f"{hub.endpoint}/{repository}", lines


def write_folder(run: Run, place: str, licence: str, out: Path, key: Path | None = None) -> list[str]:
    """What `push` would upload, as a new folder. Raises UserError."""
    with mendable(out):
        if os.path.lexists(out):
            raise UserError(f"{out}: exists already; choose a new folder")
        work = temporary_beside(out)
        try:
            work.mkdir(parents=True)
            lines = stage(run, repository_of(place)[0], licence, work, key)
            publish(work, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return lines


def pull(
    place: str, runs: Path, name: str | None = None, signer: Path | None = None, trust: bool = False
) -> RunDirectory:
    """Put a run of the Hub among those of a folder, as `keep` does. Raises UserError.

    Only run.slr is downloaded, and checked as a stranger's file. name: the repository's by default.
    """
    repository, revision = repository_of(place)
    hub = _hub()
    try:
        path = hub.hf_hub_download(repository, FILE, revision=revision)
    except Exception as error:
        raise _refused(place, error, f"it has to hold {FILE}, which safelight push writes") from error
    with opened(Path(path), signer, trust) as shared:
        return keep(shared, runs, name or repository.rpartition("/")[2])


def _hub() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise UserError(f"the Hub needs the package huggingface_hub; run: {install('hub')}") from error
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="safelight")


def _refused(place: str, error: Exception, fix: str) -> UserError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return UserError(f"{place}: {reason[:300]}; {fix}")
