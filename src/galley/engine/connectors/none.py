"""The system that is not there: reads nothing, takes everything."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from galley.core.recipes.spec import KeySpec
from galley.engine.connectors.base import Batch, ConnectorCapabilities, Place, Result

_ALL = frozenset(
    {"read_file", "write_file", "query", "scalar", "statement", "insert", "program", "value"}
)


class NoneConnector:
    """Accepts every operation and does nothing; a source is empty, a sink forgets."""

    capabilities = ConnectorCapabilities(
        reads=frozenset({"read_file", "query", "value"}),
        writes=frozenset({"write_file", "insert", "value"}),
        runs=_ALL,
        wildcard=True,
    )

    def __init__(self, place: Place) -> None:
        self._place = place

    def test(self, config: dict[str, Any]) -> None:
        """Nothing can be wrong with nothing."""
        del config

    def keys(self, config: dict[str, Any], pattern: str) -> list[str]:
        """No names."""
        del config, pattern
        return []

    def read(self, config: dict[str, Any], key: KeySpec, into: Path) -> Batch:
        """An empty file, or the key's own value."""
        del config
        target = into / "content"
        target.write_text("" if key.value is None else str(key.value), encoding="utf-8")
        return Batch(target, key.format or "binary", is_file=True, value=key.value)

    def write(self, config: dict[str, Any], key: KeySpec, batch: Batch) -> Batch:
        """Forget the batch."""
        del config, key
        return replace(batch)

    def run(self, config: dict[str, Any], key: KeySpec) -> Result:
        """Give the key's value back."""
        del config
        return Result(value=key.value)
