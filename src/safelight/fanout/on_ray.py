"""A Ray cluster: one that runs, or one that is started on this machine. It retries and cancels by itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

from safelight import fanout
from safelight.config import UserError, install


class RayPool(Executor):
    """Tasks of Ray, as futures of the standard library."""

    def __init__(self, address: str, marks: list[Path], threads: int, device: str, tries: int) -> None:
        """address: "ray://HOST:10001"; "" for $RAY_ADDRESS, or a cluster of this machine's cores."""
        try:
            import ray
        except ImportError as error:
            raise UserError(f"--on ray: needs Ray; install it with: {install('ray')}") from error
        self._ray, self._tries, self._futures = ray, tries, dict[Future[Any], Any]()
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers
        self._ours = not ray.is_initialized()
        if self._ours:
            package = Path(fanout.__file__).parents[1]
            far = address or os.environ.get("RAY_ADDRESS", "")
            paths = os.pathsep.join(filter(None, [str(package.parent), os.environ.get("PYTHONPATH", "")]))
            variables = fanout.environment(threads) | ({} if far else {"PYTHONPATH": paths})
            runtime = {"env_vars": variables} | ({"py_modules": [str(package)]} if far else {})
            options = {"runtime_env": runtime, "logging_level": "error", "log_to_driver": False}
            try:
                ray.init(address or None, **options, **({} if far else {"include_dashboard": False}))
            except Exception as error:  # of many kinds, of which a timeout is a plain Exception
                reason = str(error).strip().splitlines()[-1]
                raise UserError(f"--on {address or 'ray'}: no cluster answers ({reason})") from error
        resources = ray.cluster_resources()
        cards = resources.get("GPU", 0) if device in ("auto", "cuda") else 0
        self.size = max(1, int(cards or resources.get("CPU", 1) // threads))
        self._task = ray.remote(
            num_cpus=threads, num_gpus=1 if cards else 0, max_retries=tries - 1, max_calls=0
        )(_outcome)
        self._threads, self._marks = threads, marks

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future of fn(*args), on whichever machine has room."""
        reference, future = self._task.remote(fn, args, self._threads, self._marks), Future[Any]()
        self._futures[future] = reference

        def ended(inner: Future[Any]) -> None:
            del self._futures[future]
            error = inner.exception()
            if error is None:
                error, result = inner.result()
            if isinstance(error, self._ray.exceptions.WorkerCrashedError):
                error = fanout.given_up(self._tries)
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        reference.future().add_done_callback(ended)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As of `Executor`. cancel_futures: also end what runs, a training after the step in hand."""
        left = list(self._futures.values())
        if cancel_futures:
            for reference in left:
                self._ray.cancel(reference)  # as by Ctrl-C
        if wait and left:
            self._ray.wait(left, num_returns=len(left))
        if self._ours:
            self._ray.shutdown()


def _outcome(
    function: Callable[..., Any], arguments: tuple[Any, ...], threads: int, marks: list[Path]
) -> Any:
    """(error, result): Ray would wrap an error in words of its own."""
    try:
        return None, fanout.call(function, arguments, threads, marks)
    except Exception as error:
        return error, None
