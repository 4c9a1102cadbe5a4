"""What a recipe's step says, in Galley's words, after rendering: made by formats, run by engine.

`formats/` turns a vendor's files into these; `engine/nodes` and connectors know only these.
"""

from typing import Any

import msgspec

from galley.core.runs.plan import Environment

SETTLED = "spec"
"""In the body of a planned step: its `StepSpec`, where no run can change what its files say."""
PAST = ("previous", "average")
"""What the expression of a check that keeps its history may read beside variables."""


class CheckSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A check: compares a variable with a metric, or evaluates an expression over variables.

    `action` is what a failure does: `stop`, `warn` or `log`. `convert` is None or `integer`,
    `float`, `string`, `date`, `boolean`. `compare` is one of `eq ne gt ge lt le`; `metric` is a
    value, the name of a variable, or `{"history": "previous" | "average", "last": runs}`
    for a value of earlier runs. With only a `variable` its value is logged. `keep_history` keeps
    the value for later runs: that of `variable`, else the expression's. `over` lists the keys that
    an older form loops over.
    """

    name: str
    action: str
    variable: str | None = None
    convert: str | None = None
    compare: str | None = None
    metric: Any = None
    expression: str | None = None
    description: str = ""
    keep_history: bool = False
    over: tuple[str, ...] = ()


class KeySpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One item of an endpoint: one query, one file, one statement.

    `operation`: `read_file`, `write_file`, `query` (rows), `scalar` (one value), `statement`
    (no rows), `insert` (rows in bulk), `program` (run a command), `value` (a variable's value).
    `format`: `csv`, `jsonl`, `json`, `parquet`, `binary`. `header`: whether the first line names
    the columns (None: the format's habit). `exports`: measure (`row_count`, `column_count`,
    `size`, `md5`, `sha`, `result`, `schema`) -> run-time variable.
    `options` holds the connector's own further settings.
    """

    name: str
    operation: str
    path: str | None = None
    sql: str | None = None
    format: str | None = None
    header: bool | None = None
    table: str | None = None
    columns: tuple[str, ...] = ()
    value: Any = None
    command: tuple[str, ...] = ()
    exports: dict[str, str] = {}
    options: dict[str, Any] = {}


class EndpointSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A source, a sink or an action: a system, how to reach it, and what to do there.

    `system` is a connector's name (`file`, `http`, `sqlite`, `duckdb`, `postgres`, `dictionary`,
    `shell`, `none`, ...). `wildcard` makes keys at run time, `key_template` their settings.
    """

    name: str
    system: str
    config: dict[str, Any] = {}
    keys: tuple[KeySpec, ...] = ()
    wildcard: str | None = None
    key_template: KeySpec | None = None
    exports: dict[str, str] = {}
    checks: tuple[CheckSpec, ...] = ()


class MappingSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """What goes from which source's key to which sink's key."""

    source: str
    source_key: str
    sink: str
    sink_key: str
    name: str = ""


class ScriptSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One program of a script step: a file of the step's folder, its parameters and results.

    `exports` are global names read back as run-time variables, `assign` variable -> file to read.
    """

    name: str
    path: str
    parameters: dict[str, Any] = {}
    environment: dict[str, str] = {}
    exports: tuple[str, ...] = ()
    assign: dict[str, str] = {}


class ConditionSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a conditional step chooses branches: compare a variable, or look up its value.

    `cases` maps a value (as text) to a branch; `otherwise` is the branch for any other. With
    `compare` set the value looked up is the comparison's outcome, `true` or `false`.
    """

    name: str
    variable: str
    compare: str | None = None
    value: Any = None
    convert: str | None = None
    cases: dict[str, str] = {}
    otherwise: str | None = None


class StepSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A whole step as the engine runs it.

    `inputs` and `outputs` are (source.key, file name) and (file name, sink.key) of a script step;
    `wildcards` are (source, sink) pairs mapped key by key. Of a script step: `folder` is the
    step's folder below the source's tree (empty: the step's key), of which the step gets a copy
    to work in; `share` is the folder in it that holds the programs' files (`scripts[].path` is
    relative to the step's folder, inputs and outputs to `share`); `files` are rendered texts put
    into the copy (path -> text); `interface` tells that an image follows the progress-file
    interface (`config_file` is the name of its configuration in `share`); `pull` is when an image
    is fetched: `missing`, `always` or `never`; `network` whether the programs ask for it.
    `environment` is what the step's own files ask for, rendered: it replaces the plan's, which
    lacks what only a run knows. `late` names variables that the step itself exports and its later
    files use: load the step again when they are known, before its notebook and sinks.
    `artifacts` are files of the run's folder to keep as results.
    """

    kind: str
    sleep_s: float = 0.0
    sources: tuple[EndpointSpec, ...] = ()
    sinks: tuple[EndpointSpec, ...] = ()
    actions: tuple[EndpointSpec, ...] = ()
    mappings: tuple[MappingSpec, ...] = ()
    wildcards: tuple[tuple[str, str], ...] = ()
    scripts: tuple[ScriptSpec, ...] = ()
    program: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    assign: dict[str, str] = {}
    conditions: tuple[ConditionSpec, ...] = ()
    checks: tuple[CheckSpec, ...] = ()
    artifacts: tuple[str, ...] = ()
    environment: Environment = Environment()
    late: tuple[str, ...] = ()
    folder: str = ""
    share: str = ""
    files: dict[str, str] = {}
    interface: bool = False
    config_file: str = "config.json"
    pull: str = "missing"
    network: bool = False


def is_brief(step: StepSpec) -> bool:
    """Whether the step only checks and chooses, and so takes no time worth a slot."""
    return step.kind == "noop" and not step.sleep_s and not step.artifacts
