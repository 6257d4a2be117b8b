"""Kills, failing disks, mutations, crafted runs and hostile data: what is tried, and which promises held.

    python benchmarks/torture.py --minutes 3
    python benchmarks/torture.py --minutes 90 --seed 1      # other random numbers
    python benchmarks/torture.py --only kills:137            # one trial again, as a violation prints it

Runs of a few thousand parameters, trained for eight steps; every command in a process forked from this one,
which has imported everything, so that a training that is killed and resumed takes about a second. Each
trial's random numbers follow from --seed, its kind and its number. Exit code 1 where a promise was broken.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: a process with threads is not forked

from damage import crafted, hostile, kills, mutations
from damage.stage import import_everything
from damage.world import FAMILIES, PROMISES, Trial, World

# What is tried, how, and how often for the whole table.
KINDS: dict[str, tuple[Callable[[Trial], None], int]] = {
    "kills": (kills.at_calls, 700),
    "moments": (kills.at_moments, 250),
    "pairs": (kills.pairs, 50),
    "faults": (kills.faults, 300),
    "mutations": (mutations.mutated, 2000),
    "crafted": (crafted.crafted, 300),
    "data": (hostile.hostile, 300),
}
TITLES = {
    "kills": "kills at system calls",
    "moments": "kills at random moments",
    "pairs": "kills of one of two processes",
    "faults": "failing disks",
    "mutations": "mutated files",
    "crafted": "crafted runs",
    "data": "hostile data",
}


class Table:
    """Trials by kind, and checks and violations by promise."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.checked: Counter[tuple[str, str]] = Counter()
        self.broken: Counter[tuple[str, str]] = Counter()

    def add(self, trial: Trial) -> None:
        """Count a trial."""
        self.tried[trial.kind] += 1
        self.checked.update({(trial.kind, promise): n for promise, n in trial.checked.items()})
        self.broken.update((trial.kind, promise) for promise, _ in trial.violations)

    def __str__(self) -> str:
        head = ["tried: violations of checks", "trials", *PROMISES]
        rows = [head, ["---", *["---:"] * (len(head) - 1)]]
        for kind, tried in self.tried.items():
            cells = [
                f"{self.broken[kind, promise]} of {self.checked[kind, promise]:,}" for promise in PROMISES
            ]
            rows.append([TITLES[kind], f"{tried:,}", *cells])
        return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def tried(world: World, kind: str, number: int, seed: int, families: Sequence[str],
          say: Callable[[str], None] = lambda text: None) -> Trial:  # fmt: skip
    """One trial, and each of its violations as it is met, with the command that repeats it."""
    trial = Trial(world, kind, number, seed, families, say)
    KINDS[kind][0](trial)
    again = f"python benchmarks/torture.py --seed {seed} --only {kind}:{number}"
    if tuple(families) != tuple(FAMILIES):
        again += f" --families {','.join(families)}"
    for promise, text in trial.violations:
        print(f"VIOLATION of '{promise}': {text}\n  {again}", flush=True)
    return trial


def main() -> None:
    """Interleave the kinds, each as often as its share, until the time or the numbers are over."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, help="Default: until everything was tried.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(KINDS), help="Kinds, or one trial as KIND:NUMBER.")
    parser.add_argument("--families", default=",".join(FAMILIES), help="Default: all.")
    parser.add_argument("--scale", type=float, default=1.0, help="Trials, as a multiple of the table's.")
    arguments = parser.parse_args()
    began = time.monotonic()
    families = arguments.families.split(",")
    table = Table()
    import_everything()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # nobody waits for a disk
    with tempfile.TemporaryDirectory(prefix="torture-", dir=memory) as folder:
        world = World(Path(folder).resolve())
        if ":" in arguments.only:
            kind, number = arguments.only.split(":")
            table.add(tried(world, kind, int(number), arguments.seed, families, print))
        else:
            goals = {
                kind: max(1, round(KINDS[kind][1] * arguments.scale)) for kind in arguments.only.split(",")
            }
            while left := [kind for kind in goals if table.tried[kind] < goals[kind]]:
                if arguments.minutes is not None and time.monotonic() - began > 60 * arguments.minutes:
                    break
                kind = min(left, key=lambda kind: table.tried[kind] / goals[kind])
                table.add(tried(world, kind, table.tried[kind], arguments.seed, families))
    print(f"\n{table}\n\nseed {arguments.seed}, {', '.join(families)}; {time.monotonic() - began:,.0f} s")
    sys.exit(int(bool(table.broken)))


if __name__ == "__main__":
    main()
