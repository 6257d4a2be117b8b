"""Whether conditions reach the loss and the samples, are the same kind in both, and differ from "none".

Networks are watched in training and in sampling: their inputs, which rows are present, and their answers. The
answer without a condition is compared with that on every real one. A condition that a network lists in its
attribute `ignored` may be without effect.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from safelight.checks.bench.finding import Code, Finding
from safelight.checks.bench.oracle import ImageNetwork, world
from safelight.checks.bench.probes import Call, NotApplicable, StandIn, watching
from safelight.checks.bench.subject import FEW, Subject
from safelight.types import Batch, Nets, Phase, Values

SECONDS = 12.0
FAST = True
BATCHES = 6  # watched for rows whose condition was dropped
SAME = 1e-6  # relative
CLASSES = 12  # that "none" is compared with, at most
MOSTLY = 0.5  # difference in the share of numbers that are 0 or 1: shares against single labels
APART = 4.0  # spreads between the mean conditions of training and of sampling

UNUSED = Code(
    "condition-unused",
    "warning",
    "A condition is exchanged between images, and no loss component changes by a bit. Skipped: conditions "
    "in a network's `ignored` (the keys `network.ignore`, `conditional` and `classes`), and those that no "
    "image has.",
    "samples cannot follow a condition that no loss depends on",
    "use it in the network, or leave it out of [data]",
)
NOT_SAMPLED = Code(
    "condition-lost-in-sampling",
    "error",
    "A condition is exchanged between images: losses change, samples do not",
    "the network learns to follow the condition, but sampling does not pass it on",
    "pass `given` and `present` to the network in sample as in the loss",
)
NULL_IS_REAL = Code(
    "null-is-real",
    "error",
    "Training rows marked present carry the same wrong class. Or the network's output without a condition "
    "equals its output for a class, or for the conditions of one of twelve real images.",
    "no condition equals a real one: guidance pushes away from that class, which is trained on all images",
    "where `present` is False, use a separate value, such as a learned vector",
)
NULL_UNTRAINED = Code(
    "null-untrained",
    "warning",
    "sampling uses outputs with `present` False, and none of 96 training rows has it",
    "guidance uses outputs without a condition, which were never trained",
    "set method.condition_dropout to 0.1, or guidance to 1",
)
OTHER_KIND = Code(
    "conditions-differ",
    "error",
    "A network gets conditions in sampling that differ from those in training: in names, shapes, types, the"
    " share of numbers that are 0 or 1, or the mean",
    "the network is sampled on conditions of another kind than it was trained on",
    "make the conditions in one function that loss and sample both call",
)


@dataclass(frozen=True)
class Seen:
    """Calls of networks in training, each with its batch, and in sampling on real conditions."""

    training: Sequence[tuple[Batch, Call]]
    sampling: Sequence[Call]


def check(subject: Subject) -> Iterator[Finding]:
    """Every condition of the data."""
    if not subject.spec.conditions:
        return
    try:
        denoiser = world(subject).network
    except NotApplicable:
        denoiser = None
    seen = Seen(list(_in_training(subject, denoiser)), list(_in_sampling(subject, denoiser)))
    yield from _used(subject)
    yield from _kinds(seen)
    present = [call.present for _, call in seen.training if call.present is not None]
    trained = any(not bool(rows.all()) for rows in present)
    guided = any(call.present is not None and not bool(call.present.all()) for call in seen.sampling)
    if guided and present and not trained:
        yield NULL_UNTRAINED.finding(
            f"samples are made with guidance, and none of {sum(map(len, present))} training rows was without "
            "its condition",
            "a share of rows without a condition",
        )
    yield from _relabelled(subject, seen)
    yield from _null(subject)


def _without(denoiser: ImageNetwork | None, nets: Nets) -> Nets:
    """The networks with zeros for the denoiser's answers, which cost nothing: only its inputs are watched."""
    if denoiser is None:
        return nets
    name = denoiser.name
    return {**nets, name: StandIn(name, lambda call: torch.zeros_like(call.tensors[0]))}


