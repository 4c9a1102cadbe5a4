"""What clients send: the shapes of request bodies. Unknown keys are ignored, as the vendor does."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from galley.core.errors import Invalid
from galley.core.recipes.formats.system import RESERVED
from galley.dialects.datakitchen.states import ALERT_EVENT, PRIORITY
from galley.kit.destinations import fault_of_destination
from galley.wire.body import parse_json

MAX_COUNT = 1000
MAX_LINES = 5000
SETTINGS_FILE = "kitchen-settings.json"


def object_from_text(value: Any) -> Any:
    """A form sends an object as its JSON text, and nothing as an empty text."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        return json_inside(value, 'an object, such as {"name": "value"}')
    return value


def structure_from_text(value: Any) -> Any:
    """A form sends an object or a list as its JSON text; other values are left as they are."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        return json_inside(value, "an object or a list, as JSON")
    return value


def json_inside(text: str, what: str) -> Any:
    """The document of a JSON text that stands in a body; it is held to what bodies are."""
    try:
        return parse_json(text.encode())
    except (Invalid, UnicodeEncodeError) as error:
        raise ValueError(f"must be {what} ({error})") from error


Variables = Annotated[dict[str, Any], BeforeValidator(object_from_text)]
NodeName = Annotated[str, Field(min_length=1, max_length=256)]


class Body(BaseModel):
    """The root of all bodies: names by the vendor's spelling, extra keys ignored."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)


class Empty(Body):
    """A body that says nothing that matters."""


class Login(Body):
    """The form of `login`."""

    username: str = Field(max_length=320)
    password: str = Field(max_length=4096)


class NewKitchen(Body):
    """What `kitchen/create` is told; `message` is a commit message that no client means."""

    description: str | None = Field(default=None, max_length=10_000)


