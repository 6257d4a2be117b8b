"""Whether activations stay within their types, and bfloat16 gives about the loss of float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject

SECONDS = 5.0
FAST = False
LARGEST = 6e4  # of float16; bfloat16 holds more, with two digits
DIFFERENCE = 0.1  # relative, of a component

OVERFLOW = Code(
    "activation-overflow",
    "warning",
    "in a batch of four, some layer gives numbers above 60,000, about where float16 ends",
    "numbers near the end of their type soon become infinite",
    "normalise before this layer, or lower the learning rate",
)
ROUGH = Code(
    "bf16-differs",
    "warning",
    "A loss component of a batch of four in bfloat16 is more than a tenth off its float32 value. Measured "
    "only where the run uses bf16.",
    "bfloat16 loses small differences of large numbers, and with them the loss",
    "set train.precision=fp32, or compute that part in moment.fp32()",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Every layer's answers in one batch; components in both precisions."""
    batch = subject.batch(min(4, subject.rows))
    largest: dict[str, float] = {}

    def hook(name: str) -> Callable[..., None]:
        def note(module: nn.Module, arguments: Any, answer: Any) -> None:
            if isinstance(answer, Tensor) and answer.is_floating_point() and answer.numel():
                largest[name] = max(largest.get(name, 0.0), float(answer.detach().abs().max()))

        return note

    handles = [
        module.register_forward_hook(hook(f"{name}.{key}"))
        for name, net in subject.nets.items()
        for key, module in net.named_modules()
        if not list(module.children())
    ]
    exact: dict[str, Tensor] = {}
    try:
        for phase in subject.phases:
            losses = subject.losses(subject.nets, phase, batch)
            exact |= {name: values.detach() for name, values in losses.items()}
    finally:
        for handle in handles:
            handle.remove()
    name = max(largest, key=lambda layer: largest[layer], default=None)
    if name is not None and not largest[name] < LARGEST:
        yield OVERFLOW.finding(f"{name} outputs numbers up to {largest[name]:.3g}", f"below {LARGEST:g}")
    if subject.precision == "fp32":
        return
    for phase in subject.phases:
        with subject.autocast():
            rough = subject.losses(subject.nets, phase, batch)
        for component, values in rough.items():
            means = float(exact[component].float().mean()), float(values.detach().float().mean())
            scale = max(float(exact[component].float().abs().mean()), 1e-6)
            if not abs(means[0] - means[1]) <= DIFFERENCE * scale:
                yield ROUGH.finding(
                    f"{component} is {means[1]:.4g} in {subject.precision}", f"{means[0]:.4g}, as in fp32"
                )
