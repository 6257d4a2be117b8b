"""Networks that train in another way than they are written: compiled, or their blocks computed twice.

Both change how a call runs, in place: names, weights, checkpoints and copies of a network stay as they are.
Averages are never compiled, so that samples are the same either way.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from safelight.config import UserError

VARIANTS = 64  # of one function: networks of a class, phases, averaging or not of batch norms


def compile_networks(nets: Mapping[str, nn.Module], backend: str) -> None:
    """Compile the calls of networks with a backend of torch.compile; "off" does nothing.

    Shapes are static, and a function with too many variants fails: what was compiled must not depend on what
    came before it, or a resumed run would differ. A network whose parts are called one by one names them in
    `entries`.
    """
    if backend == "off":
        return
    import torch._dynamo  # two seconds, for those who compile

    torch._dynamo.config.recompile_limit = VARIANTS
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")  # its own
    for net in nets.values():
        for name in getattr(net, "entries", ("",)):
            net.get_submodule(name).compile(backend=backend, dynamic=False)


def recompute_blocks(nets: Mapping[str, nn.Module]) -> None:
    """Keep only what goes into the blocks of networks; a backward pass computes the rest again.

    Blocks say `recomputable = True`: those without batch norm, which would see each batch twice. Dropout
    draws the same masks again. Raises UserError where there is none.
    """
    blocks = [block for net in nets.values() for block in net.modules()
              if getattr(block, "recomputable", False)]  # fmt: skip
    if not blocks:
        raise UserError("train.recompute: no network of this recipe has blocks for it; remove the key")
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
