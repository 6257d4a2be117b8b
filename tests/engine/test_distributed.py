"""Any number of processes and parts: the same batches and noise, the same gradients, one end for all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import safetensors.torch
import torch
import world_of_toys

from forks import Forks, serving
from safelight.engine import distributed
from safelight.engine.distributed import World

SEEN = [("contrast", 2), ("plain gan", 1), ("text gan", 2)]
RESUMED = [("gan", 2, "fp32"), ("dropout", 1, "bf16")]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def forks(tmp_path_factory):
    with serving(tmp_path_factory.mktemp("forks")) as server:
        yield server


@pytest.fixture(scope="module")
def left(forks: Forks, tmp_path_factory) -> Path:
    """What 2 and 3 processes left behind."""
    folder = tmp_path_factory.mktemp("left")
    call = "world_of_toys:leave_behind"
    forks.run(call, [str(folder), SEEN, []], 2)
    forks.run(call, [str(folder), SEEN, RESUMED], 3)
    return folder


@pytest.mark.parametrize(("name", "accumulate"), SEEN)
@pytest.mark.parametrize("processes", [2, 3])
def test_any_number_of_processes_sees_the_same_batches_and_noise(left, name, accumulate, processes):
    alone, state = world_of_toys.saw_and_learned(name, 1, World())
    rows: dict[str, list] = {}
    for rank in range(processes):
        book = safetensors.torch.load_file(left / f"{name}-{processes}-{accumulate}-seen-{rank}.safetensors")
        for place, tensor in book.items():
            key, _, first = place.rpartition("/")
            rows.setdefault(key, []).append((int(first), tensor))
    whole = {place.rpartition("/")[0]: tensor for place, tensor in alone.items()}
    assert rows.keys() == whole.keys()
    for key, parts in rows.items():
        assert len(parts) == processes * accumulate
        together = torch.cat([tensor for _, tensor in sorted(parts, key=lambda part: part[0])])
        assert torch.equal(together, whole[key]), key
    for rank in range(processes):
        path = left / f"{name}-{processes}-{accumulate}-learned-{rank}.safetensors"
        learned = safetensors.torch.load_file(path)
        assert learned.keys() == state.keys()
        for key, tensor in learned.items():
            torch.testing.assert_close(tensor, state[key], rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize(("name", "accumulate", "precision"), RESUMED)
def test_three_processes_resumed_equal_uninterrupted_bit_for_bit(left, name, accumulate, precision):
    first = None
    for rank in range(3):
        stem = f"{name}-{accumulate}-{precision}-{rank}"
        resumed = safetensors.torch.load_file(left / f"{stem}-resumed.safetensors")
        whole = safetensors.torch.load_file(left / f"{stem}-whole.safetensors")
        assert resumed.keys() == whole.keys()
        assert [key for key in whole if not torch.equal(whole[key], resumed[key])] == []
        first = first or whole
        assert [key for key in whole if not torch.equal(whole[key], first[key])] == []  # one state for all


@pytest.mark.parametrize("processes", [2, 3])
def test_a_sum_is_taken_in_the_order_of_ranks_whatever_is_summed_beside_it(forks, tmp_path, processes):
    forks.run("world_of_toys:sums", [str(tmp_path)], processes)
    files = [safetensors.torch.load_file(tmp_path / f"{rank}.safetensors") for rank in range(processes)]
    expected = files[0]["own"]
    for file in files[1:]:
        expected = expected + file["own"]
    for file in files:
        assert torch.equal(file["sum"], expected)


@pytest.mark.parametrize("processes", [2, 3])
def test_gradients_summed_in_buckets_are_those_of_one_flat_sum_to_the_bit(forks, tmp_path, processes):
    """Begun within the backward pass, also where a phase reaches only some parameters, and in fp16."""
    cases = [("gan", 1, "fp32"), ("contrast", 2, "fp16"), ("text gan", 1, "fp32")]
    forks.run("world_of_toys:in_buckets", [str(tmp_path), cases], processes)
    for name, _, _ in cases:
        for rank in range(processes):
            flat, buckets = (
                safetensors.torch.load_file(tmp_path / f"{name}-{processes}-{rank}-{title}.safetensors")
                for title in ("flat", "buckets")
            )
            assert [key for key in flat if not torch.equal(flat[key], buckets[key])] == []


def test_what_the_first_process_shares_arrives_everywhere(forks, tmp_path):
    forks.run("world_of_toys:shared_values", [str(tmp_path)], 3)
    texts = {(tmp_path / f"{rank}.json").read_text(encoding="utf-8") for rank in range(3)}
    assert texts == {repr({"rank": 0, "words": "ж\n", "none": None, "many": list(range(5000))})}


@pytest.mark.parametrize("agent", [True, False])
@pytest.mark.parametrize("rank", [0, 2])
def test_a_users_mistake_in_one_process_ends_all(forks, rank, agent):
    environment = {} if agent else {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    launch = forks.start("world_of_toys:fails_in", [rank, "user"], 3, env=environment, agent=agent)
    codes = launch.wait()
    assert all(codes)
    errors = launch.err()
    assert errors.count("UserError: the disk is full") == 1
    if agent:  # told once: the others end quietly
        assert sorted(codes) == [1, 2, 2]
        assert "Lost" not in errors


def test_a_mistake_of_the_program_in_one_process_ends_all(forks):
    launch = forks.start("world_of_toys:fails_in", [1, "program"], 3)
    assert all(launch.wait())
    assert launch.err().count("RuntimeError: a mistake in the program") == 1
    assert launch.err().count("Lost: another process of this run has ended") == 1


def test_the_same_mistake_of_all_is_told_once(forks):
    launch = forks.start("world_of_toys:fail_alike", [], 3)
    assert sorted(launch.wait()) == [1, 2, 2]  # 1: Python's own for the error that is told
    assert launch.err().count("UserError: batch size 50 does not divide") == 1


def test_a_process_that_never_comes_is_not_waited_for_for_ever(forks):
    launch = forks.start("world_of_toys:join_in_vain", [], 2)
    assert launch.wait() == [1, 0]
    assert "UserError: cannot join the other processes (" in launch.err(0)


def test_alone_nothing_is_joined(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.together() as world:
        assert (world.rank, world.size, world.local, world.first) == (0, 1, 0, True)
        tensor = torch.ones(2)
        world.sum_([tensor])
        world.wait()
        assert tensor.tolist() == [1, 1]
        assert world.share({"a": 1}) == {"a": 1}
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize(("local", "visible", "expected"), [(0, 8, 0), (5, 8, 5), (3, 1, 0)])
def test_each_process_takes_its_own_device(monkeypatch, local, visible, expected):
    """LOCAL_RANK chooses; under srun --gpus-per-task=1 each process sees one device only, number 0."""
    taken: list[object] = []
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_RANK", str(local))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(distributed, "rendezvous", lambda url, timeout: iter([(None, local, 8)]))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, **how: taken.append(backend))
    monkeypatch.setattr(torch.distributed, "new_group", lambda timeout: None)
    monkeypatch.setattr(
        torch.distributed, "all_reduce", lambda tensor, group: taken.append(str(tensor.device))
    )
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: taken.append("left"))
    with distributed.together() as world:
        assert (world.rank, world.size, world.local) == (local, 8, local)
    # Sums of gradients by NCCL; signals, shared values and the last barrier on the CPU by gloo.
    assert taken == [expected, "cpu:gloo,cuda:nccl", "cpu", "left"]


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
