"""What a monitor remembers of a run: moving averages of what steps left, the last values of what was watched.

A fold over the rows of metrics: the same rows give the same verdicts, however they were flushed.

A family says what it is by the names under which it logs. The monitors know these, and every component:

    seen/accuracy                      (b,) whether the discriminator tells a real image from a fake one,
    seen/accuracy_real, accuracy_fake  or each side of it by the sign of its logit
    seen/logit_real, logit_fake        (b,) D(x) and D(G(z)) in training
    held_out/logit, trained/logit      D(x) on held-out images, and on as many training images
    raw/kl, held_out/kl                nats between posterior and prior
    held_out/active units              of the latent; one that carries information (Burda 2015)
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from statistics import median

from safelight.store.metrics import MetricsRow

LATEST = 10  # values


@dataclass
class Average:
    """An exponential average of finite values, unbiased from the first on (as Adam's, Kingma 2015)."""

    half_life: float  # in values
    _sum: float = 0.0
    _weight: float = 0.0

    def add(self, value: float) -> None:
        """Take one more value; one that is not finite is passed over."""
        if math.isfinite(value):
            keep = 0.5 ** (1 / self.half_life)
            self._sum = keep * self._sum + (1 - keep) * value
            self._weight = keep * self._weight + (1 - keep)

    @property
    def value(self) -> float:
        """NaN before the first value."""
        return self._sum / self._weight if self._weight else math.nan


@dataclass
class Typical:
    """The median of the last values and their median absolute deviation from it."""

    length: int
    values: deque[float] = field(init=False)

    def __post_init__(self) -> None:
        self.values = deque(maxlen=self.length)

    def above(self, value: float) -> float:
        """How many deviations a value lies above the median; 0 while fewer than a quarter are known.

        Of all known values or of the LATEST, whichever is less: norms that grow with what a network learns
        make no spike. A deviation counts as at least a tenth of the median: nor do norms that hardly vary.
        """
        if 4 * len(self.values) < self.length:
            return 0.0
        known = list(self.values)
        return min(_deviations(value, known), _deviations(value, known[-LATEST:]))

    def add(self, value: float) -> None:
        """Take one more value; one that is not finite is passed over."""
        if math.isfinite(value):
            self.values.append(value)


def _deviations(value: float, among: list[float]) -> float:
    """How many median absolute deviations a value lies above the median of others."""
    middle = median(among)
    deviation = max(median(abs(other - middle) for other in among), 0.1 * abs(middle))
    return (value - middle) / deviation if deviation else 0.0


WINDOW = 200  # steps: what a gradient norm is compared with
FIRST = 10  # steps whose median is the loss a run began with
SETTLED = 1 / 4  # share of a run in which what is learned first swings: the KL, the mean colour
RISE = 1.05  # times the variety of all samples before: young samples, which come apart
LATELY = 50  # steps in which skips and spikes are counted


@dataclass
class Vitals:
    """The state of a run as far as it is recorded.

    steps: planned. opposed: networks work against each other, so that a rise of the loss is no divergence.
    """

    steps: int
    opposed: bool = False
    step: int = 0  # steps behind it
    averages: dict[str, Average] = field(default_factory=dict)  # of every value a step leaves
    norms: dict[str, Typical] = field(default_factory=dict)  # by network
    spiked: dict[str, deque[int]] = field(default_factory=dict)  # steps, lately
    broken: deque[int] = field(default_factory=deque)  # steps at which something was not finite, lately
    watched: dict[str, float] = field(default_factory=dict)  # the last of each value that few steps have
    began: list[float] = field(default_factory=list)  # the first totals
    kl_lately: deque[float] = field(init=False)  # its average after the last steps, an eighth of the run
    smallest_kl: float = math.inf  # since SETTLED
    best_coverage: float = 0.0
    best_diversity: float = 0.0
    diversity_rises: bool = False  # the last samples are the most varied so far
    smallest_colour: float = math.inf  # distance of the samples' channels from the data's, since SETTLED
    worst: float = 0.0  # the highest of the spikes lately, in deviations

    def __post_init__(self) -> None:
        self.kl_lately = deque(maxlen=min(max(LATELY, self.steps // 8), 5 * WINDOW))

    def add(self, row: MetricsRow, spike: float) -> None:
        """Take the next row. spike: deviations past which a gradient norm is one."""
        self.step = row.step + 1
        half_life = min(max(5.0, self.steps / 100), 200.0)
        norms = {name: value for name, value in row.extra.items() if name.startswith("grad_norm/")}
        every_step = {f"raw/{name}": value for name, value in row.components.items()}
        every_step |= {name: value for name, value in row.extra.items() if name.startswith("seen/")} | norms
        # Unweighted, as a ramp of a weight is no divergence. KL rises from 0 wherever anything is learnt.
        brought_down = [value for name, value in row.components.items() if name != "kl"]
        every_step["loss"] = math.nan if self.opposed else sum(brought_down)
        for name, value in every_step.items():
            self.averages.setdefault(name, Average(half_life)).add(value)
        for name, value in row.extra.items():
            if name not in every_step and not name.startswith(("verdict/", "remedy/")):
                self.watched[name] = value
        self.best_coverage = max(self.best_coverage, row.extra.get("monitor/coverage", 0.0))
        if "monitor/diversity" in row.extra:
            diversity = row.extra["monitor/diversity"]
            self.diversity_rises = diversity > RISE * self.best_diversity
            self.best_diversity = max(self.best_diversity, diversity)
        settled = self.step > self.steps * SETTLED
        if settled:
            self.smallest_colour = min(self.smallest_colour, row.extra.get("monitor/colour", math.inf))
        if len(self.began) < FIRST and math.isfinite(every_step["loss"]):
            self.began.append(every_step["loss"])
        if not all(map(math.isfinite, [*row.components.values(), *norms.values()])):
            self.broken.append(self.step)
        for name, value in norms.items():
            typical = self.norms.setdefault(name, Typical(WINDOW))
            above = typical.above(value)
            if above > spike:
                self.spiked.setdefault(name, deque()).append(self.step)
                self.worst = max(self.worst, above)
            typical.add(value)
        for steps in (self.broken, *self.spiked.values()):
            while steps and steps[0] <= self.step - LATELY:
                steps.popleft()
        if "raw/kl" in self.averages:
            self.kl_lately.append(self.average("raw/kl"))
            self.smallest_kl = min(self.smallest_kl, self.kl_lately[-1]) if settled else math.inf
        if not any(self.spiked.values()):
            self.worst = 0.0

    def average(self, name: str) -> float:
        """The moving average of a value; NaN where it is not logged."""
        return self.averages[name].value if name in self.averages else math.nan

    def last(self, name: str) -> float:
        """The last of a value that was watched or evaluated; NaN where there is none."""
        return self.watched.get(name, math.nan)

    @property
    def accuracy(self) -> float:
        """How often the discriminator is right; NaN without one."""
        paired = self.average("seen/accuracy")
        sides = self.average("seen/accuracy_real") + self.average("seen/accuracy_fake")
        return sides / 2 if math.isnan(paired) else paired
