"""A wrong recipe is told in one line that names the key and the nearest right one."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from safelight.config import Section, UserError, check, flatten, nearest, override, parse_override, read_toml


class Inner(Section):
    kind: Literal["fast", "slow", "slow or spiky"] = "fast"
    width: int = Field(8, ge=1)


class Outer(Section):
    inner: Inner = Inner()
    rate: float = 0.5


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"inner": {"widht": 3}}, "part.inner.widht: no such key (did you mean 'part.inner.width'?)"),
        ({"inner": {"kind": "slwo"}}, "part.inner.kind: 'slwo' is not a valid choice (did you mean 'slow'?)"),
        (
            {"inner": {"kind": "slow or spike"}},
            "part.inner.kind: 'slow or spike' is not a valid choice (did you mean 'slow or spiky'?)",
        ),
        ({"inner": {"width": "wide"}}, "part.inner.width: 'wide' should be a valid integer"),
        ({"inner": {"width": 0}}, "part.inner.width: 0 should be greater than or equal to 1"),
        ({"rate": [1]}, "part.rate: [1] should be a valid number"),
    ],
)
def test_one_line_names_the_key_and_the_mend(tree, message):
    with pytest.raises(UserError) as error:
        check(Outer, tree, "part")
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1e-4", ("a.b", 1e-4)),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=true", ("a", True)),
        ("path=photos/", ("path", "photos/")),
        ("text=a = b", ("text", "a = b")),
        ("a={begin = 0.0, end = 1.0}", ("a", {"begin": 0.0, "end": 1.0})),
    ],
)
def test_overrides_are_toml_values_or_strings(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize("text", ["lr", "=3"])
def test_an_override_without_key_or_value_is_refused(text):
    with pytest.raises(UserError, match="expected key=value"):
        parse_override(text)


def test_override_sets_dotted_keys_in_a_copy():
    tree = {"a": {"b": 1}, "c": 2}
    assert override(tree, {"a.b": 3, "d.e.f": 4}) == {"a": {"b": 3}, "c": 2, "d": {"e": {"f": 4}}}
    assert tree == {"a": {"b": 1}, "c": 2}
    assert flatten(override(tree, {"a.x": 5})) == {"a.b": 1, "a.x": 5, "c": 2}
    with pytest.raises(UserError, match="'c' is a value, not a section"):
        override(tree, {"c.d": 1})


def test_files_that_are_no_recipe_are_named(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_toml(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("a = \n")
    with pytest.raises(UserError, match=r"bad.toml: is not valid TOML .*line 1"):
        read_toml(tmp_path / "bad.toml")
    (tmp_path / "latin.toml").write_bytes(b"a = '\xe9'")
    with pytest.raises(UserError, match="is not UTF-8"):
        read_toml(tmp_path / "latin.toml")


def test_a_thousand_names_are_not_all_listed():
    names = [f"r{number:03d}" for number in range(1000)]
    assert nearest("zzz", names).endswith("r018, r019 and 980 more)")
    assert nearest("zzz", names[:2]) == " (known: r000, r001)"
