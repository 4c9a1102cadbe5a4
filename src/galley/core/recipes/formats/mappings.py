"""What goes from which source's key to which sink's key."""

from galley.core.recipes.formats.reading import Section
from galley.core.recipes.spec import EndpointSpec, MappingSpec

_WILDCARDS = "wildcard-will-automatically-create-mappings"

Endpoints = tuple[EndpointSpec, ...]


def read_mappings(
    notebook: Section, sources: Endpoints, sinks: Endpoints
) -> tuple[tuple[MappingSpec, ...], tuple[tuple[str, str], ...]]:
    """The mappings of a transfer, and its (source, sink) pairs mapped key by key."""
    mappings = tuple(
        _mapping(name, section, sources, sinks)
        for name, section in notebook.sections("mappings").items()
    )
    wildcards = []
    for row in notebook.rows(_WILDCARDS):
        source, sink = row.required("data-source"), row.required("data-sink")
        _find(row, "data-source", source, sources, "data_sources")
        _find(row, "data-sink", sink, sinks, "data_sinks")
        wildcards.append((source, sink))
        row.warn_of_unknown()
    if not mappings and not wildcards and sources and sinks:
        notebook.fault("is empty; say which source's key goes to which sink's key.", "mappings")
    return mappings, tuple(wildcards)


def _mapping(name: str, section: Section, sources: Endpoints, sinks: Endpoints) -> MappingSpec:
    found = MappingSpec(
        source=section.required("source-name"),
        source_key=section.required("source-key"),
        sink=section.required("sink-name"),
        sink_key=section.required("sink-key"),
        name=name,
    )
    section.warn_of_unknown(also=("description",))
    source = _find(section, "source-name", found.source, sources, "data_sources")
    sink = _find(section, "sink-name", found.sink, sinks, "data_sinks")
    _find_key(section, "source-key", found.source_key, source)
    _find_key(section, "sink-key", found.sink_key, sink)
    return found


def _find(
    section: Section, key: str, name: str, among: Endpoints, folder: str
) -> EndpointSpec | None:
    found = next((endpoint for endpoint in among if endpoint.name == name), None)
    if found is None and name:
        known = ", ".join(endpoint.name for endpoint in among) or "none"
        section.fault(f"is '{name}', but {folder}/{name}.json is not there (known: {known}).", key)
    return found


def _find_key(section: Section, key: str, name: str, endpoint: EndpointSpec | None) -> None:
    if endpoint is None or not name or endpoint.wildcard:
        return
    known = [item.name for item in endpoint.keys]
    if name not in known:
        section.fault(
            f"is '{name}', which {endpoint.name} does not have (known: {', '.join(known)}).", key
        )
