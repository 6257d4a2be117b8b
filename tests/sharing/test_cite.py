"""What a paper says of a run: every form can be read by what reads it, whatever the run is called."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import warnings
import zipfile
from importlib import metadata

import pytest

from command_line import run
from data.files import save, unlike
from safelight.config import UserError
from safelight.sharing.cite import cite
from safelight.store import sealed
from safelight.store.directory import RunDirectory
from safelight.store.info import RunInfo

yaml = pytest.importorskip("yaml")


@pytest.fixture
def evil(finished, tmp_path) -> RunDirectory:
    """The finished run, with a name that LaTeX and YAML would read otherwise."""
    path = tmp_path / "50%_of {a} & b #1 $x$ \\input ^~: - [c] 'd' \""
    shutil.copytree(finished.path, path)
    return RunDirectory(path)


def test_bibtex_has_the_digests_and_escapes_what_latex_reads(finished, evil):
    info, text = finished.info(), cite(evil, "bibtex", ["Ada Lovelace", "Müller & Sons"])
    digest = json.loads((finished.path / "checkpoints" / "00000030" / "manifest.json").read_text())["digest"]
    assert all(part in text for part in (info.id, info.recipe_sha256, digest, info.facts.data["fingerprint"]))
    assert r"author = {Ada Lovelace and Müller \& Sons}" in text
    assert (
        r"title = {{50\%\_of \{a\} \& b \#1 \$x\$ \textbackslash{}input \textasciicircum{}\textasciitilde{}:"
        in text
    )
    assert re.match(r"@misc\{[A-Za-z0-9.+-]+,\n", text)
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")


def test_cff_is_yaml_with_what_its_schema_requires(evil):
    made = yaml.safe_load(cite(evil, "cff", ["Ada Lovelace", "Byron, Lord", "Trinity"], "cc-by-4.0"))
    assert {"cff-version", "message", "title", "authors"} <= made.keys()
    ada = {"family-names": "Lovelace", "given-names": "Ada"}
    byron = {"family-names": "Byron", "given-names": "Lord"}
    assert made["authors"] == [ada, byron, {"name": "Trinity"}]
    assert made["title"].startswith(evil.name)
    assert made["license"] == "cc-by-4.0"
    with pytest.raises(UserError, match=r"--author: CITATION\.cff needs"):
        cite(evil, "cff")


def validated(text: str) -> dict:
    """The JSON-LD, every reference in it resolved; read by mlcroissant too, where that is installed."""
    node = json.loads(text)
    assert node["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    known = {part["@id"] for part in node["distribution"]}
    for part in node["distribution"]:
        assert part["@type"] in ("cr:FileObject", "cr:FileSet")
        assert ("sha256" in part) + ("md5" in part) == (part["@type"] == "cr:FileObject")
        assert part.get("containedIn", {"@id": part["@id"]})["@id"] in known
    for field in (field for records in node.get("recordSet", ()) for field in records["field"]):
        assert field["source"]["fileSet"]["@id"] in known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from mlcroissant import Metadata
            from mlcroissant._src.core.context import Context
        except ImportError:
            return node
        context = Context()
        Metadata.from_json(context, node)  # a Dataset would clone repositories
        assert not context.issues.errors
    return node


def with_data(finished: RunDirectory, place, **data: object) -> RunDirectory:
    """The finished run, its recipe's data replaced."""
    import tomli_w

    shutil.copytree(finished.path, place)
    tree = finished.recipe_tree()
    text = tomli_w.dumps({**tree, "data": data}).encode()
    (place / "recipe.toml").write_bytes(text)
    info = json.loads((place / "run.json").read_text())
    del info["check"]
    (place / "run.json").write_bytes(
        sealed.pretty({**info, "recipe_sha256": hashlib.sha256(text).hexdigest()})
    )
    made = RunDirectory(place)
    assert isinstance(made.info(), RunInfo)
    return made


