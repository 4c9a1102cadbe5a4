"""What every route of the dialect shares: JSON answers, ids that hide in bodies, query + body."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.responses import Response

from galley.core.errors import Invalid

SUCCESS: Mapping[str, Any] = {"status": "success"}
NOBODY = frozenset({"", "None", "null", "undefined"})
"""What stands in a path where clients have no id: Python's None, spelled out (contract, rule 9)."""

Model = TypeVar("Model", bound=BaseModel)


def ok(document: Mapping[str, Any] = SUCCESS) -> Response:
    """A 200 whose body is a JSON object; clients take a 201 or a list for a failure."""
    return Response(msgspec.json.encode(document), media_type="application/json")


def named(in_body: str | None, in_path: str, what: str, key: str) -> str:
    """The id that is meant: the body's if it has one, else the path's.

    Raises:
        Invalid: neither names one.
    """
    for text in (in_body, in_path):
        if text is not None and text.strip() not in NOBODY:
            return text.strip()
    raise Invalid(f"No {what} is named: give its id as {key} in the body, or in the path.")


def merged(request: Request, body: Mapping[str, Any], model: type[Model]) -> Model:
    """The model read from the query and the body together; the body wins.

    Raises:
        RequestValidationError: a value that cannot be meant so.
    """
    values = {**request.query_params, **body}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        faults = [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        raise RequestValidationError(faults) from error
