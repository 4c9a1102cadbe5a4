"""`galley kitchen`: settings of a kitchen that no API has a word for."""

from pathlib import Path

import click

from galley.cli.common import data_option, opened


@click.group()
def kitchen() -> None:
    """Set what no API has a word for."""


@kitchen.command("set")
@click.argument("name")
@click.option(
    "--max-runs",
    type=click.IntRange(min=0),
    required=True,
    help="How many of its runs go on at once; further ones wait. 0 lifts the limit.",
)
@data_option
def set_kitchen(name: str, max_runs: int, data: Path) -> None:
    """Set how many runs the kitchen NAME has at once, from the next run on.

    Kitchens that are opened below it later begin with the same setting.
    """
    from galley.core.identity.operations import system_caller
    from galley.core.identity.policy import JUDGE
    from galley.core.projects import operations as projects

    changes = projects.KitchenChanges(max_runs=max_runs)
    with opened(data) as store, store.database.writing() as session:
        projects.update_kitchen(
            session, system_caller(JUDGE), name, changes=changes, clock=store.clock
        )
    told = f"has at most {max_runs} runs at once" if max_runs else "has no limit of runs"
    click.echo(f"The kitchen {name} {told}.")
