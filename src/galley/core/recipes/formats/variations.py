"""`variations.json`: variations with their graph, schedule, override sets and conditions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from galley.core.recipes.faults import Faults
from galley.core.recipes.formats.conditions import branches_of
from galley.core.recipes.formats.reading import Section
from galley.core.recipes.formats.schedules import Settings, read_settings
from galley.core.recipes.graph import Graph
from galley.core.recipes.values import kind_of
from galley.core.runs.plan import MAX_STEPS, Thresholds

FILE = "variations.json"
LEGACY_GRAPH = "graph.json"
_SECTIONS = (
    "variation-list",
    "graph-setting-list",
    "schedule-setting-list",
    "mesos-setting-list",
    "override-setting-list",
    "conditions-list",
    "ingredient-definition-list",
)
_OF_VARIATION = (
    "description",
    "graph-setting",
    "schedule-setting",
    "mesos-setting",
    "ingredient-definition",
    "alert-thresholds",
)
_OF_INGREDIENTS = ("description", "short-description")
_OF_INGREDIENTS_LATER = (
    "rollback-ingredient",
    "required-recipe-variables",
    "apply-runtime-recipe-variables",
)
_SCHEDULES = ("schedule-setting-list", "mesos-setting-list")
_MAX_SHOWN = 8
_PAIR = 2


@dataclass(slots=True)
class Variation:
    """What a variation names, before its texts are rendered."""

    name: str
    section: Section
    overrides: list[tuple[str, dict[str, Any]]] = field(default_factory=list)


class Variations:
    """The parsed file; every lookup of a name that is not there becomes an issue.

    `render` fills in the templates of the part that is looked at; set it once the variables are
    known. Override sets and conditions stay as they are written.
    """

    def __init__(self, document: Any, faults: Faults) -> None:
        self._faults = faults
        self.render: Callable[[Any, str], Any] = lambda value, _: value
        self._top = Section(document, FILE, "", faults)
        self._sections = self._top.sections("variation-list")
        self._top.warn_of_unknown(also=_SECTIONS)
        if not self._sections and not faults.has_errors:
            self._top.fault("is empty; give it at least one variation.", "variation-list")

    @property
    def names(self) -> list[str]:
        """The variations there are."""
        return list(self._sections)

    def find(self, name: str) -> Variation | None:
        """The variation, with its override sets (lowest first); None if there is none."""
        section = self._sections.get(name)
        if section is None:
            self._top.fault(
                f"has no variation '{name}'. Use one of {listed(self._sections)}.",
                "variation-list",
            )
            return None
        sets = self._top.mapping("override-setting-list")
        variation = Variation(name, section)
        for wanted in section.texts("override-setting"):
            if wanted in sets:
                found = Section(sets[wanted], FILE, f"override-setting-list.{wanted}", self._faults)
                variation.overrides.append((wanted, plain_values(found)))
            else:
                self._unknown(section, "override-setting", wanted, "override-setting-list", sets)
        section.warn_of_unknown(also=_OF_VARIATION)
        return variation

    def settings(self, variation: Variation, now: datetime) -> Settings:
        """When the variation runs, and what it may use."""
        section = variation.section
        name = section.text("schedule-setting", "mesos-setting")
        if not name:
            return Settings()
        known: dict[str, Section] = {}
        for key in reversed(_SCHEDULES):
            known.update(self._top.sections(key))
        if name in known:
            entry = known[name]
            entry.data = self.render(entry.data, entry.where)
            return read_settings(entry, now)
        self._unknown(section, "schedule-setting", name, _SCHEDULES[0], known)
        return Settings()

    def thresholds(self, variation: Variation) -> Thresholds:
        """When a run of the variation is worth an alert."""
        section = variation.section.section("alert-thresholds")
        section.data = self.render(section.data, section.where)
        minutes = section.number("max-duration-minutes", minimum=0)
        found = Thresholds(
            warnings=section.whole("max-warnings", minimum=0),
            duration_s=None if minutes is None else minutes * 60,
            stop_on_duration=bool(section.flag("stop-on-max-duration", default=False)),
        )
        section.warn_of_unknown()
        return found

    def graph(self, variation: Variation, legacy: Any) -> tuple[Graph, dict[str, dict[str, Any]]]:
        """The variation's graph, and for each step the conditions that it decides."""
        section = variation.section
        name = section.text("graph-setting")
        graphs = self._top.mapping("graph-setting-list")
        if not name and legacy is not None:
            return _legacy_graph(legacy, self._faults), {}
        if not name:
            section.fault(f"is missing; name a graph: {listed(graphs)}.", "graph-setting")
            return Graph(), {}
        if name not in graphs:
            self._unknown(section, "graph-setting", name, "graph-setting-list", graphs)
            return Graph(), {}
        reader = _GraphReader(
            Section(
                {name: self.render(graphs[name], f"graph-setting-list.{name}")},
                FILE,
                "graph-setting-list",
                self._faults,
            ),
            self._top.mapping("conditions-list"),
        )
        return reader.read(name)

    def check_ingredients(self) -> None:
        """Ingredient definitions are read; each needs a name that is there once."""
        seen: set[str] = set()
        for row in self._top.rows("ingredient-definition-list"):
            name = row.required("ingredient-name")
            if name in seen:
                row.fault(f"'{name}' is there twice; keep one.", "ingredient-name")
            seen.add(name)
            for variable in row.rows("required-recipe-variables"):
                variable.required("name")
                variable.warn_of_unknown(also=("display-name", "type", "description"))
            row.warn_of_unknown(also=_OF_INGREDIENTS, later=_OF_INGREDIENTS_LATER)
        for variation in self._sections.values():
            wanted = variation.name("ingredient-definition")
            if wanted and wanted not in seen:
                self._unknown(
                    variation, "ingredient-definition", wanted, "ingredient-definition-list",
                    dict.fromkeys(seen),
                )  # fmt: skip

    def _unknown(
        self, section: Section, key: str, name: str, where: str, known: Mapping[str, Any]
    ) -> None:
        section.fault(f"is '{name}', which is not in {where}. Use one of {listed(known)}.", key)


