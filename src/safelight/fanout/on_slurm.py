"""Slurm, through submitit: what is submitted within a second is one array job, requeued where it is lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from safelight import fanout
from safelight.config import UserError, install

FOLDER = ".slurm"  # in the folder of runs: what submitit leaves for the jobs, and their logs
WAIT = 1.0  # seconds between two looks at the jobs


class SlurmPool(Executor):
    """Jobs of submitit, as futures of the standard library. sbatch reads SBATCH_PARTITION and its like."""

    def __init__(self, cluster: str, marks: list[Path], threads: int, device: str, tries: int) -> None:
        """cluster: "slurm"; "local" and "debug" are submitit's, for trying it out."""
        try:
            import submitit
        except ImportError as error:
            raise UserError(f"--on slurm: needs submitit; install it with: {install('slurm')}") from error
        self.size, self._threads, self._marks = 100, threads, marks
        try:
            self._executor = submitit.AutoExecutor(
                marks[0].parent / FOLDER, cluster, slurm_max_num_timeout=tries
            )
        except (RuntimeError, ValueError) as error:
            raise UserError(f"--on slurm: {str(error).partition(chr(10))[0]}") from error
        cards = {"gpus_per_node": 1} if device == "cuda" else {}
        self._executor.update_parameters(
            name="safelight", cpus_per_task=threads, slurm_array_parallelism=self.size,
            slurm_setup=[f"export {name}={value}" for name, value in
            fanout.environment(threads).items()], timeout_min=24 * 60, **cards,
        )  # fmt: skip
        self._new: list[tuple[Future[Any], Task]] = []
        self._jobs: dict[Future[Any], Any] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of fn(*args), of a job that is submitted within a second."""
        future = Future[Any]()
        self._new.append((future, Task(fn, args, self._threads, self._marks)))
        return future

    def _watch(self) -> None:
        while not (self._closed.is_set() and not self._new and not self._jobs):
            time.sleep(WAIT)
            new, self._new = self._new, []
            if new:
                with self._executor.batch():
                    jobs = [self._executor.submit(task) for _, task in new]
                self._jobs |= zip((future for future, _ in new), jobs, strict=True)
            for future, job in list(self._jobs.items()):
                if job.done():
                    del self._jobs[future]
                    _settle(future, job)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of `Executor`. cancel_futures: also end what runs, a training after the step in hand."""
        if cancel_futures:
            for future, _ in self._new:
                future.cancel()
            self._new = []
            for job in list(self._jobs.values()):
                with suppress(Exception):
                    job.cancel()
        self._closed.set()
        if wait:
            self._thread.join()


class Task:
    """A call that Slurm may cut off: submitit submits it again, where `checkpoint` says so."""

    def __init__(self, *call: Any) -> None:
        self.call = call  # what `fanout.call` takes

    def __call__(self) -> Any:
        """(error, result): submitit would wrap an error in words of its own."""
        try:
            return None, fanout.call(*self.call)
        except Exception as error:
            return error, None

    def checkpoint(self) -> Any:
        """What is submitted in its place: the same, which goes on from what is on the disk."""
        import submitit

        return submitit.helpers.DelayedSubmission(self)


def _settle(future: Future[Any], job: Any) -> None:
    try:
        error, result = job.result()
    except Exception as lost:
        error, result = UserError(f"job {job.job_id}: {str(lost).strip().splitlines()[-1]}"), None
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
