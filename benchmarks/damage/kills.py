"""Writers that are killed, or whose disk fails, at named and random system calls; then gone on with."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from damage.stage import FAULTS, Calls, Outcome, failing, finish, killing, short, start
from damage.world import BITS, ENDS, HALF, RATE, SEARCH, Broken, Family, Trial, World, bits

# What writes, and what it begins with: nothing, an unfinished run, or a finished one.
WRITERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "train": ("", ()),
    "resume": ("half", ("resume", "x")),
    "tune": ("half", ("tune", "x", "RATE")),
    "prune": ("finished", ("prune", "x", "--budget", "1KB")),
    "rollback": ("finished", ("rollback", "x", "--to", str(HALF))),
    "rollback, not trained": ("finished", ("rollback", "x", "--to", "3", "--no-train")),
    "fork": ("finished", ("fork", "x", "--at", "3", "RATE", "--name", "f")),
    "export": ("finished", ("export", "x", "--to", "safetensors", "--out", "out/e")),
    "sample": ("finished", ("sample", "x", "--n", "2", "--out", "out/s.png")),
    "specimens": ("finished", ("specimens", "x", "--keep", "3.2")),
    "search": ("finished", ("search", "x", *SEARCH, "--name", "t")),
    "report": ("finished", ("report", "x")),
}  # fmt: skip
SHARES = {"train": 8, "resume": 6}  # the others 1
ONLY = {"search": ("gan",), "specimens": ("gan", "diffusion")}


def scene(family: Family, name: str) -> tuple[Path | None, tuple[str, ...]]:
    """The run that a writer begins with, and its words."""
    begin, words = WRITERS[name]
    rate = RATE.get(family.name, "optim.lr=1e-4")
    begun = {"": None, "half": family.half, "finished": family.finished}[begin]
    return begun, tuple(rate if word == "RATE" else word for word in words) or family.train


@cache
def undisturbed(world: World, family: str, name: str) -> tuple[list[tuple[str, str]], dict[str, str], float]:
    """Calls of a writer that nothing disturbs, the bits of all runs after it, and its seconds."""
    box = world.folder / "quiet"
    shutil.rmtree(box, ignore_errors=True)
    (box / "runs").mkdir(parents=True)
    (box / "out").mkdir()
    begin, words = scene(world.family(family), name)
    if begin:
        shutil.copytree(begin, box / "runs/x")
    began = time.monotonic()
    world.must(*words, box=box, calls=Calls(box), seen=box / "seen.json", report=name == "report")
    seconds = time.monotonic() - began
    for run in ("x", "f"):
        if (box / "runs" / run).exists():
            world.must("resume", run, box=box)
    weights = {run.name: bits(run) for run in (box / "runs").iterdir() if (run / "run.json").exists()}
    return [(call, path) for call, path in json.loads((box / "seen.json").read_text())], weights, seconds


def chosen(trial: Trial) -> str:
    """A writer for a trial, training most often."""
    names = [name for name in WRITERS if trial.family.name in ONLY.get(name, (trial.family.name,))]
    return trial.random.choices(names, [SHARES.get(name, 1) for name in names])[0]


def at_calls(trial: Trial) -> None:
    """Killed before, or in the middle of, a call that is chosen by name: up to three times in a row."""
    name = chosen(trial)
    events, expected, _ = undisturbed(trial.world, trial.family.name, name)
    begin, words = scene(trial.family, name)
    with trial.boxed(begin) as run:
        for again in range(trial.random.choice((1, 1, 2, 3))):
            call = trial.random.choice(sorted({call for call, _ in events}))
            at = trial.random.choice([i for i, event in enumerate(events, 1) if event[0] == call])
            at = max(1, at >> again)  # what goes on makes fewer calls
            trial.done.append(f"call {at}, {call} of {events[at - 1][1]}")
            disturb(trial, run, words, expected, Calls(trial.box, killing(at, trial.random.random() < 0.5)))
        recover(trial, run, words, expected)


def at_moments(trial: Trial) -> None:
    """Killed at a random moment."""
    name = chosen(trial)
    _, expected, seconds = undisturbed(trial.world, trial.family.name, name)
    begin, words = scene(trial.family, name)
    with trial.boxed(begin) as run:
        moment = trial.random.random() * seconds
        trial.done.append(f"after {moment:.3f} s")
        disturb(trial, run, words, expected, None, moment)
        recover(trial, run, words, expected)


def faults(trial: Trial) -> None:
    """A disk that fails: one line and code 2, or nothing of it; then it goes on."""
    name = chosen(trial)
    events, expected, _ = undisturbed(trial.world, trial.family.name, name)
    begin, words = scene(trial.family, name)
    at = trial.random.randint(1, len(events))
    fault = trial.random.choice([*FAULTS, "short writes", "a file is not read"])
    if fault == "short writes":
        calls = Calls(trial.box, short(at))
    elif fault == "a file is not read":
        calls = Calls(trial.box, failing(at, 5, ("read",), False), reads=True)
    else:
        calls = Calls(trial.box, failing(at, *FAULTS[fault]))
    with trial.boxed(begin) as run:
        trial.done.append(f"{fault} at call {at}, {events[at - 1]}")
        ended = trial.run(*words, calls=calls, report=name == "report")
        if fault == "short writes":
            trial.check(ENDS, ended.code == 0, f"{ended.code} after short writes: {ended.err[-200:]}")
        recover(trial, run, words, expected)


def disturb(trial: Trial, run: Path, words: tuple[str, ...], expected: dict[str, str], calls: Calls | None,
            moment: float | None = None) -> None:  # fmt: skip
    """The writer, or what goes on with it where there is a run already, killed."""
    if words[0] == "train" and (run / "run.json").exists():
        words = ("resume", "x")
    options = {"seconds": moment, "kill": True} if moment is not None else {"calls": calls}
    trial.run(*words, killed=True, report=words[0] == "report", **options)
    if trial.random.random() < 0.5:
        trial.check_list()


def recover(trial: Trial, run: Path, words: tuple[str, ...], expected: dict[str, str]) -> None:
    """Go on as a person would: the same command, then `resume`. Bits as if nothing had happened."""
    if not (words[0] in ("train", "resume") and (run / "run.json").exists()):
        again = trial.run(*words)
        made = {"fork": "runs/f/run.json", "export": "out/e"}.get(words[0])  # whole, so refused a second time
        taken = made is not None and (trial.box / made).exists()
        trial.check(ENDS, again.code == 0 or taken, f"{again.code}, tried again: {again.err[-300:]}")
    for name in ("x", "f"):
        if name in expected:
            ended = trial.run("resume", name)
            trial.check(ENDS, ended.code == 0, f"resume {name} ends with {ended.code}: {ended.err[-300:]}")
            same = bits(trial.box / "runs" / name) == expected[name]
            trial.check(BITS, same, f"{name} ends in other bits")
    if trial.random.random() < 0.3 and words[0] != "prune":
        trial.check_replay(trial.random.randrange(4))
    trial.check_list()
    trial.check_left()


# --- several processes --------------------------------------------------------------------------------


def several(trial: Trial, words: tuple[str, ...], calls: Calls | None = None, rank: int = 0,
            moment: float | None = None) -> list[Outcome]:  # fmt: skip
    """`safelight WORDS` in two processes that meet over gloo, as torchrun starts them; one may be killed.

    As torchrun does it, what is left when one has died is ended 3 seconds later.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for number in range(2):
        env = {"RANK": str(number), "LOCAL_RANK": str(number), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
               "SAFELIGHT_CACHE": str(trial.world.cache)}  # fmt: skip
        mine = calls if number == rank else None
        processes.append(start(words, trial.box, calls=mine, env=env))
    if moment is not None:
        time.sleep(moment)
        with suppress(ProcessLookupError):
            os.kill(processes[rank][0], signal.SIGKILL)
    first = finish(words, processes[rank])
    if first.code < 0:
        time.sleep(0.2)
        with suppress(ProcessLookupError):
            os.kill(processes[1 - rank][0], signal.SIGTERM)
    ended = [first, finish(words, processes[1 - rank])]
    return ended


