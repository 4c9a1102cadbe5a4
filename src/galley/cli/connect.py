"""`galley connect`: the exact settings of a client for this server, traps included."""

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import click

from galley.cli.common import load_settings

PLANNED = {
    "python-gitlab": "the GitLab dialect",
    "dataiku": "the Dataiku API-node dialect",
    "opendatasoft": "the Opendatasoft dialect",
}
_NOT_BUILT = 2


@click.command()
@click.argument("client", type=click.Choice(["dk", "dkutils", *PLANNED]))
@click.option("--url", help="The server's address, as the client reaches it.")
@click.option("--user", "login", default="you@example.org", help="The user's e-mail address.")
@click.option(
    "--ca", type=click.Path(dir_okay=False, path_type=Path), help="A private CA's certificate."
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    envvar="GALLEY_DATA",
    help="The server's data folder, to read its address from.",
)
def connect(client: str, url: str | None, login: str, ca: Path | None, data: Path | None) -> None:
    """Print how to point CLIENT at this server: lines to paste into a shell."""
    if client in PLANNED:
        click.echo(
            f"{client} speaks to {PLANNED[client]}, which is not built yet;"
            " docs/reference/parity.md says what is.",
            err=True,
        )
        sys.exit(_NOT_BUILT)
    address = (url or _address(data)).rstrip("/")
    parts = urlsplit(address)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path:
        raise click.UsageError(
            f"--url {address}: write scheme, host and perhaps port, like http://127.0.0.1:8080."
        )
    printers: dict[str, Callable[[str, str, Path | None], str]] = {"dk": _dk, "dkutils": _dkutils}
    click.echo(printers[client](address, login, ca))


def _address(data: Path | None) -> str:
    if data is None:
        return "http://127.0.0.1:8080"
    from galley.app.addresses import address_of
    from galley.cli.serve import ADDRESS_NAME

    if not data.is_dir():
        raise click.UsageError(f"--data {data}: there is no such folder; give the server's.")
    known = data / ADDRESS_NAME
    if known.exists():
        return known.read_text().strip()
    return address_of(load_settings(data=data))


def _dk(address: str, login: str, ca: Path | None) -> str:
    """Source: contract 4.1 (dkcloudcommand 1.5.33)."""
    parts = urlsplit(address)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = parts.port or (443 if parts.scheme == "https" else 80)
    config = {
        "dk-cloud-ip": f"{parts.scheme}://{host}",
        "dk-cloud-port": str(port),
        "dk-cloud-username": login,
        "dk-cloud-password": "YOUR-PASSWORD",
    }
    return "\n".join(
        [
            "# dkcloudcommand 1.5.33 (`dk`). It pins its requirements exactly and crashes on other",
            "# versions: give it an environment of its own. setuptools must be older than 81.",
            "python3 -m venv ~/.venvs/dk",
            "~/.venvs/dk/bin/pip install dkcloudcommand==1.5.33 'setuptools<81'",
            "# Without this step, kitchen-list and recipe-status post to an analytics host, and",
            "# where that cannot be reached they fail without printing their result:",
            "~/.venvs/dk/bin/pip uninstall -y websocket-client",
            "",
            "# The address needs its scheme and no slash at the end; the port is a text.",
            "mkdir -p ~/.dk/default && printf default > ~/.dk/.context",
            f"printf '%s' {shlex.quote(json.dumps(config))} > ~/.dk/default/config.json",
            "chmod 600 ~/.dk/default/config.json  # put your password into it",
            "rm -f ~/.dk/default/.dk-credentials  # forget the token of another server",
            "",
            "# The version check asks a public index twice, without a time limit:",
            "export DKCLI_SKIP_VERSION_CHECK=1 PYTHONWARNINGS=ignore",
            *_environment(parts.hostname or "", ca),
            "~/.venvs/dk/bin/dk user-info",
        ]
    )


def _dkutils(address: str, login: str, ca: Path | None) -> str:
    """Source: contract 5 and 8 (DKUtils 2.11.6)."""
    host = urlsplit(address).hostname or ""
    return "\n".join(
        [
            "# DKUtils 2.11.6. It cannot share an environment with `dk`.",
            "python3 -m venv ~/.venvs/dkutils",
            "~/.venvs/dkutils/bin/pip install DKUtils==2.11.6 'events-ingestion-client<1.4'",
            *_environment(host, ca),
            "",
            "# In Python; the address has no slash at the end:",
            "from dkutils.datakitchen_api.datakitchen_client import DataKitchenClient",
            f'client = DataKitchenClient("{login}", "YOUR-PASSWORD",',
            f'                           base_url="{address}", kitchen="master")',
            "",
            "# Or with an API token, which `galley token add --kind datakitchen` prints as",
            "# `id:secret`:",
            'client = DataKitchenClient("ID", "SECRET", is_api_token=True,',
            f'                           base_url="{address}", kitchen="master")',
        ]
    )


def _environment(host: str, ca: Path | None) -> list[str]:
    lines = [
        f"export NO_PROXY={shlex.quote(host)}  # it heeds HTTP_PROXY and HTTPS_PROXY",
    ]
    if ca is not None:
        lines.append(f"export REQUESTS_CA_BUNDLE={shlex.quote(str(ca.absolute()))}")
    return lines
