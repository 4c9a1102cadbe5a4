from hypothesis import given, settings
from hypothesis import strategies as st

from galley.web.graph import COLUMN_GAP, MARGIN, NODE_HEIGHT, NODE_WIDTH, lay_out


@st.composite
def graphs(draw):
    count = draw(st.integers(0, 14))
    needs = {}
    for index in range(count):
        before = list(range(index))
        chosen = draw(st.lists(st.sampled_from(before), unique=True)) if before else []
        needs[f"s{index}"] = [f"s{one}" for one in chosen]
    return needs


def test_no_steps_make_an_empty_picture():
    layout = lay_out({})
    assert layout.boxes == ()
    assert layout.edges == ()
    assert layout.width == layout.height == 2 * MARGIN


def test_a_chain_stands_in_one_row_from_left_to_right():
    layout = lay_out({"a": [], "b": ["a"], "c": ["b"]})
    assert [box.key for box in layout.boxes] == ["a", "b", "c"]
    assert [box.x for box in layout.boxes] == [
        MARGIN + layer * (NODE_WIDTH + COLUMN_GAP) for layer in range(3)
    ]
    assert len({box.y for box in layout.boxes}) == 1
    assert [(edge.source, edge.target) for edge in layout.edges] == [("a", "b"), ("b", "c")]


def test_a_diamond_is_symmetric():
    layout = lay_out({"top": [], "left": ["top"], "right": ["top"], "end": ["left", "right"]})
    y = {box.key: box.y for box in layout.boxes}
    assert y["top"] == y["end"] == (y["left"] + y["right"]) / 2


def test_a_long_edge_goes_around_the_steps_between():
    layout = lay_out({"a": [], "b": ["a"], "c": ["a", "b"]})
    long = next(edge.path for edge in layout.edges if (edge.source, edge.target) == ("a", "c"))
    b = next(box for box in layout.boxes if box.key == "b")
    level = float(long.split("H")[0].split()[-1])
    assert not b.y <= level <= b.y + NODE_HEIGHT
    assert f"H{b.x + NODE_WIDTH:g}" in long


def test_unknown_and_repeated_needs_are_left_out():
    layout = lay_out({"a": ["ghost"], "b": ["a", "a"]})
    assert [(edge.source, edge.target) for edge in layout.edges] == [("a", "b")]


def test_a_deep_chain_needs_no_recursion():
    needs = {f"s{i}": [f"s{i - 1}"] if i else [] for i in range(3000)}
    assert len(lay_out(needs).boxes) == 3000


@settings(max_examples=60, deadline=None)
@given(graphs())
def test_boxes_never_overlap_and_edges_lead_right(needs):
    layout = lay_out(needs)
    places = {box.key: box for box in layout.boxes}
    assert set(places) == set(needs)
    for one in layout.boxes:
        assert one.x >= MARGIN
        assert one.y >= MARGIN - 0.11
        assert one.x + NODE_WIDTH <= layout.width
        assert one.y + NODE_HEIGHT <= layout.height
        for other in layout.boxes:
            if other.key > one.key and other.x == one.x:
                assert abs(other.y - one.y) >= NODE_HEIGHT
    assert len(layout.edges) == sum(len(before) for before in needs.values())
    for edge in layout.edges:
        assert places[edge.source].x < places[edge.target].x
        assert edge.path.startswith(f"M{places[edge.source].x + NODE_WIDTH:g} ")
