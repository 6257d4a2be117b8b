"""How templates are printed: every word of strangers is escaped, in HTML as in Markdown."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from safelight.render import markdown as safe


@cache
def html() -> Environment:
    """Of the *.html.j2 templates."""
    return Environment(
        loader=PackageLoader("safelight.render"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@cache
def markdown() -> Environment:
    """Of the *.md.j2 templates."""
    environment = Environment(
        loader=PackageLoader("safelight.render"),
        finalize=safe.finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": safe.code, "code_block": safe.code_block, "verbatim": safe.Verbatim}
    return environment
