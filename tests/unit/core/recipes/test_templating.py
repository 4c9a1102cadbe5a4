from datetime import UTC, date, datetime
from typing import Any

import pytest

from galley.core.recipes.faults import SourceFault
from galley.core.recipes.later import LATER
from galley.core.recipes.references import find_references, replace_references
from galley.core.recipes.templating import MAX_OUTPUT, Renderer, names_in, render_text

NOW = datetime(2026, 2, 28, 23, 30, tzinfo=UTC)

ATTACKS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ''['__class__']['__mro__'] }}",
    "{{ ''|attr('__class__') }}",
    "{{ ''|attr('\\x5f\\x5fclass\\x5f\\x5f') }}",
    "{{ ().__class__.__base__.__subclasses__() }}",
    "{{ [].__class__ }}",
    "{{ {}.__class__.__bases__ }}",
    "{{ (1).__class__ }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context }}",
    "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ lipsum.__globals__['os'].system('id') }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ range.__class__ }}",
    "{{ dict.__base__ }}",
    "{{ str.format('{0.__class__}', 1) }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(add_days) }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "{{ ('{0.__class__}'|attr('format'))(1) }}",
    "{{ ['{0.__class__}'.format][0](1) }}",
    "{{ add_days.__globals__ }}",
    "{{ add_days.__code__ }}",
    "{{ load_text.__self__ }}",
    "{{ load_text.__func__.__globals__ }}",
    "{{ now.__class__.__reduce__ }}",
    "{{ sorted.__globals__ }}",
    "{{ config.items() }}",
    "{{ request.application.__globals__ }}",
    "{{ get_flashed_messages.__globals__ }}",
    "{{ url_for.__globals__ }}",
    "{% import 'os' as os %}",
    "{% include '/etc/passwd' %}",
    "{% extends '/etc/passwd' %}",
    "{{ things.append(1) }}",
    "{{ table.update({'a': 1}) }}",
    "{{ table.pop('a') }}",
    "{{ things.sort() }}",
    "{% for x in things|map(attribute='__class__') %}{{ x.__name__ }}{% endfor %}",
    "{{ things|map('attr', '__class__')|list }}",
    "{{ things|groupby('__class__') }}",
    "{{ table|xmlattr }}{{ open('/etc/passwd').read() }}",
    "{{ __import__('os') }}",
    "{{ eval('1') }}",
    "{{ ''.join.__self__.__class__ }}",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_refused_or_shows_nothing(attack: str) -> None:
    values = {"now": NOW, "things": [1, 2], "table": {"a": 1}}
    try:
        shown = render_text(attack, values)
    except SourceFault:
        shown = ""
    assert "<class" not in shown
    assert "root:" not in shown
    assert "uid=" not in shown
    assert values == {"now": NOW, "things": [1, 2], "table": {"a": 1}}


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ range(1000000000)|list }}",
        "{{ 10 ** 1000000000 }}",
        "{{ pow(10, 1000000000) }}",
        "{{ list(range(100000)) + list('x' * 100001) }}",
        "{{ int('9' * 5000) }}",
        f"{{{{ 'x' * {MAX_OUTPUT + 1} }}}}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
    ],
)
def test_a_bomb_is_refused(bomb: str) -> None:
    with pytest.raises(SourceFault):
        render_text(bomb, {})


def test_the_longest_allowed_output_passes() -> None:
    assert len(render_text(f"{{{{ 'x' * {MAX_OUTPUT} }}}}", {})) == MAX_OUTPUT


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ date_format(add_days(now, 1), '%Y%m%d') }}", "20260301"),
        ("{{ date_format(add_days(now, -28), '%d') }}", "31"),
        ("{{ date_format(add_weeks('2026-01-01', 2), '%m/%d') }}", "01/15"),
        ("{{ add_months(date(2026, 1, 31), 1) }}", "2026-02-28"),
        ("{{ add_months(date(2026, 1, 31), -2) }}", "2025-11-30"),
        ("{{ add_years(date(2024, 2, 29), 1) }}", "2025-02-28"),
        ("{{ bool('False') }} {{ bool('yes') }} {{ bool(1) }}", "False True True"),
        ("{{ split('a,b', ',')[1] }}{{ split('c d')[0] }}", "bc"),
        ("{{ len(l) }}{{ max(l) }}{{ min(l) }}{{ sum(l) }}{{ sorted(l)[0] }}", "33161"),
        ("{{ int('7') + 1 }}{{ float('1.5') }}{{ str(5) ~ 'x' }}", "81.55x"),
        ("{{ d }}", '{"k": "é"}'),
        ("{{ l }}", "[3, 1, 2]"),
        ("{{ d.k }}{{ d['k'] }}", "éé"),
        ("{# gone #}x\n", "x\n"),
        ("{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}", "1"),
        ("no template", "no template"),
    ],
)
def test_functions_and_values(template: str, expected: str) -> None:
    values = {"now": NOW, "l": [3, 1, 2], "d": {"k": "é"}}
    assert render_text(template, values) == expected


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("\n{{ nobody }}", "line 2: the variable nobody is not defined"),
        ("{{ d.x }}", "no attribute 'x'"),
        ("{% for %}", "not well formed"),
        ("{{ 1/0 }}", "ZeroDivisionError"),
        ("{{ date_format('soon', '%Y') }}", "no date"),
        ("{{ load_text('x') }}", "cannot read files"),
    ],
)
def test_a_fault_says_what_and_where(template: str, says: str) -> None:
    with pytest.raises(SourceFault) as caught:
        render_text(template, {"d": {}}, file="q.sql")
    assert says in caught.value.text


