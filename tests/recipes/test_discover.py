"""Methods and networks from outside: said before they run, run once, and recorded as they were run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from safelight import discovery, methods, networks, recipe
from safelight.config import UserError
from safelight.discovery import Outside
from safelight.loading.recorded import code_facts

SOURCE = Path(recipe.__file__).parent

NETWORK = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
from safelight.config import Section

VERSION = 1


@dataclass
class Note:
    text: str


class Config(Section):
    width: int = 6

    def build(self, spec):
        return nn.Identity()
"""


def load_network(path: Path, outside: dict[str, Outside] | None = None):
    return discovery.module(networks, str(path), "network.name", {} if outside is None else outside)


def test_a_file_is_run_from_the_bytes_that_are_recorded(tmp_path, capsys):
    """Not from a cache beside it, even when it is edited twice within a second."""
    path = tmp_path / "net.py"
    for version in (1, 2, 3):
        path.write_text(NETWORK.replace("VERSION = 1", f"VERSION = {version}"))
        os.utime(path, (1e9, 1e9))
        outside: dict[str, Outside] = {}
        ran = load_network(path, outside)
        assert vars(ran)["VERSION"] == version
        (code,) = outside.values()
        digest = subprocess.run(
            ["sha256sum", path], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        assert (code.origin, code.version) == (str(path), digest)
        assert capsys.readouterr().err == f"safelight: runs the code of {path} (sha256 {digest[:12]})\n"
        assert load_network(path) is ran
        assert capsys.readouterr().err == ""  # the same bytes: nothing is run
    assert [code.name for code in tmp_path.iterdir()] == ["net.py"]


def test_of_several_processes_one_says_it(tmp_path, capsys, monkeypatch):
    path = tmp_path / "net.py"
    path.write_text(NETWORK)
    monkeypatch.setenv("LOCAL_RANK", "1")
    load_network(path)
    assert capsys.readouterr().err == ""


def test_it_is_said_before_anything_happens(tmp_path, capsys):
    path = tmp_path / "net.py"
    path.write_text("import sys\nprint('working', file=sys.stderr)\nraise OSError('no such thing')\n")
    with pytest.raises(UserError, match=r"network.name: .*net.py failed to load \(OSError: no such thing\)"):
        load_network(path)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"safelight: runs the code of {path}")
    assert said[1] == "working"


def own_recipe(folder: Path) -> Path:
    (folder / "net.py").write_text(NETWORK)
    path = folder / "my.toml"
    path.write_text('[network]\nname = "net.py"\n[method]\nname = "denoise"\n[train]\nsteps = 6\n')
    return path


def test_a_recipe_keeps_the_code_it_ran_when_its_file_is_edited(tmp_path):
    """An intervention reads the recipe again, in a run that trains with the code as it was."""
    loaded = recipe.load(own_recipe(tmp_path))
    before = code_facts(loaded)
    (tmp_path / "net.py").write_text(NETWORK + "\nraise RuntimeError('edited')\n")
    edited = loaded.with_changes({"optim.lr": 1.0})
    assert edited.optim["denoiser"].lr == 1.0
    assert type(edited.networks["denoiser"]) is type(loaded.networks["denoiser"])
    assert code_facts(edited) == before
    with pytest.raises(UserError, match="edited"):
        recipe.load(tmp_path / "my.toml")


def test_a_file_is_named_as_seen_from_the_recipe_or_from_the_command_line(tmp_path, monkeypatch):
    file = own_recipe(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "other.py").write_text(NETWORK)
    monkeypatch.chdir(elsewhere)
    assert recipe.load("../my.toml").tree["network"]["name"].endswith("net.py")
    assert Path(recipe.load("../my.toml").tree["network"]["name"]).samefile(tmp_path / "net.py")
    changed = recipe.load(file, {"network.name": "other.py"})
    assert changed.tree["network"]["name"] == str(elsewhere / "other.py")
    assert list(code_facts(changed)) == ["safelight", "source", str(elsewhere / "other.py")]


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installed package with entry points."""
    site = tmp_path / "site"
    info = site / "mine-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[safelight.networks]\nround = mine_networks\nbent = mine_networks:Config\nbroken = mine_gone\n"
        "[safelight.methods]\nround = mine_methods\n"
    )
    (site / "mine_networks.py").write_text(NETWORK)
    (site / "mine_methods.py").write_text(
        "from safelight.methods.denoise import Denoise\nclass Round(Denoise):\n    pass\n"
    )
    monkeypatch.syspath_prepend(site)
    yield site
    for name in ("mine_networks", "mine_methods"):
        sys.modules.pop(name, None)


def test_an_installed_package_offers_networks_and_methods_by_name(package, capsys):
    path = package / "my.toml"
    path.write_text('[network]\nname = "round"\nwidth = 9\n[method]\nname = "round"\n[train]\nsteps = 6\n')
    loaded = recipe.load(path)
    assert loaded.networks["denoiser"].width == 9
    assert loaded.method_class.__name__ == "Round"
    assert (loaded.tree["network"]["name"], loaded.tree["method"]["name"]) == ("round", "round")
    assert recipe.resolve(loaded.tree, "again").tree == loaded.tree
    assert code_facts(loaded)["mine"] == "1.2"
    assert capsys.readouterr().err == ""  # the person installed it; the recipe runs no code of its own


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "bent",
            "network.name: mine_networks:Config of mine is not a module; its entry point should name one",
        ),
        ("broken", "network.name: mine failed to load (ModuleNotFoundError: No module named 'mine_gone')"),
        ("roun", "network.name: 'roun' does not exist (did you mean 'round'?)"),
    ],
)
def test_what_a_package_lacks_is_named(package, name, message):
    with pytest.raises(UserError) as error:
        discovery.module(networks, name, "network.name", {})
    assert str(error.value) == message


def test_shipped_names_come_first(package):
    (package / "mine-1.2.dist-info" / "entry_points.txt").write_text(
        "[safelight.methods]\ndenoise = mine_methods\n"
    )
    assert discovery.module(methods, "denoise", "method.name", {}).__name__ == "safelight.methods.denoise"


def test_nothing_unpickles():
    """Arrays refuse pickles and weights are safetensors; those of installed packages are weights only."""
    unpickles = re.compile(
        r"\b(import|from) (pickle|joblib|marshal|shelve)\b|allow_pickle=True|object_list"
        r"|(?<!safetensors\.)\btorch\.load\((?!.*weights_only=True)"
    )
    assert unpickles.search("x = torch.load(path)")
    lines = [f"{path}: {line}" for path in SOURCE.rglob("*.py")
             for line in path.read_text(encoding="utf-8").splitlines() if unpickles.search(line)]  # fmt: skip
    assert lines == []
