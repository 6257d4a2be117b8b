"""Saving and loading the state of a run: checkpoints/<step>/ with one safetensors file for each group.

With the tape, the only module of the store that imports torch. Nothing here unpickles.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from safelight import files
from safelight.config import UserError
from safelight.store import checkpoint_files
from safelight.store.checkpoint_files import Another, File, Saved, directory, require_own, set_aside
from safelight.store.durable import (
    Announce,
    fsync_directory,
    mendable,
    publish,
    silence,
    temporary_beside,
    write_new,
)

Groups = Mapping[str, Mapping[str, Tensor]]


def save(
    run: Path, step: int, groups: Groups, meta: Mapping[str, Any], announce: Announce = silence
) -> Saved:
    """Save the state after `step` steps, durably. Needs memory for one more copy of the largest group.

    Built in a temporary directory beside, read back, renamed: checkpoints/<step> is whole or absent. One that
    is there and equal is kept (with its own meta), a damaged one is put aside.
    Only for whoever holds the run's lock. Raises UserError where the disk cannot, or where a good checkpoint
    of this step holds other bits.
    """
    path = directory(run, step)
    with mendable(path):
        if not path.parent.exists():
            path.parent.mkdir()
            fsync_directory(run)
    temporary = temporary_beside(path)
    with mendable(path):
        try:
            announce("checkpoint.begin")
            temporary.mkdir()
            made = [_write_group(temporary, group, groups[group], announce) for group in sorted(groups)]
            text = checkpoint_files.compose(step, made, meta)
            write_new(temporary / checkpoint_files.NAME, text, announce, "checkpoint.manifest")
            if _already_there(path, step, checkpoint_files.digest(made)):
                shutil.rmtree(temporary)
            else:
                publish(temporary, path, announce, "checkpoint")
        except (OSError, UserError):
            with suppress(OSError):
                shutil.rmtree(temporary)  # a full disk needs the space back
            raise
    return checkpoint_files.read(path)


def digest(groups: Groups) -> str:
    """The digest that a checkpoint of this state has, or would have."""
    made = []
    for group in sorted(groups):
        data = safetensors.torch.save(_plain(groups[group]))
        made.append(File(_file_name(group), hashlib.sha256(data).hexdigest(), len(data)))
    return checkpoint_files.digest(made)


def load(path: Path, known: Mapping[int, str] | None = None) -> dict[str, dict[str, Tensor]]:
    """The groups of a checkpoint as new tensors on the CPU, from bytes that were verified.

    known: the digest that the journal has of each step. Raises UserError if a file is missing or damaged, or
    if the checkpoint is not the one that the journal knows.
    """
    groups = {}
    saved = checkpoint_files.read(path)
    if known is not None:
        require_own(saved, int(path.name), known)
    for file in saved.files:
        place = path / file.name
        with mendable(place):
            data = files.read(place, file.bytes, links=False)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise checkpoint_files.damaged(place)
        try:
            groups[file.name.removesuffix(".safetensors")] = safetensors.torch.load(data)
        except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
            raise UserError(f"{place}: is no safetensors file ({error})") from error
    return groups


def good_before(
    run: Path, to: int, above: int, known: Mapping[int, str], tell: Callable[[str], None]
) -> tuple[int, Groups] | None:
    """The newest checkpoint that verifies, of the steps up to `to` and above `above`; None for none.

    known: the digests in the run's journal. tell: takes a line for each that does not verify. Raises
    UserError for another run's in its place.
    """
    for step in reversed(checkpoint_files.list_steps(run)):
        if above < step <= to:
            try:
                return step, load(directory(run, step), known)
            except Another:  # what it leads to would not be this run
                raise
            except UserError as error:  # damaged, or just let go by its writer
                tell(f"checkpoint {step} is not used: {error}")
    return None


def _write_group(folder: Path, group: str, tensors: Mapping[str, Tensor], announce: Announce) -> File:
    """One group as one file. Raises OSError, and ValueError for a name that is no plain file name."""
    if not re.fullmatch(r"[\w-]+", group):
        raise ValueError(f"a group is named by letters, digits, _ and -, not {group!r}")
    data = safetensors.torch.save(_plain(tensors))
    name = _file_name(group)
    return File(name, write_new(folder / name, data, announce, f"checkpoint.{group}"), len(data))


def _file_name(group: str) -> str:
    return f"{group}.safetensors"


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as safetensors wants them: by sorted name, on the CPU, contiguous, sharing no storage.

    The bytes are the logical values, whatever the memory format or stride; tied tensors are written twice.
    """
    arrays: dict[str, Tensor] = {}
    storages: set[int] = set()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        if tensor.untyped_storage().data_ptr() in storages:
            tensor = tensor.clone()
        storages.add(tensor.untyped_storage().data_ptr())
        arrays[name] = tensor
    return arrays


def _already_there(path: Path, step: int, digest: str) -> bool:
    """Whether a good checkpoint with this digest is there; a damaged one is put aside."""
    if not path.exists():
        return False
    try:
        there = checkpoint_files.verify(path)
    except UserError:
        set_aside(path)
        return False
    if there.step != step or there.digest != digest:
        raise UserError(f"{path}: holds another state of this step; fork the run instead of rewriting it")
    return True
