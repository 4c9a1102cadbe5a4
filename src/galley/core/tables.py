"""All tables of Galley, for whoever needs the whole schema: migrations, backups, tests."""

import importlib
import importlib.util
import pkgutil

import galley.core


def import_models() -> None:
    """Import every feature's models, so that `storage.db.metadata` knows all tables."""
    for feature in pkgutil.iter_modules(galley.core.__path__, "galley.core."):
        if feature.ispkg and importlib.util.find_spec(f"{feature.name}.models"):
            importlib.import_module(f"{feature.name}.models")
