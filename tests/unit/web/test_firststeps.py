import shlex

from galley.web.firststeps import first_steps

EVIL = "http://h'; rm -rf /"


def test_every_line_is_one_command_whatever_the_names_hold():
    steps = first_steps(EVIL, "ma ster", "o'neil@example.org")
    assert shlex.split(steps.connect)[-3:] == [
        EVIL,
        "--user",
        "o'neil@example.org",
    ]
    assert shlex.split(steps.client)[:4] == ["dk", "kitchen-create", "-p", "ma ster"]
    words = shlex.split(steps.requests.replace("\\\n", " "))
    assert f"{EVIL}/v2/kitchen/create/ma ster/sprint1" in words
