"""Ray and Slurm (as submitit's local executor): the same results, from processes that may die."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from fanout.test_local import dies, fails, seen
from safelight.config import UserError
from safelight.fanout import each, pool
from safelight.training.sweep import sweep_at_once
from training.test_sweep import digests, run, wanted


@pytest.fixture(params=["ray", "slurm:local"])
def on(request):
    pytest.importorskip({"ray": "ray", "slurm:local": "submitit"}[request.param])
    return request.param


@pytest.fixture(autouse=True)
def _reach(monkeypatch):
    """Workers import these tests, and are not niced, as Ray has it: on a busy machine they would starve."""
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parents[1]}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("RAY_worker_niceness", "0")


@pytest.mark.filterwarnings("ignore")
def test_results_are_those_of_the_tasks(on, tmp_path):
    with pool(on, 4, tmp_path, threads=1) as workers:
        results = dict(each(workers, seen, [(number,) for number in range(4)]))
        assert [results[place][0] for place in range(4)] == [0, 1, 2, 3]
        assert {result[2] for result in results.values()} == {1}
        with pytest.raises(UserError, match=r"^recipe.toml: is wrong$"):
            list(each(workers, fails, [(tmp_path, 0)]))
    assert not list(tmp_path.glob(".seen-*"))


@pytest.mark.filterwarnings("ignore")
def test_ray_gives_the_task_of_a_process_that_dies_to_another(tmp_path):
    pytest.importorskip("ray")
    with pool("ray", 3, tmp_path, threads=1, tries=3) as workers:
        assert dict(each(workers, dies, [(tmp_path, number, number) for number in range(3)])) == {
            0: 0,
            1: 1,
            2: 2,
        }
        with pytest.raises(UserError, match="ended unexpectedly 3 times"):
            list(each(workers, dies, [(tmp_path, 7, 9)]))


def ray_workers() -> list[int]:
    """Processes of Ray that run a task of ours."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::_outcome"):
                pids.append(int(path.parent.name))
        except OSError:
            continue
    return pids


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fifty_kills_change_no_bit(tmp_path, monkeypatch):
    """A local Ray cluster of three workers, one of which is killed again and again, until all is trained."""
    ray = pytest.importorskip("ray")
    for name in ("SAFELIGHT_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setattr("safelight.fanout.TRIES", 200)
    cells, killed, over = wanted().cells, list[int](), threading.Event()
    assert run(cells, tmp_path / "whole").problems == {}
    names = ("PYTHONPATH", "OMP_NUM_THREADS", "SAFELIGHT_THREADS", "SAFELIGHT_CACHE")
    variables = {"env_vars": {name: os.environ[name] for name in names}}
    ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, runtime_env=variables)

    def kill() -> None:
        draw = random.Random(0)
        while len(killed) < 50 and not over.wait(draw.uniform(1, 6)):
            if there := ray_workers():
                os.kill(pid := draw.choice(there), signal.SIGKILL)
                killed.append(pid)

    killer = threading.Thread(target=kill)
    killer.start()
    rounds = 0
    try:
        while len(killed) < 50:
            runs = tmp_path / str(rounds)
            done = sweep_at_once(cells, runs, "ray")
            assert done.problems == {}
            assert digests(runs, cells) == digests(tmp_path / "whole", cells)
            rounds += 1
    finally:
        over.set()
        killer.join()
        ray.shutdown()
    print(f"{len(killed)} kills in {rounds} sweeps of {len(cells)} runs")


@pytest.mark.filterwarnings("ignore")
def test_leaving_early_ends_what_ray_runs(tmp_path):
    pytest.importorskip("ray")
    from fanout.test_local import stays

    with pytest.raises(KeyboardInterrupt):
        _leave(tmp_path, stays)
    deadline = time.monotonic() + 30
    while ray_workers():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _leave(folder: Path, stays) -> None:
    with pool("ray", 2, folder, threads=1) as workers:
        for _ in range(2):
            workers.submit(stays, folder)
        while not list(folder.glob("*.pid")):
            time.sleep(0.05)
        raise KeyboardInterrupt
