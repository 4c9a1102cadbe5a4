"""Taking back a kitchen's last change over plain HTTP, held against the repository itself."""

import uuid

import pytest
from tests.contract.datakitchen.edits import git, pair_of_kitchens, read, save
from tests.contract.datakitchen.world import MEMBER

pytestmark = pytest.mark.evidence("source", "contract 3.3, 3.4, from dkcloudcommand 1.5.33")


@pytest.fixture
def child(member, admin, kitchen):
    name = pair_of_kitchens(member, kitchen)
    yield name
    admin.call("DELETE", f"/v2/kitchen/delete/{name}")


def test_a_revert_takes_the_last_change_back_and_keeps_the_history(live, member, child):
    before = git(live, "rev-parse", f"refs/heads/{child}")
    save(member, child, {"b.txt": "bad\n", "n.txt": "n\n"})
    head = git(live, "rev-parse", f"refs/heads/{child}")
    shown = member.good("GET", f"/v2/kitchen/revert/{child}")
    assert shown == {
        "before_sha": head,
        "after_sha": before,
        "preview_url": f"dk/index.html#/history/ga/{child}/{head}",
    }
    assert read(member, child, "b.txt") == "bad\n"
    got = member.good("POST", f"/v2/kitchen/revert/{child}/{head}")
    made = git(live, "rev-parse", f"refs/heads/{child}")
    assert got == {"sha_expired": False, "new_kitchen_head": made}
    assert git(live, "log", "-1", "--format=%P %ae", made) == f"{head} {MEMBER}"
    assert git(live, "rev-parse", f"{made}^{{tree}}") == git(
        live, "rev-parse", f"{before}^{{tree}}"
    )
    assert read(member, child, "b.txt") == "b\n"
    assert read(member, child, "n.txt") is None
    history = member.good("GET", f"/v2/kitchen/history/{child}", {"per_page": 2})["commits"]
    assert [commit["sha"] for commit in history] == [made, head]
    assert history[0]["message"].startswith(f'Revert "change of {child}"')


def test_a_revert_of_another_commit_than_the_last_is_told_so(live, member, child):
    old = member.good("GET", f"/v2/kitchen/revert/{child}")["before_sha"]
    save(member, child, {"b.txt": "new\n"})
    head = git(live, "rev-parse", f"refs/heads/{child}")
    for sha in (old, "0" * 40, "nonsense"):
        got = member.good("POST", f"/v2/kitchen/revert/{child}/{sha}")
        assert got["sha_expired"] is True
        assert child in got["error_message"]
    assert git(live, "rev-parse", f"refs/heads/{child}") == head


def test_a_revert_with_a_key_takes_effect_once(live, member, child):
    save(member, child, {"b.txt": "bad\n"})
    head = git(live, "rev-parse", f"refs/heads/{child}")
    keyed = {"headers": {"Idempotency-Key": str(uuid.uuid4())}}
    first = member.call("POST", f"/v2/kitchen/revert/{child}/{head}", **keyed)
    again = member.call("POST", f"/v2/kitchen/revert/{child}/{head}", **keyed)
    assert first.json == again.json
    assert again.headers["idempotent-replayed"] == "true"
    assert first.json["new_kitchen_head"] == git(live, "rev-parse", f"refs/heads/{child}")
    assert read(member, child, "b.txt") == "b\n"


def test_a_merge_is_reverted_to_what_the_target_had(live, member, kitchen, child):
    before = git(live, "rev-parse", f"refs/heads/{kitchen}^{{tree}}")
    save(member, child, {"b.txt": "child\n"})
    member.good("POST", f"/v2/kitchen/merge/{child}/{kitchen}", {})
    head = member.good("GET", f"/v2/kitchen/revert/{kitchen}")["before_sha"]
    member.good("POST", f"/v2/kitchen/revert/{kitchen}/{head}")
    assert git(live, "rev-parse", f"refs/heads/{kitchen}^{{tree}}") == before
    assert read(member, kitchen, "b.txt") == "b\n"


def test_an_unknown_kitchen_cannot_be_reverted(member):
    for method, path in (("GET", "nowhere"), ("POST", f"nowhere/{'0' * 40}")):
        got = member.call(method, f"/v2/kitchen/revert/{path}")
        assert got.status == 400
        assert "was not found in the database" in got.json["message"]["error"]