def test_croissant_names_folders_archives_and_published_files_with_their_hashes(finished, tmp_path):
    node = validated(cite(finished, "croissant", licence="cc-by-4.0"))
    assert (node["name"], node["license"], node["distribution"]) == ("digits", "cc-by-4.0", [])
    assert node["identifier"] == f"safelight:{finished.info().facts.data['fingerprint']}"
    assert "1,624 images to train on and 173 held out" in node["description"]

    folder = tmp_path / "photos"
    for number in range(3):
        save(folder / f"{number}.png", unlike(number))
    node = validated(
        cite(with_data(finished, tmp_path / "a", source="folder", path=str(folder)), "croissant")
    )
    assert [part["@type"] for part in node["distribution"]] == ["cr:FileSet"]
    assert "photos/**/*.png" in node["distribution"][0]["includes"]
    assert [field["name"] for field in node["recordSet"][0]["field"]] == ["image", "name"]

    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(folder / "0.png", "0.png")
    packed = with_data(finished, tmp_path / "b", source="folder", path=str(tmp_path / "photos.zip"))
    node = validated(cite(packed, "croissant"))
    assert (
        node["distribution"][0]["sha256"]
        == hashlib.sha256((tmp_path / "photos.zip").read_bytes()).hexdigest()
    )
    assert node["distribution"][1]["containedIn"] == {"@id": "photos.zip"}
    (tmp_path / "photos.zip").unlink()
    with pytest.raises(UserError, match=r"photos\.zip: is not there; say where the data are now"):
        cite(packed, "croissant")

    node = validated(cite(with_data(finished, tmp_path / "c", source="mnist"), "croissant"))
    assert len({part["md5"] for part in node["distribution"]}) == 4
    node = validated(cite(with_data(finished, tmp_path / "d", source="hub", path="me/cats"), "croissant"))
    assert node["distribution"][0]["contentUrl"] == "https://huggingface.co/datasets/me/cats"


def test_requirements_pin_what_ran_and_what_it_needs(finished, tmp_path):
    lines = cite(finished, "requirements").splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))
    for name in ("torch", "numpy", "pydantic", "pillow", "sympy"):  # sympy: of torch
        assert pins[name] == metadata.version(name)
    assert "pytest" not in pins
    local = metadata.version("torch").partition("+")[2]
    assert (f"--extra-index-url https://download.pytorch.org/whl/{local}" in lines) is bool(local)
    shutil.copytree(finished.path, tmp_path / "older")
    journal = (tmp_path / "older" / "journal.jsonl").read_bytes().splitlines()
    first = json.loads(journal[0])
    del first["check"]
    for version, pattern in (
        ("2.1.0", None),
        ("1; evil", "is no version of a package"),
        ("1\n--index-url x", "is no"),
    ):
        first["environment"]["torch"] = version
        (tmp_path / "older" / "journal.jsonl").write_bytes(sealed.line(first))
        if pattern:
            with pytest.raises(UserError, match=pattern):
                cite(RunDirectory(tmp_path / "older"), "requirements")
        else:
            text = cite(RunDirectory(tmp_path / "older"), "requirements")
            assert "\ntorch==2.1.0\n" in text
            assert f"beside torch {metadata.version('torch')}" in text


def test_the_command_writes_to_the_terminal_or_a_file(finished, monkeypatch, capsys, tmp_path):
    code, out, _ = run(monkeypatch, capsys, "cite", str(finished.path))
    assert (code, out) == (0, cite(finished, "bibtex"))
    path = tmp_path / "CITATION.cff"
    code, out, _ = run(
        monkeypatch, capsys, "cite", str(finished.path), "--to", "cff", "--author", "A B", "--out", str(path)
    )
    assert (code, out, path.read_text()) == (0, f"{path}\n", cite(finished, "cff", ["A B"]))
    code, _, err = run(monkeypatch, capsys, "cite", str(finished.path), "--to", "word")
    assert (code, err) == (
        2,
        "safelight: --to word: is not a valid choice; use bibtex, cff, croissant, requirements\n",
    )
