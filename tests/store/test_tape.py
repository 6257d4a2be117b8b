"""A tape gives back what it was given, rounded to bfloat16; damage is named, and the rest still plays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from safelight.config import UserError
from safelight.store import frames
from safelight.store import tape as frame
from safelight.store.tape import TapeReader, TapeWriter, rounded

ALL = np.arange(2**16, dtype=np.uint16)


class Net(nn.Module):
    """Weights in two memory formats, statistics, a counter, an empty tensor and one that is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        self.norm = nn.BatchNorm2d(8)
        self.last = nn.Linear(8, 5).double()
        self.register_buffer("none", torch.zeros(0, 3))
        self.register_buffer("flags", torch.tensor([True, False, True]))
        with torch.no_grad():
            self.last.bias[:3] = torch.tensor([float("nan"), float("inf"), -0.0])


def moved(net: nn.Module, seed: int) -> None:
    """One step of a training that moves few weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + 0.003 * (torch.rand(tensor.shape, generator=generator) < 0.2))
            elif tensor.dtype == torch.int64:
                tensor.add_(1)


def written(run, steps, keyframe=4, session=1, net=None):
    """A tape of these steps; what each frame has to give back."""
    net = net or Net()
    writer, wanted = TapeWriter(run, session), {}
    for step in steps:
        writer.append(step, {"generator": net}, keyframe)
        wanted[step] = {name: rounded(tensor).clone() for name, tensor in net.state_dict().items()}
        moved(net, step)
    writer.close()
    return wanted


def same(read, wanted) -> bool:
    """Equal bits, names, shapes and dtypes."""
    weights = read["generator"]
    return list(weights) == list(wanted) and all(
        weights[name].dtype == tensor.dtype
        and weights[name].shape == tensor.shape
        and torch.equal(torch.nan_to_num(weights[name], 7.0), torch.nan_to_num(tensor, 7.0))
        for name, tensor in wanted.items()
    )


def test_order_is_that_of_the_values_and_can_be_undone():
    values = torch.from_numpy(ALL.view(np.int16)).view(torch.bfloat16).float().numpy()
    numbers = np.isfinite(values)
    by_value = np.argsort(values[numbers], kind="stable")
    assert (np.diff(values[numbers][np.argsort(frame.ordered(ALL)[numbers])]) >= 0).all()
    assert len(by_value) == numbers.sum()
    assert (frame.unordered(frame.ordered(ALL)) == ALL).all()


@given(st.binary(max_size=64), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_a_frame_is_coded_without_loss(data, random):
    now = np.frombuffer(data[: len(data) // 2 * 2], np.uint16)
    before = np.array([random.randrange(2**16) for _ in now], np.uint16)
    for reference in (None, before):
        assert (frame.decode(frame.encode(now, reference), len(now), reference) == now).all()


def test_what_is_no_frame_is_said():
    now = np.arange(0, 1000, 7, dtype=np.uint16)
    data = frame.encode(now, now[::-1].copy())
    with pytest.raises(UserError, match="is no zstd data"):
        frame.decode(data[:-1], len(now), now)
    with pytest.raises(UserError, match=r"lists|holds"):
        frame.decode(data, len(now) + 40, now)
    with pytest.raises(UserError, match="holds 143 weights, not 50"):
        frame.decode(frame.encode(now, None), 50, None)


def test_few_changes_take_few_bytes():
    now = frame.ordered(np.random.default_rng(0).integers(0, 2**16, 100_000).astype(np.uint16))
    after = now.copy()
    after[::1000] += 1
    assert len(frame.encode(now, None)) > 190_000
    assert len(frame.encode(after, now)) < 1_500


def test_rounding_is_to_nearest_even():
    bits = torch.randint(0, 2**31 - 1, (10_000,), dtype=torch.int32)
    bits[:4] = torch.tensor([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF])
    values = bits.view(torch.float32)
    values = values[values.isfinite()]
    exact = values.view(torch.int32).numpy().astype(np.int64)
    nearest = (exact + 0x7FFF + ((exact >> 16) & 1)) >> 16 << 16
    assert (rounded(values).view(torch.int32).numpy().astype(np.int64) == nearest).all()


def test_every_frame_is_read_in_any_order(tmp_path):
    wanted = written(tmp_path, range(0, 100, 10))
    tape = TapeReader(tmp_path)
    assert tape.steps == list(wanted)
    assert tape.networks(30) == ["generator"]
    assert len(frames.files(tmp_path)) == 3
    for step in [90, 0, *wanted, *reversed(wanted), 50, 50]:
        assert same(tape.read(step), wanted[step])
    with pytest.raises(UserError, match="no frame of step 55"):
        tape.read(55)


def test_a_change_of_networks_begins_anew(tmp_path):
    writer, net = TapeWriter(tmp_path, 1), Net()
    writer.append(0, {"generator": net}, 10)
    writer.append(1, {"generator": net, "encoder": net.last}, 10)
    writer.close()
    tape = TapeReader(tmp_path)
    assert tape.networks(0) == ["generator"]
    assert tape.networks(1) == ["generator", "encoder"]
    assert torch.equal(tape.read(1)["encoder"]["weight"], rounded(net.last.weight))


def test_frames_come_in_their_order(tmp_path):
    written(tmp_path, [5])
    writer = TapeWriter(tmp_path, 2)
    writer.append(5, {"generator": Net()}, 4)
    with pytest.raises(ValueError, match="comes after"):
        writer.append(5, {"generator": Net()}, 4)
    writer.close()


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_frame_was_never_there(tmp_path, cut):
    wanted = written(tmp_path, range(6))
    path = frames.files(tmp_path)[-1]
    path.write_bytes(path.read_bytes()[:-cut])
    tape = TapeReader(tmp_path)
    assert tape.steps == [0, 1, 2, 3, 4]
    assert tape.damage == []
    assert same(tape.read(4), wanted[4])


def test_a_session_torn_off_at_once_was_never_there(tmp_path):
    wanted = written(tmp_path, range(6))
    (tmp_path / frames.TAPE.folder / frames.name(2, 3)).write_bytes(b'{"holds":')
    tape = TapeReader(tmp_path)
    assert tape.steps == list(wanted)
    assert tape.damage == []


def test_a_later_session_takes_the_place_of_an_earlier_one(tmp_path):
    first = written(tmp_path, range(10))
    second = written(tmp_path, range(6, 9), session=2)
    tape = TapeReader(tmp_path)
    assert tape.steps == list(range(9))
    assert same(tape.read(5), first[5])
    for step in second:
        assert same(tape.read(step), second[step])
        assert not same(tape.read(step), first[step])


def test_every_flipped_byte_is_found_and_the_rest_still_plays(tmp_path):
    wanted = written(tmp_path, range(8))
    path = frames.files(tmp_path)[0]
    whole = path.read_bytes()
    places = frames.scan(path).places
    for at in {*range(0, len(whole), 97), *(place.offset - 1 for place in places)}:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        tape = TapeReader(tmp_path)
        said = list(tape.damage)
        for step, weights in wanted.items():
            try:
                assert same(tape.read(step), weights)
            except UserError as error:
                said.append(str(error))
                assert step < 4
        assert all(same(tape.read(step), wanted[step]) for step in range(4, 8))
        assert said, at
        assert all(path.name in line or "no frame" in line for line in said)
    path.write_bytes(whole)
    assert all(same(TapeReader(tmp_path).read(step), wanted[step]) for step in wanted)


def test_a_damaged_frame_is_named_and_so_are_those_that_need_it(tmp_path):
    wanted = written(tmp_path, range(8))
    place = frames.scan(frames.files(tmp_path)[0]).places[2]
    data = bytearray(place.path.read_bytes())
    data[place.offset + 20] ^= 1
    place.path.write_bytes(data)
    tape = TapeReader(tmp_path)
    with pytest.raises(UserError, match=r"the frame of step 2 is damaged$"):
        tape.read(2)
    with pytest.raises(UserError, match="the frame of step 2 is damaged, and that of step 3 needs it"):
        tape.read(3)
    assert same(tape.read(1), wanted[1])
    assert same(tape.read(4), wanted[4])


def test_a_full_disk_leaves_whole_frames(tmp_path):
    def full(stage: str) -> None:
        if len(frames.scan(frames.files(tmp_path)[0]).places) == 2:
            raise OSError(28, "no space")

    writer = TapeWriter(tmp_path, 1, full)
    net = Net()
    for step in range(2):
        writer.append(step, {"generator": net}, 9)
    with pytest.raises(UserError, match="disk is full"):
        writer.append(2, {"generator": net}, 9)
    writer.close()
    assert TapeReader(tmp_path).steps == [0, 1]
