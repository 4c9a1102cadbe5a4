"""A recipe's files as they are shown to their authors."""

import json
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest

from galley.core.errors import Refused
from galley.core.recipes import showing
from galley.core.recipes.faults import SourceFault
from galley.core.recipes.plain import parts_of
from galley.core.runs.ports import CompileRequest

VARIABLES = {"region": "eu", "db": {"host": "h1", "password": "#{vault://pg/password}"},
             "url": "pg://{{db.host}}/{{CurrentOrderId}}", "says": 'a "b"'}  # fmt: skip
VARIATIONS = {
    "variation-list": {
        "v1": {"graph-setting": "g"},
        "us": {"graph-setting": "g", "override-setting": "us"},
    },
    "graph-setting-list": {"g": [["load"]]},
    "override-setting-list": {"us": {"region": "us"}},
}
NOTEBOOK = (
    '{"description": "{{region}} {{ says }} in {{CurrentKitchen}}, run {{CurrentOrderRunId}}"}'
)


def files(**more: str | bytes) -> dict[str, bytes]:
    """A recipe of one step; keys of `more` have `__` for a slash and `_dot_` for a dot."""
    found: dict[str, str | bytes] = {
        "description.json": '{"description": "of {{RecipeName}}"}',
        "variables.json": json.dumps({"variable-list": VARIABLES}),
        "variations.json": json.dumps(VARIATIONS),
        "load/description.json": '{"type": "DKNode_NoOp"}',
        "load/notebook.json": NOTEBOOK,
        "resources/q.sql": "select '{{region}}' from {{db.host}}.t\n",
        **{key.replace("__", "/").replace("_dot_", "."): value for key, value in more.items()},
    }
    return {k: v.encode() if isinstance(v, str) else v for k, v in found.items()}


def wish(content: dict[str, bytes], variation: str = "v1", **more: Any) -> CompileRequest:
    system = {"kitchen": "dev", "now": datetime(2026, 11, 25, tzinfo=UTC)}
    return CompileRequest(
        kind="recipe", project="p", branch="dev", commit="c", tree="", path="rec",
        variation=variation, files=content, system=system,
        **{"levels": (), **more},
    )  # fmt: skip


def texts(request: CompileRequest) -> dict[str, str | None]:
    return {file.path: file.text for file in showing.show_recipe(request)}


def test_every_file_is_rendered_with_the_variations_variables() -> None:
    shown = texts(wish(files(), "us"))
    assert list(shown) == sorted(files())
    assert shown["resources/q.sql"] == "select 'us' from h1.t\n"
    assert json.loads(shown["load/notebook.json"] or "") == {
        "description": 'us a "b" in dev, run {{CurrentOrderRunId}}'
    }
    assert json.loads(shown["description.json"] or "") == {"description": "of rec"}


def test_the_kitchens_overrides_count() -> None:
    request = wish(files(), levels=(("kitchen", {"region": "asia"}),))
    assert texts(request)["resources/q.sql"] == "select 'asia' from h1.t\n"


def test_references_to_secrets_stay_references() -> None:
    shown = texts(wish(files(resources__pw_dot_txt="{{db.password}}")))
    assert shown["resources/pw.txt"] == "#{vault://pg/password}"
    assert "#{vault://pg/password}" in (shown["variables.json"] or "")


@pytest.mark.parametrize(
    ("source", "becomes"),
    [
        ("{{ NodeName }}", "{{ NodeName }}"),
        ("{{region}} {{ CurrentOrderId | upper }}!", "eu {{ CurrentOrderId | upper }}!"),
        ("{{ url }} {{ region|upper }}", "{{ url }} EU"),
        ("{{ region ~ WorkDir }}", "{{ region ~ WorkDir }}"),
        ("{{ region|upper }}{{ Agent.name }}", "EU{{ Agent.name }}"),
        ("{# c #}{{- Agent }} x", "{{- Agent }} x".replace("{{-", "{{")),
        ("{% for r in [1, 2] %}{{ r }}{{ KeyName }}{% endfor %}", "1{{ KeyName }}2{{ KeyName }}"),
        ("{% raw %}{{ NodeName }}{% endraw %}{{ region }}{{ NodeName }}",
         "{{ NodeName }}eu{{ NodeName }}"),
        ("{% if NodeName == 'x' %}{{ region }}{% endif %}",
         "{% if NodeName == 'x' %}{{ region }}{% endif %}"),
        ("{% set x = NodeName %}{{ x }}{{ region }}", "{% set x = NodeName %}{{ x }}{{ region }}"),
        ("{{ load_text('resources/in.txt') }} {{ region }}", "eu {{ NodeName }} eu"),
        ("{{ set_by_a_step }}", "{{ set_by_a_step }}"),
    ],
)  # fmt: skip
def test_what_only_a_run_knows_stays_as_it_is_written(source: str, becomes: str) -> None:
    content = files(resources__x_dot_txt=source, resources__in_dot_txt="{{region}} {{ NodeName }}")
    assert texts(wish(content))["resources/x.txt"] == becomes


