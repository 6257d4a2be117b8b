"""Checkpoints: bit-equal, one digest of all bits, every flipped byte found, never overwritten."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from safelight.config import UserError
from safelight.keys import meanings
from safelight.store import checkpoint_files, durable
from safelight.store.checkpoint import load, save
from safelight.store.checkpoint_files import Checkpoint, directory, list_steps, newest_good, prune, set_aside

Groups = dict[str, dict[str, Tensor]]


def state(seed: int = 0) -> Groups:
    random = torch.Generator().manual_seed(seed)
    return {
        "networks": {"unet.weight": torch.randn(4, 3, 3, 3, generator=random), "unet.bias": torch.zeros(4)},
        "optimisers": {"unet.step": torch.tensor(seed)},
        "memory": {},
    }


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_equal(loaded: Groups, expected: Groups) -> None:
    assert loaded.keys() == expected.keys()
    for group, tensors in expected.items():
        assert loaded[group].keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert loaded[group][name].dtype == tensor.dtype
            assert loaded[group][name].shape == tensor.shape
            assert bits(loaded[group][name]) == bits(tensor)


def test_every_kind_of_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    specials = torch.tensor([0.0, -0.0, float("nan"), float("inf"), 1e-45])
    tied, flat = torch.randn(5), torch.arange(12.0)
    groups: Groups = {
        "networks": {
            "specials": specials,
            "bf16": specials.bfloat16(),
            "fp64": torch.randn(3, dtype=torch.float64),
            "bool": torch.tensor([True, False]),
            "int64": torch.tensor(2**60 + 1),
            "uint8": torch.arange(256, dtype=torch.uint8),
            "nothing": torch.zeros(0, 3),
            "tied.a": tied,
            "tied.b": tied,
            "view.a": flat[:5],
            "view.b": flat[3:],
            "transposed": torch.randn(3, 4).t(),
            "expanded": torch.ones(1, 3).expand(4, 3),
            "parameter": torch.nn.Parameter(torch.randn(2)),
            "last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        },
        "memory": {},
    }
    saved = save(tmp_path, 7, groups, {"edits": 2})
    assert saved == checkpoint_files.read(tmp_path / "checkpoints" / "00000007")
    assert (saved.step, saved.meta) == (7, {"edits": 2})
    groups["networks"]["parameter"] = groups["networks"]["parameter"].detach()
    assert_equal(load(saved.path), groups)


def test_loaded_tensors_are_their_own(tmp_path: Path) -> None:
    saved = save(tmp_path, 1, state(), {})
    loaded = load(saved.path)
    for file in saved.path.iterdir():
        file.write_bytes(b"")
    assert_equal(loaded, state())
    loaded["networks"]["unet.bias"].add_(1)  # writable


def test_the_digest_is_of_the_bits_and_of_nothing_else(tmp_path: Path) -> None:
    def digest(groups: Groups, meta: dict[str, int] | None = None) -> str:
        steps = list_steps(tmp_path)
        return save(tmp_path, len(steps), groups, meta or {}).digest

    reference = digest(state())
    assert checkpoint_files.digest_of(directory(tmp_path, 0)) == reference
    reordered = {group: dict(reversed(tensors.items())) for group, tensors in reversed(state().items())}
    assert digest(reordered, {"edits": 5}) == reference
    relaid = state()
    weight = relaid["networks"]["unet.weight"]
    relaid["networks"]["unet.weight"] = weight.to(memory_format=torch.channels_last)
    assert digest(relaid) == reference

    flipped = state()
    flipped["networks"]["unet.weight"].view(torch.int32)[3, 2, 1, 0] ^= 1
    negative_zero = state()
    negative_zero["networks"]["unet.bias"][0] = -0.0
    renamed = state()
    renamed["networks"]["unet.b"] = renamed["networks"].pop("unet.bias")
    moved = state()
    moved["memory"]["unet.step"] = moved["optimisers"].pop("unet.step")
    files = [checkpoint_files.File("a", "1", 1), checkpoint_files.File("b", "2", 2)]
    assert checkpoint_files.digest(files) == checkpoint_files.digest(files[::-1])
    assert len({reference, digest(flipped), digest(negative_zero), digest(renamed), digest(moved)}) == 5


def test_the_digest_is_the_same_in_every_process_and_on_every_machine(tmp_path: Path) -> None:
    groups = {"networks": {"w": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(True)}, "memory": {}}
    assert (
        save(tmp_path, 1, groups, {}).digest
        == "b2d3167abd2656f4187ac75102022163f9195818f4b9e7d0a7bc3c71fa687560"
    )


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    saved = save(tmp_path, 1, state(), {"edits": 1})
    files = sorted(saved.path.iterdir())
    assert [file.name for file in files] == [
        "manifest.json", "memory.safetensors", "networks.safetensors", "optimisers.safetensors",
    ]  # fmt: skip
    for file in files:
        whole = file.read_bytes()
        for position in range(len(whole)):
            file.write_bytes(whole[:position] + bytes([whole[position] ^ 0x01]) + whole[position + 1 :])
            with pytest.raises(UserError, match="is damaged"):
                checkpoint_files.verify(saved.path)
            if position % 20 == 0:
                with pytest.raises(UserError, match="is damaged"):
                    load(saved.path)
        for content in (b"", whole[:-2], whole + b"\0"):
            file.write_bytes(content)
            with pytest.raises(UserError, match="is damaged"):
                checkpoint_files.verify(saved.path)
        file.unlink()
        with pytest.raises(UserError, match=file.name):
            checkpoint_files.verify(saved.path)
        with pytest.raises(UserError, match=file.name):
            load(saved.path)
        file.write_bytes(whole)
    assert checkpoint_files.verify(saved.path) == saved


def damage(path: Path) -> None:
    file = path / "networks.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


def test_the_newest_good_checkpoint_is_taken_and_bad_ones_are_put_aside_by_the_writer(tmp_path: Path) -> None:
    assert newest_good(tmp_path) is None
    saved = [save(tmp_path, step, state(step), {}) for step in (10, 20, 30)]
    damage(directory(tmp_path, 30))
    assert newest_good(tmp_path) == saved[1]
    assert list_steps(tmp_path) == [10, 20, 30]  # a reader moves nothing
    assert newest_good(tmp_path, aside={}) == saved[1]
    assert list_steps(tmp_path) == [10, 20]
    again = save(tmp_path, 30, state(30), {})
    assert again.digest == saved[2].digest
    damage(again.path)
    assert set_aside(again.path).name == "00000030.bad-2"
    os.rename(directory(tmp_path, 20), directory(tmp_path, 40))  # not the step its manifest says
    assert newest_good(tmp_path, aside={}) == saved[0]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["00000010", "00000030.bad", "00000030.bad-2", "00000040.bad"]


def test_a_good_checkpoint_is_never_overwritten(tmp_path: Path) -> None:
    first = save(tmp_path, 1, state(), {"edits": 0})
    before = first.path.stat().st_ino
    assert save(tmp_path, 1, state(), {"edits": 9}) == first  # equal bits: kept, with its own meta
    with pytest.raises(UserError, match="00000001: holds another state of this step; fork the run"):
        save(tmp_path, 1, state(1), {})
    assert checkpoint_files.verify(first.path) == first
    assert first.path.stat().st_ino == before
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000001"]


def test_a_damaged_checkpoint_is_put_aside_and_written_anew(tmp_path: Path) -> None:
    first = save(tmp_path, 1, state(), {})
    damage(first.path)
    assert save(tmp_path, 1, state(), {}) == first
    assert checkpoint_files.verify(first.path) == first
    assert (tmp_path / "checkpoints" / "00000001.bad" / "networks.safetensors").exists()


def test_everything_is_synced_before_the_checkpoint_gets_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int | str] = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor: int) -> None:
        fsync(descriptor)
        calls.append(os.fstat(descriptor).st_ino)

    def recorded_replace(source: Path, target: Path) -> None:
        replace(source, target)
        calls.append("rename")

    monkeypatch.setattr(durable.os, "fsync", recorded_fsync)
    monkeypatch.setattr(durable.os, "replace", recorded_replace)
    saved = save(tmp_path, 1, state(), {})
    inodes = {name: (saved.path / name).stat().st_ino for name in os.listdir(saved.path)}
    at_rename = calls.index("rename")
    assert {*inodes.values(), saved.path.stat().st_ino} <= set(calls[:at_rename])
    assert calls[at_rename - 2] == inodes["manifest.json"]  # the last of the files
    assert calls[at_rename + 1 :] == [saved.path.parent.stat().st_ino]
    assert calls[0] == tmp_path.stat().st_ino  # the folder of checkpoints was new


def test_putting_aside_and_pruning_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2, 3):
        directory(tmp_path, step).mkdir(parents=True)
    synced: list[list[int]] = []
    monkeypatch.setattr(durable.os, "fsync", lambda descriptor: synced.append(list_steps(tmp_path)))
    set_aside(directory(tmp_path, 3))
    prune(tmp_path, [2], lambda stage: synced.append([]) if stage == "prune.delete" else None)
    assert synced == [[1, 2], [2], []]  # the name is gone for good before anything is deleted


def test_a_full_disk_is_told_in_one_line_and_gets_its_space_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = save(tmp_path, 1, state(), {})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(
        UserError, match=r"checkpoints/00000002: the disk is full; free some space, then resume"
    ):
        save(tmp_path, 2, state(2), {})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["00000001"]
    assert newest_good(tmp_path) == first


def test_a_run_deleted_meanwhile_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone/checkpoints/00000002: it or its directory is gone"):
        save(tmp_path / "gone", 2, state(), {})


@settings(max_examples=50)
@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_pruning_keeps_what_it_is_told_and_never_leaves_nothing(have: set[int], keep: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder)
        for step in have:
            directory(run, step).mkdir(parents=True)
        left = have & keep or set(sorted(have)[-1:])
        assert prune(run, keep) == sorted(have - left)
        assert list_steps(run) == sorted(left)


def test_other_names_are_no_checkpoints(tmp_path: Path) -> None:
    for name in ("00000010.bad", ".tmp-00000020-ab", "123", "notes", "100000000"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert list_steps(tmp_path) == [100_000_000]


def test_group_names_are_plain(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"not '\.\./x'"):
        save(tmp_path, 1, {"../x": {}}, {})


def test_the_manifest_is_plain_json(tmp_path: Path) -> None:
    saved = save(tmp_path, 1, state(), {"seconds": 1.5})
    fields = json.loads((saved.path / "manifest.json").read_text())
    assert (
        fields["files"]["networks.safetensors"]["bytes"]
        == (saved.path / "networks.safetensors").stat().st_size
    )
    assert fields["meta"] == {"seconds": 1.5}


def test_the_section_says_what_it_does() -> None:
    assert Checkpoint() == Checkpoint(every=500, keep=3)
    assert meanings(Checkpoint).keys() == Checkpoint.model_fields.keys()
