"""Recipe trees: how the vendor's clients get a recipe's files, directory by directory.

Source: contract 3.5. `.json` files travel as text under `json`, other text under `text`, and
what counts as binary by its name as base64 under `text`.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import msgspec

from galley.core.errors import Invalid
from galley.core.runs.ports import ShownFile

BINARY = frozenset(
    """
    exe bin gzip gz 7z arc arj lzip lz rar tar tgz z iso bkf bzip2 bz2 zip cab jar egg deb
    rpm twbx img png jpg jpeg gif xls xlsx doc docx o pyc class pdf
    """.split()  # noqa: SIM905 - words are easier to compare with the contract
)
"""Endings (and whole names) that clients encode; they index `text` of these without asking."""

Tree = dict[str, list[dict[str, Any]]]


def is_binary(path: str) -> bool:
    """Whether clients take a file of this name for binary."""
    name = path.rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[-1].lower() in BINARY


def to_wire(path: str, content: bytes) -> str:
    """A file's content as text: base64 for binary names and for what is not UTF-8."""
    if not is_binary(path):
        try:
            return content.decode()
        except UnicodeDecodeError:
            return base64.b64encode(content).decode()
    return base64.b64encode(content).decode()


def from_wire(path: str, text: str) -> bytes:
    """The bytes that a client means by this text.

    Raises:
        Invalid: a binary name whose text is no base64.
    """
    if not is_binary(path):
        return text.encode()
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid(
            f"{path}: the name says that this file is binary, so its content must be base64."
        ) from error


def matching(paths: Iterable[str], patterns: list[str] | None) -> list[str]:
    """The paths that one of the patterns names (`dir/*` takes all below); None takes all."""
    if patterns is None:
        return list(paths)
    wanted = [pattern.replace("\\", "/").strip("/") for pattern in patterns]
    return [p for p in paths if any(p == w or fnmatchcase(p, w) for w in wanted)]


def tree(recipe: str, files: Mapping[str, tuple[str, bytes | None]]) -> Tree:
    """The tree of `path -> (blob sha, content)`; content None leaves the contents out.

    Every directory is a key, those that only hold directories and the root too: without them
    `recipe-status` reports folders that exist only locally.
    """
    found: Tree = {recipe: []}
    for path in sorted(files):
        sha, content = files[path]
        _folder(found, recipe, path).append(_entry(path, path.rsplit("/", 1)[-1], sha, content))
    return found


def compiled(recipe: str, files: Iterable[ShownFile]) -> Tree:
    """The tree of a compiled recipe: `json` is an object, or text; what cannot be shown has none.

    Source: contract 3.5; dkcloudcommand 1.5.33, DKCloudCommandRunner._dump_contents.
    """
    found: Tree = {recipe: []}
    for file in files:
        entry: dict[str, Any] = {"filename": file.path.rsplit("/", 1)[-1]}
        if file.text is not None and not is_binary(file.path):
            is_document = file.is_document
            entry["json"] = msgspec.Raw(file.text.encode()) if is_document else file.text
        _folder(found, recipe, file.path).append(entry)
    return found


def _folder(found: Tree, recipe: str, path: str) -> list[dict[str, Any]]:
    """The entries of the file's directory, which is made with all above it."""
    directory = recipe
    for folder in path.split("/")[:-1]:
        directory = f"{directory}/{folder}"
        found.setdefault(directory, [])
    return found[directory]


def filled(shown: Tree) -> Tree:
    """The tree without its empty directories: what clients expect where they chose files.

    Source: DKUtils 2.11.6, tests_utils.extract_tests_from_files takes each for a node.
    """
    return {directory: entries for directory, entries in shown.items() if entries}


def _entry(path: str, name: str, sha: str, content: bytes | None) -> dict[str, Any]:
    if content is None:
        return {"filename": name, "sha": sha}
    key = "json" if name.endswith(".json") else "text"
    return {"filename": name, "sha": sha, "type": "blob", "url": "", key: to_wire(path, content)}
