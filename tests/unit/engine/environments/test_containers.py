import locale

import pytest

from galley.core.runs.plan import Environment, Limits
from galley.engine import containers
from galley.engine.containers import ContainerEngine, ContainerRun, find_engine, run_argv
from galley.engine.faults import StepError


def program(folder, name, code):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\nexit {code}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def path(tmp_path, monkeypatch):
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("GALLEY_CONTAINER_ENGINE", raising=False)
    return folder


def test_podman_comes_before_docker(path):
    program(path, "docker", 0)
    assert find_engine() == ContainerEngine("docker", str(path / "docker"))
    program(path, "podman", 0)
    assert find_engine() == ContainerEngine("podman", str(path / "podman"))


def test_a_client_without_its_server_does_not_count(path):
    program(path, "docker", 1)
    assert find_engine() is None
    program(path, "podman", 1)
    assert find_engine() is None


def test_the_engine_can_be_chosen(path, tmp_path, monkeypatch):
    program(path, "podman", 0)
    own = program(tmp_path / "own", "docker", 0)
    monkeypatch.setenv("GALLEY_CONTAINER_ENGINE", own)
    assert find_engine() == ContainerEngine("docker", own)
    monkeypatch.setenv("GALLEY_CONTAINER_ENGINE", "none")
    assert find_engine() is None


def wanted(tmp_path, **more):
    known = {
        "name": "galley-1-2", "image": "tool:1", "folder": tmp_path, "mounts": (),
        "variables": tmp_path / "environment",
        "limits": Limits(), "network": True,
    }  # fmt: skip
    return ContainerRun(**{**known, **more})


def test_variables_reach_a_container_as_utf8_whatever_the_locale():
    now = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        check_the_file()
    finally:
        locale.setlocale(locale.LC_CTYPE, now)


def check_the_file():
    with containers.environment_file({"A": "Zürich", "B": ""}) as path:
        assert path.read_bytes() == "A=Zürich\nB=\n".encode()
        assert path.stat().st_mode & 0o077 == 0
    assert not path.exists()


@pytest.mark.parametrize(
    ("value", "told"), [("a\nb", "several lines"), ("a\0b", "NUL"), ("a\udcff", "surrogate")]
)
def test_what_no_environment_holds_is_refused_by_name(value, told):
    with (
        pytest.raises(StepError, match=f"PLACE .*{told}"),
        containers.environment_file({"PLACE": value}),
    ):
        pass


def test_a_command_has_walls_and_no_values(tmp_path):
    made = wanted(tmp_path, mounts=((tmp_path / "x", "/x", False),))
    argv = run_argv(ContainerEngine("podman", "podman"), made)
    assert "--cap-drop=ALL" in argv
    assert "--security-opt=no-new-privileges" in argv
    assert argv[argv.index("--env-file") + 1] == str(tmp_path / "environment")
    assert "--env" not in argv
    assert f"{tmp_path / 'x'}:/x:ro" in argv
    assert "--memory" not in argv
    assert argv[-1] == "tool:1"


def test_files_of_a_docker_container_belong_to_this_user(tmp_path, monkeypatch):
    monkeypatch.setattr(containers.os, "getuid", lambda: 1000)
    monkeypatch.setattr(containers.os, "getgid", lambda: 100)
    argv = run_argv(ContainerEngine("docker", "docker"), wanted(tmp_path))
    assert argv[argv.index("--user") + 1] == "1000:100"
    assert "--user" not in run_argv(ContainerEngine("podman", "podman"), wanted(tmp_path))


@pytest.mark.parametrize("policy", containers.PULL_POLICIES)
def test_pull_policies(tmp_path, policy):
    argv = run_argv(ContainerEngine("docker", "docker"), wanted(tmp_path, pull=policy))
    assert f"--pull={policy}" in argv


@pytest.mark.parametrize(
    ("engine", "words"), [("docker", ["--config"]), ("podman", ["--authfile"])]
)
def test_credentials_are_named_by_folder(tmp_path, engine, words):
    argv = run_argv(ContainerEngine(engine, engine), wanted(tmp_path), tmp_path / "auth")
    at = argv.index(words[0])
    assert argv[at + 1].startswith(str(tmp_path / "auth"))
    assert (at < argv.index("run")) == (engine == "docker")


def test_without_a_user_there_are_no_credentials():
    with containers.registry_credentials(Environment(image="tool")) as folder:
        assert folder is None


@pytest.mark.parametrize("image", ["tool", "a/b:1", "registry.example:5000/a/b@sha256:abc"])
def test_images_are_names(image):
    assert containers.image_name(Environment(image=image)) == image


@pytest.mark.parametrize("image", ["--privileged", "a b", "a;b", "$(x)", ""])
def test_what_is_no_image_is_refused(image):
    with pytest.raises(StepError, match="not the name of a container image"):
        containers.image_name(Environment(image=image))