def _in_training(subject: Subject, denoiser: ImageNetwork | None) -> Iterator[tuple[Batch, Call]]:
    nets = _without(denoiser, subject.nets)
    for step in range(BATCHES):
        batch = subject.batch(subject.rows, step)
        for phase in subject.phases:
            with torch.no_grad() if denoiser else torch.enable_grad(), watching(nets) as calls:
                subject.losses(nets, phase, batch, step)
            yield from ((batch, call) for call in calls if call.given)
        subject.clock.afford(0, "batches watched for their conditions")


def _in_sampling(subject: Subject, denoiser: ImageNetwork | None) -> Iterator[Call]:
    real = subject.real(subject.rows)
    nets = _without(denoiser, subject.sampling_nets)
    with watching(nets) as calls:
        subject.sample(nets, real.given, real.present, subject.quick_how)
    return (call for call in calls if call.given)


def _used(subject: Subject) -> Iterator[Finding]:
    """Each condition is exchanged between rows: losses and samples must change."""
    real = subject.real(subject.rows)
    real = replace(real, x=subject.batch(subject.rows).x[: len(real.x)])
    samples = subject.sample(subject.sampling_nets, real.given, real.present, subject.quick_how)
    ignored = {name for net in subject.nets.values() for name in getattr(net, "ignored", ())}
    for name in subject.spec.conditions:
        if name in ignored or not bool(real.present.any()):
            continue
        other = replace(real, given={**real.given, name: _others(real.given[name])})
        if torch.equal(other.given[name], real.given[name]):
            continue  # all of these items have the same
        moved = max(
            _apart(before, subject.losses(subject.nets, phase, other)[key])
            for phase in subject.phases
            for key, before in subject.losses(subject.nets, phase, real).items()
        )
        if not moved:
            yield UNUSED.finding(f"{name}: no loss changes when it is exchanged between images", "a change")
            continue
        again = subject.sample(subject.sampling_nets, other.given, other.present, subject.quick_how)
        if not _apart(samples, again):
            yield NOT_SAMPLED.finding(
                f"{name}: losses change by {moved:.2g} of their values when it is exchanged, samples do not",
                "samples change too",
            )


def _others(values: Tensor) -> Tensor:
    """Every row with the value of another row that differs from its own, where there is one."""
    flat = values.flatten(1) if values.ndim > 1 else values[:, None]
    differs = (flat[:, None] != flat[None]).any(2)
    return values[
        torch.where(differs.any(1), differs.int().argmax(1), torch.arange(len(values), device=values.device))
    ]


def _apart(before: Tensor, after: Tensor) -> float:
    """The largest relative change."""
    return float((after - before).detach().abs().max() / before.detach().abs().max().clamp(min=1e-12))


def _kinds(seen: Seen) -> Iterator[Finding]:
    """What the same network is given in training and in sampling."""
    networks = {call.network for _, call in seen.training} & {call.network for call in seen.sampling}
    for network in sorted(networks):
        training = _by_name([call for _, call in seen.training if call.network == network])
        sampling = _by_name([call for call in seen.sampling if call.network == network])
        for name in sorted(training.keys() | sampling.keys()):
            difference = _difference(training.get(name), sampling.get(name))
            if difference:
                yield OTHER_KIND.finding(f"{name} of {network}: {difference}", "the same kind in both")


def _by_name(calls: Sequence[Call]) -> dict[str, Tensor | None]:
    """All rows that were present of each condition, unless their shapes differ."""
    rows: dict[str, list[Tensor]] = {}
    for call in calls:
        for name, value in call.given.items():
            present = call.present
            rows.setdefault(name, []).append(
                value[present] if present is not None and len(present) == len(value) else value
            )
    return {name: torch.cat(parts) if len({part.shape[1:] for part in parts}) == 1 else None
            for name, parts in rows.items()}  # fmt: skip


