"""What the core needs done about external vaults by the floors above."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """Where an external vault is, and what opens it.

    `name` is what messages call it, such as `the vault of kitchen dev`; `prefix` has no slash at
    its ends, and may be empty.
    """

    name: str
    url: str
    prefix: str
    token: str = field(repr=False)


class ExternalVaults(Protocol):
    """Speaks to vaults elsewhere. Paths are without `vault://` and below the place's prefix.

    Every method raises `VaultUnreachable` or `VaultRefused`, whose messages name the vault and
    neither its token nor a value.
    """

    def read(self, place: VaultPlace, paths: Iterable[str]) -> dict[str, str]:
        """The values at those of the paths where there is one."""
        ...

    def list_paths(self, place: VaultPlace, below: str = "") -> list[str]:
        """The paths at `below` or under it, A to Z; never a value."""
        ...

    def write(self, place: VaultPlace, path: str, value: str) -> None:
        """Put the value at the path. Safe to repeat."""
        ...

    def delete(self, place: VaultPlace, path: str) -> bool:
        """Remove what is at the path; whether there was something."""
        ...
