"""How each kind of system is driven through the one suite: its keys, its faults, its losses."""

from dataclasses import dataclass, field, replace
from typing import Any

from galley.core.recipes.spec import KeySpec


@dataclass(frozen=True)
class Rig:
    """A system that stores rows and gives them back.

    `types` are the types that columns of the sample come back with; `missing` is a key for what
    is not there, `wrong` a configuration that leads nowhere.
    """

    id: str
    system: str
    write: KeySpec
    read: KeySpec
    missing: KeySpec
    types: dict[str, str]
    config: dict[str, Any] = field(default_factory=dict)
    wrong: dict[str, Any] = field(default_factory=dict)
    creates: bool = False

    def with_config(self, config: dict[str, Any]) -> "Rig":
        return replace(self, config=config, wrong={**config, **self.wrong})


SAMPLE = """
SELECT * FROM (VALUES
  (1::BIGINT, 'plain', 1.5::DOUBLE, DATE '2020-02-29', TRUE, TIMESTAMP '2020-01-01 10:11:12'),
  (2, NULL, NULL, NULL, NULL, NULL),
  (9007199254740993, '', 0.1, DATE '1969-12-31', FALSE, TIMESTAMP '1999-12-31 23:59:59'),
  (-4, 'ünï "q", ''s'';' || chr(10) || 'line', -1e300, DATE '9999-01-01', TRUE,
   TIMESTAMP '2020-06-01 00:00:01')
) AS t(id, name, price, day, flag, moment)
"""
EXACT = {
    "id": "BIGINT",
    "name": "VARCHAR",
    "price": "DOUBLE",
    "day": "DATE",
    "flag": "BOOLEAN",
    "moment": "TIMESTAMP",
}
_TEXT_TIMES = {**EXACT, "day": "VARCHAR", "moment": "VARCHAR"}
_CREATE = {"write-mode": "create"}


def _database(system: str, config: dict[str, Any], types: dict[str, str], **more: Any) -> Rig:
    return Rig(
        id=system,
        system=system,
        write=KeySpec("w", "insert", table="orders", options=_CREATE),
        read=KeySpec("r", "query", sql="SELECT * FROM orders"),
        missing=KeySpec("r", "query", sql="SELECT * FROM nowhere"),
        types=types,
        config=config,
        creates=True,
        **more,
    )


def _file(system: str, ending: str, types: dict[str, str], **more: Any) -> Rig:
    return Rig(
        id=f"{system}-{ending}",
        system=system,
        write=KeySpec("w", "write_file", path=f"orders.{ending}"),
        read=KeySpec("r", "read_file", path=f"orders.{ending}"),
        missing=KeySpec("r", "read_file", path=f"nowhere.{ending}"),
        types=types,
        **more,
    )


RIGS = [
    _file("file", "csv", EXACT, wrong={"folder": "/etc"}),
    _file("file", "jsonl", _TEXT_TIMES, wrong={"folder": "/etc"}),
    _file("file", "json", _TEXT_TIMES, wrong={"folder": "/etc"}),
    _file("file", "parquet", EXACT, wrong={"folder": "/etc"}),
    _file("http", "csv", EXACT, wrong={"url": "http://127.0.0.1:1"}),
    _file("http", "parquet", EXACT, wrong={"url": "http://127.0.0.1:1"}),
    _file("ftp", "csv", EXACT, wrong={"port": 1}),
    _file("ftp", "parquet", EXACT, wrong={"port": 1}),
    _file("s3", "csv", EXACT, wrong={"endpoint-url": "http://127.0.0.1:1"}),
    _file("s3", "parquet", EXACT, wrong={"endpoint-url": "http://127.0.0.1:1"}),
    _database("duckdb", {"database": "shop.duckdb"}, EXACT, wrong={"database": "/etc/shop.db"}),
    _database(
        "sqlite",
        {"database": "shop.sqlite"},
        {**_TEXT_TIMES, "flag": "BIGINT"},
        wrong={"database": "/etc/shop.db"},
    ),
    _database("postgres", {}, EXACT, wrong={"hostname": "127.0.0.1", "port": 1}),
]