def _difference(training: Tensor | None, sampling: Tensor | None) -> str:
    """In which way conditions are of another kind; "" where they are of one."""
    if training is None or sampling is None:
        side = "sampling" if training is None else "training"
        return f"given in {side} only"
    if training.shape[1:] != sampling.shape[1:]:
        return f"{tuple(training.shape[1:])} in training, {tuple(sampling.shape[1:])} in sampling"
    if training.is_floating_point() != sampling.is_floating_point():
        return f"{training.dtype} in training, {sampling.dtype} in sampling"
    if not training.is_floating_point() or not len(training) or not len(sampling):
        return ""
    whole = [float(((values == 0) | (values == 1)).float().mean()) for values in (training, sampling)]
    if abs(whole[0] - whole[1]) > MOSTLY:
        return f"{whole[0]:.0%} of its numbers are 0 or 1 in training, {whole[1]:.0%} in sampling"
    means = [float(values.cpu().double().mean()) for values in (training, sampling)]
    spread = float(training.cpu().double().std())
    if abs(means[0] - means[1]) > APART * spread + 1e-6:
        return f"mean {means[0]:.3g} in training, {means[1]:.3g} in sampling"
    return ""


def _relabelled(subject: Subject, seen: Seen) -> Iterator[Finding]:
    """Labels that a method exchanged for a single class in rows that it passes as present."""
    counts: Counter[int] = Counter()
    rows = 0
    for batch, call in seen.training:
        passed, labels = call.given.get("label"), batch.given.get("label")
        if passed is None or labels is None or passed.shape != labels.shape or passed.is_floating_point():
            continue
        present = call.present if call.present is not None else torch.ones_like(labels, dtype=torch.bool)
        rows += len(labels)
        counts.update(passed[(passed != labels) & present & batch.present].tolist())
    if len(counts) == 1:
        value, count = counts.popitem()
        if value < subject.spec.classes:
            yield NULL_IS_REAL.finding(
                f"{count} of {rows} training rows get class {value}, which is a real one, in place of theirs",
                "rows without a condition have `present` False, or a class number beyond the real ones",
            )


def _null(subject: Subject) -> Iterator[Finding]:
    """Answers without a condition against answers on every real one."""
    count = min(FEW, subject.rows)
    batch = subject.batch(count)
    here, gone = torch.ones_like(batch.present), torch.zeros_like(batch.present)
    for phase in subject.phases:
        none = _answers(subject, phase, replace(batch, present=gone))
        real = [
            (title, _answers(subject, phase, replace(batch, given=given, present=here)))
            for title, given in _real(subject, batch)
        ]
        for place, (network, answer) in enumerate(none):
            others = [(title, answers[place][1]) for title, answers in real
                      if answers[place][1].shape == answer.shape]  # fmt: skip
            if len(others) < 2:
                continue
            scale = float(answer.abs().max()) or 1.0
            gaps = torch.stack([_by_row(other - answer) / scale for _, other in others])
            live = gaps.amax(0) > 100 * SAME  # rows on which conditions have an effect
            for row in live.nonzero()[:, 0].tolist():
                same = [title for (title, _), gap in zip(others, gaps[:, row], strict=True) if gap < SAME]
                if same:
                    yield NULL_IS_REAL.finding(
                        f"{network} gives the same output without a condition as on {same[0]}",
                        "another answer",
                    )
                    return
        subject.clock.afford(0, "answers without a condition")


def _by_row(values: Tensor) -> Tensor:
    """The largest of every row."""
    return values.abs().reshape(len(values), -1).amax(1)


def _real(subject: Subject, batch: Batch) -> Iterator[tuple[str, Values]]:
    """Real conditions for all rows of a batch: every class, or those of real items."""
    if set(subject.spec.conditions) == {"label"}:
        classes = subject.spec.classes
        chosen = range(classes) if classes <= CLASSES else [*range(CLASSES - 1), classes - 1]
        for number in chosen:
            yield f"class {number}", {"label": torch.full_like(batch.given["label"], number)}
        return
    real = subject.real(CLASSES)
    for item in range(len(real.x)):
        given = {name: value[item : item + 1].expand(len(batch.x), *value.shape[1:])
                 for name, value in real.given.items()}  # fmt: skip
        yield f"the conditions of a real image (number {item})", given


def _answers(subject: Subject, phase: Phase, batch: Batch) -> list[tuple[str, Tensor]]:
    with watching(subject.nets, answers=True) as calls:
        subject.losses(subject.nets, phase, batch)
    return [(call.network, call.answer.detach().float()) for call in calls if isinstance(call.answer, Tensor)
            and call.answer.ndim]  # fmt: skip
