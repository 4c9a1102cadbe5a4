"""Conditions: how a conditional step chooses which edges are taken.

The vendor publishes no inner keys; Galley takes `node`, `variable`, `operator`, `value`, `type`
and `result` for a comparison, `node`, `variable`, `cases` and `otherwise` for a choice. An edge
that names `c` is taken when the comparison gives `result` (true unless said); `c_true` and
`c_false` name the outcomes themselves, `c_<case>` a case of a choice.
"""

from typing import Any

from galley.core.recipes.faults import Faults
from galley.core.recipes.formats.checks import read_comparison, read_conversion
from galley.core.recipes.formats.reading import Section
from galley.core.recipes.spec import ConditionSpec
from galley.core.recipes.values import NAME, kind_of

OTHERWISE = "otherwise"
_KEYS = ("node", "description", "operator", "value", "type", "result", "cases", OTHERWISE)


def read_condition(name: str, section: Section) -> ConditionSpec:
    """One entry of `conditions-list`, its values rendered."""
    variable = section.required("variable")
    section.warn_of_unknown(also=_KEYS)
    if variable and not NAME.match(variable):
        section.fault(f"is '{variable}', no name of a variable.", "variable")
    convert = read_conversion(section)
    if section.has("cases"):
        return ConditionSpec(
            name=name,
            variable=variable,
            convert=convert,
            cases={value: f"{name}_{label}" for value, label in section.text_map("cases").items()},
            otherwise=f"{name}_{section.text(OTHERWISE, default=OTHERWISE)}",
        )
    compare = read_comparison(section, "operator")
    if "value" not in section.data:
        section.fault("is missing; give the value to compare with.", "value")
    return ConditionSpec(
        name=name,
        variable=variable,
        compare=compare,
        value=section.raw("value"),
        convert=convert,
        cases={"true": f"{name}_true", "false": f"{name}_false"},
    )


def branches_of(name: str, entry: Any) -> dict[str, str]:
    """What an edge may write -> the branch that it then waits for, from the raw entry."""
    if not isinstance(entry, dict):
        return {}
    cases = entry.get("cases")
    if isinstance(cases, dict):
        other = entry.get(OTHERWISE) or OTHERWISE
        labels = [str(label) for label in (*cases.values(), other)]
        return {f"{name}_{label}": f"{name}_{label}" for label in labels}
    result = entry.get("result", True)
    chosen = "false" if str(result).strip().lower() in {"false", "0", "no"} else "true"
    return {
        name: f"{name}_{chosen}",
        f"{name}_true": f"{name}_true",
        f"{name}_false": f"{name}_false",
    }


def read_conditions(document: Any, file: str, faults: Faults) -> tuple[ConditionSpec, ...]:
    """The conditions that a step evaluates: name -> entry."""
    if not isinstance(document, dict):
        faults.error(file, f"is a {kind_of(document)}; write an object.")
        return ()
    return tuple(
        read_condition(name, Section(entry, file, f"conditions-list.{name}", faults))
        for name, entry in document.items()
    )