def document(template: str, values: dict[str, Any]) -> Any:
    return Renderer(values).document(template, "f.json")


def test_values_in_json_become_json() -> None:
    template = '{"d": {{d}}, "t": {{t}}, "n": {{n}}, "i": {{i}}, "in": "{{d}}", "raw": {{raw}}}'
    values = {"d": {"a": [1]}, "t": True, "n": None, "i": 5, "raw": "[1]"}
    assert document(template, values) == {
        "d": {"a": [1]},
        "t": True,
        "n": None,
        "i": 5,
        "in": '{"a": [1]}',
        "raw": [1],
    }


@pytest.mark.parametrize(
    "nasty",
    ['"', "\\", 'x", "admin": true, "y": "', "line\nline", "{{ 7*7 }}", "{% raw %}", "\u2028", "'"],
)
def test_a_value_cannot_break_out_of_its_string(nasty: str) -> None:
    template = '{"a": "<{{v}}>", "b": "\\"{{v}}", {% if v %}"c": "{{v}}"{% endif %}}'
    assert document(template, {"v": nasty}) == {"a": f"<{nasty}>", "b": f'"{nasty}', "c": nasty}


def test_loops_and_branches_keep_their_place_in_the_text() -> None:
    template = (
        '{"s": "{% for x in l %}{{x}};{% endfor %}{% if no %}"{% else %}{{q}}"{% endif %},'
        '"l": [{% for x in l %}{% if not loop.first %},{% endif %}{"x": "{{x}}"}{% endfor %}]}'
    )
    assert document(template, {"l": ["a", '"'], "no": False, "q": '"'}) == {
        "s": 'a;";"',
        "l": [{"x": "a"}, {"x": '"'}],
    }


def test_text_files_are_inserted_rendered_and_escaped() -> None:
    files = {"q.sql": 'select "{{c}}"\nfrom {{load_text("t.sql")}}', "t.sql": "{{t}}"}
    renderer = Renderer({"c": "{{t}}", "t": "tab"}, files.__getitem__)
    assert renderer.document("""{"sql": "{{load_text('q.sql')}}"}""", "f.json") == {
        "sql": 'select "{{t}}"\nfrom tab'
    }


def test_files_that_insert_themselves_end() -> None:
    renderer = Renderer({}, {"q": "{{load_text('q')}}"}.__getitem__)
    with pytest.raises(SourceFault, match="nested deeper"):
        renderer.text("{{load_text('q')}}", "f")


def test_names_tell_what_is_needed_and_what_is_asked_for() -> None:
    names = names_in(
        "{{a}}{% if b is defined %}{{b}}{% endif %}{{c|default('x')}}{% for d in e %}{{d}}"
        "{% endfor %}{{len(now)}}{{load_text('x.sql')}}",
        "f",
    )
    assert names.used == {"a", "b", "c", "e", "now"}
    assert names.needed == {"a", "e", "now"}
    assert names.files == {"x.sql"}


def test_a_stand_in_absorbs_everything() -> None:
    template = (
        "[{{v}}{{v.a['b']}}{{v(1)}}{{v + 1}}{{2 * v}}{% for x in v %}x{% endfor %}"
        "{% if v > 3 %}y{% endif %}{{v|default('d')}}{{int(v)}}]"
    )
    assert render_text(template, {"v": LATER}) == "[d0]"


def test_references_are_found_and_replaced_only_as_data() -> None:
    value = {"a": ["x#{vault://pg/pw}y", 1], "b": {"c": "#{vault://pg/user}"}}
    assert find_references(value) == {"vault://pg/pw", "vault://pg/user"}
    missing: set[str] = set()
    secrets = {"vault://pg/pw": "#{vault://pg/user}"}
    assert replace_references(value, secrets, missing) == {
        "a": ["x#{vault://pg/user}y", 1],
        "b": {"c": "#{vault://pg/user}"},
    }
    assert missing == {"vault://pg/user"}


def test_dates_keep_their_kind() -> None:
    assert render_text("{{ add_days(d, 1) }}", {"d": date(2026, 12, 31)}) == "2027-01-01"
