"""What the page costs: opening a long run, listing many, how soon a point is shown, what watching takes.

    python benchmarks/web.py

A run of 100,000 steps and 1,000 runs are made in a temporary folder. Processor time and memory are those of
the server's process, as /proc has them. The newest point is timed from its being written to its arrival at a
reader who listens to the events, as the page does. Watching is ten minutes' worth: the server's processor
seconds for a second of a run that grows by a row every tenth of one, on one reader. A real training is
timed alone and watched: its processor seconds, and the server's beside them.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from safelight.store import sealed
from safelight.store.directory import RunDirectory, create
from safelight.store.info import Facts
from safelight.store.journal_writer import JournalWriter
from safelight.store.metrics import MetricsRow, MetricsWriter

STEPS, RUNS, WATCHED = 100_000, 1000, 20  # rows; runs; seconds of watching
TRAINED = 100  # steps of digits
TICK = os.sysconf("SC_CLK_TCK")
RECIPE = "[train]\nbatch_size = 64\n[monitor]\n"


def row(step: int) -> MetricsRow:
    extra = {f"grad_norm/{name}": 1.0 + step % 7 for name in "abcdefg"}
    components = dict.fromkeys(("mse", "kl", "d", "g"), 1.0 / (step + 1))
    return MetricsRow(step, components, 0.5, {"a": 1e-3, "b": 2e-3}, 64 * (step + 1), 0.05, "0" * 16, extra)


def made(folder: Path, name: str, steps: int) -> RunDirectory:
    """A run as training leaves it, without its networks."""
    facts = Facts({"train": 1000, "name": "none"}, {}, {}, {"precision": "fp32"})
    run = create(folder, RECIPE, recipe="r", steps=steps, facts=facts, name=name)
    with JournalWriter(run.journal_path) as writer, MetricsWriter(run.path, 1, 0) as rows:
        writer.start_session(0, steps, {})
        for begin in range(0, steps, 1000):
            rows.append(map(row, range(begin, min(begin + 1000, steps))))
        writer.append("end", {"status": "stopped", "step": steps, "steps": steps, "message": ""})
    return run


def many(folder: Path, count: int) -> None:
    """Copies of one run under other ids."""
    first = made(folder, "run-0", 20)
    for number in range(1, count):
        path = folder / f"run-{number}"
        shutil.copytree(first.path, path)
        fields = sealed.read(path / "run.json")
        (path / "run.json").write_bytes(sealed.pretty({**fields, "id": f"{number:032x}"}))


class Server:
    """`safelight web` and a reader who was let in."""

    def __init__(self, process: subprocess.Popen[str], link: str) -> None:
        self.process = process
        self.client = httpx.Client(base_url=link.partition("/enter")[0], timeout=60, follow_redirects=True)
        self.client.get(link).raise_for_status()

    @property
    def seconds(self) -> float:
        """Of the processor so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    @property
    def megabytes(self) -> float:
        """The most memory so far."""
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.process.pid}/status").read_text())
        return int(peak[1]) / 1e3 if peak else 0.0

    def timed(self, *addresses: str) -> tuple[float, float]:
        """Processor seconds of the server, and seconds until all have answered."""
        before, began = self.seconds, time.monotonic()
        for address in addresses:
            self.client.get(address).raise_for_status()
        return self.seconds - before, time.monotonic() - began


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "safelight", "web", "--port", "0", "--runs", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield Server(process, process.stdout.readline().strip())
        process.terminate()


def newest(server: Server, run: RunDirectory, points: int = 10) -> list[float]:
    """Seconds from a row's being written to its value being with a reader."""
    took = []
    with MetricsWriter(run.path, 2, STEPS) as writer:
        for number in range(points):
            with server.client.stream("GET", "/api/events?of=~long") as stream:
                lines = (line for line in stream.iter_lines() if line.startswith("data"))
                next(lines)
                time.sleep(0.13 * number)  # at any moment between two looks
                writer.append([row(STEPS + number)])
                began = time.monotonic()
                next(lines)
                address = f"/api/run/long/curves?column=raw/mse&bins=800&width=128&since={STEPS}"
                assert server.client.get(address).json()["last"] == STEPS + number + 1
                took.append(time.monotonic() - began)
    return took


