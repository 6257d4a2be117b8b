"""Draws made on the device are those of the host: its words to the bit, its normals to the last places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from safelight import philox
from safelight.philox import DeviceDraw
from safelight.randomness import RowDraw, key

CPU = torch.device("cpu")
SIDE = (3, 24, 24)  # more than LEAST numbers


@pytest.mark.parametrize("number", [0, 1, 2**63, 2**64 - 1, 2**127 + 12345, 2**128 - 1, key("any", 3)])
@pytest.mark.parametrize("first", [0, 1, 1000, 2**40])
def test_words_are_those_of_numpys_philox(number, first):
    stream = np.random.Philox(key=number)
    stream.advance(first)
    words = philox.philox(number, first, 50, CPU)
    assert np.array_equal(words.numpy().view(np.uint64), stream.random_raw(200))


@pytest.mark.parametrize("rows", [range(5), range(3, 9), range(10**6, 10**6 + 2)])
def test_uniform_numbers_and_integers_are_the_hosts_to_the_bit(rows):
    host, device = (kind(3, 7, "p", rows, CPU) for kind in (RowDraw, DeviceDraw))
    assert torch.equal(device.uniform("u", *SIDE), host.uniform("u", *SIDE))
    for high in (1, 7, 2**31):
        assert torch.equal(device.integers("i", high, *SIDE), host.integers("i", high, *SIDE))
    with pytest.raises(ValueError, match="high is 0"):
        device.integers("i", 0, *SIDE)


@pytest.mark.parametrize("shape", [SIDE, (1025,), (2047,)])
def test_normals_are_the_hosts_to_the_last_places(shape):
    rows = range(4, 24)
    host, device = (kind(3, 7, "p", rows, CPU).normal("n", *shape) for kind in (RowDraw, DeviceDraw))
    assert device.shape == host.shape
    torch.testing.assert_close(device, host, rtol=2e-6, atol=1e-6)
    assert torch.equal(device[5:9], DeviceDraw(3, 7, "p", range(9, 13), CPU).normal("n", *shape))


def test_few_numbers_a_row_and_those_for_the_host_are_drawn_there(monkeypatch):
    """By the numbers of a row alone, so that parts of a batch draw alike."""
    monkeypatch.setattr(philox, "philox", lambda *arguments: pytest.fail("drawn on the device"))
    host, device = (kind(3, 7, "p", range(10**4), CPU) for kind in (RowDraw, DeviceDraw))
    assert torch.equal(device.normal("n", 5), host.normal("n", 5))
    assert torch.equal(device.uniform("u"), host.uniform("u"))
    assert torch.equal(device.integers("i", 3), host.integers("i", 3))
    few = DeviceDraw(3, 7, "p", range(2), CPU)
    assert few.uniform("u", *SIDE, host=True).shape == (2, *SIDE)
