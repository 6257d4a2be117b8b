"""A shared run looked at, repeated and kept. Whoever made it is a stranger: no code that it names is run."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelight import discovery, methods
from safelight.config import UserError, flatten, override
from safelight.loading.model import ReplayVerdict
from safelight.loading.recorded import relocate
from safelight.loading.replay import replay
from safelight.sharing import signature
from safelight.sharing.archive import Archive, refused
from safelight.sharing.signature import Signature
from safelight.store import checkpoint, checkpoint_files
from safelight.store.directory import RunDirectory, names, require_free
from safelight.store.durable import mendable, publish, sweep, temporary_beside
from safelight.store.listing import owner_of, parent_of
from safelight.types import Tell

DATA = "data"


@dataclass(frozen=True)
class Opened:
    """A shared run, its records unpacked; every member is as the manifest says."""

    archive: Archive
    directory: RunDirectory  # in a folder that is deleted afterwards
    signature: Signature
    code: Mapping[str, str]  # from outside safelight, that its recipes name, by key
    trusted: bool  # whether it may be run

    @property
    def holds(self) -> list[str]:
        return self.archive.manifest.holds


@contextmanager
def opened(path: Path, signer: Path | None = None, trust: bool = False) -> Iterator[Opened]:
    """Open a shared run, and check all of it. Raises UserError.

    signer: public keys of which one has to have signed it. trust: run code that its recipes name, which is
    refused otherwise for as long as the file is open.
    """
    with ExitStack() as stack:
        archive = stack.enter_context(Archive.open(path))
        who = signature.check(path, archive.text, archive.signature, signer)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="safelight-")))
        archive.unpack(
            folder, lambda match: not (match["data"] or match["tape"] or "/checkpoints/" in match[0])
        )
        if not trust:
            stack.enter_context(discovery.nothing_outside(f"{path}, whose maker could make it do anything"))
        code: dict[str, str] = {}
        try:
            for name in archive.runs:
                code |= named_code(RunDirectory(folder / name))
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise refused(path, f"is not written as this safelight does it ({error!r})") from error
        yield Opened(archive, RunDirectory(folder / archive.manifest.run), who, code, trust)


def named_code(directory: RunDirectory) -> dict[str, str]:
    """Code from outside safelight that a run's recipe or an edit of it names, by key; none is imported."""
    tree = directory.recipe_tree()
    edits = [entry.fields.get("changes") for entry in directory.journal().entries]
    trees = [tree, *(override(tree, edit) for edit in edits if isinstance(edit, dict))]
    known = {"method": discovery.modules(methods), "network": list(discovery.network_configs())}
    return {
        key: str(name)
        for each in trees
        for key, name in flatten({part: each.get(part) for part in known}).items()
        if key.endswith(".name") and name not in known[key.partition(".")[0]]
    }


def require_safe(code: Mapping[str, str], trusted: bool, what: object) -> None:
    """Raises UserError for a run that names code, unless the user trusts it."""
    if code and not trusted:
        key, name = next(iter(code.items()))
        raise UserError(
            f"{what}: {key} = {name} is code from outside safelight; read it, then add --trust-code"
        )


@dataclass(frozen=True)
class Replayed:
    """What came of repeating a step."""

    verdict: ReplayVerdict
    run: str  # whose steps were repeated: the shared run, or the one it came from
    state: bool | None  # whether all of the state has the digest of that step's checkpoint; None: none known

    @property
    def first(self) -> int | None:
        """The first step that differs, or is not known to be equal; None where none is."""
        return None if self.verdict.agreed else self.verdict.start + self.verdict.checked

    def describe(self) -> list[str]:
        """In words."""
        verdict, recomputed = self.verdict, self.verdict.to - self.verdict.start
        equal = f"{verdict.checked:,} of {recomputed:,} steps recomputed from {verdict.start:,} and equal"
        lines = [f"{verdict.verdict}: step {verdict.to:,} of {self.run}; {equal}"]
        if self.first is not None:
            lines.append(f"the first that differs: step {self.first:,}")
        if self.state is not None:
            lines.append(
                f"the whole state {'has' if self.state else 'does not have'} the digest that was recorded"
            )
        return [*lines, *(f"  {reason}" for reason in verdict.why)]


