"""The rules by which a recipe is made for a folder: functions of what was seen in it and of the time given.

Every rule gives choices, a key of the recipe with its value and the reason, in words. What the user states is
left as stated. The numbers are from benchmarks/folders.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from safelight.config import UserError
from safelight.data import buckets
from safelight.data.glance import Glance
from safelight.engine.plan import Optim
from safelight.planning.ladder import Rung

FIRST_LOOK = 5.0  # minutes, where none are stated
FEWEST = 8  # pictures
MOST_HAVE = 0.9  # share of the pictures that has to have a condition: the others train without any
EACH = 8  # pictures a class, in the median
ALIKE = 0.2  # share of captions unlike the others, below which they are no captions
SYMMETRIC = 1.5  # `Glance.symmetry` up to which sides are alike
FEW = 20_000  # pictures; more need no mirror images
HIGHEST = 5e-3  # learning rate of Adam for a U-Net, in up to 1,000 steps
RATES = {"muon": 3}  # of other optimisers, as multiples of Adam's
EVALUATIONS = 10  # sampler steps
CLUSTERED = 1000  # pictures without a condition from which on they are clustered
VARIED, SHAPES = 400, 6  # pictures from which on buckets are worth it, and how many buckets at most
UNBUCKETED = ("balance", "turn", "latents.autoencoder", "fit", "buckets")  # keys of [data]
LOST = 0.05  # share that a square would cut of pictures on one colour, from which on they are kept whole
WASTED = 0.2  # share that crops to a single shape would cut of pictures on average, from which on they are


@dataclass(frozen=True)
class Choice:
    """A key of a recipe, its value, and why."""

    key: str
    value: Any
    reason: str


def enough(seen: Glance, path: str) -> None:
    """Raises UserError for fewer than FEWEST pictures: nothing varies among so few."""
    if seen.images < FEWEST:
        count = "one picture" if seen.images == 1 else f"{seen.images} pictures"
        raise UserError(f"data.path: {path} holds {count}; give {FEWEST} or more, better some hundreds")


def conditions(seen: Glance) -> list[Choice]:
    """Captions before classes; masks and attributes beside either. Each only where nine of ten have it."""
    choices = []
    share = {name: seen.share.get(name, 0.0) for name in ("text", "label", "mask", "attributes")}
    lacking = {name: f"{1 - has:.0%} of the pictures have none, and would train without any condition"
               for name, has in share.items() if 0 < has < MOST_HAVE}  # fmt: skip
    captioned = share["text"] >= MOST_HAVE and seen.distinct >= ALIKE
    if captioned:
        words = f"{seen.captions:.1f} captions a picture; their words need no training and no download"
        choices.append(Choice("data.text_encoder", "words", words))
    if share["label"]:
        counts = sorted(seen.classes.values())
        many, middle = len(counts), counts[len(counts) // 2]
        if captioned:
            reason = f"captions say more than the {many} classes"
        elif "label" in lacking:
            reason = lacking["label"]
        elif middle < EACH:
            reason = f"{many} folders or names with {middle} pictures in the median are no classes"
        else:
            choices.append(
                Choice("data.labels", True, f"{many} classes, {counts[0]:,} to {counts[-1]:,} pictures")
            )
            reason = ""
        if reason:
            choices.append(Choice("data.labels", False, reason))
    if seen.transparent and not share["mask"]:
        choices.append(Choice("data.mask", "alpha", "the pictures are transparent around what they show"))
    elif share["mask"] and seen.mask_problem and seen.mask_classes and "mask" not in lacking:
        choices.append(Choice("data.mask_values", "soft", "masks have soft edges, as shares of one class"))
    elif share["mask"] and (problem := seen.mask_problem or lacking.get("mask")):
        choices.append(Choice("data.mask", "none", problem))
    elif share["mask"]:
        choices.append(Choice("data.mask_classes", seen.mask_classes, "in the masks looked at"))
    if seen.attributes and "attributes" in lacking:
        choices.append(Choice("data.attributes", [], lacking["attributes"]))
    return choices


def clusters(seen: Glance, used: Sequence[str]) -> list[Choice]:
    """Classes by k-means for CLUSTERED pictures or more that have no condition; measured in docs/log.md."""
    if used or seen.images < CLUSTERED:
        return []
    why = "nothing says what the pictures show: groups of similar ones do"
    return [Choice("data.clusters", min(64, seen.images // 32), why)]


def shape(seen: Glance, rung: Rung) -> Choice:
    """Pictures of one small size as they are; of one proportion, in it; others as squares."""
    height, width = seen.median
    if seen.same and max(height, width) <= rung.side and not (height % rung.step or width % rung.step):
        return Choice("data.size", height if height == width else [height, width], "the size of the pictures")
    ratios = seen.sizes[:, 0] / seen.sizes[:, 1]
    alike = abs(ratios / (height / width) - 1) < 0.05
    if alike.mean() >= 0.8 and seen.cut > 0.1:
        sides = [max(rung.step, round(rung.side * factor / rung.step) * rung.step)
                 for factor in (math.sqrt(height / width), math.sqrt(width / height))]  # fmt: skip
        return Choice(
            "data.size", sides, f"[height, width], the proportions of {alike.mean():.0%} of the pictures"
        )
    words = f"cropped about the centre, which cuts {seen.cut:.0%} of the median picture of {height}x{width}"
    return Choice(
        "data.size", rung.side, words if seen.cut > 0.005 else f"from {height}x{width} in the median"
    )


def shapes(seen: Glance, rung: Rung, stated: Mapping[str, Any]) -> list[Choice]:
    """One shape, or aspect ratio buckets where that would cut WASTED or more on average, and they half of it.

    Buckets only for VARIED pictures or more, and where nothing is stated that they cannot have. Pictures on
    one colour are kept whole, with more of it around them, where a square would cut LOST of them.
    """
    single = shape(seen, rung)
    if seen.edge and single.value == rung.side and not {"data.fit", "data.buckets"} & stated.keys():
        cut = float(buckets.cuts(seen.sizes, [(1, 1)]).mean())
        if cut >= LOST:
            why = f"the pictures are on one colour; a square crop would cut {cut:.0%} of them on average"
            return [Choice("data.size", rung.side, "the whole of each picture fits in"),
                    Choice("data.fit", "contain", why),
                    Choice("data.background", seen.edge, "the colour of their edges")]  # fmt: skip
    size = stated.get("data.size", rung.side)
    whole = tuple(size) if isinstance(size, list | tuple) else (size, size)
    against = {"network.name", "method.name", *(f"data.{key}" for key in UNBUCKETED)}
    if seen.images < VARIED or against & stated.keys():
        return [single]
    sides = single.value if isinstance(single.value, list) else [1, 1]
    cut = float(buckets.cuts(seen.sizes, [(sides[0], sides[1])]).mean())
    proposed = buckets.proposed(seen.sizes, math.prod(whole), rung.step, SHAPES) if cut >= WASTED else []
    if len(proposed) < 2 or (left := float(buckets.cuts(seen.sizes, proposed).mean())) > cut / 2:
        return [single]
    why = f"shapes: crops to the nearest of them cut {left:.0%} on average, to a single one {cut:.0%}"
    return [Choice("data.size", rung.side, f"the area of {len(proposed)} shapes"),
            Choice("data.buckets", len(proposed), why)]  # fmt: skip


def mirror(seen: Glance) -> Choice:
    """Mirror few pictures, whose sides are alike: in the mean picture, the captions and the classes."""
    if seen.sides and seen.share.get("text"):
        return Choice("data.flip", False, "captions name left and right")
    if seen.classes and all(len(name) == 1 for name in seen.classes):
        return Choice("data.flip", False, "classes are digits or letters")
    if seen.symmetry > SYMMETRIC:
        odds = (
            f"the mean picture differs from its mirror image {seen.symmetry:.1f} times as much as by chance"
        )
        return Choice("data.flip", False, odds)
    if seen.images >= FEW:
        return Choice("data.flip", False, f"{seen.images:,} pictures are enough")
    return Choice(
        "data.flip", True, f"{seen.images:,} pictures, whose sides are alike: mirrored, they count twice"
    )


def network(rung: Rung, reason: str) -> list[Choice]:
    """A U-Net of the rung, small enough that the minutes suffice."""
    choices = [
        Choice("network.name", "unet", "the cheapest of the denoisers here, a picture"),
        Choice("network.patch", rung.patch, f"works at {rung.side // rung.patch} pixels a side"),
        Choice("network.width", rung.width, reason),
        Choice(
            "network.multipliers", list(rung.multipliers), "channels of each level, in multiples of width"
        ),
    ]
    if rung.attention:
        choices.append(
            Choice("network.attention", list(rung.attention), "the coarsest level, where it is cheap")
        )
    return choices


def batch(seen: Glance, rung: Rung) -> int:
    """The rung's; twice as many grey pictures, which pass the first layers faster."""
    return rung.batch if seen.colour else 2 * rung.batch


