"""Data sources, data sinks and actions: one connection each, and its keys.

Source: contract 2.7. The types `File`, `HTTP`, `SQLite` and `DuckDB` are Galley's own.
"""

import shlex
from collections.abc import Callable, Mapping
from typing import Any

from galley.core.recipes.faults import SourceFault
from galley.core.recipes.formats import settings
from galley.core.recipes.formats.checks import read_checks
from galley.core.recipes.formats.reading import Section
from galley.core.recipes.formats.system import KEY_NAME
from galley.core.recipes.spec import EndpointSpec, KeySpec
from galley.core.recipes.templating import LATER
from galley.core.recipes.values import NAME, kind_of, shown

KEY_MARK = f"\ue000{KEY_NAME}\ue001"

_PREFIXES = ("dkdatasource_", "dkdatasink_", "dkaction_", "dkactionsource_")
_SYSTEMS = {
    "file": "file",
    "localfile": "file",
    "http": "http",
    "https": "http",
    "sqlite": "sqlite",
    "duckdb": "duckdb",
    "postgresql": "postgres",
    "postgres": "postgres",
    "redshift": "postgres",
    "dictionary": "dictionary",
    "ftp": "ftp",
    "s3": "s3",
    "shell": "shell",
    "noop": "none",
}
_PLANNED = {
    "mssql",
    "mysql",
    "db2sql",
    "snowflake",
    "bigquery",
    "salesforce",
    "sftp",
    "sftp_dss",
    "container",
    "orderruninfo",
    "gcs",
    "azureblob",
    "hdfs",
    "mongodb",
    "vertica",
    "teradata",
    "tableau",
}
_SHOWN = "File, HTTP, FTP, S3, SQLite, DuckDB, PostgreSQL, Dictionary, SHELL, NoOp"
_DATABASES = frozenset({"sqlite", "duckdb", "postgres"})
_STORES = frozenset({"file", "ftp", "s3"})
_FILES = _STORES | {"http"}
_QUERIES = {
    "execute_query": "query",
    "execute_scalar": "scalar",
    "execute_non_query": "statement",
    "execute_dml": "statement",
    "bulk_insert": "insert",
}
_DEFAULT_QUERY = {"source": "query", "sink": "insert", "action": "statement"}
_ALLOWED = {
    "source": frozenset({"query", "scalar", "statement"}),
    "sink": frozenset({"insert", "statement"}),
    "action": frozenset({"query", "scalar", "statement"}),
}
_FORMATS = frozenset({"csv", "jsonl", "json", "parquet", "binary"})
_MEASURES = frozenset({"row_count", "column_count", "size", "md5", "sha", "result", "schema"})
_OWN = frozenset(
    {
        "format", "set-runtime-vars", "description", "sql", "sql-file", "query-type", "file-key",
        "use-only-file-key", "path", "url", "table-name", "table", "columns", "insert-column-names",
        "first-row-column-names", "header", "value", "command", "shell-command", "operation",
    }
)  # fmt: skip
_OF_FILES = frozenset(
    {
        "name", "type", "description", "config", "config-ref", "keys", "wildcard", "wildcard-key",
        "format", "set-runtime-vars", "tests",
    }
)  # fmt: skip

ReadText = Callable[[str], str]


