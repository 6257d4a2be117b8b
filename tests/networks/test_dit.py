"""The diffusion transformer: the paper's counts, zero at first, conditions and places that matter."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from safelight.config import UserError
from safelight.networks.dit import Dit, DitConfig, rotation, turned
from safelight.types import Condition, DataSpec

IMAGENET = DataSpec((4, 32, 32), {"label": Condition("label", 1000)})
SIZES = {  # width, depth, heads; millions of parameters, 10^9 multiply-adds (Peebles and Xie, tables 1 and 4)
    "S/2": (384, 12, 6, 33, 6.06),
    "B/2": (768, 12, 12, 130, 23.01),
    "L/2": (1024, 24, 16, 458, 80.71),
    "XL/2": (1152, 28, 16, 675, 118.64),
}
SMALL = DitConfig(width=16, depth=2, heads=2)
SPEC = DataSpec((3, 8, 12), {"label": Condition("label", 3)})


@pytest.mark.parametrize("name", SIZES)
def test_parameters_and_operations_are_the_papers(name):
    width, depth, heads, millions, multiplications = SIZES[name]
    with torch.device("meta"):
        net = DitConfig(width=width, depth=depth, heads=heads).build(IMAGENET)
        x, t, given = torch.empty(1, 4, 32, 32), torch.empty(1), {"label": torch.empty(1, dtype=torch.long)}
        with FlopCounterMode(display=False) as counted:
            net(x, t, given, torch.empty(1, dtype=torch.bool))
    assert sum(p.numel() for p in net.parameters()) / 1e6 == pytest.approx(millions, rel=0.01)
    assert counted.get_total_flops() / 2 / 1e9 == pytest.approx(multiplications, rel=0.02)


def small(config: DitConfig = SMALL, spec: DataSpec = SPEC, moved: bool = True) -> Dit:
    torch.manual_seed(0)
    net = config.build(spec)
    assert isinstance(net, Dit)
    if moved:
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return net


X, T, HERE = torch.randn(2, 3, 8, 12), torch.tensor([0.2, 0.7]), torch.tensor([True, True])
GIVEN = {"label": torch.tensor([0, 2])}


def test_it_begins_as_zero_and_its_blocks_as_the_identity():
    net = small(moved=False)
    assert torch.equal(net(X, T, GIVEN, HERE), torch.zeros_like(X))
    tokens = torch.randn(2, 24, 16)
    e = net.embedding(T, GIVEN, HERE)
    assert torch.equal(net.blocks[0](tokens, e, rotation(4, 6, 8)), tokens)


def test_noise_level_and_conditions_change_the_output_and_absent_ones_do_not():
    net = small()
    base, other = net(X, T, GIVEN, HERE), {"label": torch.tensor([1, 2])}
    changed = net(X, T, other, HERE)
    assert (changed[0] - base[0]).abs().max() > 1e-3
    assert torch.equal(changed[1], base[1])
    assert (net(X, T + 0.1, GIVEN, HERE) - base).abs().amax((1, 2, 3)).min() > 1e-3
    assert torch.equal(net(X, T, GIVEN, ~HERE), net(X, T, other, ~HERE))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_half_precision_is_about_the_whole(half):
    net = small()
    with torch.autocast("cpu", half):
        rough = net(X, T, GIVEN, HERE)
    assert rough.dtype == half
    whole = net(X, T, GIVEN, HERE)
    assert (rough.float() - whole).norm() < 0.05 * whole.norm()


def test_a_mask_is_seen_where_it_is_present():
    spec = DataSpec((3, 8, 12), {"mask": Condition("mask", 2)})
    net, mask = small(spec=spec), torch.rand(2, 2, 8, 12)
    base = net(X, T, {"mask": mask}, HERE)
    assert (net(X, T, {"mask": 1 - mask}, HERE) - base).abs().max() > 1e-3
    assert torch.equal(net(X, T, {"mask": mask}, ~HERE), net(X, T, {"mask": 1 - mask}, ~HERE))
    ignoring = small(SMALL.model_copy(update={"ignore": ("mask",)}), spec)
    assert torch.equal(ignoring(X, T, {"mask": mask}, HERE), ignoring(X, T, {"mask": 1 - mask}, HERE))


def test_products_of_turned_vectors_depend_on_the_way_between_their_places():
    """Along both axes; lengths stay."""
    turn = rotation(5, 7, 8)
    q, k = torch.randn(8), torch.randn(8)
    both = torch.stack([q, k])[:, None, None].expand(2, 1, 35, 8)
    a, b = turned(both, turn)[:, 0].view(2, 5, 7, 8)
    torch.testing.assert_close(a.norm(dim=2), q.norm().expand(5, 7))
    torch.testing.assert_close((a[1, 2] * b[3, 5]).sum(), (a[0, 1] * b[2, 4]).sum())
    assert (a[1, 2] * b[3, 5]).sum() != (a[1, 2] * b[2, 5]).sum()
    assert (a[1, 2] * b[3, 5]).sum() != (a[1, 2] * b[3, 6]).sum()


def test_patches_come_back_to_their_places():
    """A change of one patch of the last layer's tokens changes those pixels alone."""
    net = small(DitConfig(width=16, depth=1, heads=2), DataSpec((3, 8, 12)))
    x = X.clone()
    x[:, :, 2:4, 6:8] += 1
    for block in net.blocks:
        torch.nn.init.zeros_(block.modulate.weight)
        torch.nn.init.zeros_(block.modulate.bias)
    changed = (net(x, T, {}, ~HERE) - net(X, T, {}, ~HERE)).abs().amax((0, 1)) > 1e-6
    expected = torch.zeros(8, 12, dtype=torch.bool)
    expected[2:4, 6:8] = True
    assert torch.equal(changed, expected)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DitConfig(patch=5), "network.patch: 8x12 images do not divide by 5"),
        (DitConfig(width=18, heads=3), "network.heads: width 18 in 3 heads is 6 each"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(config, message):
    with pytest.raises(UserError, match=f"^{message}"):
        config.build(SPEC)
