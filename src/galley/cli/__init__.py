"""The command line. Commands are imported when they are called, so that help comes at once."""

import importlib
import os
import sys
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class _Lazy:
    """Where a command is, and its line in the help."""

    place: str
    help: str


COMMANDS = {
    "serve": _Lazy("galley.cli.serve:serve", "Run the server."),
    "worker": _Lazy("galley.cli.worker:worker", "Run steps beside servers on one Postgres."),
    "user": _Lazy("galley.cli.users:user", "Add, list and change users."),
    "token": _Lazy("galley.cli.users:token", "Issue, list and revoke tokens."),
    "secret": _Lazy("galley.cli.secrets:secret", "Write, remove and list secrets."),
    "webhook-key": _Lazy("galley.cli.secrets:webhook_key", "Print the key that signs webhooks."),
    "kitchen": _Lazy("galley.cli.kitchens:kitchen", "Set what no API has a word for."),
    "connect": _Lazy("galley.cli.connect:connect", "Print the settings of a client."),
    "recipe": _Lazy("galley.cli.recipe:recipe", "Check recipes."),
    "migrate": _Lazy("galley.cli.maintenance:migrate", "Bring the database to this version."),
    "backup": _Lazy("galley.cli.maintenance:backup", "Save everything, also while it is in use."),
    "restore": _Lazy("galley.cli.maintenance:restore", "Bring a backup back."),
    "doctor": _Lazy("galley.cli.maintenance:doctor", "Look for damage and bad settings."),
}
"""Every command, in the order of the help."""


class _Commands(click.Group):
    """A group whose commands are imported only when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the help."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself."""
        del ctx
        lazy = COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module, _, name = lazy.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands, without importing any of them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="galley-server", prog_name="galley")
def cli() -> None:
    """Galley: one self-hosted data-automation server."""


def main() -> None:
    """The program `galley`. Errors that a user can mend are one line and exit status 1."""
    os.umask(0o077)  # what it writes is for its own user alone
    try:
        status = cli.main(prog_name="galley", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
    except BrokenPipeError:  # whoever read the output has seen enough
        _drop_output()
        sys.exit(1)
    except Exception as error:
        text = explain(error)
        if text is None:
            raise
        click.echo(f"Error: {text}", err=True)
        _drop_output()
        sys.exit(1)


def _drop_output() -> None:
    """Let what was not written yet vanish: at the end Python would try again, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain(error: Exception) -> str | None:
    """What a user is told of an error; None for a bug, which shows its traceback."""
    from galley.core.errors import GalleyError
    from galley.storage.migrations import SchemaUnknown

    if isinstance(error, GalleyError):
        return "\n".join(
            [error.message, *(f"  {issue.file}: {issue.description}" for issue in error.issues)]
        )
    if isinstance(error, SchemaUnknown):
        return str(error)
    if isinstance(error, PermissionError):
        return f"{error.filename}: permission denied. Run Galley as the user who owns it."
    if isinstance(error, OSError):
        place = "Files cannot be read or written" if error.filename is None else error.filename
        return f"{place}: {(error.strerror or str(error)).lower()}."
    if type(error).__module__.startswith(("sqlalchemy", "psycopg", "sqlite3", "pysqlite3")):
        return _explain_database(error)
    return None


def _explain_database(error: Exception) -> str:
    from galley.storage.db import is_disk_full

    lines = str(getattr(error, "orig", error)).strip().splitlines()
    reason = lines[0] if lines else type(error).__name__
    if is_disk_full(error):
        return f"There is no room left on the disk of the database ({reason}). Free some space."
    if "readonly" in reason:
        return (
            f"The database cannot be written ({reason}). Run Galley as the user who owns the data"
            " folder, on a disk that is not mounted read-only."
        )
    return f"The database does not answer: {reason}"
