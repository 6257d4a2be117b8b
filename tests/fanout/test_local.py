"""Local processes: results as in one, whichever of them die; none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path

import pytest

from safelight import fanout
from safelight.config import UserError
from safelight.fanout import each, in_order, pool


def seen(number: int) -> tuple[int, int, int, bool]:
    """The number, this process, its threads, and whether it passes over Ctrl-C."""
    import torch

    return number, os.getpid(), torch.get_num_threads(), signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def dies(folder: Path, number: int, deaths: int) -> int:
    """The number, from the process after so many that die; every start leaves a file."""
    starts = len(list(folder.glob(f"{number}-*")))
    (folder / f"{number}-{starts}").touch()
    if starts < deaths:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def fails(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    if number == 0:
        raise UserError("recipe.toml: is wrong")
    time.sleep(0.2)
    return number


def stays(folder: Path) -> None:
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(60)


def test_results_are_those_of_the_tasks_on_threads_as_stated(tmp_path):
    with pool("local:2", 4, tmp_path, threads=1) as workers:
        assert workers.size == 2
        results = dict(each(workers, seen, [(number,) for number in range(4)]))
        assert [results[place][0] for place in range(4)] == [0, 1, 2, 3]
        assert {result[2:] for result in results.values()} == {(1, True)}
        processes = {result[1] for result in results.values()}
        assert len(processes) <= 2
        assert os.getpid() not in processes
        more = in_order(workers, seen, ((number,) for number in range(5)))
        assert [result[0] for result in more] == [0, 1, 2, 3, 4]
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_process_that_dies_loses_its_task_to_another_and_disturbs_no_third(tmp_path):
    with pool("local:2", 5, tmp_path, threads=1) as workers:
        tasks = [(tmp_path, number, 2 if number in (1, 3) else 0) for number in range(5)]
        assert dict(each(workers, dies, tasks)) == {number: number for number in range(5)}
    starts = [len(list(tmp_path.glob(f"{number}-*"))) for number in range(5)]
    assert starts == [1, 3, 1, 3, 1]


def test_a_task_that_no_process_survives_is_given_up(tmp_path):
    with pool("2", 1, tmp_path, threads=1, tries=2) as workers:
        assert workers.size == 1
        with pytest.raises(UserError, match="ended unexpectedly 2 times"):
            list(each(workers, dies, [(tmp_path, 0, 9)]))
    assert len(list(tmp_path.iterdir())) == 2


def test_an_error_is_raised_as_it_is_and_nothing_more_is_begun(tmp_path):
    with pytest.raises(UserError, match=r"^recipe.toml: is wrong$"), pool("1", 9, tmp_path) as workers:
        list(each(workers, fails, [(tmp_path, number) for number in range(9)]))
    assert len(list(tmp_path.iterdir())) < 4


def test_leaving_early_ends_what_runs(tmp_path):
    began = time.monotonic()
    futures = []
    with suppress(KeyboardInterrupt), pool("2", 3, tmp_path) as workers:
        futures += [workers.submit(stays, tmp_path) for _ in range(3)]
        while not list(tmp_path.glob("*.pid")):
            time.sleep(0.05)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 50  # not the minute that the tasks would take
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(0)


DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_local import stays
from safelight.fanout import each, pool
if __name__ == "__main__":
    with pool("2", 2, Path({folder!r})) as workers:
        list(each(workers, stays, [(Path({folder!r}),)] * 2))
"""


def test_workers_end_with_a_parent_that_is_killed(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(here=str(Path(__file__).parent), folder=str(tmp_path)))
    driver = subprocess.Popen([sys.executable, str(script)])
    while len(pids := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2:
        assert driver.poll() is None
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    for _ in range(600):
        if not any(map(alive, pids)):
            return
        time.sleep(0.05)
    pytest.fail("a worker goes on")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("on", "read"),
    [
        ("local", ("local", None, "")), ("local:4", ("local", 4, "")), ("4", ("local", 4, "")),
        ("ray", ("ray", None, "")), ("ray://head:10001", ("ray", None, "ray://head:10001")),
        ("slurm", ("slurm", None, "slurm")), ("slurm:debug", ("slurm", None, "debug")),
    ],
)  # fmt: skip
def test_where(on, read):
    assert fanout._read(on) == read


@pytest.mark.parametrize("on", ["", "local:", "local:0", "local:x", "ray:4", "rays", "slurm:a b", "nowhere"])
def test_nowhere(on, tmp_path):
    with pytest.raises(UserError, match=r"^--on"), pool(on, 1, tmp_path):
        pass


def test_a_machine_that_does_not_see_the_folder_says_so(tmp_path):
    with pytest.raises(UserError, match=rf"^{tmp_path}: .* does not see it; put the runs on a disk"):
        fanout.call(int, ("1",), 1, [tmp_path / ".seen-elsewhere"])