class _GraphReader:
    """Reads a list of edges: `[step]`, `[from, to]` or `[from, to, {"condition": name}]`."""

    def __init__(self, graphs: Section, conditions: dict[str, Any]) -> None:
        self._graphs = graphs
        self._conditions = conditions
        self._branches: dict[str, tuple[str, str]] = {}
        for name, entry in conditions.items():
            for word, branch in branches_of(name, entry).items():
                self._branches.setdefault(word, (name, branch))
        self._deciding: dict[str, dict[str, Any]] = {}

    def read(self, name: str) -> tuple[Graph, dict[str, dict[str, Any]]]:
        graph = Graph()
        edges = self._graphs.items(name)
        if not edges:
            self._graphs.fault('is empty; give it at least one step, [["step"]].', name)
        for number, edge in enumerate(edges):
            self._edge(graph, f"{name}[{number}]", edge)
            if len(graph.needs) > MAX_STEPS:
                self._graphs.fault(
                    f"has more than {MAX_STEPS:,} steps. Split it into several variations.", name
                )
                return Graph(), {}
        return graph, self._deciding

    def _edge(self, graph: Graph, place: str, edge: Any) -> None:
        if not isinstance(edge, list) or not 1 <= len(edge) <= _PAIR + 1:
            self._graphs.fault(
                'is no edge; write ["step"], ["from", "to"] or'
                ' ["from", "to", {"condition": "name"}].',
                place,
            )
            return
        steps = edge[:_PAIR]
        for step in steps:
            if not isinstance(step, str) or not step:
                self._graphs.fault(f"names a {kind_of(step)}; write the name of a step.", place)
                return
        if len(steps) == 1:
            graph.add(steps[0])
        elif steps[0] == steps[1]:
            self._graphs.fault(f"leads from '{steps[0]}' to itself. Remove it.", place)
        else:
            when = self._condition(place, steps[0], edge[_PAIR]) if len(edge) > _PAIR else None
            graph.connect(steps[0], steps[1], when)

    def _condition(self, place: str, step: str, given: Any) -> str | None:
        word = given
        if isinstance(given, dict):
            edge = Section(
                given, self._graphs.file, f"{self._graphs.where}.{place}", self._graphs.faults
            )
            word = edge.raw("condition")
            edge.warn_of_unknown()
        if word is None:
            return None
        known = self._branches.get(word) if isinstance(word, str) else None
        if known is None:
            self._graphs.fault(
                f"has the condition '{word}', which is not in conditions-list. Use one of"
                f" {listed(self._branches)}.",
                place,
            )
            return None
        name, branch = known
        entry = self._conditions[name]
        owner = entry.get("node") or step
        if owner != step:
            self._graphs.fault(
                f"leaves '{step}' by the condition '{name}', which belongs to '{owner}'.", place
            )
        self._deciding.setdefault(step, {})[name] = entry
        return branch


def plain_values(section: Section) -> dict[str, Any]:
    """Variables of a list; the older string-replace form gives its values."""
    return {
        name: value.get("string-replace-value", "") if is_legacy(value) else value
        for name, value in section.data.items()
    }


def is_legacy(value: Any) -> bool:
    """Whether a variable has the older string-replace form."""
    return isinstance(value, dict) and "string-replace-key" in value


def listed(names: Any) -> str:
    """Some names for a message."""
    known = [str(name) for name in names]
    more = f" and {len(known) - _MAX_SHOWN} more" if len(known) > _MAX_SHOWN else ""
    return (", ".join(known[:_MAX_SHOWN]) + more) or "those that you add there"


def _legacy_graph(document: Any, faults: Faults) -> Graph:
    """`graph.json` of old recipes: `nodes` (names or objects) and `edges` (pairs or objects)."""
    top = Section(document, LEGACY_GRAPH, "", faults)
    graph = Graph()
    for number, node in enumerate(top.items("nodes")):
        name = node.get("name", node.get("id")) if isinstance(node, dict) else node
        if isinstance(name, str) and name:
            graph.add(name)
        else:
            top.fault("names no step; write its name.", f"nodes[{number}]")
    for number, edge in enumerate(top.items("edges")):
        ends = _ends(edge)
        if ends is None:
            top.fault('is no edge; write ["from", "to"].', f"edges[{number}]")
        elif ends[0] == ends[1]:
            top.fault(f"leads from '{ends[0]}' to itself. Remove it.", f"edges[{number}]")
        else:
            graph.connect(*ends)
    if not graph.needs:
        top.fault("has no steps.")
    if len(graph.needs) > MAX_STEPS:
        top.fault(f"has more than {MAX_STEPS:,} steps.")
        return Graph()
    return graph


def _ends(edge: Any) -> tuple[str, str] | None:
    if isinstance(edge, dict):
        first = edge.get("from", edge.get("source"))
        edge = [first, edge.get("to", edge.get("target"))]
    if (
        isinstance(edge, list)
        and len(edge) == _PAIR
        and all(isinstance(end, str) and end for end in edge)
    ):
        return edge[0], edge[1]
    return None
