"""A step of `digits` by what threads do while they wait, on the machine as it is and beside a load.

    python benchmarks/busy.py [--load 2] [--rounds 12] [--threads 2]

Every way is a process of its own that trains when it is its turn; turns go round, with the load in every
other round. The load: that many processes that never rest. libgomp (torch's wheels for Linux) reads
OMP_WAIT_POLICY and GOMP_SPINCOUNT, not KMP_BLOCKTIME, once, when torch is imported.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from subprocess import PIPE, Popen

WORKER = """
import sys, time
import safelight
import torch
from safelight.networks.unet import UNetConfig
from safelight.types import DataSpec

torch.manual_seed(0)
net = UNetConfig(width=32).build(DataSpec((1, 28, 28), {})).to(memory_format=torch.channels_last)
optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
x, t = torch.randn(64, 1, 28, 28), torch.rand(64)
for _ in sys.stdin:
    began = time.perf_counter(), time.process_time()
    (net(x, t, {}, torch.zeros(64, dtype=torch.bool)) - x).square().mean().backward()
    optimiser.step()
    optimiser.zero_grad()
    bits = sum(int(p.detach().view(torch.int32).sum()) for p in net.parameters()) % 2**32
    print(time.perf_counter() - began[0], time.process_time() - began[1], bits, flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--load", type=int, default=2, help="Processes that never rest. Default: 2.")
    parser.add_argument("--rounds", type=int, default=12, help="Turns of every way, half beside the load.")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    many = {"OMP_NUM_THREADS": str(given.threads)}
    ways = {
        "one thread": {"OMP_NUM_THREADS": "1"},
        "as torch comes": many | {"GOMP_SPINCOUNT": "300000"},
        "safelight's": many,
        "passive": many | {"OMP_WAIT_POLICY": "passive"},
        **{f"{n:,} spins": many | {"GOMP_SPINCOUNT": str(n)} for n in (300, 3_000, 10_000, 50_000)},
        "KMP_BLOCKTIME=0": many | {"GOMP_SPINCOUNT": "300000", "KMP_BLOCKTIME": "0"},
    }
    plain = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "GOMP", "KMP"))}
    workers = {
        way: Popen([sys.executable, "-c", WORKER], env=plain | keys, text=True, stdin=PIPE, stdout=PIPE)
        for way, keys in ways.items()
    }
    times: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    bits: dict[str, str] = {}
    for turn in range(given.rounds + 1):
        busy = turn % 2 == 1
        load = [Popen([sys.executable, "-c", "while True: pass"]) for _ in range(given.load * busy)]
        for way, worker in workers.items():
            wall, processor, bits[way] = _turn(worker)
            if turn:  # the first makes kernels
                times.setdefault((way, busy), []).append((float(wall), float(processor)))
                print(f"{turn} {way}: {float(wall):.3f} s", file=sys.stderr)
        for process in load:
            process.kill()
            process.wait()
    for worker in workers.values():
        worker.communicate()

    alike = len({bits[way] for way in ways if way != "one thread"}) == 1
    print(f"load {os.getloadavg()[0]:.0f}; {given.threads} threads; bits alike: {'yes' if alike else 'NO'}\n")
    head = (
        "least now",
        "median now",
        "its processor time",
        f"median beside {given.load}",
        "its processor time",
    )
    print(f"| ms a step | {' | '.join(head)} | of one thread's |\n|---|{'---:|' * (len(head) + 1)}")
    alone = statistics.median(wall for wall, _ in times["one thread", True])
    for way in ways:
        now, then = (list(zip(*times[way, busy], strict=True)) for busy in (False, True))
        cells = [min(now[0]), *map(statistics.median, (*now, *then))]
        numbers = " | ".join(f"{1e3 * cell:.0f}" for cell in cells)
        print(f"| {way} | {numbers} | {statistics.median(then[0]) / alone:.2f} |")


def _turn(worker: Popen[str]) -> list[str]:
    """Seconds, processor seconds and the sum of the weights' bits of a worker's next step."""
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write("\n")
    worker.stdin.flush()
    return worker.stdout.readline().split()


if __name__ == "__main__":
    main()
