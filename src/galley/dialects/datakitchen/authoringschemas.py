"""Bodies of what authors of recipes send: to compile, to validate, to merge, to look back."""

import base64
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, field_validator

from galley.core.errors import Invalid
from galley.dialects.datakitchen.schemas import (
    Body,
    FileChange,
    json_inside,
    object_from_text,
    structure_from_text,
)


class FileText(Body):
    """A file that is compiled as it is sent; its content always comes as base64."""

    path: str = Field(min_length=1, max_length=1024)
    contents: str

    def content(self) -> bytes:
        """The bytes of the file.

        Raises:
            Invalid: the content is no base64.
        """
        try:
            return base64.b64decode(self.contents, validate=True)
        except ValueError as error:
            raise Invalid(f"file.contents: the content of {self.path} must be base64.") from error


class FileToCompile(Body):
    """The body of `recipe/compile`."""

    file: Annotated[FileText, BeforeValidator(structure_from_text)]


class LocalChanges(Body):
    """The body of `recipe/validate`: files as the caller has them; null or `{}`: deleted."""

    files: Annotated[dict[str, str | FileChange | None], BeforeValidator(object_from_text)] = Field(
        default_factory=dict, max_length=5000
    )

    def contents(self) -> dict[str, str | None]:
        """Path -> text, or None for a deleted file."""
        return {
            path: change.contents if isinstance(change, FileChange) else change
            for path, change in self.files.items()
        }


class Merge(Body):
    """The body of `kitchen/merge`: the resolved files, and the tips that the preview told.

    A file is text (base64 if its name is binary), or null to delete it. The oldest clients send
    `resolved_conflicts` instead, and no tips.
    """

    files: dict[str, str | None] | None = Field(default=None, max_length=5000)
    old_files: dict[str, str | None] | None = Field(
        default=None, validation_alias="resolved_conflicts", max_length=5000
    )
    source_sha: str | None = Field(
        default=None, validation_alias="source_kitchen_sha", max_length=100
    )
    target_sha: str | None = Field(
        default=None, validation_alias="target_kitchen_sha", max_length=100
    )

    @field_validator("files", "old_files", mode="before")
    @classmethod
    def _from_form(cls, value: Any) -> Any:
        """A form sends the files as their JSON text."""
        return json_inside(value, "an object of files") if isinstance(value, str) else value

    @field_validator("source_sha", "target_sha", mode="before")
    @classmethod
    def _trimmed(cls, value: Any) -> Any:
        """Clients keep them in files; an empty one says nothing."""
        return (value.strip() or None) if isinstance(value, str) else value

    def resolved(self) -> dict[str, str | None]:
        """Path, which begins with the recipe's name, -> content."""
        return self.files if self.files is not None else self.old_files or {}


class HistoryQuery(Body):
    """How many commits are wanted; 0, the default, means all, up to what is ever given."""

    limit: int = Field(
        default=0, ge=0, le=10**9, validation_alias=AliasChoices("per_page", "change_count")
    )


class FileMerge(Body):
    """The body of `file/merge`: the client's copy as base64, and the commit that it is from."""

    orig_head: str = Field(min_length=1, max_length=100)
    content: str

    @field_validator("orig_head", mode="before")
    @classmethod
    def _trimmed(cls, value: Any) -> Any:
        """Clients keep it in a file."""
        return value.strip() if isinstance(value, str) else value
