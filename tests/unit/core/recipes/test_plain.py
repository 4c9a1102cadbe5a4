"""Templates that are filled in without Jinja come out as Jinja would fill them in."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from galley.core.recipes import templating
from galley.core.recipes.faults import SourceFault
from galley.core.recipes.later import LATER
from galley.core.recipes.plain import parts_of, roots_of
from galley.core.recipes.templating import Renderer, names_in

VARIABLES: dict[str, Any] = {
    "a": "plain", "b": 'with "quotes" and \\ and\nlines', "n": 12, "f": 1.5, "t": True,
    "none_": None, "d": {"x": "deep", "y": {"z": [1, 2]}, "items": "taken", "é": "accent"},
    "l": [1, "two", None], "now_": datetime(2026, 11, 25, tzinfo=UTC), "later": LATER,
    "tag": "{{ a }}",
}  # fmt: skip
PIECES = st.sampled_from(
    ["{{", "}}", "{", "}", "{{a}}", "{{ b }}", "{{\td.x\n}}", "{{ d.items }}", "{{d.y}}",
     "{{d.y.z}}", "{{ n }}", "{{f}}", "{{ t }}", "{{none_}}", "{{ l }}", "{{now_}}", "{{ later }}",
     "{{later.x}}", "{{ nope }}", "{{d.nope}}", "{{ a.upper }}", "{{ true }}", "{{ range }}",
     "{{ if }}", "{{ tag }}", "{{-a-}}", " {{- n }}", "{{ a|upper }}", "{# c #}",
     "{% raw %}{{ a }}{% endraw %}", "\r\n", "\n", '"', "\\", '\\"', ", ", "é", "{{ d['x'] }}",
     "{{ a.b.c }}", "{{ _x }}", "}}}", "{{{a}}}", "%}"]
)  # fmt: skip
SOURCES = st.lists(PIECES, max_size=8).map("".join)


def by_jinja(monkeypatch: pytest.MonkeyPatch, work: Any) -> Any:
    """What the work gives where nothing is plain."""
    with monkeypatch.context() as patched:
        patched.setattr(templating, "parts_of", lambda _source: None)
        return outcome(work)


def outcome(work: Any) -> Any:
    try:
        return work()
    except SourceFault as fault:
        return (fault.file, fault.text)


@given(SOURCES)
@example("{{ later }}")
@example('{"k": "{{ b }}", "n": {{ n }}, "l": {{ l }}, "in": "{{ l }}", "d": {{ d }}}')
@example('{"k": "\\"{{ b }}", "e": "\\\\{{ b }}", "x": {{ none_ }}}')
@example('{{ later }}"{{ later }}"')
def test_they_come_out_as_by_jinja(source: str) -> None:
    renderer = Renderer(VARIABLES)
    with pytest.MonkeyPatch.context() as patch:
        for work in (
            lambda: renderer.text(source, "file.sql"),
            lambda: renderer.json_text(source, "file.json"),
            lambda: names_in(source, "file.sql"),
        ):
            assert outcome(work) == by_jinja(patch, work)


@pytest.mark.parametrize(
    "source", ["{{ a }}", "x {{a}} y {{ d.x }}", "{ {{n}} }", '{"a": "{{ d.y.z }}"}', "no template"]
)
def test_these_are_plain(source: str) -> None:
    parts = parts_of(source)
    assert parts is not None
    assert roots_of(parts, ()) is not None


@pytest.mark.parametrize(
    "source",
    ["{{ a|upper }}", "{{ a ~ n }}", "{{ d['x'] }}", "{% if a %}x{% endif %}", "{# no #}{{ a }}",
     "{{{a}}}", "{{- a }}", "{{ a }}\r\n", "{{ f() }}", "{{ 1 }}"],
)  # fmt: skip
def test_these_are_left_to_jinja(source: str) -> None:
    assert parts_of(source) is None


def test_words_and_functions_are_no_variables() -> None:
    for source in ("{{ true }}", "{{ not }}", "{{ range }}", "{{ add_days }}"):
        parts = parts_of(source)
        assert parts is not None
        assert roots_of(parts, {"range", "add_days"}) is None


def test_a_value_is_escaped_by_its_place_in_the_document() -> None:
    source = '{"inside": "{{ b }}", "outside": {{ d }}, "number": {{ n }}}'
    assert json.loads(Renderer(VARIABLES).json_text(source, "f.json")) == {
        "inside": VARIABLES["b"], "outside": VARIABLES["d"], "number": 12
    }  # fmt: skip
