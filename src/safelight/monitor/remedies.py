"""What helps against a verdict, one thing at a time, in order: changes of the recipe that there is.

A remedy is offered where the recipe has its keys, whatever family they belong to.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from safelight.config import Tree
from safelight.monitor.config import Name

UNEVEN = 8.0  # times another's learning rate: TTUR (Heusel 2017) takes 4
GAMMA = 0.5  # weight of a gradient penalty that was none: gamma = 1


@dataclass(frozen=True)
class Remedy:
    """One thing to try. live: a fork can go on with it; otherwise it is for a new run."""

    words: str
    changes: Mapping[str, Any]  # by dotted key of the recipe
    live: bool = True


def remedies(name: Name | str, tree: Tree, at: int = 0) -> tuple[Remedy, ...]:
    """What to try against a verdict, first things first; nothing against one that this version does not know.

    tree: the recipe in force. at: the step to go back to, where ramps begin.
    """
    if name == "KL collapse":
        return tuple(_kl_collapse(tree, at))
    return tuple(_REMEDIES[name](tree)) if name in _REMEDIES else ()


def command(remedy: Remedy, run: str, recipe: str, at: int) -> str:
    """What to type: back to step `at` of a run and on with the remedy; or a new run, from its recipe."""
    changes = [f"{key}={toml(value)}" for key, value in remedy.changes.items()]
    if remedy.live and at:
        words = ["safelight", "fork", run, "--step", str(at), *changes]
    else:
        words = ["safelight", "train", recipe, *changes]
    return shlex.join(words)


def _discriminator_wins(tree: Tree) -> Iterator[Remedy]:
    yield from _evened(tree, "discriminator", "generator")
    yield from _penalty(tree, 4.0, "a stronger gradient penalty")
    yield from _rate(tree, "discriminator", 0.5)
    yield from _augmented(tree)


def _discriminator_overfits(tree: Tree) -> Iterator[Remedy]:
    yield from _augmented(tree)
    if tree["method"].get("augment") == "ada":
        target = round(0.5 * tree["method"]["ada_target"], 3)
        yield Remedy("stronger augmentation", {"method.ada_target": target})
    yield from _penalty(tree, 4.0, "a stronger gradient penalty")


def _mode_collapse(tree: Tree) -> Iterator[Remedy]:
    yield from _evened(tree, "generator", "discriminator")
    yield from _rate(tree, "generator", 0.5)
    yield from _penalty(tree, 4.0, "a stronger gradient penalty")
    if tree["method"].get("loss") == "non-saturating":
        weights = {name: value for name, value in tree["loss"]["weights"].items() if name not in ("d1", "d2")}
        joint = {
            "method.loss": "relativistic",
            "method.separate": False,
            "loss.weights": {"d": 1.0, **weights},
        }
        yield Remedy("the relativistic loss", joint, live=False)
    yield from _larger_batch(tree)


def _discriminator_dead(tree: Tree) -> Iterator[Remedy]:
    yield from _evened(tree, "generator", "discriminator")
    yield from _penalty(tree, 0.25, "a weaker gradient penalty", if_used=True)
    yield from _rate(tree, "discriminator", 4.0)
    yield from _rate(tree, "generator", 0.25)


def _not_finite(tree: Tree) -> Iterator[Remedy]:
    yield _slower(tree, 2)
    clipped = {f"{key}.clip": 1.0 for key, section in _optims(tree).items() if not section["clip"]}
    if clipped:
        yield Remedy("clipped gradients", clipped)
    yield _slower(tree, 10)
    if tree["train"]["precision"] != "fp32":
        yield Remedy("32-bit arithmetic", {"train.precision": "fp32"}, live=False)


def _kl_collapse(tree: Tree, at: int) -> Iterator[Remedy]:
    if tree["method"].get("likelihood", "calibrated") != "calibrated":
        changes = {"method.likelihood": "calibrated"}
        yield Remedy("a sigma that follows the error", changes, live=False)
    if "kl" in tree["loss"]["weights"]:
        length = max(1, tree["train"].get("steps", 10_000) // 5)
        ramp = {"begin": 0.0, "end": 1.0, "after": at, "over": length, "shape": "linear"}
        yield Remedy("a weight on KL that rises from 0", {"loss.weights.kl": ramp})
    if tree["method"].get("free_bits") == 0:
        yield Remedy("free bits", {"method.free_bits": 0.1})


def _kl_explosion(tree: Tree) -> Iterator[Remedy]:
    if "kl" in tree["loss"]["weights"]:
        weight = _scaled(tree["loss"]["weights"]["kl"], 4.0)
        yield Remedy("a larger weight on KL", {"loss.weights.kl": weight or 1.0})


def _condition_ignored(tree: Tree) -> Iterator[Remedy]:
    if "guidance" in tree["sample"]:
        yield Remedy("stronger guidance", {"sample.guidance": 2 * max(1.0, tree["sample"]["guidance"])})
    if tree["method"].get("condition_dropout", 0.0) > 0.1:
        yield Remedy("conditions dropped less often", {"method.condition_dropout": 0.1})


def _colour_drift(tree: Tree) -> Iterator[Remedy]:
    yield from _larger_batch(tree)
    if tree["method"].get("prediction") not in (None, "x0"):
        yield Remedy("a network that predicts the image", {"method.prediction": "x0"}, live=False)
    if 0 < (ema := tree["train"]["ema"]) < 0.9999:
        yield Remedy(
            "a longer average of the weights", {"train.ema": round(1 - (1 - ema) / 4, 6)}, live=False
        )


def _memorising(tree: Tree) -> Iterator[Remedy]:
    yield from _augmented(tree)
    if not tree["data"].get("flip", True):
        yield Remedy("mirrored images", {"data.flip": True}, live=False)
    network = tree["network"]
    if network.get("dropout") == 0:
        yield Remedy("dropout", {"network.dropout": 0.1}, live=False)


_REMEDIES = {
    "discriminator wins": _discriminator_wins,
    "discriminator overfits": _discriminator_overfits,
    "mode collapse": _mode_collapse,
    "discriminator dead": _discriminator_dead,
    "not finite or spike": _not_finite,
    "KL explosion": _kl_explosion,
    "condition ignored": _condition_ignored,
    "colour drift": _colour_drift,
    "memorising": _memorising,
}


def _penalty(tree: Tree, factor: float, words: str, *, if_used: bool = False) -> Iterator[Remedy]:
    """Another weight on the gradient penalties; on both where there was none."""
    weights = {f"loss.weights.{name}": value for name, value in tree["loss"]["weights"].items()
             if name in ("r1", "r2")}  # fmt: skip
    used = {key: _scaled(value, factor) for key, value in weights.items() if value}
    if used or (weights and not if_used):
        yield Remedy(words, used or dict.fromkeys(weights, GAMMA))


def _rate(tree: Tree, network: str, factor: float) -> Iterator[Remedy]:
    """Another learning rate of one network, where it has one of its own."""
    if isinstance(section := tree["optim"].get(network), dict):
        change = f"{factor:g} times" if factor > 1 else f"1/{1 / factor:g} of"
        changes = {f"optim.{network}.lr": section["lr"] * factor}
        yield Remedy(f"{change} the {network}'s learning rate", changes)


def _optims(tree: Tree) -> dict[str, Tree]:
    """The sections that state a learning rate, by dotted key."""
    sections = {name: section for name, section in tree["optim"].items() if isinstance(section, dict)}
    return {f"optim.{name}": section for name, section in sections.items()} or {"optim": tree["optim"]}


def _slower(tree: Tree, times: int) -> Remedy:
    """All learning rates divided alike."""
    changes = {f"{key}.lr": section["lr"] / times for key, section in _optims(tree).items()}
    return Remedy({2: "half the learning rate", 10: "a tenth of the learning rate"}[times], changes)


def _evened(tree: Tree, fast: str, slow: str) -> Iterator[Remedy]:
    """Equal learning rates, the geometric mean of both, where one network's is many times the other's."""
    first, second = tree["optim"].get(fast), tree["optim"].get(slow)
    if isinstance(first, dict) and isinstance(second, dict) and first["lr"] > UNEVEN * second["lr"]:
        rate = float(f"{math.sqrt(first['lr'] * second['lr']):.2g}")
        changes = {f"optim.{name}.lr": rate for name in (fast, slow)}
        yield Remedy("equal learning rates, between the two", changes)


def _augmented(tree: Tree) -> Iterator[Remedy]:
    if tree["method"].get("augment") == "none":
        changes = {"method.augment": "diffaugment"}
        yield Remedy("augmentation of all images the discriminator sees", changes)


def _larger_batch(tree: Tree) -> Iterator[Remedy]:
    changes = {"train.batch_size": 2 * tree["train"]["batch_size"]}
    yield Remedy("a batch twice as large", changes, live=False)


def _scaled(weight: Any, factor: float) -> Any:
    """A weight, or every value of its ramp, times a factor."""
    if isinstance(weight, dict):
        return weight | {name: weight[name] * factor for name in ("begin", "end")}
    return weight * factor


def toml(value: Any) -> str:
    """A value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, float):
        short = f"{value:.6g}"
        return short if float(short) == value else repr(value)
    return json.dumps(value)
