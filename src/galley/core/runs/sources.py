"""From a kitchen's branch to what the compiler is asked."""

from sqlalchemy.orm import Session

from galley.core.caller import Caller
from galley.core.projects import operations as projects
from galley.core.projects.models import Kitchen
from galley.core.runs.desk import Desk
from galley.core.runs.ports import CompileRequest
from galley.core.runs.views import OrderWish


def request_for(  # noqa: PLR0917 - told apart by their types
    desk: Desk,
    session: Session,
    caller: Caller,
    kitchen: Kitchen,
    wish: OrderWish,
    user: Caller | None = None,
) -> CompileRequest:
    """The recipe's files as they are on the kitchen's branch, and the levels above them.

    `user` is whom the recipe's variables name; the caller, unless somebody else is meant.

    Raises:
        RecipeNotFound: the kitchen has no such recipe.
    """
    found = projects.recipe_files(session, caller, desk.repositories, kitchen, wish.source_path)
    parameters = {**(wish.infrastructure or {}), **wish.parameters}
    named = user or caller
    return CompileRequest(
        kind="recipe",
        project=found.project,
        branch=kitchen.name,
        commit=found.commit,
        tree=found.tree,
        path=wish.source_path,
        variation=wish.variation,
        files=found.files,
        levels=(("kitchen", kitchen.overrides), ("parameter", parameters)),
        system={
            "kitchen": kitchen.name,
            "parent": kitchen.parent,
            "user": named.login or "",
            "user_name": named.name,
            "now": desk.clock.now(),
            "source_date": wish.source_date,
        },
        only_steps=wish.only_steps,
    )