def watching(server: Server, run: RunDirectory) -> float:
    """Processor seconds of the server for each second of watching a run that grows."""
    with (
        MetricsWriter(run.path, 3, STEPS + 100) as writer,
        server.client.stream("GET", "/api/events?of=long&of=~long&of=!") as stream,
    ):
        lines = stream.iter_lines()
        before, began, step = server.seconds, time.monotonic(), STEPS + 100
        while time.monotonic() - began < WATCHED:
            writer.append([row(step)])
            step += 1
            time.sleep(0.1)
            if step % 8 == 0:  # there was an event since
                while not next(lines).startswith("data"):
                    pass
                curves = f"column=raw/mse&column=lr/a&bins=800&width=128&since={STEPS}"
                server.client.get(f"/api/run/long/curves?{curves}").raise_for_status()
            if step % 100 == 0:
                server.client.get("/api/run/long").raise_for_status()
        return (server.seconds - before) / (time.monotonic() - began)


def trained(folder: Path, name: str, server: Server | None = None) -> tuple[float, float]:
    """Processor seconds of a training, and those of the server while a reader follows it as the page does."""
    words = ["train", "digits", f"train.steps={TRAINED}", "--name", name, "--runs", str(folder), "--no-check"]
    before, served = children(), server.seconds if server else 0.0
    process = subprocess.Popen([sys.executable, "-m", "safelight", *words], stderr=subprocess.DEVNULL)
    if server:
        with server.client.stream("GET", f"/api/events?of={name}&of=~{name}&of=*") as stream:
            for line in stream.iter_lines():  # a comment comes every 15 s at least
                if process.poll() is not None:
                    break
                if line.startswith("data") and (folder / name / "run.json").exists():
                    server.client.get(f"/api/run/{name}")
                    server.client.get(f"/api/run/{name}/curves?column=raw/mse&column=lr/denoiser&bins=800")
    process.wait()
    return children() - before, (server.seconds if server else 0.0) - served


def children() -> float:
    """Processor seconds of the processes that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as place:
        runs, alone = Path(place) / "many", Path(place) / "alone"
        many(runs, RUNS)
        long = made(alone, "long", STEPS)
        size = (long.path / "metrics-0001.jsonl").stat().st_size / 1e6
        print(f"load {os.getloadavg()[0]:.1f}; the long run: {STEPS:,} rows, {size:.0f} MB")
        print("\n| | processor s | s | most memory, MB |\n|---|---:|---:|---:|")
        with serving(runs) as server:
            for words in (f"{RUNS:,} runs listed", "and again"):
                spent, took = server.timed("/api/runs")
                print(f"| {words} | {spent:.2f} | {took:.2f} | {server.megabytes:.0f} |")
        with serving(alone) as server:
            curves = "/api/run/long/curves?column=raw/mse&column=raw/kl&column=raw/d&column=raw/g&bins=800"
            for words in (f"a run of {STEPS:,} steps opened", "and again"):
                spent, took = server.timed("/api/run/long", curves)
                print(f"| {words} | {spent:.2f} | {took:.2f} | {server.megabytes:.0f} |")
            took_each = newest(server, long)
            print(f"| the newest point with a reader, median | | {sorted(took_each)[5]:.2f} | |")
            print(f"| and at worst | | {max(took_each):.2f} | |")
            share = watching(server, long)
            print(f"| a second of watching | {share:.3f} | | {server.megabytes:.0f} |")
        with serving(alone) as server:
            for name, watching_it in (("unwatched", None), ("watched", server)):
                spent, served = trained(alone, name, watching_it)
                print(f"| {TRAINED} steps of digits, {name} | {spent:.1f} | | |")
            print(f"| the server beside the last | {served:.2f} | | |")


if __name__ == "__main__":
    main()
