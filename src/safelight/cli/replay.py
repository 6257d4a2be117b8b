"""safelight replay: any step of a run, reached again, with a verdict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from safelight.cli.options import JsonOption, RunArgument, RunsOption, examples, print_json
from safelight.terminal import say


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=examples("safelight replay digits-1 --to 333"))(replay)


def replay(
    run: RunArgument,
    to: Annotated[int, typer.Option("--to", min=0, help="Steps behind the state to be reached.")],
    export: Annotated[
        Path | None, typer.Option("--export", metavar="FILE.safetensors", help="Write the averaged weights.")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Recompute a run from the checkpoint before a step, checking every step's recorded fingerprint."""
    from dataclasses import asdict

    from safelight.cli.progress import TrainingProgress
    from safelight.loading.replay import replay as recompute
    from safelight.store.directory import find, runs_directory

    state, verdict = recompute(find(run, runs_directory(runs)), to, TrainingProgress().show(log=False).tell)
    if export is not None:
        from safetensors.torch import save

        from safelight.store.durable import write_bytes

        weights = {f"{name}.{key}": value.contiguous() for name, net in state.averages.networks.items()
                   for key, value in net.state_dict().items()}  # fmt: skip
        write_bytes(export, save(weights))
    if as_json:
        print_json({**asdict(verdict), "export": str(export) if export else None})
        return
    if verdict.to == verdict.start:
        say(f"{verdict.verdict}: step {verdict.to}, nothing recomputed")
    else:
        reached = f"step {verdict.to}, {verdict.checked} steps recomputed from {verdict.start} and equal"
        say(f"{verdict.verdict}: {reached}")
    if verdict.step is not None:
        first = "differs" if verdict.verdict == "diverged" else "is not proved"
        say(f"the first that {first}: step {verdict.step}")
    for reason in verdict.why:
        say(f"  {reason}")