class EndpointReader:
    """Reads one file of a role: `source`, `sink` or `action`.

    `variables` serves `config-ref`, whose values pass through `resolve` (secrets); `read_text`
    gives the rendered text of another file.
    """

    def __init__(
        self,
        role: str,
        variables: Mapping[str, Any],
        read_text: ReadText,
        resolve: Callable[[Any], Any] = lambda value: value,
    ) -> None:
        self._role = role
        self._variables = variables
        self._read_text = read_text
        self._resolve = resolve

    def read(self, name: str, section: Section) -> EndpointSpec:
        """What the file says; its faults go to the section's list."""
        system = self._system(section)
        keys = tuple(self._key(key, item, system) for key, item in section.sections("keys").items())
        wildcard = section.name("wildcard")
        if not keys and not wildcard and self._role != "sink" and system not in {"", "none"}:
            section.fault("is empty; give at least one key, or a `wildcard`.", "keys")
        if section.has("name") and section.raw("name") != name:
            section.faults.warning(
                section.file, f"`name` is {shown(section.raw('name'))}; the file's name counts."
            )
        template = None
        if wildcard or section.has("wildcard-key"):
            template = self._key("*", _template_section(section), system)
        config = self._config(section, system)
        section.warn_of_unknown(also=_OF_FILES)
        return EndpointSpec(
            name=name,
            system=system,
            config=config,
            keys=keys,
            wildcard=wildcard,
            key_template=template,
            exports=_exports(section, frozenset({"key_count"})),
            checks=read_checks(section),
        )

    def _system(self, section: Section) -> str:
        text = section.required("type").strip()
        word = text.lower()
        for prefix in _PREFIXES:
            word = word.removeprefix(prefix)
        if word in _SYSTEMS:
            return _SYSTEMS[word]
        if word in _PLANNED:
            section.fault(f"is '{text}', which is not built yet. Use one of {_SHOWN}.", "type")
        elif text:
            section.fault(f"is '{text}', which is not known. Use one of {_SHOWN}.", "type")
        return ""

    def _config(self, section: Section, system: str) -> dict[str, Any]:
        if section.has("config-ref"):
            return self._referred(section)
        config = section.raw("config")
        if config is None:
            if system in _DATABASES:
                section.fault("is missing; say how to reach the system.", "config")
            return {}
        if isinstance(config, dict):
            if system in settings.CONFIG:
                section.section("config").warn_of_unknown(
                    also=settings.CONFIG[system], later=settings.CONFIG_LATER.get(system, ())
                )
            return config
        section.fault(
            f"is a {kind_of(config)}; write an object, or {{{{name}}}} of a variable that is one.",
            "config",
        )
        return {}

    def _referred(self, section: Section) -> dict[str, Any]:
        name = section.text("config-ref").strip()
        found = self._variables.get(name)
        if isinstance(found, dict):
            resolved: dict[str, Any] = self._resolve(found)
            return resolved
        if found is LATER:
            return {}
        if name not in self._variables:
            section.fault(
                f"names the variable '{name}', which is not defined. Define it in variables.json or"
                " the kitchen's overrides.",
                "config-ref",
            )
        else:
            section.fault(
                f"names the variable '{name}', a {kind_of(found)}; it must be an object.",
                "config-ref",
            )
        return {}

    def _key(self, name: str, section: Section, system: str) -> KeySpec:
        section.data = _put_key_name(section.data, name)
        layout = section.text("format").strip().lower() or None
        if layout is not None and layout not in _FORMATS:
            section.fault(f"is '{layout}'; write one of {', '.join(sorted(_FORMATS))}.", "format")
        if system in settings.OPTIONS:
            section.warn_of_unknown(
                also=_OWN | settings.OPTIONS[system], later=settings.OPTIONS_LATER
            )
        return KeySpec(
            name=name,
            operation=self._operation(section, system),
            path=_path(name, section, system),
            sql=self._sql(section, system),
            format=layout,
            header=_header(section),
            table=section.name("table-name", "table"),
            columns=section.texts("columns"),
            value=section.raw("value"),
            command=_command(section, system),
            exports=_exports(section, _MEASURES),
            options={key: value for key, value in section.data.items() if key not in _OWN},
        )

    def _operation(self, section: Section, system: str) -> str:
        if system in _FILES and self._role != "action":
            return "write_file" if self._role == "sink" else "read_file"
        if system in _STORES:
            section.fault("does nothing: files have no actions. Use a source or a sink.")
            return "read_file"
        if system == "shell":
            return "program"
        if system not in _DATABASES and system != "http":
            return "value"
        text = section.text("query-type").strip().lower()
        word = _QUERIES.get(text) if text else _DEFAULT_QUERY[self._role]
        if word is None:
            section.fault(f"is '{text}'; write one of {', '.join(_QUERIES)}.", "query-type")
            return _DEFAULT_QUERY[self._role]
        if word not in _ALLOWED[self._role]:
            fitting = [code for code, op in _QUERIES.items() if op in _ALLOWED[self._role]]
            section.fault(
                f"is {text}, which a {self._role} cannot do; write one of {', '.join(fitting)}.",
                "query-type",
            )
        return word

    def _sql(self, section: Section, system: str) -> str | None:
        if system not in _DATABASES:
            return None
        if section.has("sql") and section.has("sql-file"):
            section.fault("stands beside `sql`; keep one of them.", "sql-file")
        sql = section.name("sql")
        if section.has("sql-file"):
            try:
                sql = self._read_text(section.text("sql-file"))
            except SourceFault as fault:
                section.fault(f"({fault.file}) {fault.text}", "sql-file")
                sql = ";"
        kind = section.text("query-type").lower()
        is_insert = kind == "bulk_insert" or (self._role == "sink" and not kind)
        has_table = section.has("table-name", "table")
        if not sql and is_insert and not has_table:
            section.fault("is missing; name the table to fill.", "table-name")
        elif not sql and not is_insert and not (has_table and self._role == "source"):
            section.fault("is missing; write the statement, or name a `sql-file`.", "sql")
        return sql


