import base64

import pytest

from galley.core.errors import Invalid
from galley.dialects.datakitchen import trees

FILES = {
    "description.json": ("s1", b'{"a":  1}\n'),
    "deep/er/q.sql": ("s2", "sélect".encode()),
    "deep/er/pic.PNG": ("s3", b"\x89PNG"),
}


def test_every_directory_is_a_key_and_contents_keep_their_bytes():
    shown = trees.tree("demo", FILES)
    assert set(shown) == {"demo", "demo/deep", "demo/deep/er"}
    assert shown["demo/deep"] == []
    assert shown["demo"] == [
        {"filename": "description.json", "sha": "s1", "type": "blob", "url": "",
         "json": '{"a":  1}\n'}
    ]  # fmt: skip
    picture, query = shown["demo/deep/er"]
    assert base64.b64decode(picture["text"]) == b"\x89PNG"
    assert query["text"] == "sélect"


def test_an_empty_recipe_still_has_its_root():
    assert trees.tree("demo", {}) == {"demo": []}


def test_a_tree_without_contents_has_names_and_shas():
    assert trees.tree("demo", {"a.txt": ("s", None)}) == {
        "demo": [{"filename": "a.txt", "sha": "s"}]
    }


@pytest.mark.parametrize("name", ["a.zip", "b/c.PDF", "bin", "x/o", "model.tar.gz"])
def test_binary_names_travel_as_base64_both_ways(name):
    assert trees.from_wire(name, trees.to_wire(name, b"\x00\xff")) == b"\x00\xff"


@pytest.mark.parametrize("name", ["a.txt", "bins", "notes.zipx", "Makefile"])
def test_other_names_travel_as_text(name):
    assert trees.to_wire(name, b"abc") == "abc"
    assert trees.from_wire(name, "abc") == b"abc"


def test_a_binary_name_with_plain_text_is_refused():
    with pytest.raises(Invalid, match=r"pic\.png"):
        trees.from_wire("pic.png", "this is no base64!")


def test_patterns_choose_files():
    paths = list(FILES)
    assert trees.matching(paths, None) == paths
    assert trees.matching(paths, ["deep/*"]) == ["deep/er/q.sql", "deep/er/pic.PNG"]
    assert trees.matching(paths, ["description.json"]) == ["description.json"]
    assert trees.matching(paths, ["deep\\er\\q.sql"]) == ["deep/er/q.sql"]
    assert trees.matching(paths, ["nothing"]) == []


def test_where_files_were_chosen_empty_directories_are_left_out():
    shown = trees.tree("demo", {"deep/er/q.sql": ("s", b"x")})
    assert set(shown) == {"demo", "demo/deep", "demo/deep/er"}
    assert set(trees.filled(shown)) == {"demo/deep/er"}
