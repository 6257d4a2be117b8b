"""The verdicts: pure functions of a run's vitals. docs/health.md has the table, and what was measured.

Each says what is wrong now, as what was measured against what is expected, or None. Whether that lasts long
enough to be a verdict is for the monitor to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from safelight.monitor.config import Monitor, Name
from safelight.monitor.vitals import Vitals

EARLY = 1 / 8  # share of a run in which samples are noise yet
UNDECIDED = 0.55  # accuracy below which a discriminator cannot tell; below one half it is fooled
APART, SURE = 20.0, 0.85  # logits between real and fake images, and accuracy, of one that is far ahead
UNSURE = 2.0  # logits between them up to which the generator has a gradient: sigmoid(2) is 0.88
GAP = 0.5  # logits between training and fake images below which no share of that gap is taken
WORSE = 2.0  # times the loss a run began with: it diverges
SKIPS = 5  # steps lately that were skipped, or spikes
BLIND = 0.02  # change with the condition, as a share of the variety of samples
DRIFT = 0.12  # of the way from black to white, past what real images differ by
COPIED = 0.1  # share of samples that are training images
COVERED = 0.8  # coverage of samples that may be alike, as a share of real against real
NOISY = 0.5  # share of white noise in how samples differ, above which they are noise yet
CLASSES = 0.5  # share of the classes asked for that are made
NATS, STILL = (
    0.1,
    0.2,
)  # KL of a posterior that says nothing; share of itself that it moves by, standing still
EXPLODED, FALLEN = 3.0, 0.8  # times the smallest KL since a quarter of the run; of the best coverage
RELEASE = 0.9  # of the way to a threshold at which a verdict that holds is let go


@dataclass(frozen=True)
class Symptom:
    """A signal out of bounds."""

    measured: str  # "accuracy 0.993"
    expected: str  # "at most 0.97"


Judge = Callable[[Vitals, Monitor, bool], Symptom | None]  # the flag: the verdict holds already


@dataclass(frozen=True)
class Verdict:
    """A verdict's rule."""

    judge: Judge
    watched: bool = False  # its signal comes from watches, not from every step
    mature: float = 0.0  # share of the run in which it means nothing: samples are noise yet
    behind: tuple[Name, ...] = ()  # verdicts that explain it: while one holds, this does not begin


