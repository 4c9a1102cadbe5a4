"""The templates' environment: everything is escaped, nothing is looked up at run time twice."""

import functools
import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from galley.kit.ids import uuid_of
from galley.web import present

FOLDER = Path(str(files("galley.web")))
STATIC = FOLDER / "static"


@functools.cache
def make_environment() -> Environment:
    """Jinja with autoescape for every template, strict about missing names; one per process."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals.update(
        asset=_asset_links(),
        look_of=present.look_of,
        duration_text=present.duration_text,
        elapsed_s=present.elapsed_s,
        moment_text=present.moment_text,
        ago_text=present.ago_text,
        size_text=present.size_text,
        count_text=present.count_text,
        value_text=present.value_text,
        plain_text=present.plain_text,
        short_id=present.short_id,
        run_title=present.run_title,
        uuid_of=uuid_of,
    )
    return environment


def _asset_links() -> Callable[[str], str]:
    """A function from an asset's name to its address, which changes with its content."""
    links = {
        path.name: f"/static/{path.name}?v={hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
        for path in STATIC.iterdir()
        if path.is_file()
    }
    return links.__getitem__


def render(environment: Environment, template: str, **context: Any) -> str:
    """One template as text.

    Raises:
        jinja2.UndefinedError: the page forgot something that its template names.
    """
    return environment.get_template(template).render(**context)
