"""What the small U-Net promises: where it starts, what it sees, and how it lies in memory."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from safelight.config import UserError
from safelight.networks.unet import Attention, Block, Spade, UNetConfig, attend
from safelight.types import Condition, DataSpec

EVERYTHING = DataSpec(
    shape=(3, 16, 24),
    conditions={
        "label": Condition("label", 5),
        "attributes": Condition("attributes", 4),
        "text": Condition("text", 6),
        "mask": Condition("mask", 2),
    },
)
SMALL = UNetConfig(width=8, multipliers=(1, 2), attention=(1,), head=8, middle=1, embedding=32)


def awake(network: nn.Module) -> nn.Module:
    """The network with no parameter at zero, as if trained."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def given(b: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    return {
        "label": torch.arange(b) % 5,
        "attributes": torch.rand(b, 4, generator=generator),
        "text": torch.randn(b, 6, generator=generator),
        "mask": torch.rand(b, 2, 16, 24, generator=generator),
    }


def images(b: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    x, t = torch.randn(b, 3, 16, 24, generator=generator), torch.rand(b, generator=generator)
    return x, t, torch.ones(b, dtype=torch.bool)


@torch.no_grad()
def test_starts_as_nothing() -> None:
    x, t, present = images(3)
    network = SMALL.build(EVERYTHING)
    assert torch.equal(network(x, t, given(3), present), torch.zeros_like(x))
    features, e = torch.randn(3, 8, 4, 4), torch.randn(3, 32)
    assert torch.equal(Block(SMALL, 8, 8, 32)(features, e), features)
    assert torch.equal(Attention(8, head=4, groups=1)(features), features)


@torch.no_grad()
def test_each_condition_is_seen_where_present_and_only_there() -> None:
    network = awake(SMALL.build(EVERYTHING))
    x, t, present = images(3)
    present[2] = False
    before = network(x, t, given(3), present)
    other = {"label": (given(3)["label"] + 1) % 5} | {
        kind: given(3)[kind].flip(-1) for kind in ("attributes", "text", "mask")
    }
    for kind, value in other.items():
        after = network(x, t, given(3) | {kind: value}, present)
        assert (after - before)[:2].abs().amax((1, 2, 3)).min() > 1e-4, kind
        torch.testing.assert_close(after[2], before[2], rtol=0, atol=1e-6)


@torch.no_grad()
def test_no_condition_is_not_one_of_the_classes() -> None:
    labels = DataSpec(shape=(3, 16, 24), conditions={"label": Condition("label", 5)})
    network = awake(SMALL.build(labels))
    x, t, present = images(1)
    none = network(x, t, {"label": torch.tensor([0])}, ~present)
    classes = [network(x, t, {"label": torch.tensor([k])}, present) for k in range(5)]
    assert min(float((each - none).abs().max()) for each in classes) > 1e-4


@torch.no_grad()
def test_ignored_conditions_and_time_are_not_needed() -> None:
    config = SMALL.model_copy(update={"ignore": ("label", "attributes", "text", "mask"), "time": False})
    network = awake(config.build(EVERYTHING))
    x, t, present = images(2)
    assert torch.equal(network(x, t, {}, present), network(x, 1 - t, {}, ~present))
    timed = awake(SMALL.build(DataSpec(shape=(3, 16, 24))))
    assert (timed(x, t, {}, present) - timed(x, t + 0.01, {}, present)).abs().max() > 1e-4


@torch.no_grad()
def test_a_row_depends_on_no_other_row() -> None:
    network = awake(SMALL.build(EVERYTHING))
    x, t, present = images(4)
    whole = network(x, t, given(4), present)
    alone = network(x[2:3], t[2:3], {kind: v[2:3] for kind, v in given(4).items()}, present[2:3])
    torch.testing.assert_close(whole[2:3], alone, rtol=1e-4, atol=1e-5)


def test_block_is_its_formula() -> None:
    torch.manual_seed(0)
    block = Block(SMALL.model_copy(update={"groups": 2}), 4, 6, 5)
    awake(block)
    x, e = torch.randn(3, 4, 5, 5), torch.randn(3, 5)
    w = dict(block.named_parameters())

    def norm(y: Tensor, at: str) -> Tensor:
        groups = y.reshape(len(y), 2, -1)
        groups = (groups - groups.mean(2, keepdim=True)) / groups.std(2, correction=0, keepdim=True)
        return groups.reshape(y.shape) * w[at + ".weight"][:, None, None] + w[at + ".bias"][:, None, None]

    def swish(y: Tensor) -> Tensor:
        return y / (1 + torch.exp(-y))

    modulation = e @ w["modulate.weight"].T + w["modulate.bias"]
    scale, shift = modulation[:, :6, None, None], modulation[:, 6:, None, None]
    y = F.conv2d(swish(norm(x, "norm1")), w["conv1.weight"], w["conv1.bias"], padding=1)
    y = swish((1 + scale) * norm(y, "norm2") + shift)
    y = F.conv2d(y, w["conv2.weight"], w["conv2.bias"], padding=1)
    expected = y + torch.einsum("oi,bihw->bohw", w["skip.weight"][:, :, 0, 0], x)
    expected = expected + w["skip.bias"][:, None, None]
    torch.testing.assert_close(block(x, e), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_its_formula(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 7, 8).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        result = attend(q, k, v)
    assert result.dtype is dtype
    weights = torch.softmax(q.float() @ k.float().mT / math.sqrt(8), -1)
    torch.testing.assert_close(result, (weights @ v.float()).to(dtype))


def test_channels_last_stays_so_and_changes_nothing() -> None:
    """A permutation in the middle would cost a copy of every feature map in every step."""
    config = SMALL.model_copy(update={"multipliers": (1, 2, 2), "attention": (0, 2)})
    network = awake(config.build(EVERYTHING))
    x, t, present = images(2)
    plain = network(x, t, given(2), present)
    network.to(memory_format=torch.channels_last)
    maps = {name: module for name, module in network.named_modules() if not isinstance(module, nn.Linear)}
    broken = []

    def look(name: str) -> None:
        def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
            if output.ndim == 4 and not output.is_contiguous(memory_format=torch.channels_last):
                broken.append(name)

        maps[name].register_forward_hook(hook)

    for name in maps:
        look(name)
    torch.testing.assert_close(network(x, t, given(2), present), plain, rtol=1e-4, atol=1e-5)
    assert broken == []


@torch.no_grad()
def test_autocast_stays_near_float32() -> None:
    network = awake(SMALL.build(EVERYTHING))
    x, t, present = images(4)
    exact = network(x, t, given(4), present)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = network(x, t, given(4), present).float()
    assert (low - exact).square().mean() < 1e-3 * exact.square().mean()


def test_parameters_by_hand() -> None:
    """One level, no attention: stem, head, three blocks, and the embedding of time and labels."""
    labels = DataSpec(shape=(1, 4, 4), conditions={"label": Condition("label", 10)})
    network = UNetConfig(width=8, multipliers=(1,), middle=3, embedding=32).build(labels)
    stem, head = 4 * 8 * 9 + 8, 2 * 8 + 8 * 4 * 9 + 4
    block = 2 * (2 * 8) + 2 * (8 * 8 * 9 + 8) + (32 * 16 + 16)
    embedding = (64 * 32 + 32) + (32 * 32 + 32) + 10 * 32 + 32
    assert sum(p.numel() for p in network.parameters()) == stem + head + 3 * block + embedding


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (UNetConfig(), (1, 30, 28), r"network\.patch: 30x28 images do not divide by 4"),
        (UNetConfig(groups=7), (1, 28, 28), r"network\.groups: 7 does not divide width 64"),
        (UNetConfig(attention=(2,)), (1, 28, 28), r"network\.attention: no level 2"),
        (UNetConfig(attention=(1,), head=48), (1, 28, 28), r"network\.head: 48 does not divide the 128"),
    ],
)
def test_what_cannot_be_built_is_said(config: UNetConfig, shape: tuple[int, int, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        config.build(DataSpec(shape=shape))


# --- SPADE and the full size ----------------------------------------------------------------------

SPADED = UNetConfig(width=8, multipliers=(1, 2), middle=1, embedding=32, patch=1, spade=4)


@torch.no_grad()
def test_spade_is_its_formula() -> None:
    """y (1 + γ) + β, both from the mask's shares at the size of y."""
    generator = torch.Generator().manual_seed(4)
    spade, y = awake(Spade(2, 4, 8)), torch.randn(3, 8, 4, 6, generator=generator)
    mask = torch.rand(3, 2, 8, 12, generator=generator)
    shares = mask.unflatten(2, (4, 2)).unflatten(4, (6, 2)).mean((3, 5))
    both = F.conv2d(F.conv2d(shares, spade.enter.weight, spade.enter.bias, padding=1).relu(),
                    spade.out.weight, spade.out.bias, padding=1)  # fmt: skip
    torch.testing.assert_close(spade(y, mask), y * (1 + both[:, :8]) + both[:, 8:])


@torch.no_grad()
def test_a_spaded_network_sees_the_mask_where_it_lies() -> None:
    x, t, present = images(2)
    network, conditions = awake(SPADED.build(EVERYTHING)), given(2)
    before = network(x, t, conditions, present)
    moved = conditions["mask"].clone()
    moved[:, :, :4, :4] = 1 - moved[:, :, :4, :4]
    change = (network(x, t, {**conditions, "mask": moved}, present) - before).abs().sum(1)
    assert change[:, :4, :4].mean() > 5 * change[:, 12:, 20:].mean()
    absent = torch.zeros(2, dtype=torch.bool)
    torch.testing.assert_close(
        network(x, t, conditions, absent), network(x, t, {**conditions, "mask": moved}, absent)
    )


def test_spade_without_a_mask_is_refused() -> None:
    with pytest.raises(UserError, match=r"network\.spade: the data has no masks"):
        SPADED.build(DataSpec((3, 16, 24)))


def test_spade_has_the_parameters_it_is_said_to_have() -> None:
    """4 (2 9 + 1) to enter, 2 width (4 9 + 1) to leave, in each of three blocks; the stem sees less."""
    plain = SPADED.model_copy(update={"spade": None})
    more = sum(4 * 19 + 2 * width * 37 for width in (8, 16, 8)) - 8 * 2 * 9
    sizes = [sum(p.numel() for p in config.build(EVERYTHING).parameters()) for config in (SPADED, plain)]
    assert sizes[0] - sizes[1] == more
