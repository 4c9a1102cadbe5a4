"""A parsed JSON object with readers that check types and report faults by file and place."""

from collections.abc import Collection
from typing import Any

from galley.core.recipes.faults import Faults
from galley.core.recipes.values import kind_of, shown
from galley.kit.nearest import did_you_mean

_MOST_TOLD = 20
_NOTHING: tuple[Any, ...] = (None, False, "", [], {})
_YES = {"true": True, "yes": True, "false": False, "no": False}


class Section:
    """One object of a file. `where` names it inside the file, such as `keys.orders`.

    It remembers what it was asked for, so that `warn_of_unknown` can tell what nobody wanted.
    """

    def __init__(self, data: Any, file: str, where: str, faults: Faults) -> None:
        self.file, self.where, self.faults = file, where, faults
        self._asked: set[str] = set()
        self.data: dict[str, Any] = {}
        if isinstance(data, dict):
            self.data = data
        else:
            self.fault(f"is a {kind_of(data)}; write an object, {{...}}.")

    def fault(self, text: str, key: str | None = None) -> None:
        """Report something wrong with this object, or with one of its keys."""
        self.faults.error(self.file, f"{self.place(key)}{text}")

    def place(self, key: str | None = None) -> str:
        """Where in the file, as the start of a message."""
        path = ".".join(filter(None, (self.where, key)))
        return f"`{path}` " if path else ""

    def has(self, *keys: str) -> bool:
        """Whether one of the keys is there and not null."""
        self._asked.update(keys)
        return any(self.data.get(key) is not None for key in keys)

    def raw(self, *keys: str, default: Any = None) -> Any:
        """The value of the first of the keys that is there."""
        self._asked.update(keys)
        return next((self.data[key] for key in keys if self.data.get(key) is not None), default)

    def text(self, *keys: str, default: str = "") -> str:
        """A text; numbers are taken as their text."""
        value = self.raw(*keys)
        if value is None:
            return default
        if isinstance(value, str) and "\0" not in value:
            return value
        if isinstance(value, str):
            self.fault("holds the character NUL; leave it out.", keys[0])
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            return str(value)
        self.fault(f"is a {kind_of(value)}; write a text.", keys[0])
        return default

    def name(self, *keys: str) -> str | None:
        """A text that may be missing."""
        return self.text(*keys) if self.has(*keys) else None

    def required(self, *keys: str) -> str:
        """A text that must be there."""
        found = self.text(*keys)
        if not found and not isinstance(self.raw(*keys), dict | list | bool):
            self.fault("is missing; give it a text.", keys[0])
        return found

    def flag(self, key: str, *, default: bool | None = None) -> bool | None:
        """True or false, also as text."""
        value = self.raw(key)
        if value is None or value == "":
            return default
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.strip().lower() in _YES:
            return _YES[value.strip().lower()]
        self.fault(f"is {shown(value)}; write true or false.", key)
        return default

    def number(
        self, *keys: str, minimum: float | None = None, maximum: float | None = None
    ) -> float | None:
        """A number, also as text, within bounds."""
        value = self.raw(*keys)
        if value is None or value == "":
            return None
        try:
            found = float("none" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            self.fault(f"is {shown(value)}; write a number.", keys[0])
            return None
        if not (found == found and abs(found) != float("inf")):  # noqa: PLR0124 - not a number
            self.fault("is not a finite number; write one.", keys[0])
            return None
        if minimum is not None and found < minimum:
            self.fault(f"is {shown(value)}; write at least {minimum:g}.", keys[0])
        elif maximum is not None and found > maximum:
            self.fault(f"is {shown(value)}; write at most {maximum:g}.", keys[0])
        return found

    def whole(
        self, *keys: str, minimum: float | None = None, maximum: float | None = None
    ) -> int | None:
        """A whole number, also as text, within bounds."""
        found = self.number(*keys, minimum=minimum, maximum=maximum)
        if found is not None and found != int(found):
            self.fault(f"is {shown(self.raw(*keys))}; write a whole number.", keys[0])
            return None
        return None if found is None else int(found)

    def mapping(self, key: str) -> dict[str, Any]:
        """An object; empty if missing."""
        value = self.raw(key)
        if value is None:
            return {}
        if isinstance(value, dict):
            return value
        self.fault(f"is a {kind_of(value)}; write an object, {{...}}.", key)
        return {}

    def sections(self, key: str) -> dict[str, "Section"]:
        """An object of objects; those that are none are reported."""
        return {
            name: Section(item, self.file, self._below(key, name), self.faults)
            for name, item in self.mapping(key).items()
        }

    def section(self, key: str) -> "Section":
        """One object below; empty if missing."""
        return Section(self.mapping(key), self.file, self._below(key), self.faults)

    def items(self, key: str) -> list[Any]:
        """A list; empty if missing."""
        value = self.raw(key)
        if value is None:
            return []
        if isinstance(value, list):
            return value
        self.fault(f"is a {kind_of(value)}; write a list, [...].", key)
        return []

    def rows(self, key: str) -> list["Section"]:
        """A list of objects."""
        return [
            Section(item, self.file, self._below(f"{key}[{number}]"), self.faults)
            for number, item in enumerate(self.items(key))
        ]

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts; one text alone counts as a list of one."""
        value = self.raw(key)
        if isinstance(value, str):
            return (value,) if value else ()
        found = []
        for number, item in enumerate(self.items(key)):
            if isinstance(item, str):
                found.append(item)
            else:
                self.fault(f"is a {kind_of(item)}; write a text.", f"{key}[{number}]")
        return tuple(found)

    def text_map(self, key: str) -> dict[str, str]:
        """An object of texts."""
        found: dict[str, str] = {}
        for name, value in self.mapping(key).items():
            if isinstance(value, dict | list):
                self.fault(f"is a {kind_of(value)}; write a text.", f"{key}.{name}")
            elif value is not None:
                found[name] = value if isinstance(value, str) else str(value)
        return found

    def warn_of_unknown(self, *, also: Collection[str] = (), later: Collection[str] = ()) -> None:
        """Once all is read: tell of keys that nobody asked for, most often slips of spelling.

        `also` are known keys that are asked for only beside others, or that mean nothing here on
        purpose; `later` are the vendor's keys that Galley takes and that do nothing yet.
        """
        known = self._asked.union(also, later)
        unknown = [key for key in self.data if key not in known]
        for key in unknown[:_MOST_TOLD]:
            self._warn(key, f"is not known here{did_you_mean(key, known)}; it has no effect.")
        for key in later:
            if self.data.get(key) not in _NOTHING:
                self._warn(key, "has no effect yet.")

    def _warn(self, key: str, text: str) -> None:
        self.faults.warning(self.file, f"{self.place(key[:200])}{text}", is_sure=True)

    def _below(self, *keys: str) -> str:
        return ".".join(filter(None, (self.where, *keys)))
