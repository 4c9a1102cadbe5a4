"""The common course of steps with endpoints: sources, then checks, then sinks; or actions."""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from galley.core.recipes.spec import EndpointSpec, KeySpec, MappingSpec
from galley.engine.connectors import connector
from galley.engine.connectors.base import Batch, Connector
from galley.engine.faults import StepError
from galley.engine.nodes import measures
from galley.engine.nodes.base import CheckStopped, Step

_DATA = frozenset({"read_file", "query", "value", "program"})


def expand(step: Step, endpoint: EndpointSpec) -> EndpointSpec:
    """The endpoint with the keys that its wildcard finds now."""
    if not endpoint.wildcard:
        return endpoint
    found = _connector(step, endpoint).keys(endpoint.config, endpoint.wildcard)
    template = endpoint.key_template or KeySpec(name="*", operation="read_file", path="*")
    made = tuple(keyed(template, name) for name in found)
    step.console.info(f"{endpoint.name}: {endpoint.wildcard} means {len(found)} keys")
    return msgspec.structs.replace(endpoint, keys=(*endpoint.keys, *made), wildcard=None)


def keyed(template: KeySpec, name: str) -> KeySpec:
    """A key made from a template: `*` in its path or table stands for the name.

    A path without `*` is a folder; a table takes the name without folders and ending.
    """
    path = template.path or "*"
    path = path.replace("*", name) if "*" in path else f"{path.rstrip('/')}/{name}"
    table = template.table and template.table.replace("*", PurePosixPath(name).stem)
    return msgspec.structs.replace(template, name=name, path=path, table=table)


def read_sources(step: Step) -> None:
    """Read all keys of all sources; then each source's checks.

    Raises:
        StepError: a source cannot be read, or a check stops the step.
    """
    for spec in step.spec.sources:
        with step.timed(f"source/{spec.name}"), _telling(f"Source {spec.name}"):
            endpoint = expand(step, spec)
            _warn_of_options(step, endpoint)
            for key in endpoint.keys:
                _source_key(step, endpoint, key)
            _export_count(step, endpoint)
        step.check(spec.checks, ("source", spec.name))


def _source_key(step: Step, endpoint: EndpointSpec, key: KeySpec) -> None:
    made = _connector(step, endpoint)
    with _telling(f"key {key.name}"):
        if key.operation in made.capabilities.reads and key.operation in _DATA:
            _read(step, made, endpoint, key)
        else:
            _run(step, made, endpoint, key)


def _read(step: Step, made: Connector, endpoint: EndpointSpec, key: KeySpec) -> None:
    batch = made.read(endpoint.config, key, step.new_segment())
    step.batches[endpoint.name, key.name] = batch
    _export(step, endpoint, key, measures.measure(step.place, batch, _wanted(step, endpoint, key)))
    step.console.info(f"Read {endpoint.name}.{key.name}{_size(batch)}")


def _run(step: Step, made: Connector, endpoint: EndpointSpec, key: KeySpec) -> None:
    if key.operation not in made.capabilities.runs:
        raise StepError(f"The operation {key.operation} does not go with {endpoint.system} here.")
    result = made.run(endpoint.config, key)
    _export(step, endpoint, key, measures.of_result(result, key.exports))
    step.batches[endpoint.name, key.name] = _value_batch(result.value, step.new_segment())
    rows = "" if result.row_count is None else f", {result.row_count} rows"
    step.console.info(f"Ran {endpoint.name}.{key.name}{rows}")


def _value_batch(value: Any, folder: Path) -> Batch:
    """A single value as a file, so that it can go to a sink."""
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    path = folder / "content"
    path.write_text("" if value is None else text, encoding="utf-8")
    return Batch(path, "binary", is_file=True, value=plain(value))


def run_actions(step: Step) -> None:
    """Carry out all actions, key by key; then each action's checks.

    Raises:
        StepError: an action failed, or a check stops the step.
    """
    for spec in step.spec.actions:
        with step.timed(f"action/{spec.name}"), _telling(f"Action {spec.name}"):
            _warn_of_options(step, spec)
            for key in spec.keys:
                _source_key(step, spec, key)
            _export_count(step, spec)
        step.check(spec.checks, ("action", spec.name))


def write_sinks(step: Step, given: dict[tuple[str, str], Batch]) -> None:
    """Fill all sinks: `given` names the batch of each (sink, key); then each sink's checks.

    A sink's key without data is run if it is a statement, else left out with a warning.

    Raises:
        StepError: a sink cannot be written, or a check stops the step.
    """
    for spec in step.spec.sinks:
        with step.timed(f"sink/{spec.name}"), _telling(f"Sink {spec.name}"):
            endpoint = _with_wildcard_keys(spec, given)
            _warn_of_options(step, endpoint)
            for key in endpoint.keys:
                _sink_key(step, endpoint, key, given.get((spec.name, key.name)))
            _export_count(step, endpoint)
        step.check(spec.checks, ("sink", spec.name))


