"""Small finished and unfinished runs of every family, a trial in a box of its own, and the promises."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from damage.stage import Act, Calls, Outcome, command, contents

BITS, EXACT, ENDS = "same bits", "nothing falsely exact", "ends in one clear line"
OTHERS, LEFT, LIST = "others untouched", "nothing left behind", "list is whole"
PROMISES = (BITS, EXACT, ENDS, OTHERS, LEFT, LIST)
STEPS, HALF = 8, 6
COMMON = (
    "data.source=digits", "train.precision=fp32", "train.memory_format=contiguous", f"train.steps={STEPS}",
    "train.batch_size=4", "checkpoint.every=3", "watch.every=8", "watch.epochs=[]", "watch.images=2",
    "watch.held_out=4", "monitor.warmup=0.99", "train.device=cpu",
)  # fmt: skip
FAMILIES = {
    "diffusion": ("digits-class", "network.width=4", "sample.steps=2"),
    "gan": ("fashion-gan", "network.generator.widths=[4,4]", "network.discriminator.widths=[4,4]",
            "network.generator.latent=4", "tape.every=2", 'watch.film=["0.3"]', "watch.film_every=2"),
    "vae": ("fashion-vae", "network.encoder.widths=[4,4]", "network.decoder.widths=[4,4]",
            "network.encoder.latent=4"),
    "denoise": ("digits-denoise", "network.width=4"),
}  # fmt: skip
SEARCH = ("--objective", "realism", "--population", "4", "--generations", "2")
RATE = {"gan": "optim.generator.lr=1e-4"}
UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
Files = dict[str, str]


class Broken(Exception):
    """The preparation itself failed: nothing can be said of the promises."""


@dataclass(frozen=True)
class Family:
    """The runs of a family that trials begin with, and what is true of them."""

    name: str
    train: tuple[str, ...]  # the words that train it, but for the name
    finished: Path  # with an intervention after HALF steps, specimens and searches
    half: Path  # killed after HALF steps; the edit waits
    bits: str  # of the finished one
    plain: str  # of one without the edit


class World:
    """What is trained once and copied for every trial."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.family = cache(self._family)
        self.other = cache(self._other)
        self.export = cache(self._export)
        self.drawn = cache(self._drawn)

    def run(self, *words: str, box: Path, **options: Any) -> Outcome:
        """A command with the world's cache."""
        options["env"] = {"SAFELIGHT_CACHE": str(self.cache), **options.get("env", {})}
        return command(*words, box=box, **options)

    def must(self, *words: str, box: Path, **options: Any) -> Outcome:
        """A command that nothing disturbs. Raises Broken unless it ends well."""
        ended = self.run(*words, box=box, **options)
        if ended.code:
            raise Broken(f"safelight {' '.join(words)}: {ended.code}\n{ended.err[-2000:]}")
        return ended

    def _other(self) -> Path:
        """A healthy run beside the one that is damaged."""
        box = self._box("other")
        self.must("train", *words("denoise"), "train.seed=1", "--name", "other", box=box)
        return box / "runs/other"

    def _family(self, name: str) -> Family:
        box, train = self._box(name), ("train", *words(name), "--name", "x")
        self.must(*train, box=box)
        plain = bits(box / "runs/x")
        shutil.rmtree(box / "runs/x")
        self.run(*train, box=box, calls=Calls(box, after_checkpoint(HALF)))
        self.must("tune", "x", RATE.get(name, "optim.lr=1e-4"), box=box)
        shutil.copytree(box / "runs/x", box / "half")
        self.must("resume", "x", box=box, report=True)
        if name == "gan":
            self.must("specimens", "x", "--keep", f"{HALF}.1", box=box)
            self.must("search", "x", *SEARCH, "--name", "s", box=box)
        run = box / "runs/x"
        return Family(name, train, run, box / "half", bits(run), plain)

    def _export(self, name: str, step: int) -> str:
        """SHA-256 of the averaged weights of a step."""
        self.family(name)
        out = self.folder / "weights.safetensors"
        self.must("replay", "x", "--to", str(step), "--export", str(out), box=self.folder / name)
        return sha256(out)

    def _drawn(self, name: str, step: int) -> str:
        """SHA-256 of the arrays that `sample` draws of a step."""
        out = self.folder / "drawn.npz"
        self.must("sample", "x", "--n", "2", "--step", str(step), "--out", str(out), box=self.folder / name)
        return sha256(out)

    def _box(self, name: str) -> Path:
        box = self.folder / name
        shutil.rmtree(box, ignore_errors=True)
        (box / "runs").mkdir(parents=True)
        return box


