"""A run in several processes is the same run: killed, stopped, resumed on fewer, or across machines."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from forks import Forks, Launch, serving, until
from safelight.store import checkpoint_files, metrics
from safelight.store.directory import RunDirectory, find
from safelight.store.tape import TapeReader

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

SHORT = {"train.steps": 16, "checkpoint.every": 4, "watch.every": 16, "sample.steps": 2, "tape.every": 2}


@pytest.fixture(scope="module")
def forks(tmp_path_factory) -> Iterator[Forks]:
    with serving(tmp_path_factory.mktemp("forks")) as server:
        yield server


@pytest.fixture(scope="module")
def words() -> list[str]:
    """The recipe digits-class, shrunk, as words of the command line."""
    from tiny import TINY

    return ["digits-class", *(f"{name}={json.dumps(value)}" for name, value in (TINY | SHORT).items())]


@pytest.fixture(scope="module")
def whole(forks, words, tmp_path_factory) -> RunDirectory:
    """Trained in three processes, uninterrupted."""
    runs = tmp_path_factory.mktemp("runs")
    forks.run("forks:command", ["train", *words, "--name", "whole", "--runs", str(runs)], 3)
    return find("whole", runs)


def train(forks: Forks, runs: Path, processes: int, *words: str, **how) -> Launch:
    return forks.start(
        "forks:command", ["train", *words, "--name", "b", "--runs", str(runs)], processes, **how
    )


def digest(run: RunDirectory) -> str:
    return checkpoint_files.read(
        checkpoint_files.directory(run.path, checkpoint_files.list_steps(run.path)[-1])
    ).digest


def reached(runs: Path, step: int) -> bool:
    return (runs / "b").exists() and checkpoint_files.directory(runs / "b", step).exists()


def killed(launch: Launch, victim: int) -> None:
    """kill -9 of one process: the others end at once, and one of them says why."""
    os.kill(launch.pids[victim], signal.SIGKILL)
    codes = launch.wait()
    assert codes.pop(victim) == -signal.SIGKILL
    assert codes == [2, 2]
    assert launch.err().count("another process of this run has ended") == 1


def test_killed_in_one_process_and_resumed_equals_uninterrupted(forks, words, whole, tmp_path):
    launch = train(forks, tmp_path, 3, *words)
    until(lambda: reached(tmp_path, 4))
    killed(launch, 2)
    launch = forks.start("forks:command", ["resume", "b", "--runs", str(tmp_path)], 3)
    until(lambda: reached(tmp_path, 12))
    killed(launch, 0)
    launch = forks.run("forks:command", ["resume", "b", "--runs", str(tmp_path)], 3)
    assert "finished, step 16 of 16" in launch.out(0)
    run = find("b", tmp_path)
    assert digest(run) == digest(whole)
    assert list(metrics.read(run.path)["fingerprint"]) == list(metrics.read(whole.path)["fingerprint"])
    tape, other = TapeReader(run.path), TapeReader(whole.path)  # which the first process wrote
    assert tape.steps == other.steps == list(range(0, 17, 2))
    for step in tape.steps:
        weights = other.read(step)["denoiser"]
        assert all(torch.equal(weight, weights[name]) for name, weight in tape.read(step)["denoiser"].items())


def test_stopped_in_good_order_and_resumed_on_fewer_processes(forks, words, tmp_path):
    """torchrun passes Ctrl-C on to processes that the terminal has told already."""
    launch = train(forks, tmp_path, 3, *words, "train.steps=5000")
    until(lambda: reached(tmp_path, 4))
    for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
        for pid in launch.pids:
            os.kill(pid, number)
    assert launch.wait() == [0, 0, 0], launch.err()
    run = find("b", tmp_path)
    end = run.journal().of_kind("end")[-1].fields
    assert end["status"] == "stopped"
    assert checkpoint_files.list_steps(run.path)[-1] == end["step"] < 5000

    launch = forks.start("forks:command", ["resume", "b", "--runs", str(tmp_path)], 2)
    until(lambda: reached(tmp_path, end["step"] // 4 * 4 + 4))
    for pid in launch.pids:
        os.kill(pid, signal.SIGTERM)
    assert launch.wait() == [0, 0], launch.err()
    (note,) = run.journal().of_kind("note")
    assert "processes: 3, now 2" in note.fields["text"]
    steps = metrics.read(run.path)["step"].tolist()
    assert steps == list(range(len(steps)))


def test_a_batch_that_does_not_divide_is_refused_once(forks, words, tmp_path):
    launch = train(forks, tmp_path, 3, *words, "train.batch_size=50")
    assert launch.wait() == [2, 2, 2]
    assert launch.err().endswith(
        "safelight: batch size 50: does not divide by 3 process(es) x 1 accumulated part(s); "
        "the nearest that do: 48, 51\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_what_only_the_first_process_finds_ends_all(forks, words, tmp_path):
    (tmp_path / "b").mkdir()
    launch = train(forks, tmp_path, 3, *words)
    assert launch.wait() == [2, 2, 2]
    assert launch.err() == f"safelight: {tmp_path / 'b'}: exists already; resume it, or choose another name\n"


def test_an_impossible_device_is_named_before_anything_begins(forks, words, tmp_path):
    launch = train(forks, tmp_path, 2, *words, "train.device=cuda:1")
    assert launch.wait() == [2, 2]
    assert launch.err() == "safelight: train.device: 2 processes cannot share cuda:1; state cuda\n"


def trains_from_python(runs: str) -> None:
    """What a script does that torchrun starts."""
    import safelight as sl
    from tiny import TINY

    run = sl.train("digits-class", TINY | SHORT, name="b", runs=runs, steps=4)
    Path(runs, f"{os.environ['RANK']}.txt").write_text(str(run.sample(2).images.sum()))


def test_a_script_trains_one_run_in_all_its_processes(forks, tmp_path):
    forks.run("test_several:trains_from_python", [str(tmp_path)], 2)
    run = find("b", tmp_path)
    assert run.info().facts.environment["processes"] == 2
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()


@pytest.fixture
def two_machines() -> Iterator[tuple[tuple[str, str], str]]:
    """Two network namespaces joined by a cable; (their names, the address of the first)."""
    if not hasattr(os, "geteuid") or os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and the command ip")
    names = tuple(f"safelight{os.getpid()}{letter}" for letter in "ab")
    cable = [f"sl{os.getpid() % 100000}{letter}" for letter in "ab"]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    made = []
    try:
        try:
            for name in names:
                ip("netns", "add", name)
                made.append(name)
            ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"may not make network namespaces: {error.stderr.decode().strip()}")
        for number, (name, end) in enumerate(zip(names, cable, strict=True), start=1):
            ip("link", "set", end, "netns", name, "name", "cable")
            ip("-n", name, "addr", "add", f"192.168.77.{number}/30", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield (names[0], names[1]), "192.168.77.1"
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "del", name], check=False)
        subprocess.run(["ip", "link", "del", cable[0]], check=False, capture_output=True)


def test_two_machines_train_together(forks, words, two_machines, tmp_path):
    """Two network namespaces, each with one address; nothing but their cable joins them."""
    names, address = two_machines
    environment = {"MASTER_ADDR": address, "MASTER_PORT": "29500", "GLOO_SOCKET_IFNAME": "cable"}
    launch = train(forks, tmp_path, 2, *words, env=environment, namespaces=names, agent=False)
    assert launch.wait() == [0, 0], launch.err()
    run = find("b", tmp_path)
    assert run.info().facts.environment["processes"] == 2
    assert checkpoint_files.list_steps(run.path)[-1] == 16


@pytest.mark.slow
def test_torchrun_killed_and_resumed_equals_uninterrupted(words, tmp_path):
    """As a person does it: torchrun itself, fresh interpreters, exit codes after their teardown."""

    def torchrun(*arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "3", "--master-port",
             str(free_port()), "-m", "safelight", *arguments, "--runs", str(tmp_path)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    with torchrun("train", *words, "--name", "whole") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert "whole: trains step 0" in err
    assert err.count("trains step") == 1  # the first of them speaks for all

    with torchrun("train", *words, "--name", "b") as process:
        until(lambda: reached(tmp_path, 4), 120)
        (owner,) = [json.loads((tmp_path / "b" / "owner.json").read_text())["pid"]]
        os.kill(owner, signal.SIGKILL)
        out, err = process.communicate()
    assert process.returncode == 1  # torchrun's own
    assert err.count("another process of this run has ended") <= 1

    with torchrun("resume", "b") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert "finished, step 16 of 16" in out
    assert digest(find("b", tmp_path)) == digest(find("whole", tmp_path))

    with torchrun("train", *words, "--name", "c", "train.steps=5000") as process:
        until(lambda: (tmp_path / "c" / "checkpoints" / "00000004").exists(), 120)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate()
    assert find("c", tmp_path).journal().of_kind("end")[-1].fields["status"] == "stopped"
    assert "c: stopped, step" in out


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
