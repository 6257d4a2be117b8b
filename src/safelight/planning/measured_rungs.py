"""The rungs of the ladder as recipes for a folder, a few of their steps measured on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from safelight.config import override
from safelight.data.glance import Glance
from safelight.data.stream import Stream
from safelight.engine import precision
from safelight.engine.distributed import World
from safelight.engine.precision import Execution
from safelight.loading.prepare import Prepared
from safelight.planning import rules, standin
from safelight.planning.ladder import Rung
from safelight.planning.measure import Bench
from safelight.planning.rules import Choice
from safelight.recipe import Recipe, changed, resolve
from safelight.types import Tell


class MeasuredRungs:
    """The recipe at a rung, and how long its steps take here; each rung is measured once."""

    def __init__(
        self,
        fixed: list[Choice],
        used: Sequence[str],
        stated: Mapping[str, Any],
        name: str,
        device: Any,
        tell: Tell,
        seen: Glance,
    ) -> None:
        self._fixed, self._used, self._stated = fixed, used, stated
        self._name, self._tell, self._seen = name, tell, seen
        self._device = device
        self._measured: dict[Rung, tuple[float, int]] = {}
        self._options = precision.candidates(
            device, stated.get("train.precision", "auto"), stated.get("train.memory_format", "auto")
        )

    @property
    def execution(self) -> Execution:
        """The fastest of those measured."""
        return self._options[0]

    def choices(self, rung: Rung, reason: str) -> list[Choice]:
        """Those that are fixed, and those of the rung."""
        shapes = rules.shapes(self._seen, rung, self._stated)
        against = {"data.buckets", "network.name", "method.name"}
        against &= {*self._stated, *(choice.key for choice in shapes)}
        clusters = [] if against else rules.clusters(self._seen, self._used)
        return [
            *self._fixed,
            *clusters,
            *shapes,
            *rules.method(self._seen, rung),
            *rules.network(rung, reason),
        ]

    def batch(self, rung: Rung) -> int:
        """Pictures a step."""
        return int(self._stated.get("train.batch_size", rules.batch(self._seen, rung)))

    def seconds(self, rung: Rung) -> float:
        """Of a step."""
        return self._measure(rung)[0]

    def parameters(self, rung: Rung) -> int:
        """Of the networks."""
        return self._measure(rung)[1]

    def _measure(self, rung: Rung) -> tuple[float, int]:
        if rung not in self._measured:
            self._tell(f"measuring steps at {rung.side}x{rung.side}, width {rung.width}")
            batch = self.batch(rung)
            choices = [*unstated([*self.choices(rung, ""), *rules.length(100, batch, 1)], self._stated)]
            recipe = recipe_of(choices, self._stated, self._name)
            pack = standin.pack_of(recipe.data)
            stream = Stream(pack, 0, batch, device=self._device)
            ready = Prepared(recipe, pack, stream, recipe.method(), self._device, World(), {})
            costs, parameters = {}, 0
            for option in self._options:
                state = ready.state(option.memory_format)
                bench = Bench(state, ready.method, stream, ready.plan, option)
                costs[option] = bench.time(batch, recipe.train.accumulate, timed=3)
                parameters = sum(p.numel() for net in state.nets.values() for p in net.parameters())
            spent = {option: cost.processor if self._device.type == "cpu" else cost.seconds
                     for option, cost in costs.items()}  # fmt: skip
            best = self._options[0]
            for option in self._options[1:]:  # as `precision.choose` does, by the same clock
                best = option if spent[option] * precision.REQUIRED_GAIN < spent[best] else best
            self._options = [best]
            self._measured[rung] = (costs[best].seconds, parameters)
        return self._measured[rung]


def unstated(choices: list[Choice], stated: Mapping[str, Any]) -> list[Choice]:
    """What is left to choose; with another network or method stated its section is the user's."""
    gone = {section for section in ("network", "method") if f"{section}.name" in stated}
    gone |= {"sample", "watch", "evaluate"} if "method" in gone else set()
    epochs = {"train.steps"} if "train.epochs" in stated else set()
    skipped = {*stated, *epochs}
    return [
        choice for choice in choices if choice.key not in skipped and choice.key.split(".")[0] not in gone
    ]


def recipe_of(choices: list[Choice], stated: Mapping[str, Any], name: str) -> Recipe:
    """The recipe of choices, a U-Net where no network is among them. Raises UserError."""
    tree = override({}, {choice.key: choice.value for choice in choices})
    tree.setdefault("network", {}).setdefault("name", "unet")
    return resolve(changed(tree, {key: value for key, value in stated.items() if key != "data.path"}), name)
