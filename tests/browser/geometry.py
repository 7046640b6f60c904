"""Where wires and nodes of an open graph lie: which nodes cover one another, which wires run under a node."""

from __future__ import annotations

import itertools

Point = tuple[float, float]


def overlaps(nodes: list[dict]) -> list[tuple[str, str]]:
    """Titles of pairs of nodes of which one covers a part of the other."""

    def apart(a: list[float], b: list[float]) -> bool:
        return any(a[i] + a[i + 2] <= b[i] or b[i] + b[i + 2] <= a[i] for i in (0, 1))

    pairs = itertools.combinations(nodes, 2)
    return [(a["title"], b["title"]) for a, b in pairs if not apart(a["box"], b["box"])]


def hidden_wires(nodes: list[dict], wires: list[dict], margin: float = 4) -> list[tuple[str, str, str]]:
    """Titles of the two ends and of the node, for each wire that passes under a node that it does not belong to."""
    found = []
    for wire in wires:
        path = curve([tuple(point) for point in wire["points"]])
        if len(wire["points"]) == 2 and path[0][0] > path[-1][0]:
            found.append((nodes[wire["ends"][0]]["title"], nodes[wire["ends"][1]]["title"], "backwards"))
        for index, node in enumerate(nodes):
            left, top, width, height = node["box"]
            inside = any(
                left + margin < x < left + width - margin and top + margin < y < top + height - margin for x, y in path
            )
            if inside and index not in wire["ends"]:
                found.append((nodes[wire["ends"][0]]["title"], nodes[wire["ends"][1]]["title"], node["title"]))
    return found


def curve(points: list[Point], steps: int = 60) -> list[Point]:
    """Points of a wire: it leaves and arrives level, and runs straight between bends."""
    path = []
    for number, (start, end) in enumerate(itertools.pairwise(points)):
        reach = ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5 / 4
        one = (start[0] + reach, start[1]) if number == 0 else start
        two = (end[0] - reach, end[1]) if number == len(points) - 2 else end
        for step in range(steps + 1):
            t = step / steps
            weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
            corners = (start, one, two, end)
            path.append(
                (
                    sum(w * corner[0] for w, corner in zip(weights, corners, strict=True)),
                    sum(w * corner[1] for w, corner in zip(weights, corners, strict=True)),
                )
            )
    return path
