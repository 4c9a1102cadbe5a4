"""Templates of these tests' own, so that they hold whatever the real ones become."""


def _plain(name: str, description: str) -> dict[str, bytes]:
    return {
        "description.json": f'{{"name": "{name}", "text": "{description}"}}'.encode(),
        "nodes/first/notebook.json": b"{}",
    }


TEMPLATES = {"qs1": _plain, "other": lambda _name, _description: {"x": b"1"}}
