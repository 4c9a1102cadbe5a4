import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from galley.cli.recipe import recipe
from galley.core.recipes.templates import TEMPLATES


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_sound_recipe_passes(name: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "rec", TEMPLATES[name]("rec", ""))
    write(folder, {".dk/RECIPE_META": b"x", "resources/.git/config": b"x"})
    (folder / "link").symlink_to("/etc/passwd")
    result = CliRunner().invoke(recipe, ["check", str(folder)])
    assert result.exit_code == 0
    assert result.stdout == ""
    assert "can run" in result.stderr


def test_every_issue_is_printed_and_the_exit_status_says_so(tmp_path: Path) -> None:
    files = TEMPLATES["qs1"]("rec", "")
    files["placeholder-node1/notebook.json"] = b'{"sleep": "{{nobody}}"}'
    files["placeholder-node2/description.json"] = b'{"type": "Magic"}'
    result = CliRunner().invoke(recipe, ["check", str(write(tmp_path, files))])
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("placeholder-node2/description.json: `type` is 'Magic'")
    assert lines[1].startswith("placeholder-node1/notebook.json: uses the variable nobody")
    assert "2 errors" in result.stderr


def test_the_folder_one_stands_in_is_told_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write(tmp_path, {"variations.json": b"{"}))
    result = CliRunner().invoke(recipe, ["check", "."])
    assert result.exit_code == 1
    assert f" in {tmp_path}." in result.stderr


def test_a_warning_is_printed_and_forbids_nothing(tmp_path: Path) -> None:
    files = TEMPLATES["qs1"]("rec", "")
    files["placeholder-node1/notebook.json"] = b'{"test": {}}'
    result = CliRunner().invoke(recipe, ["check", str(write(tmp_path, files))])
    assert result.exit_code == 0
    assert result.stdout.startswith("placeholder-node1/notebook.json: warning: `test` is not known")
    assert "did you mean 'tests'?" in result.stdout
    assert "can run. There are warnings: 1." in result.stderr


def test_one_variation_with_parameters(tmp_path: Path) -> None:
    files = TEMPLATES["qs2"]("rec", "")
    variations = json.loads(files["variations.json"])
    variations["variation-list"]["broken"] = {"graph-setting": "none"}
    files["variations.json"] = json.dumps(variations).encode()
    folder = str(write(tmp_path, files))
    run = CliRunner().invoke
    assert run(recipe, ["check", folder]).exit_code == 1
    assert run(recipe, ["check", folder, "--variation", "variation1"]).exit_code == 0
    wrong = ["--parameter", 'minimum_rows={"a": 1}']
    result = run(recipe, ["check", folder, "--variation", "variation1", *wrong])
    assert result.exit_code == 1
    assert "object" in result.stdout
    assert "number" in result.stdout
    assert run(recipe, ["check", folder, "--parameter", "minimum_rows"]).exit_code == 2
    assert run(recipe, ["check", folder, "--variation", "nope"]).exit_code == 1


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    result = CliRunner().invoke(recipe, ["check", str(tmp_path / "none")])
    assert result.exit_code == 2
    assert "does not exist" in result.stderr