class KitchenDocument(Body):
    """A kitchen as clients send it back. A key that is absent leaves its property as it is.

    Keys that clients cannot change are extras (`model_extra`).
    """

    model_config = ConfigDict(extra="allow", populate_by_name=False)

    description: str | None = Field(default=None, max_length=10_000)
    staff: list[str] | None = Field(default=None, validation_alias="kitchen-staff", max_length=5000)
    roles: dict[str, str] | None = Field(default=None, validation_alias="kitchen-roles")
    overrides: dict[str, Any] | None = Field(default=None, validation_alias="recipeoverrides")
    recipes: list[str] | None = None
    restrict_recipes: bool | None = Field(default=None, validation_alias="restrict-recipes")
    settings: dict[str, Any] | None = None
    mesos_constraint: bool | None = Field(default=None, validation_alias="mesos-constraint")
    mesos_group: str | None = Field(default=None, validation_alias="mesos-group", max_length=10_000)
    wizard_status: dict[str, Any] | None = Field(default=None, validation_alias="wizard-status")

    def vendor_only(self) -> dict[str, Any]:
        """What the document has of the keys that mean nothing to Galley, by the vendor's names."""
        given = {
            "mesos-constraint": self.mesos_constraint,
            "mesos-group": self.mesos_group,
            "wizard-status": self.wizard_status,
        }
        return {
            key: v for key, v in given.items() if key.replace("-", "_") in self.model_fields_set
        }

    @field_validator("overrides", mode="before")
    @classmethod
    def _newer_shape(cls, value: Any) -> Any:
        """The older shape is a list of `variable` and `value`."""
        if not isinstance(value, list):
            return value
        if not all(isinstance(i, dict) and isinstance(i.get("variable"), str) for i in value):
            raise ValueError("each override of a list needs a variable, its name, and a value")
        return {item["variable"]: item.get("value") for item in value}

    @field_validator("overrides")
    @classmethod
    def _no_system_names(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        for name in sorted(RESERVED & set(value or {})):
            raise ValueError(f"{name} is a system variable, which only the server sets")
        return value

    def alert_addresses(self) -> dict[str, list[str]] | None:
        """The kitchen's alerts by Galley's event names, or None if the document has none."""
        if self.settings is None or "alerts" not in self.settings:
            return None
        return alerts_of(self.settings["alerts"] or {})


class KitchenUpdate(Body):
    """The body of `kitchen/update` and of PUT `kitchen/settings`."""

    kitchen: KitchenDocument = Field(validation_alias="kitchen.json")
    message: str | None = None

    @field_validator("kitchen", mode="before")
    @classmethod
    def _from_form(cls, value: Any) -> Any:
        """A form sends the kitchen as its JSON text."""
        return json_inside(value, "a kitchen, as JSON") if isinstance(value, str) else value


class Wizard(Body):
    """What the vendor's pages ask when a kitchen is made; Galley only keeps it."""

    model_config = ConfigDict(extra="allow")

    wizards: list[Any] = Field(default_factory=list)
    variablesets: list[Any] = Field(default_factory=list)


class SettingsDocument(Body):
    """The account's `kitchen-settings.json`. Keys that nobody knows are kept (`model_extra`)."""

    model_config = ConfigDict(extra="allow", populate_by_name=False)

    kitchenwizard: Wizard = Field(default_factory=Wizard)
    agile_tools: dict[str, Any] | None = Field(default=None, validation_alias="agile-tools")
    alerts: Any = None

    def kept(self) -> dict[str, Any]:
        """All of it but the alerts, by the vendor's names."""
        known = {"kitchenwizard": self.kitchenwizard.model_dump(), "agile-tools": self.agile_tools}
        return {**(self.model_extra or {}), **known}


class SettingsUpdate(Body):
    """The body of POST `kitchen/settings/json`."""

    filepath: Annotated[list[str] | str, BeforeValidator(structure_from_text)]
    file: Annotated[SettingsDocument, BeforeValidator(structure_from_text)]

    @field_validator("filepath")
    @classmethod
    def _of_the_one_file(cls, value: list[str] | str) -> list[str] | str:
        paths = [value] if isinstance(value, str) else value
        if [path.replace("\\", "/").rsplit("/", 1)[-1] for path in paths] != [SETTINGS_FILE]:
            raise ValueError(f"name one file, {SETTINGS_FILE}")
        return value


class RecipeQuery(Body):
    """Which files of a recipe are wanted; None means all."""

    files: list[str] | None = Field(default=None, validation_alias="recipe-files", max_length=5000)
    with_tree: bool = Field(default=False, validation_alias="include-recipe-tree")

    @field_validator("files", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        """A single path may come without its list; a form sends a list as its JSON text."""
        if isinstance(value, str):
            text = value.lstrip()
            return json_inside(text, "a list, as JSON") if text.startswith("[") else [value]
        return value


class NewRecipe(Body):
    """What POST `recipe/create` is told; no template means the first one."""

    templatename: Literal["qs1", "qs2", "qs3"] | None = None
    description: str | None = Field(default=None, max_length=10_000)


class OneFile(Body):
    """One file of a recipe: its path below the recipe, and its content (base64 if binary)."""

    filepath: str = Field(min_length=1, max_length=1024)
    file: str = ""
    message: str | None = Field(default=None, max_length=10_000)

    @field_validator("file", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        """Deleting clients send null or an object where nothing is meant."""
        return "" if value is None or value == {} else value


class FileChange(Body):
    """A new content; without `contents` the file is deleted."""

    contents: str | None = None
    is_new: bool = Field(default=False, validation_alias="isNew")


class FileChanges(Body):
    """The body of `recipe/update`: one file, or many under `files`."""

    filepath: str | None = Field(default=None, min_length=1, max_length=1024)
    file: str | None = None
    files: dict[str, FileChange] | None = Field(default=None, max_length=5000)
    message: str | None = Field(default=None, max_length=10_000)

    @field_validator("files", mode="before")
    @classmethod
    def _from_form(cls, value: Any) -> Any:
        """A form sends the files as their JSON text."""
        return json_inside(value, "an object of files") if isinstance(value, str) else value


class StatusQuery(Body):
    """The filters of `order/status`, from its body (DKUtils) or its query (the command line)."""

    recipe: str | None = Field(default=None, validation_alias=AliasChoices("recipe", "r"))
    variation: str | None = None
    hours: float | None = Field(default=None, ge=0, le=1e6, validation_alias="timePeriod")
    search: str | None = Field(default=None, max_length=200)
    order_status: str | None = Field(default=None, validation_alias="orderStatus")
    run_status: str | None = Field(default=None, validation_alias="orderRunStatus")
    runs: int = Field(
        default=3, ge=0, le=MAX_COUNT, validation_alias=AliasChoices("servingsCount", "scount")
    )
    start: int = Field(default=0, ge=0, le=10**9)
    count: int = Field(default=MAX_COUNT, ge=0, le=MAX_COUNT)


class ServingsQuery(Body):
    """How many runs of an order are wanted; clients ask for 100,000 and mean all."""

    count: int = Field(default=10, ge=0, le=10**9)


class DetailsQuery(Body):
    """The body of `order/details`: which run or order, and which parts of it."""

    run_id: str | None = Field(default=None, validation_alias="serving_hid")
    order_id: str | None = Field(
        default=None, validation_alias=AliasChoices("order_id", "serving_book_hid")
    )
    summary: bool = False
    logs: bool = False
    timingresults: bool = False
    testresults: bool = False
    servingjson: bool = False


class LogQuery(Body):
    """Which lines of an order run's log are wanted: of a node, of record types, a stretch."""

    node: str | None = Field(default=None, max_length=256)
    record_types: frozenset[str] | None = Field(default=None, validation_alias="record_type")
    start: int = Field(default=0, ge=0, le=10**9)
    count: int = Field(default=MAX_COUNT, ge=0, le=MAX_LINES)

    @field_validator("record_types", mode="before")
    @classmethod
    def _types(cls, value: Any) -> Any:
        """One, several with commas between them, or a list."""
        value = structure_from_text(value)
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list) or any(not isinstance(name, str) for name in names):
            return value
        found = {"WARN" if (n := name.strip().upper()) == "WARNING" else n for name in names}
        if unknown := sorted(found - PRIORITY.keys()):
            known = ", ".join(PRIORITY)
            raise ValueError(f"there is no record type {unknown[0][:50]!r}; there are {known}")
        return found or None


class Target(Body):
    """Names an order or a run in the body, where the path may say `None`."""

    kitchen: str | None = Field(default=None, validation_alias="kitchen_name")
    order_id: str | None = Field(
        default=None, validation_alias=AliasChoices("serving_book_hid", "order_id")
    )
    run_id: str | None = Field(default=None, validation_alias="serving_hid")


class Resume(Target):
    """The body of `order/resume`."""

    skip_failed: bool = Field(default=False, validation_alias="skip-failed-nodes")
    parameters: Variables = Field(default_factory=dict)


def alerts_of(value: Any) -> dict[str, list[str]]:
    """Alert destinations by Galley's event names.

    Raises:
        Invalid: an event that does not exist, or a destination that nothing can be sent to; the
            message names the event as clients do.
    """
    if isinstance(value, str | list):
        value = dict.fromkeys(ALERT_EVENT, value)
    if not isinstance(value, dict):
        raise Invalid("alerts must be an object of events, or a list of addresses.")
    unknown = sorted(set(value) - set(ALERT_EVENT))
    if unknown:
        raise Invalid(f"There is no alert {unknown[0]!r}; there are {', '.join(ALERT_EVENT)}.")
    found: dict[str, list[str]] = {}
    for name, addresses in value.items():
        listed = [addresses] if isinstance(addresses, str) else (addresses or [])
        if not isinstance(listed, list) or any(not isinstance(a, str) for a in listed):
            raise Invalid(f"Alert {name}: its destinations must be a list of texts.")
        for address in listed:
            if fault := fault_of_destination(address.strip()):
                raise Invalid(f"Alert {name}: {address[:300]!r} {fault}.")
        found[ALERT_EVENT[name]] = listed
    return found