@cache
def undisturbed_pair(world: World, family: str) -> tuple[str, float]:
    """Bits of a training in two processes, and its seconds."""
    trial = Trial(world, "pair", 0, 0, [family])
    with trial.boxed() as run:
        began = time.monotonic()
        ended = several(trial, trial.family.train)
        if any(end.code for end in ended):
            raise Broken(f"in two processes: {[end.code for end in ended]} {ended[0].err[-2000:]}")
        return bits(run), time.monotonic() - began


def pairs(trial: Trial) -> None:
    """One of two processes killed, at a call or a moment; the other ends, and both go on to the same bits."""
    expected, seconds = undisturbed_pair(trial.world, trial.family.name)
    train = trial.family.train
    with trial.boxed() as run:
        rank = trial.random.randrange(2)
        if rank == 0 and trial.random.random() < 0.7:
            at = trial.random.randint(1, len(undisturbed(trial.world, trial.family.name, "train")[0]))
            trial.done.append(f"of two, 0 killed at call {at}")
            ended = several(trial, train, Calls(trial.box, killing(at, trial.random.random() < 0.5)))
        else:
            moment = trial.random.random() * seconds
            trial.done.append(f"of two, {rank} killed after {moment:.3f} s")
            ended = several(trial, train, rank=rank, moment=moment)
        trial.check(ENDS, not any(end.hung for end in ended), "the process that is left hangs")
        words = ("resume", "x") if (run / "run.json").exists() else train
        ended = several(trial, words)
        trial.check(ENDS, not any(end.code for end in ended),
        f"{words[0]} ends with {[e.code for e in ended]}: "
                    f"{ended[0].err[-300:]}")  # fmt: skip
        trial.check(BITS, bits(run) == expected, "ends in other bits")
        trial.check_list()
        trial.check_left()
