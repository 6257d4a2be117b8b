"""Runs behind the page: copies of the session's finished one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the page needs the extra web")

from page_client import Page
from safelight.store.directory import RunDirectory


@pytest.fixture
def runs(finished: RunDirectory, tmp_path: Path) -> Path:
    """The finished run of the session as "whole", copied."""
    shutil.copytree(finished.path, tmp_path / "runs" / "whole")
    return tmp_path / "runs"


@pytest.fixture
def page(runs: Path) -> Iterator[Page]:
    made = Page(runs)
    with made.client:
        yield made.enter()


@pytest.fixture(scope="module")
def browser(folder: Path) -> Iterator[tuple[object, str, object]]:
    """Chromium, the address of a server of the module's `folder`, and what lets a context in."""
    pytest.importorskip("playwright", reason="the tests in a browser need the extra browser")
    from in_browser import CHROMIUM, chromium, serving

    if CHROMIUM is None:
        pytest.skip("there is no chromium here")
    with serving(folder) as link, chromium() as browser:
        first = browser.new_context()
        first.new_page().goto(link)
        yield browser, link.partition("/enter")[0], first.storage_state()


@pytest.fixture
def tab(browser, request) -> Iterator[object]:
    """A tab that fails where its console said anything. param: width, colour scheme, more of the context."""
    from in_browser import Tab

    chromium, base, state = browser
    width, scheme, *more = getattr(request, "param", (1400, "light"))
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, storage_state=state,
        reduced_motion="reduce", **dict(*more),
    )  # fmt: skip
    made = Tab(context, base)
    yield made
    context.close()
    assert made.said == []