class Trial:
    """One thing that is tried: its random numbers, its box, and what was checked in it."""

    def __init__(self, world: World, kind: str, number: int, seed: int, families: Sequence[str],
                 say: Callable[[str], None] = lambda text: None) -> None:  # fmt: skip
        self.world, self.kind, self.number, self.say = world, kind, number, say
        self.random = Random(f"{seed} {kind} {number}")
        self.family = world.family(families[number % len(families)])
        self.box = world.folder / "box"
        self.checked: Counter[str] = Counter()
        self.violations: list[tuple[str, str]] = []
        self.done: list[str] = []  # in words

    @contextmanager
    def boxed(self, begin: Path | None = None) -> Iterator[Path]:
        """A box with the run x, a healthy neighbour and a home; nothing but x may change. The path of x."""
        shutil.rmtree(self.box, ignore_errors=True)
        (self.box / "out").mkdir(parents=True)
        (self.box / "home/.ssh").mkdir(parents=True)
        (self.box / "home/.ssh/id").write_text("secret")
        (self.box / "home/thesis").mkdir()
        (self.box / "home/thesis/00000003").write_text("years of work")
        shutil.copytree(self.world.other(), self.box / "runs/other")
        if begin:
            shutil.copytree(begin, self.box / "runs/x", symlinks=True)
        before = contents(self.box, may_change)
        try:
            yield self.box / "runs/x"
            after = contents(self.box, may_change)
            differs = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
            self.check(OTHERS, not differs, f"changed outside of the run: {', '.join(differs[:4])}")
        finally:
            shutil.rmtree(self.box, ignore_errors=True)

    def check(self, promise: str, kept: bool, text: str) -> None:
        """Count a promise, and note where it was not kept."""
        self.checked[promise] += 1
        if not kept:
            self.violations.append((promise, f"{'; '.join(self.done)}: {text}"))
            self.say(f"*** {promise}: {text}")

    def run(self, *words: str, killed: bool = False, **options: Any) -> Outcome:
        """A command in the box. Unless it is killed on purpose, it has to end as promised."""
        ended = self.world.run(*words, box=self.box, **options)
        self.done.append(f"{'killed: ' if killed else ''}{' '.join(words)}"[:100])
        self.say(f"{self.done[-1]}: {ended.code}\n{ended.out[-800:]}{ended.err[-3000:]}")
        if not killed:
            self.check(ENDS, not (wrong := ill_ended(ended)), wrong)
        return ended

    def check_list(self) -> None:
        """Whatever x is like, the run beside it is listed, and as what it is."""
        ended = self.run("runs", "--json")
        try:
            listed = {run["name"]: run["status"] for run in json.loads(ended.out)}
        except (ValueError, TypeError, KeyError):
            listed = {}
        self.check(LIST, listed.get("other") == "finished", f"runs --json lists {listed}")

    def check_replay(self, step: int | None = None) -> None:
        """What a replay calls exact has the weights that were trained."""
        to = self.random.randrange(STEPS + 1) if step is None else step
        ended = self.run("replay", "x", "--to", str(to), "--json", "--export", "out/w.safetensors")
        if ended.code == 0:
            said = json.loads(ended.out)["verdict"]
            true = sha256(self.box / "out/w.safetensors") == self.world.export(self.family.name, to)
            self.check(EXACT, true or said != "exact", f"step {to} is called exact and is not")
        else:
            self.check(EXACT, True, "")

    def check_left(self) -> None:
        """No temporary file of a process that was killed."""
        left = [key for key in contents(self.box) if "/.tmp-" in f"/{key}" or "/.renaming-" in f"/{key}"]
        self.check(LEFT, not left, f"left behind: {', '.join(left[:4])}")


def after_checkpoint(step: int) -> Act:
    """Ends the process when the checkpoint of a step is there, and in the journal."""
    done: list[str] = []

    def act(number: int, name: str, path: str) -> str:
        if "journalled" in done:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "rename" and f"/checkpoints/.tmp-{step:08d}" in path:
            done.append("renamed")
        elif done and name == "fsync" and path.endswith("journal.jsonl"):
            done.append("journalled")
        return ""

    return act


def words(family: str) -> tuple[str, ...]:
    """Recipe and changes of a family."""
    recipe, *changes = FAMILIES[family]
    return (recipe, *COMMON, *changes)


def may_change(name: str) -> bool:
    """Whether a trial may change this, relative to its box: the run x and its forks, pages, results."""
    return bool(re.match(r"out(/|$)|runs/(x|f|log|compar|\.tmp-|\.renaming-x)", name))


def sha256(path: Path) -> str:
    """Of a file; "" where there is none."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def bits(run: Path) -> str:
    """Of every tensor of the newest checkpoint, by the files themselves; "" where there is none."""
    steps = sorted(path for path in (run / "checkpoints").glob("*") if path.name.isdigit())
    files = sorted(steps[-1].glob("*.safetensors")) if steps else []
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest() if files else ""


def ill_ended(ended: Outcome) -> str:
    """What is wrong with the end of a command; "" for nothing. 0, or 2 and one line of what is wrong."""
    lines = [line for line in ended.err.splitlines() if line.strip()]
    last = lines[-1][:300] if lines else ""
    if ended.hung:
        return f"hangs: {last}"
    if "Traceback" in ended.err or ended.code not in (0, 2):
        return f"ends with {ended.code}: {last}"
    if unseen := UNSEEN.search(ended.out + ended.err):
        return f"{unseen.group()!r} reaches the terminal"
    refusals = sum(line.startswith("safelight: ") for line in lines)
    if ended.code == 2 and not (
        refusals == 1 and lines[-1].startswith("safelight: ") and len(lines[-1]) < 1500
    ):
        return f"ends with 2 and {refusals} lines of why: {last}"
    return ""