def replay_step(shared: Opened, step: int, places: Mapping[str, Any], tell: Tell) -> Replayed:
    """Recompute a shared run up to a step and compare it with what was recorded. Raises UserError.

    places: where its data are, {"data.path": ...}. A fork begins with the run it came from, recomputed where
    no checkpoint has the state between them.
    """
    require_safe(shared.code, shared.trusted, shared.archive.path)
    folder = shared.directory.path.parent
    shutil.rmtree(folder)
    folder.mkdir()
    shared.archive.unpack(folder)  # with weights and data, now that they are needed
    directory = owner_of(shared.directory, step)
    if (packed := _data_of(shared.directory.path)) and not places:
        places = {"data.path": str(packed)}
    print_of = {run: run.info().facts.data["fingerprint"]
                for run in (RunDirectory(folder / name) for name in shared.archive.runs)}  # fmt: skip
    for run, fingerprint in print_of.items() if places else ():
        if fingerprint == print_of[directory]:  # an autoencoder may have other data
            relocate(run, places)
    return _reached(directory, step, tell)


def _reached(directory: RunDirectory, step: int, tell: Tell) -> Replayed:
    parent = directory.info().parent
    if parent and not any(
        parent.step <= saved <= step for saved in checkpoint_files.list_steps(directory.path)
    ):
        before = parent_of(directory)
        if before is None:
            raise UserError(
                f"{directory.name}: begins with step {parent.step} of a run that is not in the file; have it "
                "shared --with weights"
            )
        tell(f"{directory.name} began with step {parent.step} of {before.name}")
        source = owner_of(before, parent.step)
        replayed = _reached(source, parent.step, tell)
        if not replayed.verdict.agreed:
            return replayed
        state, _ = replay(source, parent.step)
        if checkpoint.digest(state.groups()) != parent.digest:
            return Replayed(replayed.verdict, source.name, False)
        checkpoint.save(directory.path, parent.step, state.groups(), {"edits": 0})
    state, verdict = replay(directory, step, tell)
    known = directory.digests().get(step)
    return Replayed(
        verdict, directory.name, None if known is None else checkpoint.digest(state.groups()) == known
    )


def _data_of(run: Path) -> Path | None:
    """What data.path of an unpacked run is: the one entry of its folder data."""
    entries = list((run / DATA).iterdir()) if (run / DATA).is_dir() else []
    return entries[0] if len(entries) == 1 else None


def keep(shared: Opened, runs: Path, name: str | None) -> RunDirectory:
    """Put a shared run, and those that it came from or needs, among the runs of a folder. Raises UserError.

    name: of the shared run; its own by default. Runs that are there already stay as they are. Its data become
    a folder beside it.
    """
    require_safe(shared.code, shared.trusted, shared.archive.path)
    name, path = name or shared.directory.name, shared.archive.path
    require_free(runs, shared.directory.name, name)
    known = {RunDirectory(runs / other).info().id: other for other in names(runs)}
    if (other := known.get(shared.directory.info().id)) is not None:
        raise UserError(f"{path}: is the run {other}, which is in {runs} already")
    with mendable(runs):
        runs.mkdir(parents=True, exist_ok=True)
        sweep(runs)
        work = temporary_beside(runs / name)
        try:
            shared.archive.unpack(work)
            made = work / shared.directory.name
            for other in shared.archive.runs[1:]:
                if RunDirectory(work / other).info().id not in known:
                    if os.path.lexists(runs / other):
                        raise UserError(
                            f"{runs / other}: has the name of a run in {path}; rename it, or use other --runs"
                        )
                    publish(work / other, runs / other)
            if data := _data_of(made):
                place = runs / f"{name}-data"
                if place.exists():
                    raise UserError(f"{place}: exists already; move it away, or choose another --name")
                publish(made / DATA, place)
                relocate(RunDirectory(made), {"data.path": str((place / data.name).absolute())})
            publish(made, runs / name)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return RunDirectory(runs / name)
