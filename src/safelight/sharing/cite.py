"""A run in a paper's appendix: its citation, its data, and the packages that it ran with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata

from safelight.config import UserError
from safelight.report.facts import RunFacts
from safelight.report.run_report import read_run, reproduce
from safelight.sharing.croissant import croissant
from safelight.store.directory import RunDirectory

LATEX = {**{character: f"\\{character}" for character in "&%$#_{}"}, "~": r"\textasciitilde{}",
         "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}  # fmt: skip
WHEELS = "https://download.pytorch.org/whl/"


def cite(directory: RunDirectory, form: str, authors: Sequence[str] = (), licence: str | None = None) -> str:
    """The text of a form, one of `FORMS`. Raises UserError."""
    if form not in FORMS:
        raise UserError(f"--to {form}: is not a valid choice; use {', '.join(FORMS)}")
    return FORMS[form](directory, [" ".join(author.split()) for author in authors], licence)


def _facts(directory: RunDirectory) -> tuple[RunFacts, str, str]:
    """The facts of a run, what it is in a sentence, and how to know that it is the same."""
    run, method = read_run(directory)
    again = reproduce(directory)
    weights = f"weights {again.digest} at step {again.step}; " if again.digest else ""
    recipe = directory.info().recipe_sha256
    return run, method.title.rstrip("."), f"{weights}data {run.data['fingerprint']}; recipe sha256 {recipe}"


def _bibtex(directory: RunDirectory, authors: Sequence[str], licence: str | None) -> str:
    run, title, identity = _facts(directory)
    fields = {
        "author": " and ".join(map(_latex, authors)),
        "title": f"{{{_latex(run.name)}}}: {_latex(title)}",
        "year": run.created[:4],
        "month": run.created[5:7].lstrip("0"),
        "howpublished": f"Run {_latex(run.id)} of safelight {_latex(run.code.get('safelight', ''))}",
        "note": _latex(identity),
    }
    lines = "".join(f"  {name} = {{{value}}},\n" for name, value in fields.items() if value)
    return f"@misc{{{re.sub(r'[^A-Za-z0-9.+-]', '-', run.name)}-{run.id[:8]},\n{lines}}}\n"


def _latex(text: object) -> str:
    return "".join(LATEX.get(character, character) for character in " ".join(str(text).split()))


def _cff(directory: RunDirectory, authors: Sequence[str], licence: str | None) -> str:
    """Citation File Format 1.2.0, YAML; its values are written as JSON, which YAML includes."""
    if not authors:
        raise UserError("--author: CITATION.cff needs at least one, such as --author 'Ada Lovelace'")
    run, title, identity = _facts(directory)
    fields = {
        "cff-version": "1.2.0",
        "message": "Cite this run as below.",
        "type": "dataset",
        "title": f"{run.name}: {title}",
        "authors": [_person(author) for author in authors],
        "date-released": run.created[:10],
        "version": run.id,
        "abstract": f"A training run of safelight {run.code.get('safelight', '')}; {identity}.",
    } | ({"license": licence} if licence else {})
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in fields.items())


def _person(author: str) -> dict[str, str]:
    """ "Ada Lovelace" or "Lovelace, Ada" as a person, one word as an organisation."""
    family, comma, given = author.partition(", ")
    if not comma:
        given, _, family = author.rpartition(" ")
    return {"family-names": family, "given-names": given} if given else {"name": author}


def _requirements(directory: RunDirectory, authors: Sequence[str], licence: str | None) -> str:
    """What pip or uv installs: torch, NumPy, safelight as the newest session had them, the others as here."""
    run, _ = read_run(directory)
    sessions = run.journal.of_kind("session")
    newest = sessions[-1].fields if sessions else {}
    environment, code = newest.get("environment", {}), newest.get("code", {})
    facts = {**environment, "safelight": code.get("safelight")}
    recorded = {name: str(facts[name]) for name in ("torch", "numpy", "safelight") if facts.get(name)}
    if wrong := [version for version in recorded.values() if not re.fullmatch(r"[\w.+!-]{1,60}", version)]:
        raise UserError(f"{directory.name}: {wrong[0][:40]!r} in its journal is no version of a package")
    here = dict(_closure("safelight"))
    differ = [f"{name} {here[name]}" for name in recorded if here.get(name, "") != recorded[name]]
    pins = {**here, **recorded}
    safelight = f"safelight=={pins.pop('safelight')}"
    where = f"{environment.get('machine', '')} {environment.get('device', '')}"
    notes = [
        f"packages of {run.name}, run {run.id}: uv pip install -r FILE, or pip install -r FILE",
        f"torch, numpy and safelight of its newest session ({where}); the others as they are installed here,",
        f"beside {', '.join(differ)}" if differ else "beside the same three",
        f"{safelight}, whose source had the digest {code.get('source', 'unknown')}",
        *(f"code from outside: {name} {code[name]}" for name in code if name not in ("safelight", "source")),
    ]
    if metadata.distribution("safelight").read_text("direct_url.json"):  # not from an index
        notes.append("was installed from its source: install that first")
    else:
        pins["safelight"] = safelight.partition("==")[2]
    local = recorded.get("torch", "").partition("+")[2]
    lines = [*(f"# {' '.join(line.split())[:300]}" for line in notes)]
    lines += [f"--extra-index-url {WHEELS}{local}"] if local else []
    return "\n".join([*lines, *(f"{name}=={version}" for name, version in sorted(pins.items()))]) + "\n"


def _closure(package: str) -> Iterator[tuple[str, str]]:
    """A package and what it requires, without extras, as they are installed here."""
    waiting, seen = [package], set[str]()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another system
            continue
        yield name, distribution.version
        needed = (
            re.match(r"[\w.-]+", line) for line in distribution.requires or () if "extra ==" not in line
        )
        waiting += [match[0] for match in needed if match]


FORMS: dict[str, Callable[[RunDirectory, Sequence[str], str | None], str]] = {
    "bibtex": _bibtex,
    "cff": _cff,
    "croissant": lambda directory, authors, licence: croissant(directory, licence),
    "requirements": _requirements,
}
