"""The recipe file formats: a vendor's words come in here, and Galley's words go out."""

from galley.core.recipes.formats.steps import load_step

__all__ = ["load_step"]
