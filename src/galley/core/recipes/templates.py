"""New recipes to start from, by name: (recipe's name, description) -> its files."""

from galley.core.recipes.formats.templates import DEFAULT_TEMPLATE, TEMPLATES, Template

__all__ = ["DEFAULT_TEMPLATE", "TEMPLATES", "Template"]
