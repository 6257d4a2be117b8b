"""Which loss component the gradient comes from: a weight says little, its gradient's share all."""

from __future__ import annotations

import math
from collections.abc import Iterator

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.subject import Subject
from safelight.engine.shares import gradient_norm

SECONDS = 8.0
FAST = False
SMALL = 1e-3  # of the phase's largest

NO_GRADIENT = Code(
    "component-without-gradient",
    "warning",
    "a weighted component that no trained network can change is a number in the log",
    "let it depend on what the phase trains, or set its weight to 0",
)
NO_SAY = Code(
    "component-share",
    "note",
    "the smaller component is decided by the larger one",
    "nothing, where it is meant; otherwise raise its weight, or ramp the other up",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Gradient norms of the weighted components, by phase."""
    batch = subject.batch(subject.rows)
    for phase, trains in subject.phases():
        parameters = [p for name in trains for p in subject.nets[name].parameters() if p.requires_grad]
        components = subject.losses(subject.nets, phase, batch)
        active = {name: values for name, values in components.items() if subject.weights.get(name)}
        norms = {name: gradient_norm(subject.weights[name] * values.float().mean(), parameters)
                 for name, values in active.items()}  # fmt: skip
        largest = max(norms.values(), default=0.0)
        if not largest or not math.isfinite(largest):
            continue
        for name, norm in norms.items():
            if norm == 0:
                yield NO_GRADIENT.found(
                    f"{name} (weight {subject.weights[name]:g}) gives {', '.join(trains)} no gradient",
                    "a gradient",
                )
            elif norm < SMALL * largest:
                first = max(norms, key=lambda one: norms[one])
                yield NO_SAY.found(
                    f"in phase {phase.name} the weighted gradient of {name} is {norm / largest:.2g} of that "
                    f"of {first}",
                    f"above {SMALL:g}, unless it is meant",
                )
        subject.clock.afford(0, "further phases")
