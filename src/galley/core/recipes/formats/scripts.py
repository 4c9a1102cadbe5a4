"""Script steps: the notebook's container settings, and `docker-share/config.json`.

Source: contract 2.6. `command`, `requirements`, `artifacts`, `image-pull` and `network` are
Galley's own keys.
"""

import json
from dataclasses import dataclass, field

from galley.core.recipes.formats.reading import Section
from galley.core.recipes.spec import ScriptSpec
from galley.core.recipes.values import NAME
from galley.core.runs.plan import Environment
from galley.kit.paths import fault_of_path

FOLDER = "docker-share"
CONFIG = f"{FOLDER}/config.json"
_PULLS = ("missing", "always", "never")
OF_IMAGES = ("image-tag", "dockerhub-namespace", "analytic-container")
"""Keys of a notebook that mean something only beside `image-repo`."""
OF_IMAGES_LATER = ("delete-container-when-complete",)
_CONFIG = ("dependencies", "apt-dependencies", "yum-dependencies", "keys")
_SCRIPT = ("script", "parameters", "environment", "export", "assign", "description")


@dataclass(slots=True)
class ScriptParts:
    """What the two files say about a script step."""

    scripts: tuple[ScriptSpec, ...] = ()
    program: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str], ...] = ()
    outputs: tuple[tuple[str, str], ...] = ()
    assign: dict[str, str] = field(default_factory=dict)
    environment: Environment = field(default_factory=Environment)
    files: dict[str, str] = field(default_factory=dict)
    interface: bool = False
    pull: str = "missing"
    network: bool = False


def read_scripts(notebook: Section, config: Section | None) -> ScriptParts:
    """The programs of a script step, what goes in and out, and where they run."""
    parts = ScriptParts(
        program=notebook.texts("command"),
        inputs=tuple(_files(notebook, "container-input-file-keys")),
        outputs=tuple((name, key) for key, name in _files(notebook, "container-output-file-keys")),
        assign=_assigned(notebook),
        environment=read_environment(notebook, config),
    )
    if config is not None:
        parts.scripts = tuple(
            _script(name, section) for name, section in config.sections("keys").items()
        )
    if parts.environment.image is not None:
        parts.interface = bool(notebook.flag("analytic-container", default=True))
        if config is not None:
            parts.files = {CONFIG: json.dumps(config.data, ensure_ascii=False, default=str)}
    elif config is not None:
        config.warn_of_unknown(also=_CONFIG)
        for section in config.sections("keys").values():
            section.warn_of_unknown(also=_SCRIPT)
    parts.pull = notebook.text("image-pull", default="missing")
    if parts.pull not in _PULLS:
        notebook.fault(f"is '{parts.pull}'; write {', '.join(_PULLS)}.", "image-pull")
    parts.network = bool(notebook.flag("network", default=False))
    if not parts.scripts and not parts.program and parts.environment.image is None:
        notebook.fault(
            f"runs nothing: give {CONFIG} a script below `keys`, a `command`, or an `image-repo`."
        )
    return parts


def read_environment(notebook: Section, config: Section | None) -> Environment:
    """The image, or the requirements of the interpreter, that a script step asks for."""
    requirements = notebook.texts("requirements")
    apt: tuple[str, ...] = ()
    if config is not None:
        requirements += config.texts("dependencies")
        apt = config.texts("apt-dependencies")
        if config.items("yum-dependencies") and not apt:
            config.faults.warning(
                config.file, "`yum-dependencies` are not installed; use `apt-dependencies`."
            )
    for requirement in requirements:
        if requirement.strip().startswith("-"):
            notebook.fault(
                f"'{requirement}' is an option, no requirement; write names of packages such as"
                " `pandas==2.3`."
            )
    return Environment(
        image=_image(notebook),
        registry=notebook.name("dockerhub-url"),
        registry_user=notebook.name("dockerhub-username"),
        registry_password=notebook.name("dockerhub-password"),
        requirements=tuple(dict.fromkeys(requirements)),
        apt_packages=apt,
    )


def _image(notebook: Section) -> str | None:
    repository = notebook.text("image-repo").strip()
    if not repository:
        return None
    space = notebook.text("dockerhub-namespace").strip().strip("/")
    registry = notebook.text("dockerhub-url").strip().rstrip("/")
    for scheme in ("https://", "http://"):
        registry = registry.removeprefix(scheme)
    path = "/".join(filter(None, (registry, space, repository)))
    image = f"{path}:{notebook.text('image-tag', default='latest').strip()}"
    if any(char.isspace() for char in image) or image.startswith("-"):
        notebook.fault(f"makes the image '{image}'; an image has no spaces.", "image-repo")
    return image


def _files(notebook: Section, key: str) -> list[tuple[str, str]]:
    found = []
    for row in notebook.rows(key):
        name, filename = row.required("key"), row.required("filename")
        if "." not in name:
            row.fault(f"is '{name}'; write file.key, such as source.orders.", "key")
        if filename and (fault := fault_of_path(filename)):
            row.fault(f"'{filename}' {fault}.", "filename")
        found.append((name, filename))
        row.warn_of_unknown()
    return found


def _assigned(notebook: Section) -> dict[str, str]:
    found = {}
    for row in notebook.rows("assign-variables"):
        name, path = row.required("name"), row.required("file")
        _check_name(row, name, "name")
        found[name] = path
        row.warn_of_unknown()
    return found


def _script(name: str, section: Section) -> ScriptSpec:
    path = section.required("script")
    if path and (fault := fault_of_path(path)):
        section.fault(f"'{path}' {fault}; name a file below {FOLDER}.", "script")
    exports = section.texts("export")
    assign = section.text_map("assign")
    for variable in (*exports, *assign):
        _check_name(section, variable, "export")
    for variable in section.mapping("parameters"):
        _check_name(section, variable, "parameters")
    return ScriptSpec(
        name=name,
        path=f"{FOLDER}/{path}",
        parameters=section.mapping("parameters"),
        environment=section.text_map("environment"),
        exports=exports,
        assign=assign,
    )


def _check_name(section: Section, name: str, key: str) -> None:
    if name and not NAME.match(name):
        section.fault(
            f"'{name}' is no name of a variable: use a-z, A-Z, digits and underscores.", key
        )