def method(seen: Glance, rung: Rung) -> list[Choice]:
    """A flow that predicts the picture, or v where patches are small for the width."""
    values = rung.patch**2 * (3 if seen.colour else 1)
    if 8 * values <= rung.width:
        prediction = Choice(
            "method.prediction", "v", f"noise - x: a patch has {values} values, few for the width"
        )
    else:
        why = f"the picture: whole after few steps, where v leaves grain in patches of {values} values"
        prediction = Choice("method.prediction", "x0", why)
    return [
        Choice(
            "method.name", "diffusion", "trains steadily whatever the pictures; every condition can be used"
        ),
        Choice("method.process", "flow", "x_t = (1 - t) x + t noise"),
        prediction,
        Choice(
            "method.uniform_share",
            0.1,
            "a tenth of t uniform, as samplers begin where logit-normal t hardly is",
        ),
        Choice("method.condition_dropout", 0.1, "trained without conditions, which guidance needs"),
    ]


def rate(steps: int) -> float:
    """HIGHEST up to 1,000 steps, then falling with the root of their number, to 5e-4."""
    return float(f"{max(5e-4, HIGHEST * min(1.0, math.sqrt(1000 / steps))):.2g}")


def scaled(optim: Optim, ema: float, steps: int, planned: int) -> list[Choice]:
    """The settings of a recipe for `steps` steps in place of the number planned.

    The rate goes with the inverse root of the length, of Adam up to HIGHEST: digits of 240 steps have a
    held-out loss of .241 with 5e-3, of .347 with the 2e-3 that its 2,000 steps are for (docs/log.md).
    """
    share, reason = steps / planned, f"for {steps:,} steps in place of {planned:,}"
    lr = min(optim.lr / math.sqrt(share), max(optim.lr, HIGHEST * RATES.get(optim.kind, 1)))
    choices = [Choice("optim.lr", float(f"{lr:.2g}"), f"{reason}; short trainings want high rates")]
    if optim.warmup:
        warmup = max(1, min(optim.warmup, steps // 20))
        choices.append(Choice("optim.warmup", warmup, "a twentieth of the steps, at most the recipe's"))
    if ema:
        span = min(0.1, (1 - ema) / share)
        choices.append(Choice("train.ema", round(1 - span, 5), f"its share of the length, {reason}"))
    return choices


def length(steps: int, batch: int, images: int) -> list[Choice]:
    """Steps that fill the time; the rate, warm-up and average that go with their number."""
    epochs = steps * batch / max(1, images)
    return [
        Choice("optim.lr", rate(steps), f"for {steps:,} steps; short trainings want high rates"),
        Choice("optim.clip", 1.0, "a large gradient at such a rate does no harm"),
        Choice("optim.warmup", max(1, min(100, steps // 20)), "a twentieth of the steps, at most 100"),
        Choice("optim.schedule", "cosine", "ends low, so that the last steps settle"),
        Choice("optim.final", 0.01, "of lr at the end"),
        Choice("train.steps", steps, f"fill the time; every picture is seen {epochs:.1f} times"),
        Choice("train.batch_size", batch, "small, for more steps in the time"),
        Choice("train.ema", round(max(0.9, 1 - 20 / steps), 5), "the average spans a twentieth of the steps"),
        Choice("train.ema_lengths", [], "no others are kept for a first look"),
    ]


def sampling(seen: Glance, conditions: Sequence[str], clustered: bool = False) -> list[Choice]:
    """Ten steps of UniPC; guidance where there are conditions or clusters, more for texts."""
    guidance = 2.0 if "text" in conditions else 1.5 if conditions else 1.3 if clustered else 1.0
    towards = [*conditions, *["cluster"] * clustered]
    reason = f"towards {' and '.join(towards)}" if towards else "there are no conditions"
    return [
        Choice("sample.sampler", "unipc", "the best in ten evaluations (benchmarks/README.md)"),
        Choice("sample.steps", EVALUATIONS, "evaluations a picture"),
        Choice("sample.guidance", guidance, reason),
    ]


def looking(seen: Glance, steps: int, batch: int, conditions: Sequence[str], installed: bool) -> list[Choice]:
    """Eight sheets; an evaluation when it is asked for, by what knows these pictures.

    installed: whether the weights of efficientnet are here.
    """
    each = min(seen.classes.values(), default=0)
    if "label" in conditions and each >= 100:
        features, why = "classifier", f"trained on the {len(seen.classes)} classes when `evaluate` needs it"
    elif installed:
        features, why = "efficientnet", "for pictures without many in each class"
    else:
        features, why = "random", "needs nothing; better ones with the extra efficientnet"
    return [
        Choice("watch.every", -(-steps // 8), "eight sheets"),
        Choice("watch.images", 36, "pictures on a sheet"),
        Choice("watch.held_out", min(64, batch * 2), "pictures for the held-out loss, which costs time too"),
        Choice("evaluate.features", features, why),
        Choice("evaluate.n", int(min(500, max(50, seen.images))), "samples when `safelight evaluate` is run"),
        Choice("checkpoint.every", -(-steps // 8), "one with every sheet"),
    ]


def held_out(seen: Glance) -> Choice:
    """A tenth, at most some 1,000 pictures; of few pictures a twentieth."""
    share = 0.05 if seen.images < 500 else min(0.1, round(1000 / seen.images, 4))
    return Choice(
        "data.held_out", share, f"about {share * seen.images:,.0f} pictures tell whether it learns by heart"
    )
