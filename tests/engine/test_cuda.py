"""What only a CUDA device can show; `pytest -m cuda` there, or benchmarks/gpu.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_loop import bits

import toys
from safelight.data.prefetch import Prefetched
from safelight.engine import precision
from safelight.engine.loop import Job, Stop, train
from safelight.engine.readback import read_later
from safelight.engine.state import State
from safelight.philox import DeviceDraw, philox
from safelight.randomness import RowDraw

pytestmark = pytest.mark.cuda
CUDA = torch.device("cuda")


class Stream(toys.ToyStream):
    """Batches on the device, copied from pinned memory."""

    def _part(self, step, rows):
        part = super()._part(step, rows)
        return type(part)(*(value.pin_memory().to(CUDA, non_blocking=True) if isinstance(value, torch.Tensor)
                            else value for value in vars(part).values()))  # fmt: skip


def job(steps: int = 30, half: str = "fp32", compile: str = "off", boundary=lambda signals: None) -> Job:
    method = toys.ToyGan()
    plan = toys.plan(method, steps=steps)
    precision.settle(CUDA)
    state = State(method, toys.SPEC, plan, CUDA, "contiguous", compile=compile)
    return Job(
        method, state, Prefetched(Stream(), CUDA), lambda step: plan, lambda record: None, boundary,
        autocast=precision.autocast(CUDA, half), device=CUDA,
    )  # fmt: skip


def test_words_and_draws_are_the_hosts():
    stream = np.random.Philox(key=2**127 + 5)
    words = philox(2**127 + 5, 0, 1000, CUDA).cpu().numpy().view(np.uint64)
    assert np.array_equal(words, stream.random_raw(4000))
    host, device = (kind(3, 7, "p", range(4), CUDA) for kind in (RowDraw, DeviceDraw))
    assert torch.equal(device.uniform("u", 3, 32, 32), host.uniform("u", 3, 32, 32))
    expected = host.normal("n", 3, 32, 32)
    torch.testing.assert_close(device.normal("n", 3, 32, 32), expected, rtol=4e-6, atol=2e-6)


@pytest.mark.parametrize("half", ["fp32", "fp16"])
def test_a_steady_step_waits_for_nothing(half):
    """By CUDA's own count of what synchronises."""
    made = job(half=half)
    made.boundary = lambda signals: torch.cuda.set_sync_debug_mode(
        "error" if made.state.step > 2 else "default"
    )
    try:
        train(made)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("half", "compile"), [("fp32", "off"), ("fp16", "off"), ("fp32", "inductor")])
def test_resumed_equals_uninterrupted(half, compile):
    whole = job(12, half, compile)
    train(whole)

    def stop(signals) -> None:
        if first.state.step == 5:
            raise Stop

    first = job(12, half, compile, stop)
    with pytest.raises(Stop):
        train(first)
    torch._dynamo.reset()
    second = job(12, half, compile)
    second.state.load(first.state.groups(), 5)
    train(second)
    left, right = bits(whole.state), bits(second.state)
    assert [name for name in left if not torch.equal(left[name], right[name])] == []


def test_numbers_come_back_later():
    values = torch.arange(5.0, device=CUDA)
    read = read_later(values)
    values += 1
    assert read() == [0, 1, 2, 3, 4]
