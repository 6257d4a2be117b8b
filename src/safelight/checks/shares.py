"""Which loss component the gradient comes from: its share counts, not its weight."""

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
    "the gradient of a weighted component in the parameters of the phase's networks is 0",
    "a weighted component without a gradient changes nothing",
    "let it depend on the networks the phase trains, or set its weight to 0",
)
NO_SAY = Code(
    "component-share",
    "note",
    "the gradient of a weighted component is below a thousandth of the largest in its phase",
    "the larger component drowns the smaller one",
    "nothing, if it is intended; otherwise raise its weight, or ramp the other up",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Gradient norms of the weighted components, by phase."""
    batch = subject.batch(subject.rows)
    for phase in subject.phases:
        parameters = [p for name in phase.trains for p in subject.nets[name].parameters() if p.requires_grad]
        components = subject.losses(subject.nets, phase, batch)
        active = {name: values for name, values in components.items() if subject.weights.get(name)}
        norms = {name: gradient_norm(subject.weights[name] * values.float().mean(), parameters)
                 for name, values in active.items()}  # fmt: skip
        largest = max(norms.values(), default=0.0)
        if not largest or not math.isfinite(largest):
            continue
        for name, norm in norms.items():
            if norm == 0:
                yield NO_GRADIENT.finding(
                    f"{name} (weight {subject.weights[name]:g}) gives {', '.join(phase.trains)} no gradient",
                    "a gradient",
                )
            elif norm < SMALL * largest:
                first = max(norms, key=lambda component: norms[component])
                yield NO_SAY.finding(
                    f"in phase {phase.name} the weighted gradient of {name} is {norm / largest:.2g} of that "
                    f"of {first}",
                    f"above {SMALL:g}, unless it is intended",
                )
        subject.clock.afford(0, "further phases")
