"""The noise levels of training: from almost none to almost nothing else, all of them in every batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import world
from safelight.checks.bench.probes import Call, watching
from safelight.checks.bench.subject import Subject

SECONDS = 10.0
FAST = True
LEAST, MOST = 0.15, 0.05  # σ / α of the cleanest level, α / σ of the noisiest
DOUBT = 0.05  # chance that a range is reported to end too early, and does not
BATCHES = 4

ONE_TIME = Code(
    "one-time-a-batch",
    "error",
    "the noise level is the same for all rows of a batch, and another in the next batch",
    "one noise level for the whole batch makes the gradient far noisier than the batch size suggests",
    "draw t for every image: moment.draw.uniform gives a number a row",
)
SIGNAL_LEFT = Code(
    "signal-at-the-end",
    "warning",
    "At the noisiest of up to 2,048 levels, x_t holds more than 0.05 times as much image as noise, and more"
    " draws would hardly reach below (95 % confidence, Robson and Whitlock 1964). Images are exchanged for "
    "black ones to see their share of the input.",
    "samples start from pure noise, which training never shows: they come out grey, with the mean brightness "
    "of the data (Lin 2023)",
    "let the schedule end in noise: a cosine schedule, more timesteps, or a larger last beta",
)
NOISE_AT_START = Code(
    "noise-at-the-start",
    "warning",
    "at the cleanest of up to 2,048 noise levels, x_t holds more than 0.15 times as much noise as image",
    "the network never learns the finest details, which are decided at low noise",
    "let the schedule begin near noise level 0",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Times as the networks get them; noise levels as the inputs have them."""
    yield from _in_a_batch(subject, [call for call in subject.trial.calls if call.time is not None])
    known = world(subject)
    if not known.has_levels:
        return
    sigma_over = known.sigma / known.alpha.abs().clamp(min=1e-12)
    alpha_over = known.alpha.abs() / known.sigma.clamp(min=1e-12)
    if end(alpha_over) > MOST:
        noisy = float(alpha_over.min())
        yield SIGNAL_LEFT.finding(
            f"at the noisiest level (t = {float(known.time[sigma_over.argmax()]):.3g}) x_t holds "
            f"{noisy:.3f} times as much image as noise, a signal-to-noise ratio of {noisy**2:.2g}",
            f"at most {MOST:g}",
        )
    if end(sigma_over) > LEAST:
        yield NOISE_AT_START.finding(
            f"at the cleanest level x_t holds {float(sigma_over.min()):.3f} times as much noise as image",
            f"at most {LEAST:g}",
        )


def end(drawn: Tensor) -> float:
    """The lowest plausible lower end of a range, by two draws or more from it (Robson and Whitlock 1964).

    The smallest draw, less 1 / DOUBT - 1 times its distance from the next: few draws do not reach the end of
    a thin tail, where they lie far apart, but crowd at an end that cuts one off.
    """
    first, second = drawn.sort().values[:2].tolist()
    return float(first - (1 / DOUBT - 1) * (second - first))


def _in_a_batch(subject: Subject, calls: list[Call]) -> Iterator[Finding]:
    """Networks whose time differs from batch to batch, but not within one."""
    for name in dict.fromkeys(call.network for call in calls):
        times = [call.time for call in calls if call.network == name]
        within = {len(torch.unique(time)) for time in times if time is not None}
        if within != {1} or subject.rows < 2:
            continue
        levels: set[float] = set()
        for step in range(BATCHES):
            for phase in subject.phases:
                with watching(subject.nets) as seen:
                    subject.losses(subject.nets, phase, subject.batch(2, step), step)
                levels |= {
                    float(call.time[0]) for call in seen if call.network == name and call.time is not None
                }
        if len(levels) > 1:
            yield ONE_TIME.finding(f"all rows of a batch have the same t in {name}", "a t for every image")
