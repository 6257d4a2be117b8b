"""README and docs say what is so: their commands, and those in --help, are commands; their Python runs."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest

from docs.pages import DOCS, PAGES, ROOT, blocks, commands, parsed
from safelight.cli import COMMANDS as GROUPS
from safelight.cli import load as load_command
from safelight.cli.options import changes_of
from safelight.engine.distributed import World
from safelight.explain import recipe_keys
from safelight.recipe import load
from safelight.training.progress import Show
from safelight.training.start import begin

COMMANDS = [(page, command) for page in PAGES for command in dict.fromkeys(commands(page))]
NAMES = [name for _, names in GROUPS.values() for name in names]
HELP = [
    (f"{name} --help", line)
    for name in NAMES
    for line in (load_command(name).epilog or "").splitlines()
    if line.startswith("safelight ")
]
TESTED = {  # Python on pages that is tested elsewhere
    *(f"docs/one-{what}.md" for what in ("batch", "sample", "edit")),  # tests/docs/test_one_batch.py
    "docs/tour.md",  # below
}
SMALL = {"network.width": 8, "network.multipliers": [1], "network.middle": 1, "train.steps": 3}
PLAIN = {"train.batch_size": 4, "train.precision": "fp32", "train.memory_format": "contiguous"}


def test_every_command_is_shown_and_help_gives_examples_of_its_own():
    shown = {command.split()[1] for _, command in COMMANDS}
    shown |= set(re.findall(r"`safelight ([a-z-]+)", "".join(PAGES.values())))
    assert shown >= set(NAMES)
    epilogs = {name: load_command(name).epilog for name in NAMES}
    assert all(f"safelight {name} " in epilog for name, epilog in epilogs.items() if epilog)
    assert len(HELP) > 20


@pytest.mark.parametrize(("page", "command"), COMMANDS + HELP)
def test_a_command_is_one(page, command):
    if command.split()[1].startswith("--"):
        return
    context = parsed(command)
    recipe = context.params.get("recipe") or context.params.get("source")
    if recipe and (recipe.endswith((".toml", "/", ".zip"))):  # of the reader's; any recipe has its keys
        recipe = "fashion"
    if recipe:
        load(recipe, changes_of(context.params.get("changes")))
    elif context.params.get("changes"):  # of a run; one of a GAN has a section for each network
        load(
            "fashion-gan" if "optim.generator" in command else "digits", changes_of(context.params["changes"])
        )


def test_a_wrong_command_would_be_noticed():
    with pytest.raises(StopIteration):
        parsed("safelight trian digits")
    with pytest.raises(Exception, match="No such option"):
        parsed("safelight train digits --nmae first")


def test_python_on_a_page_is_tested():
    assert {page for page in PAGES if "python" in dict(blocks(page))} == TESTED


def test_the_tours_python_runs_and_a_run_holds_what_is_listed(tmp_path, monkeypatch):
    begin(load("digits", SMALL | PLAIN), tmp_path / "runs", "digits-1", World(), Show())
    monkeypatch.chdir(tmp_path)
    (block,) = (text for language, text in blocks("docs/tour.md") if language == "python")
    namespace: dict[str, object] = {}
    exec(block, namespace)
    assert namespace["samples"].images.shape == (16, 28, 28, 1)
    assert (namespace["samples"].given["label"] == 3).all()
    assert len(namespace["run"].metrics("loss")["raw/mse"]) == 3
    assert (tmp_path / "threes.png").exists()
    listing = re.search(r"runs/digits-1/\n(.*?)```", PAGES["docs/run-format.md"], re.DOTALL)[1]
    left_out = [path.name for path in (tmp_path / "runs" / "digits-1").iterdir() if path.name not in listing]
    assert left_out == []


def test_the_tree_is_the_tree():
    text = PAGES["docs/architecture.md"]
    tree = text[text.index("src/safelight/\n") :]
    package = ROOT / "src" / "safelight"
    folders = {path.parent.relative_to(package).parts[0] for path in package.glob("*/__init__.py")}
    listed = set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))
    assert listed == folders


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as Markdown renderers make them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_points_to_is_there(page):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", PAGES[page], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        place = (ROOT / page).parent / path if path else ROOT / page
        assert place.exists(), target
        if anchor and place.suffix == ".md":
            name = PurePosixPath(place.resolve().relative_to(ROOT)).as_posix()
            assert anchor in anchors(name), target


def test_every_page_is_found_from_the_readme_or_the_site():
    """docs/ has no page that nothing points to."""
    linked = " ".join(PAGES.values()) + (ROOT / "mkdocs.yml").read_text() if (ROOT / "mkdocs.yml").exists() \
        else " ".join(PAGES.values())  # fmt: skip
    assert [path.name for path in DOCS.rglob("*.md") if path.name not in linked] == []


KEY = re.compile(
    r"`'?((?:data|network|method|loss|optim|train|watch|monitor|evaluate|checkpoint|sample|stop|init|log|tape|check)"
    r"\.[a-z0-9_.]+)(?:[ =][^`]*)?'?`"
)


def test_keys_in_sentences_are_keys():
    """`optim.lr`, `optim.generator.lr=1e-4`: of some network, method or section."""
    known = {row.code for row in recipe_keys()}
    known |= {"data.train", "network.name", "method.name"}  # of run.json; of the components
    open_ended = ("loss.weights.", "data.weight.", "check.expected_findings.")
    for page, text in PAGES.items():
        if page in ("docs/log.md", "docs/recipe.md", "CHANGELOG.md", "benchmarks/README.md"):
            continue  # of earlier versions; made from the models
        for key in KEY.findall(text):
            words = key.rstrip(".").split(".")
            if words[-1] in ("py", "md", "toml", "js") or f"{key}.".startswith(open_ended):
                continue
            assert {key, f"{words[0]}.{words[-1]}"} & known, f"{page}: {key}"