def _put_key_name(value: Any, name: str) -> Any:
    """The system variable KeyName, put in for each key after the file was rendered."""
    if isinstance(value, str):
        return value.replace(KEY_MARK, name) if KEY_MARK in value else value
    if isinstance(value, dict):
        return {key: _put_key_name(item, name) for key, item in value.items()}
    if isinstance(value, list):
        return [_put_key_name(item, name) for item in value]
    return value


def _template_section(section: Section) -> Section:
    """The settings that every key made by a wildcard gets: those of `wildcard-key`."""
    settings = dict(section.mapping("wildcard-key"))
    if not settings and section.has("format"):
        settings = {"format": section.raw("format")}
    return Section(settings, section.file, f"{section.where}wildcard-key", section.faults)


def _path(name: str, section: Section, system: str) -> str | None:
    """A file's path; for a web address what follows the configuration's, if anything does."""
    own = section.name("file-key", "path", "url")
    if system not in _STORES:
        return own
    if own is None:
        return name
    if section.has("path") or section.flag("use-only-file-key", default=False):
        return own
    return f"{name.rstrip('/')}/{own.lstrip('/')}"


def _header(section: Section) -> bool | None:
    for key in ("header", "insert-column-names", "first-row-column-names"):
        if section.has(key):
            return section.flag(key)
    return None


def _command(section: Section, system: str) -> tuple[str, ...]:
    if system != "shell":
        return ()
    given = section.raw("command", "shell-command")
    if isinstance(given, list):
        return section.texts("command")
    text = section.text("command", "shell-command").strip()
    if not text:
        section.fault("is missing; write the program and its arguments.", "command")
        return ()
    if any(char in text for char in "|&;<>$`\n*"):
        return ("sh", "-c", text)
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        section.fault(f"cannot be read ({error}); check its quotes.", "command")
        return ()


def _exports(section: Section, measures: frozenset[str]) -> dict[str, str]:
    """Measure -> run-time variable, from `set-runtime-vars`."""
    found: dict[str, str] = {}
    for measure, name in section.text_map("set-runtime-vars").items():
        if measure not in measures:
            section.fault(
                f"is no measure; write one of {', '.join(sorted(measures))}.",
                f"set-runtime-vars.{measure}",
            )
        elif not NAME.match(name):
            section.fault(
                f"is '{name}', no name of a variable: use a-z, A-Z, digits and underscores.",
                f"set-runtime-vars.{measure}",
            )
        else:
            found[measure] = name
    return found
