"""The recipe file formats: a vendor's words come in here, and Galley's words go out.

`load_step` is loaded when it is first asked for, since it stands on modules that need a part of
this package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from galley.core.recipes.formats.steps import load_step

__all__ = ["load_step"]


def __getattr__(name: str) -> Any:
    """The package's one function, on first use."""
    if name == "load_step":
        from galley.core.recipes.formats.steps import load_step

        return load_step
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
