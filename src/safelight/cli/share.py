"""safelight share, open, push, pull, cite."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from safelight import api
from safelight.cli.options import (
    JsonOption,
    PlacesArgument,
    RunArgument,
    RunsOption,
    changes_of,
    examples,
    print_json,
)
from safelight.cli.runs import print_run
from safelight.report import plain as run_facts
from safelight.store import size
from safelight.store.durable import write_text
from safelight.terminal import messages, say

app = typer.Typer()
SignOption = Annotated[
    Path | None,
    typer.Option("--sign", metavar="KEY", help="Private ssh key to sign it with. Default: not signed."),
]
SignerOption = Annotated[
    Path | None,
    typer.Option(
        "--signer",
        metavar="KEY.pub",
        help="Public ssh keys, of which one has to have signed it. Default: any, or none.",
    ),
]
PlaceArgument = Annotated[str, typer.Argument(metavar="hub:USER/NAME", help="Repository of the Hub.")]
NAME = "Also keep it as a run of this name, in --runs. Default: only look at it."
TrustOption = Annotated[
    bool,
    typer.Option(
        "--trust-code", help="Run methods and networks from outside safelight that its recipe names."
    ),
]


@app.command(
    epilog=examples(
        "safelight share digits-1 --out run.slr", "safelight share digits-1 --out run.slr --with weights"
    )
)
def share(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE.slr", help="File to write.")],
    holds: Annotated[
        list[str] | None,
        typer.Option(
            "--with", metavar="weights|tape|data", help="What to add; can be repeated. Default: none of them."
        ),
    ] = None,
    sign: SignOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a run as one file: recipe, journal, fingerprints and sheets; under 1 MB without weights.

    It also says where the run's data were and on what machine it was trained.
    """
    made = api.share.share(run, out, holds=holds or (), sign=sign, runs=runs)
    count = out.stat().st_size
    if as_json:
        print_json({"out": str(out), "bytes": count, **asdict(made)})
        return
    say(f"{out}: {size.words(count)}, {len(made.members)} files")
    if made.every > 1:
        say(f"metrics: every {made.every}th row, to stay small")
    say(f"others check it with: safelight open {out}")


@app.command("open", epilog=examples("safelight open run.slr", "safelight open run.slr --replay 40"))
def open_shared(
    file: Annotated[Path, typer.Argument(metavar="FILE.slr", help="File of `safelight share`.")],
    places: PlacesArgument = None,
    replay: Annotated[
        int | None,
        typer.Option(
            "--replay", metavar="STEP", min=0, help="Step to recompute, and to compare. Default: none."
        ),
    ] = None,
    signer: SignerOption = None,
    name: Annotated[str | None, typer.Option("--name", help=NAME)] = None,
    trust_code: TrustOption = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a run that somebody shared, check it, and repeat any of its steps.

    Nothing of the file is run, and nothing is kept without --name.
    """
    tell, _ = messages()
    with api.share.open_shared(file, signer=signer, trust_code=trust_code) as shared:
        manifest, facts = shared.archive.manifest, run_facts.run(shared.directory)
        if not as_json:
            members = sum(member.bytes for member in manifest.members.values())
            say(f"file:    {len(manifest.members)} files, {size.words(members)}, as its manifest lists them")
            say(f"signed:  {shared.signature.describe()}")
            print_run(shared.directory, False)
            say(f"holds:   {', '.join(shared.holds) or 'no weights, tape or data'}")
            for key, code in shared.code.items():
                say(f"code:    {key} = {code} is from outside safelight, not in the file, and was not run")
        done = (
            api.share.replay_shared(shared, replay, changes_of(places), tell=tell)
            if replay is not None
            else None
        )
        if done and not as_json:
            say(*done.describe())
        kept = api.share.keep_shared(shared, name, runs=runs).directory if name else None
        if kept and not as_json:
            say(f"kept:    {kept.path}")
    if as_json:
        print_json({
            "file": str(file), "manifest": asdict(manifest), "signature": asdict(shared.signature),
            "code": dict(shared.code), "run": {**facts, "path": ""},
            "replay": {**asdict(done), "first": done.first} if done else None,
            "kept": str(kept.path) if kept else None,
        })  # fmt: skip


@app.command(epilog=examples("safelight push digits-1 hub:me/digits --license cc-by-4.0"))
def push(
    run: RunArgument,
    place: PlaceArgument,
    licence: Annotated[
        str, typer.Option("--license", metavar="ID", help="Licence of the weights, e.g. cc-by-4.0 or other.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="New folder to write instead. Default: upload."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    sign: SignOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a run on the Hugging Face Hub, with a card made from it.

    Weights as safetensors and in the layout of diffusers where it has one, recipe, sheets, and run.slr.
    """
    lines: list[str] = []
    address = api.share.push(
        run, place, licence=licence, private=private, out=out, sign=sign, runs=runs, tell=lines.append
    )
    if as_json:
        print_json({"address": address, "notes": lines})
    else:
        say(address, *(f"  {line}" for line in lines))


@app.command(epilog=examples("safelight pull hub:me/digits --name theirs"))
def pull(
    place: PlaceArgument,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the run. Default: that of the repository.")
    ] = None,
    signer: SignerOption = None,
    trust_code: TrustOption = False,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a run of one on the Hugging Face Hub.

    It can be sampled, evaluated and trained from: init.from=NAME.
    """
    made = api.share.pull(place, name=name, signer=signer, trust_code=trust_code, runs=runs)
    print_run(made.directory, as_json)


@app.command(
    epilog=examples(
        'safelight cite digits-1 --author "Ada Lovelace"',
        "safelight cite digits-1 --to requirements --out requirements.txt",
    )
)
def cite(
    run: RunArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORM",
            help="Form. bibtex or cff: a citation; croissant: the data; requirements: the packages.",
        ),
    ] = "bibtex",
    author: Annotated[
        list[str] | None, typer.Option("--author", help="Author; can be repeated. Default: none stated.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", metavar="ID", help="Licence, for cff and croissant. Default: none stated."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="File to write. Default: the terminal.")
    ] = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the citation of a run, its data as Croissant, or the packages that it ran with."""
    text = api.share.cite(run, to, authors=author or (), licence=licence, runs=runs)
    if out:
        write_text(out, text)
    if as_json:
        print_json({"to": to, "out": str(out) if out else None, "text": text})
    else:
        say(*([out] if out else text.removesuffix("\n").split("\n")))