def _sink_key(step: Step, endpoint: EndpointSpec, key: KeySpec, batch: Batch | None) -> None:
    made = _connector(step, endpoint)
    with _telling(f"key {key.name}"):
        if batch is None and (key.operation == "value" and key.value is not None):
            batch = _value_batch(key.value, step.new_segment())
        if batch is not None and key.operation in made.capabilities.writes:
            written = made.write(endpoint.config, key, batch)
            wanted = _wanted(step, endpoint, key)
            _export(step, endpoint, key, measures.measure(step.place, written, wanted))
            step.console.info(f"Wrote {endpoint.name}.{key.name}{_size(written)}")
        elif key.operation in made.capabilities.runs:
            _run(step, made, endpoint, key)
        elif batch is not None:
            raise StepError(
                f"The operation {key.operation} does not go with {endpoint.system} as a sink."
            )
        else:
            step.console.warning(f"Nothing is mapped to {endpoint.name}.{key.name}; left out")


def _with_wildcard_keys(
    endpoint: EndpointSpec, given: dict[tuple[str, str], Batch]
) -> EndpointSpec:
    """The sink with a key for every batch that a wildcard brings and that it does not name."""
    named = {key.name for key in endpoint.keys}
    new = [key for sink, key in given if sink == endpoint.name and key not in named]
    template = endpoint.key_template or (
        KeySpec(name="*", operation="write_file", path="*") if new else None
    )
    if template is None:
        return endpoint
    made = tuple(keyed(template, name) for name in new)
    return msgspec.structs.replace(endpoint, keys=(*endpoint.keys, *made))


def mapped(step: Step) -> dict[tuple[str, str], Batch]:
    """What goes where: by the mappings, and key by key for pairs of wildcards.

    Raises:
        StepError: a mapping names what is not there.
    """
    sinks = {sink.name: {key.name for key in sink.keys} for sink in step.spec.sinks}
    given: dict[tuple[str, str], Batch] = {}
    for mapping in step.spec.mappings:
        source = (mapping.source, mapping.source_key)
        if source not in step.batches:
            raise StepError(_unknown(mapping, "source", mapping.source, mapping.source_key))
        if mapping.sink_key not in sinks.get(mapping.sink, ()):
            raise StepError(_unknown(mapping, "sink", mapping.sink, mapping.sink_key))
        given[mapping.sink, mapping.sink_key] = step.batches[source]
    for source_name, sink_name in step.spec.wildcards:
        if sink_name not in sinks:
            raise StepError(f"The wildcard mapping names the sink {sink_name}, which is not there.")
        for (endpoint, key), batch in step.batches.items():
            if endpoint == source_name:
                given.setdefault((sink_name, key), batch)
    return given


def _unknown(mapping: MappingSpec, role: str, endpoint: str, key: str) -> str:
    label = f"The mapping {mapping.name}" if mapping.name else "A mapping"
    return f"{label} names the {role} {endpoint}.{key}, which is not there. Check both names."


def plain(value: Any) -> Any:
    """A value that JSON can hold (dates and decimals as text)."""
    return msgspec.to_builtins(value, enc_hook=str)


def _connector(step: Step, endpoint: EndpointSpec) -> Connector:
    return connector(endpoint.system, step.place)


def _wanted(step: Step, endpoint: EndpointSpec, key: KeySpec) -> set[str]:
    """The measures that variables or looping checks ask for."""
    looped = {
        check.variable
        for check in endpoint.checks
        if key.name in check.over and check.variable and check.variable not in step.variables
    }
    return set(key.exports) | (looped & measures.NAMES)


def _export(step: Step, endpoint: EndpointSpec, key: KeySpec, found: dict[str, Any]) -> None:
    values = {name: plain(value) for name, value in found.items()}
    step.measures[endpoint.name, key.name] = values
    for name, variable in key.exports.items():
        step.export(variable, values[name])


def _export_count(step: Step, endpoint: EndpointSpec) -> None:
    if "key_count" in endpoint.exports:
        step.export(endpoint.exports["key_count"], len(endpoint.keys))


def _warn_of_options(step: Step, endpoint: EndpointSpec) -> None:
    """Say which settings of keys have no meaning for the system."""
    known = _connector(step, endpoint).capabilities.options
    unknown: Iterable[str] = {name for key in endpoint.keys for name in key.options} - known
    if unknown:
        step.console.warning(
            f"{endpoint.name}: {endpoint.system} knows nothing of {', '.join(sorted(unknown))}"
        )


def _size(batch: Batch) -> str:
    rows = "" if batch.row_count is None else f", {batch.row_count} rows"
    size = batch.path.stat().st_size if batch.path.exists() else 0
    return f": {batch.format}, {size} bytes{rows}"


class _telling:  # noqa: N801 - reads as a word in `with`
    """Puts a place before the message of a step's fault."""

    def __init__(self, place: str) -> None:
        self._place = place

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, StepError) and not isinstance(error, CheckStopped):
            raise error.inside(self._place) from error.__cause__