def test_what_cannot_be_shown_has_no_text() -> None:
    shown = texts(
        wish(
            files(
                resources__pic_dot_png=b"\x89PNG\x00\xff",
                resources__zero_dot_txt="a\x00b",
                resources__broken_dot_html="{{ unclosed",
                resources__big_dot_csv="x" * 1_000_001,
                elsewhere__notebook_dot_json='{"a": "{{ 1 / 0 }}"}',
            )
        )
    )
    for path in ("resources/pic.png", "resources/zero.txt", "resources/broken.html",
                 "resources/big.csv", "elsewhere/notebook.json"):  # fmt: skip
        assert shown[path] is None, path


def test_scripts_of_a_container_are_not_templates() -> None:
    content = files()
    content["load/docker-share/run.py"] = b"print('{{region}}')"
    content["load/docker-share/config.json"] = b'{"dependencies": ["{{region}}"]}'
    shown = texts(wish(content))
    assert shown["load/docker-share/run.py"] == "print('{{region}}')"
    assert shown["load/docker-share/config.json"] == '{"dependencies": ["eu"]}'


def test_older_names_of_steps_are_filled_in() -> None:
    old = {"region": {"string-replace-key": "region", "string-replace-value": "eu"}}
    content = files(
        variables_dot_json=json.dumps({"variable-list": old}),
        load__notebook_dot_json='{"description": "in $region"}',
        resources__q_dot_sql="no $region",
    )
    shown = texts(wish(content))
    assert shown["load/notebook.json"] == '{"description": "in eu"}'
    assert shown["resources/q.sql"] == "no $region"


def test_documents_are_told_from_texts() -> None:
    content = files(
        resources__open_dot_json='{"run": {{ CurrentOrderRunId }}}',
        resources__list_dot_json="[1]",
        resources__twice_dot_json='{"a": 1, "a": 2}',
        resources__number_dot_json='{"a": NaN}',
    )
    shown = {file.path: file for file in showing.show_recipe(wish(content))}
    assert shown["load/notebook.json"].is_document
    for name in ("open", "list", "twice", "number"):
        file = shown[f"resources/{name}.json"]
        assert (file.is_document, file.text) == (False, content[file.path].decode())


def test_a_variation_with_faults_is_refused_with_all_of_them() -> None:
    content = files(load__notebook_dot_json='{"description": "{{ nope }}"}')
    with pytest.raises(Refused, match="nothing defines") as caught:
        showing.show_recipe(wish(content))
    assert {issue.file for issue in caught.value.issues} == {"load/notebook.json"}
    with pytest.raises(Refused, match="has no variation 'nope'"):
        showing.show_recipe(wish(files(), "nope"))


def test_all_files_together_have_an_end() -> None:
    many = {f"resources__f{n}_dot_txt": "{{ 'x' * 999999 }}" for n in range(21)}
    with pytest.raises(Refused, match=r"longer than 20,000,000 characters"):
        showing.show_recipe(wish(files(**many)))


def test_one_file() -> None:
    assert showing.show_file(wish(files()), "resources/q.sql") == "select 'eu' from h1.t\n"
    elsewhere = files(load__description_dot_json="{")
    assert showing.show_file(wish(elsewhere), "resources/q.sql") == "select 'eu' from h1.t\n"


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("load/notebook.json", '{"description": "{{ nope }}"}', "nothing defines"),
        ("load/notebook.json", '{"a": ', "no valid JSON"),
        ("resources/q.sql", "{{ region", "not well formed"),
        ("resources/q.sql", "{{ load_text('resources/none.txt') }}", "resources/none.txt"),
        ("resources/q.sql", b"\xff\x00", "UTF-8"),
        ("variables.json", "{", "no valid JSON"),
    ],
)
def test_a_fault_of_the_one_file_bears_its_name(path: str, text: str | bytes, told: str) -> None:
    content = files() | {path: text.encode() if isinstance(text, str) else text}
    with pytest.raises(SourceFault, match=told) as caught:
        showing.show_file(wish(content), path)
    assert caught.value.file == path


def test_one_file_of_a_variation_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(Refused, match="has no variation 'nope'"):
        showing.show_file(wish(files(), "nope"), "resources/q.sql")
    with pytest.raises(Refused, match=r"variables\.json"):
        showing.show_file(wish(files(variables_dot_json="{")), "resources/q.sql")


def test_three_hundred_steps_are_shown_in_less_than_200_ms_of_processor_time() -> None:
    content = files()
    names = [f"s{number}" for number in range(300)]
    edges = [list(pair) for pair in pairwise(names)]
    settings = {
        "variation-list": {"v1": {"graph-setting": "g"}},
        "graph-setting-list": {"g": edges},
    }
    content["variations.json"] = json.dumps(settings).encode()
    for name in names:
        content[f"{name}/description.json"] = (
            b'{"type": "DKNode_NoOp", "description": "{{region}}"}'
        )
        content[f"{name}/notebook.json"] = NOTEBOOK.replace("in", f"{name} in", 1).encode()
    taken = []
    for _ in range(3):
        parts_of.cache_clear()
        began = time.process_time()
        shown = showing.show_recipe(wish(content))
        taken.append(time.process_time() - began)
        assert len(shown) == len(content)
    assert min(taken) < 0.2, taken