def discriminator_wins(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """Accuracy near 1: what the generator learns from has no gradient, or any. Or logits far apart.

    One that is also asked whether an image belongs to its text is never so accurate. Logits were 10 apart at
    most in healthy runs, of any loss, and 18 to 360 where a discriminator ran away.
    """
    release = RELEASE if holds else 1.0
    gap = v.average("seen/logit_real") - v.average("seen/logit_fake")
    ahead = gap > APART * release and v.accuracy > SURE
    right = v.accuracy > 0.5 + (s.accuracy - 0.5) * release and not gap < UNSURE
    if not (right or ahead):
        return None
    norm = v.average("grad_norm/generator")
    gradient = "" if math.isnan(norm) else f", generator gradient {norm:.3g}"
    apart = "" if math.isnan(gap) else f", logits {gap:.3g} apart"
    bound = f", or logits {APART:g} apart" if ahead else ""
    return Symptom(
        f"discriminator accuracy {v.accuracy:.3f}{apart}{gradient}", f"accuracy at most {s.accuracy:g}{bound}"
    )


def discriminator_overfits(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """Held-out images look fake to it: (D(train) - D(held out)) / (D(train) - D(fake)) (Karras 2020)."""
    training, held_out = v.last("trained/logit"), v.last("held_out/logit")
    gap = training - v.average("seen/logit_fake")
    if not gap > GAP:  # near 0 any share comes out
        return None
    share = (training - held_out) / gap
    if not share > s.overfit * (RELEASE if holds else 1.0):
        return None
    return Symptom(
        f"logits {training:.3g} on training and {held_out:.3g} on held-out images, "
        f"{share:.0%} of the way to fakes",
        f"at most {s.overfit:.0%}",
    )


def mode_collapse(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """Samples are alike and miss much of the data, or do not make all the classes.

    Not while they are noise, which is alike once it is averaged as samples are compared, nor while they
    grow more different from watch to watch, as those of a young generator do. Not of a method
    with a KL term: what its prior draws is blurred and alike while all is well, and KL collapse and KL
    explosion say what is not.
    """
    if not math.isnan(v.average("raw/kl")) or v.last("monitor/noise") > NOISY:
        return None
    if v.diversity_rises and not holds:
        return None
    slack = 1 / RELEASE if holds else 1.0
    diversity, classes = v.last("monitor/diversity"), v.last("monitor/classes")
    coverage = v.last("monitor/coverage")
    if diversity < s.diversity * slack and not coverage > COVERED:  # few samples have no coverage
        return Symptom(
            f"samples have {diversity:.2f} of the diversity of real images, {coverage:.2f} of the coverage",
            f"at least {s.diversity:g}, or coverage above {COVERED:g}",
        )
    if classes < CLASSES * slack:
        return Symptom(f"samples look like {classes:.0%} of the classes", f"at least {CLASSES:.0%}")
    return None


def discriminator_dead(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """It cannot tell, although samples cover little of the data: at the equilibrium they cover all."""
    coverage = v.last("monitor/coverage")
    slack = 1 / RELEASE if holds else 1.0
    if not (v.accuracy < UNDECIDED * slack and coverage < s.coverage * slack):
        return None
    return Symptom(
        f"discriminator accuracy {v.accuracy:.2f}, samples cover {coverage:.2f} of real images",
        f"accuracy below {UNDECIDED:g} only with coverage of {s.coverage:g} or more",
    )


def not_finite(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """Skipped steps, gradients far past their median, or a loss far above that of the first steps."""
    if len(v.broken) >= SKIPS:
        return Symptom(f"{len(v.broken)} of the last steps not finite", "every step finite")
    for name, steps in v.spiked.items():
        if len(steps) >= SKIPS:
            return Symptom(
                f"{name}: {len(steps)} spikes, up to {v.worst:.0f} deviations above its median",
                f"at most {s.spike:g} deviations",
            )
    now = v.average("loss")
    began = sorted(v.began)[len(v.began) // 2] if v.began else math.nan
    if now > began + (WORSE - 1) * abs(began) * (RELEASE if holds else 1.0):
        return Symptom(f"loss {now:.3g}", f"below that of the first steps, {began:.3g}")
    return None


def kl_collapse(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """The posterior is the prior: the decoder ignores z.

    Only once KL stands still: at first it falls, as does what random weights say, and rises when z is used.
    """
    kl, units = v.average("raw/kl"), v.last("held_out/active units")
    low, high = min(v.kl_lately, default=0.0), max(v.kl_lately, default=0.0)
    still = len(v.kl_lately) == v.kl_lately.maxlen and high - low <= max(STILL * high, NATS / 10)
    if (still or holds) and (units == 0 or kl < NATS):
        active = f", {units:.0f} active units" if not math.isnan(units) else ""
        return Symptom(f"KL {kl:.3g} nats{active}", f"at least {NATS:g} nats, some active units")
    return None


def kl_explosion(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """KL rises, and what is decoded from the prior looks like no data, or like less of it than it did."""
    kl, coverage = v.average("raw/kl"), v.last("monitor/coverage")
    risen = kl > max(EXPLODED * v.smallest_kl, 100 * NATS)
    least = max(s.coverage, FALLEN * v.best_coverage)
    if not risen or not coverage < least:
        return None
    return Symptom(
        f"KL {kl:.3g} nats, {kl / max(v.smallest_kl, 1e-9):.3g} times its smallest; "
        f"samples from the prior cover {coverage:.2f} of real images",
        f"coverage of {least:.2g} or more",
    )


def condition_ignored(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """The same noises under other conditions are the same images, and no longer noise."""
    change = v.last("monitor/condition")
    if v.last("monitor/noise") > NOISY or not change < BLIND / (RELEASE if holds else 1.0):
        return None
    return Symptom(
        f"samples change {change:.1%} with their condition", f"at least {BLIND:.0%} of their variety"
    )


def colour_drift(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """The histograms of the channels were those of the data, and left them."""
    colour = v.last("monitor/colour")
    if v.smallest_colour > DRIFT or not colour > DRIFT * (RELEASE if holds else 1.0):
        return None
    return Symptom(f"channels {colour:.2f} from those of real images", f"at most {DRIFT:g}")


def memorising(v: Vitals, s: Monitor, holds: bool) -> Symptom | None:
    """Samples are training images, more often than held-out images are."""
    share = v.last("monitor/copies")
    if not share > COPIED * (RELEASE if holds else 1.0):
        return None
    return Symptom(
        f"{share:.0%} more samples than held-out images copy a training image", f"at most {COPIED:.0%}"
    )


OPPONENTS: tuple[Name, ...] = ("discriminator wins", "discriminator dead")
CAUSES: tuple[Name, ...] = (*OPPONENTS, "not finite or spike", "KL collapse", "mode collapse")

VERDICTS: Mapping[Name, Verdict] = MappingProxyType(  # causes before what they bring about
    {
        "discriminator wins": Verdict(discriminator_wins),
        "discriminator dead": Verdict(discriminator_dead, watched=True, mature=EARLY),
        "discriminator overfits": Verdict(discriminator_overfits, watched=True, behind=OPPONENTS),
        "not finite or spike": Verdict(not_finite, behind=OPPONENTS),
        "KL collapse": Verdict(kl_collapse, mature=EARLY),
        "KL explosion": Verdict(kl_explosion, watched=True, mature=1 / 2),
        "mode collapse": Verdict(
            mode_collapse,
            watched=True,
            mature=EARLY,
            behind=(*OPPONENTS, "not finite or spike", "KL collapse"),
        ),
        "condition ignored": Verdict(condition_ignored, watched=True, mature=EARLY, behind=CAUSES),
        "colour drift": Verdict(colour_drift, watched=True, mature=EARLY, behind=CAUSES),
        "memorising": Verdict(memorising, watched=True, mature=EARLY),
    }
)
