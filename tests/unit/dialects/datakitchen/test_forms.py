"""Forms send lists and objects as JSON text; system variables are nobody's to set."""

import pytest
from pydantic import ValidationError

from galley.dialects.datakitchen import schemas


def test_structured_fields_of_forms_are_json_text() -> None:
    kitchen = schemas.KitchenUpdate.model_validate({"kitchen.json": '{"recipes": ["a"]}'})
    assert kitchen.kitchen.recipes == ["a"]
    files = schemas.FileChanges.model_validate({"files": '{"y.txt": {"contents": "x"}}'})
    assert files.files is not None
    assert files.files["y.txt"].contents == "x"
    query = schemas.RecipeQuery.model_validate({"recipe-files": '["y.txt"]'})
    assert query.files == ["y.txt"]
    assert schemas.RecipeQuery.model_validate({"recipe-files": "y.txt"}).files == ["y.txt"]


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (schemas.KitchenUpdate, {"kitchen.json": "{"}),
        (schemas.FileChanges, {"files": "{"}),
        (schemas.RecipeQuery, {"recipe-files": "["}),
    ],
)
def test_broken_json_in_a_form_is_told(model: type[schemas.Body], body: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match="must be"):
        model.model_validate(body)


def test_a_kitchen_cannot_override_system_variables() -> None:
    with pytest.raises(ValidationError, match="CurrentKitchen is a system variable"):
        schemas.KitchenDocument.model_validate({"recipeoverrides": {"CurrentKitchen": "x"}})
