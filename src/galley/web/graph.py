"""Where the steps of a run stand in its picture: a layered graph, left to right. Pure geometry.

Layers are longest paths from the first steps; long edges bend through empty places; the order
within a layer follows the neighbours' mean, and heights are the closest that keep that order.
All lengths are SVG user units (pixels).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

NODE_WIDTH = 184.0
NODE_HEIGHT = 44.0
COLUMN_GAP = 52.0
ROW_GAP = 14.0
BEND_HEIGHT = 10.0
MARGIN = 12.0
_SWEEPS = 8


@dataclass(frozen=True, slots=True)
class Box:
    """A step's place: its upper left corner."""

    key: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow from one step to the next; `path` is the `d` of an SVG path, `when` its branch."""

    source: str
    target: str
    path: str


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole picture: `width` by `height`, boxes in the order given, edges source first."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]


@dataclass(slots=True, eq=False)
class _Place:
    """A step, or a bend of a long edge (`key` None), in one layer."""

    key: str | None
    layer: int
    centre: float = 0.0
    before: list["_Place"] = field(default_factory=list)
    after: list["_Place"] = field(default_factory=list)

    @property
    def height(self) -> float:
        return NODE_HEIGHT if self.key is not None else BEND_HEIGHT


def lay_out(needs: Mapping[str, Sequence[str]]) -> Layout:
    """Place every step of `needs` (step -> the steps that it comes after), an acyclic graph.

    Names in the values that are not keys are left out. Time grows with steps plus bends.
    """
    known = {key: [n for n in dict.fromkeys(after) if n in needs] for key, after in needs.items()}
    levels = _levels(known)
    places = {key: _Place(key, level) for key, level in levels.items()}
    layers: list[list[_Place]] = [[] for _ in range(max(levels.values(), default=-1) + 1)]
    for place in places.values():
        layers[place.layer].append(place)
    chains = [
        (source, target, _chain(places[source], places[target], layers))
        for target, sources in known.items()
        for source in sources
    ]
    _settle(layers)
    lift = _raise_to_margin(layers)
    boxes = tuple(
        Box(key, _left(place.layer), place.centre - NODE_HEIGHT / 2)
        for key, place in places.items()
    )
    edges = tuple(Edge(source, target, _path(chain)) for source, target, chain in chains)
    width = _left(len(layers)) - COLUMN_GAP + MARGIN if layers else 2 * MARGIN
    return Layout(width=width, height=lift, boxes=boxes, edges=edges)


def _levels(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The longest path to each step, by Kahn's order (no recursion: plans can be deep)."""
    followers: dict[str, list[str]] = defaultdict(list)
    open_needs = {key: len(sources) for key, sources in needs.items()}
    for key, sources in needs.items():
        for source in sources:
            followers[source].append(key)
    levels = dict.fromkeys(needs, 0)
    ready = [key for key, count in open_needs.items() if count == 0]
    for key in ready:  # grows while it is walked
        for follower in followers[key]:
            levels[follower] = max(levels[follower], levels[key] + 1)
            open_needs[follower] -= 1
            if open_needs[follower] == 0:
                ready.append(follower)
    return levels


def _chain(source: _Place, target: _Place, layers: list[list[_Place]]) -> list[_Place]:
    """Join two places through one bend in every layer between them."""
    chain = [source]
    for layer in range(source.layer + 1, target.layer):
        bend = _Place(None, layer)
        layers[layer].append(bend)
        chain.append(bend)
    chain.append(target)
    for left, right in pairwise(chain):
        left.after.append(right)
        right.before.append(left)
    return chain


def _settle(layers: list[list[_Place]]) -> None:
    """Sweep right and left: sort each layer by its neighbours' mean, then space it out."""
    for layer in layers:
        _space(layer, [float(i) for i in range(len(layer))])
    for sweep in range(_SWEEPS):
        rightwards = sweep % 2 == 0
        for layer in layers if rightwards else reversed(layers):
            wished = {
                place: _mean(place.before if rightwards else place.after, place.centre)
                for place in layer
            }
            if sweep < _SWEEPS - 2:
                layer.sort(key=wished.__getitem__)
            _space(layer, [wished[place] for place in layer])


def _mean(neighbours: Sequence[_Place], otherwise: float) -> float:
    return sum(n.centre for n in neighbours) / len(neighbours) if neighbours else otherwise


def _space(layer: Sequence[_Place], wished: Sequence[float]) -> None:
    """Give each place the height nearest to its wish, in order and without overlap.

    Least squares under order constraints: neighbours that collide move as one block.
    """
    offsets = [0.0]
    for above, below in pairwise(layer):
        offsets.append(offsets[-1] + (above.height + below.height) / 2 + ROW_GAP)
    blocks: list[tuple[float, int]] = []  # (mean wish less offset, how many places)
    for wish, offset in zip(wished, offsets, strict=False):
        mean, count = wish - offset, 1
        while blocks and blocks[-1][0] > mean:
            other, size = blocks.pop()
            mean = (mean * count + other * size) / (count + size)
            count += size
        blocks.append((mean, count))
    means = [mean for mean, count in blocks for _ in range(count)]
    for place, mean, offset in zip(layer, means, offsets, strict=False):
        place.centre = round(mean + offset, 1)


def _raise_to_margin(layers: Sequence[Sequence[_Place]]) -> float:
    """Move everything so that the top stands at the margin; give the picture's height."""
    everyone = [place for layer in layers for place in layer]
    if not everyone:
        return 2 * MARGIN
    top = min(place.centre - place.height / 2 for place in everyone)
    for place in everyone:
        place.centre = round(place.centre - top + MARGIN, 1)
    return round(max(place.centre + place.height / 2 for place in everyone) + MARGIN, 1)


def _left(layer: int) -> float:
    return MARGIN + layer * (NODE_WIDTH + COLUMN_GAP)


def _path(chain: Sequence[_Place]) -> str:
    """A line from the right side of the first place to the left side of the last."""
    parts = [f"M{_left(chain[0].layer) + NODE_WIDTH:g} {chain[0].centre:g}"]
    for place, following in pairwise(chain):
        start, end = _left(place.layer) + NODE_WIDTH, _left(following.layer)
        middle, height = (start + end) / 2, following.centre
        parts.append(f"C{middle:g} {place.centre:g} {middle:g} {height:g} {end:g} {height:g}")
        if following.key is None:
            parts.append(f"H{end + NODE_WIDTH:g}")
    return " ".join(parts)
