"""Figures with their intervals, and their forms: a table for people, JSON for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from .intervals import bootstrap_interval, wilson_interval


@dataclass(frozen=True)
class Figure:
    """One measure of many clips.

    Attributes:
        name: of the row in a table.
        kind: `share` of 0 and 1 values, `mean`, `median`, or one `value`.
        values: one per clip; a `value` has one alone.
        weights: how much each clip counts in a mean; empty: all the same.
        bounds: the interval of a `value`, where it was estimated.
    """

    name: str
    kind: str
    values: tuple[float, ...]
    weights: tuple[float, ...] = ()
    bounds: tuple[float, float] | None = None

    @property
    def value(self) -> float:
        """The figure itself."""
        if self.kind == "median":
            return float(torch.tensor(self.values).median())
        if self.weights:
            return sum(v * w for v, w in zip(self.values, self.weights, strict=True)) / sum(self.weights)
        return sum(self.values) / len(self.values)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval over clips, where it has one."""
        if self.kind == "value":
            return self.bounds
        if self.kind == "share":
            return wilson_interval(round(sum(self.values)), len(self.values))
        return bootstrap_interval(self.values, median=self.kind == "median", weights=self.weights)

    def __str__(self) -> str:
        """For example `0.94 (0.89-0.97)`."""
        bounds = self.interval
        return short(self.value) + (f" ({short(bounds[0])} to {short(bounds[1])})" if bounds else "")


def short(number: float) -> str:
    """Return a number with as many digits as a table needs.

    >>> short(0.12345), short(4.876), short(146.52)
    ('0.123', '4.88', '146.5')
    """
    return f"{number:.1f}" if abs(number) >= 10 else f"{number:.2f}" if abs(number) >= 2 else f"{number:.3f}"


def table(columns: Mapping[str, Sequence[Figure]]) -> str:
    """Return columns of figures as one Markdown table, a row per measure."""
    names = list(dict.fromkeys(figure.name for figures in columns.values() for figure in figures))
    lines = ["| measure | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name in names:
        cells = [next((str(figure) for figure in figures if figure.name == name), "") for figures in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Report:
    """All that was measured of a folder.

    Attributes:
        figures: in the order of the measures.
        files: per file, its own figures by the name of the measure.
        bad: a sentence for each file that was left out.
        notes: sentences about measures that were left out, and about captions.
        counts: sounds in the reference (0 for statistics) and among the candidates.
    """

    figures: Sequence[Figure]
    files: Mapping[str, Mapping[str, float | str]]
    bad: Sequence[str] = ()
    notes: Sequence[str] = ()
    counts: tuple[int, int] = (0, 0)
    embeddings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Figure:
        """Return a figure by its name."""
        for figure in self.figures:
            if figure.name == name:
                return figure
        raise KeyError(f"no figure is called {name!r}; there are {', '.join(each.name for each in self.figures)}.")

    def table(self, column: str = "candidates") -> str:
        """Return the figures as a Markdown table of one column."""
        return table({column: self.figures})

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers and text, for JSON."""
        figures = {
            each.name: {"value": each.value, "interval": each.interval, "kind": each.kind, "count": len(each.values)}
            for each in self.figures
        }
        counts = {"reference": self.counts[0], "candidates": self.counts[1]}
        files = {name: dict(values) for name, values in self.files.items()}
        return {"figures": figures, "counts": counts, "files": files, "bad": list(self.bad), "notes": list(self.notes)}
