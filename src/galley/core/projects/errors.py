"""What can go wrong with projects, kitchens and recipes."""

from collections.abc import Iterable, Sequence

from galley.core.errors import Conflict, Invalid, Issue, NotFound, TooLarge, Unavailable


class KitchenNotFound(NotFound):
    """No such kitchen, or one that is closed to the caller."""

    code = "kitchen_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Kitchen {name} was not found in the database or the user does not have access rights."
        )


class KitchenExists(Conflict):
    """The name is taken."""

    code = "kitchen_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is already a kitchen named {name}; choose another name.")


class KitchenNameInvalid(Invalid):
    """The name cannot be a kitchen's."""

    code = "kitchen_name_invalid"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name[:100]!r} cannot be a kitchen's name: {why}.")


class RootKitchenStays(Conflict):
    """The root kitchen cannot be deleted."""

    code = "root_kitchen_stays"

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is the root kitchen; it cannot be deleted.")


class KitchenSettingInvalid(Invalid):
    """A setting has the wrong type, or a value that cannot be."""

    code = "kitchen_setting_invalid"

    def __init__(self, setting: str, why: str) -> None:
        super().__init__(f"{setting}: {why}")


class BranchTaken(Conflict):
    """Git has a branch of that name that belongs to no kitchen."""

    code = "branch_taken"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The repository has a branch {name} with commits of its own and no kitchen; "
            "choose another name, or have the branch removed."
        )


class BranchMissing(Conflict):
    """A kitchen without its branch: the repository was damaged or restored from elsewhere."""

    code = "branch_missing"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"The branch of kitchen {name} is missing from the repository; "
            "an administrator can see why with `galley doctor`."
        )


class KitchenBusy(Conflict):
    """Others kept changing the same kitchen's files."""

    code = "kitchen_busy"

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Kitchen {name} is being changed by others at this moment; nothing was saved. "
            "Send it again.",
            retry_after_s=1,
        )


class RecipeNotFound(NotFound):
    """No such recipe in the kitchen."""

    code = "recipe_not_found"

    def __init__(self, name: str, kitchen: str) -> None:
        super().__init__(f'Recipe "{name[:255]}" not found in kitchen {kitchen}')


class RecipeExists(Conflict):
    """The name is taken in this kitchen."""

    code = "recipe_exists"

    def __init__(self, name: str, kitchen: str) -> None:
        super().__init__(
            f"There is already a recipe named {name} in kitchen {kitchen}; choose another name."
        )


class RecipeNameInvalid(Invalid):
    """The name cannot be a recipe's."""

    code = "recipe_name_invalid"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name[:255]!r} cannot be a recipe's name: it {why}.")


class TemplateUnknown(Invalid):
    """There is no recipe template of that name."""

    code = "template_unknown"

    def __init__(self, name: str, known: Iterable[str]) -> None:
        super().__init__(
            f"There is no recipe template {name[:100]!r}; there are {', '.join(sorted(known))}."
        )


class FileNotInRecipe(NotFound):
    """No such file in the recipe."""

    code = "file_not_found"

    def __init__(self, path: str, recipe: str, kitchen: str) -> None:
        super().__init__(f'File "{path[:255]}" not found in recipe {recipe} of kitchen {kitchen}')


class FileNameInvalid(Invalid):
    """A path that cannot be a recipe file's."""

    code = "file_name_invalid"

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path[:255]!r} cannot be a recipe file's name: it {why}.")


class FileTooLarge(TooLarge):
    """A recipe file with too many bytes."""

    code = "file_too_large"

    def __init__(self, path: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{path} has {size_bytes} bytes; a recipe file has at most {limit_bytes}. "
            "Keep data outside of recipes."
        )


class ChangeInDoubt(Unavailable):
    """The database did not take its part of a change, and the branch could not go back."""

    code = "change_in_doubt"

    def __init__(self, kitchen: str) -> None:
        super().__init__(
            f"The change of kitchen {kitchen} may have been kept, or not: its storage failed in the"
            " middle. Send it again; what is there already is not changed twice.",
            retry_after_s=30,
        )


class NothingToMerge(Conflict):
    """The target has all that the source has."""

    code = "nothing_to_merge"

    def __init__(self) -> None:
        super().__init__("Already up to date. Nothing to do.")


class MergeUnresolved(Invalid):
    """Files are in conflict, and the request does not say what they shall be."""

    code = "merge_unresolved"

    def __init__(self, source: str, target: str, issues: Sequence[Issue]) -> None:
        super().__init__(
            f"Kitchen {source} is not merged into {target}: {len(issues)} conflicts are not"
            " resolved. Nothing was changed.",
            issues=issues,
        )


class MergeTooLarge(TooLarge):
    """The files in conflict have too many bytes to be shown with all their versions."""

    code = "merge_too_large"

    def __init__(self, count: int, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"The versions of the {count} files in conflict have {size_bytes} bytes; {limit_bytes}"
            " is the most. Make some of them alike in both kitchens first, or merge with git."
        )


class ResolutionUnneeded(Invalid):
    """Files are resolved that are not in conflict; only those in conflict can be changed."""

    code = "resolution_unneeded"

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__(
            f"{', '.join(paths[:10])}: not in conflict, so the merge takes no other text for it."
            " Nothing was changed."
        )


class KitchensUnrelated(Invalid):
    """Two kitchens whose branches have no history in common."""

    code = "kitchens_unrelated"

    def __init__(self, source: str, target: str) -> None:
        super().__init__(
            f"Kitchen {source} cannot be merged into {target}: they have no history in common."
        )


class NothingToRevert(Conflict):
    """The branch has only the commit that it began with."""

    code = "nothing_to_revert"

    def __init__(self, kitchen: str) -> None:
        super().__init__(f"Kitchen {kitchen} has no change that could be reverted.")


class OriginUnknown(Invalid):
    """A commit from which a client says to have a file, and that the kitchen never had."""

    code = "origin_unknown"

    def __init__(self, commit: str, kitchen: str) -> None:
        super().__init__(
            f"orig_head: {commit[:100]!r} is no commit of kitchen {kitchen}. Get the recipe anew"
            " into an empty folder; its answer's ORIG_HEAD is one."
        )


class FileNotMergeable(Invalid):
    """A binary file: it cannot be merged line by line."""

    code = "file_not_mergeable"

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path[:255]} is not UTF-8 text on every side, so it cannot be merged line by line."
            " Keep your copy elsewhere and get the kitchen's."
        )
