"""Jobs: one at a time, cancellable, shown with their output, and out of reach of the page's end."""

from __future__ import annotations

import asyncio
import errno
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the page needs the extra web")

from safelight.web import jobs as module
from safelight.web.acts import ACTS
from safelight.web.jobs import Job, Jobs
from safelight.web.model import ModelProcess, Superseded

ENDED = ("done", "failed", "cancelled")


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In place of Python: writes what its last shown word says to `out`."""
    path = tmp_path / "program"
    path.write_text(
        "#!/bin/sh\ntrap 'echo stopped >> $HERE/out; exit 130' INT\nshift 2\n"
        "echo begin $1 >> $HERE/out; sleep $1 & wait $!; echo end $1 >> $HERE/out\n"
        'echo "{\\"slept\\": $1}"; exit $2\n'
    )
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))
    monkeypatch.setattr(module, "EVERY", 0.01)
    monkeypatch.setenv("HERE", str(tmp_path))
    return tmp_path / "out"


async def ended(job: Job) -> Job:
    while job.status not in ENDED:
        await asyncio.sleep(0.01)
    return job


def test_one_runs_at_a_time_and_a_quick_one_does_not_wait(program, tmp_path):
    async def main() -> None:
        jobs = Jobs(tmp_path)
        first, second = jobs.add(["0.3", "0"]), jobs.add(["0.1", "3"])
        quick = jobs.add(["0", "0"], quick=True)
        await asyncio.gather(*map(ended, (first, second, quick)))
        assert quick.ended < first.ended < second.begun
        assert (first.status, second.status, second.code) == ("done", "failed", 3)
        assert first.to_dict()["result"] == {"slept": 0.3}
        assert second.to_dict()["result"] is None

    asyncio.run(main())


def test_a_waiting_job_is_cancelled_before_it_begins_and_a_running_one_is_interrupted(program, tmp_path):
    async def main() -> None:
        jobs = Jobs(tmp_path)
        running, waiting = jobs.add(["30", "0"]), jobs.add(["0", "0"])
        while not program.exists():
            await asyncio.sleep(0.01)
        jobs.cancel(waiting.id)
        jobs.cancel(running.id)
        await asyncio.gather(ended(running), ended(waiting))
        assert (running.status, running.code, waiting.status, waiting.begun) == (
            "cancelled",
            130,
            "cancelled",
            None,
        )

    asyncio.run(main())
    assert program.read_text().split() == ["begin", "30", "stopped"]


def test_what_runs_outlives_the_page(program, tmp_path):
    async def main() -> subprocess.Popen[bytes]:
        jobs = Jobs(tmp_path)
        job = jobs.add(["0.4", "0"])
        while not program.exists():
            await asyncio.sleep(0.01)
        await jobs.close()
        assert job._process
        return job._process

    assert asyncio.run(main()).wait() == 0
    assert program.read_text().split() == ["begin", "0.4", "end", "0.4"]


def test_a_command_is_shown_as_it_can_be_typed():
    words = ACTS["fork"].words(
        "whole", {"step": 3, "changes": {"loss.weights.kl": {"end": 1.0}}, "train": False}
    )
    job = Job(1, words, ["--json"], "whole", False, Path())
    assert shlex.split(job.command) == ["safelight", *words]
    assert words == ["fork", "whole", "--step", "3", 'loss.weights.kl={"end": 1.0}', "--no-train"]


def test_of_requests_in_a_row_the_latest_wins(monkeypatch):
    requests = []

    async def main() -> None:
        model = ModelProcess()

        async def answer(request):
            requests.append(request["n"])
            await asyncio.sleep(0.05)
            return {"n": request["n"]}

        monkeypatch.setattr(model, "_answer", answer)
        calls = [model.ask("slider", {"n": n}) for n in range(5)] + [model.ask("sheet", {"n": 9})]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [isinstance(each, Superseded) for each in answers] == [False, True, True, True, False, False]
        await model.close()

    asyncio.run(main())
    assert requests == [0, 4, 9]  # the first was under way


def test_on_a_full_disk_a_job_fails_in_words_and_the_next_one_runs(program, tmp_path, monkeypatch):
    whole = Path.open

    def full(path, *how, **options):
        if path.name == "stdout" and path.parent.name == "1" and how == ("wb",):
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(path, *how, **options)

    monkeypatch.setattr(Path, "open", full)

    async def main() -> None:
        jobs = Jobs(tmp_path)
        first, second = jobs.add(["0", "0"]), jobs.add(["0", "0"])
        await asyncio.gather(ended(first), ended(second))
        assert (first.status, second.status) == ("failed", "done")
        assert first.to_dict()["output"] == "it could not be started: No space left on device"

    asyncio.run(main())


def test_where_no_folder_of_jobs_can_be_made_the_answer_says_so(page, monkeypatch):
    def full(**given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.tempfile, "mkdtemp", full)
    answer = page.post("/api/jobs", {"act": "replay", "run": "whole", "options": {"step": 20}})
    assert answer.status_code == 507
    assert answer.json() == {"mistake": "the job cannot be written: No space left on device"}
    assert page.get("/api/run/whole").status_code == 200  # what is read goes on


def test_what_a_job_reads_is_there_while_it_runs_and_gone_after(program, tmp_path):
    async def main() -> None:
        jobs = Jobs(tmp_path)
        job = jobs.add(["0.2", "0"], inputs={"picture": b"sent"})
        while not program.exists():
            await asyncio.sleep(0.01)
        assert (job.folder / "picture").read_bytes() == b"sent"
        await ended(job)
        assert sorted(path.name for path in job.folder.iterdir()) == ["stderr", "stdout"]

    asyncio.run(main())


def test_only_words_that_acts_place_are_files_of_the_job():
    """A run, or a folder of pictures, may have the name of such a file."""
    words = ACTS["project"].words("picture", {"step": 3, "steps": 9, "conditions": {"label": 7}})
    job = Job(1, words, [], "picture", False, Path("/jobs/1"))
    assert module._placed(job) == [
        "project", "picture", "/jobs/1/picture", "--steps", "9", "--condition", "label=7", "--step", "3",
        "--out", "/jobs/1/project.png",
    ]  # fmt: skip
    words = ACTS["inspect"].words("", {"folder": "data.png", "changes": {"data.size": 32}})
    assert module._placed(Job(1, words, [], "", True, Path("/jobs/1"))) == [
        "data", "inspect", "data.png", "data.size=32", "--sheet", "/jobs/1/data.png",
    ]  # fmt: skip
