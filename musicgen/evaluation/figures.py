"""From the results of listening to figures: one function for each kind of measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .embedders.clap import ClapOpening
from .frechet import FrechetReference, frechet_infinity
from .kernel import kernel_distance, median_bandwidth
from .likelihood import likelihood
from .listening import Heard, SoundSet
from .measures import Ears, Measure
from .memorisation import APPROXIMATE, closest_match, nearest_neighbours
from .report import Figure
from .sound import is_stuck
from .spread import frechet_interval, kernel_interval
from .statistics import Statistics
from .tags import kl_divergence

MOST_IN_KERNEL = 4000
"""Most embeddings of a set that a kernel distance looks at; its work grows with their square."""
_CLIPPED_PER_MILLION = 1000
ByFile = dict[str, dict[str, float | str]]


@dataclass
class Candidates:
    """Everything that was heard of the candidates and of the reference."""

    folder: Path
    sounds: SoundSet
    captions: Mapping[Path, str]
    reference_folder: Path | None
    reference: SoundSet | None
    statistics: Mapping[str, Statistics]
    distances: Mapping[str, FrechetReference]

    def heard(self, name: str) -> Heard:
        """Return a listener's results of the candidates."""
        return self.sounds.heard[name]

    def theirs(self, name: str) -> Heard:
        """Return a listener's results of the reference's sounds."""
        assert self.reference is not None
        return self.reference.heard[name]

    def pairs(self) -> list[tuple[int, int]]:
        """Return the places of each candidate and of the reference of the same name."""
        assert self.reference is not None
        places = {path.stem: place for place, path in enumerate(self.reference.files)}
        stems = [path.stem for path in self.sounds.files]
        return [(place, places[stem]) for place, stem in enumerate(stems) if stem in places]


def figures_of(
    measures: Sequence[Measure], found: Candidates, ears: Ears, *, seed: int, pattern: str | None
) -> tuple[list[Figure], ByFile]:
    """Return the figures of all measures, and each file's own.

    Args:
        measures: in the order of the table.
        found: the results of listening.
        ears: the models, for measures that ask them again.
        seed: seed of samples and intervals.
        pattern: codebook pattern of likelihoods.
    """
    figures: list[Figure] = []
    by_file: ByFile = {path.relative_to(found.folder).as_posix(): {} for path in found.sounds.files}
    for measure in measures:
        if measure.embedding is not None:
            made = _of_embeddings(measure, found, by_file, seed)
        elif measure.kind == "likelihood":
            made = _likelihood(found, by_file, ears, pattern)
        elif measure.kind == "clap-score":
            made = _clap_score(found, by_file, ears)
        else:
            made = _PLAIN[measure.kind](found, by_file)
        figures += made
    return figures, by_file


def _note(by_file: ByFile, places: Sequence[int], name: str, values: Sequence[float | str]) -> None:
    """Write each file's own figure down."""
    rows = list(by_file.values())
    for place, value in zip(places, values, strict=True):
        rows[place][name] = value


def _of_embeddings(measure: Measure, found: Candidates, by_file: ByFile, seed: int) -> list[Figure]:
    name = str(measure.embedding)
    heard, label = found.heard(name), str(measure)
    if measure.kind == "fad":
        value = found.distances[name].distance(heard.running.statistics())
        bounds = frechet_interval(heard.running, found.distances[name], value, seed=seed)
        return [Figure(label, "value", (value,), bounds=bounds)]
    if measure.kind == "fad-inf":
        line = frechet_infinity(heard.running.kept, found.statistics[name], seed=seed)
        return [Figure(label, "value", (line.value,)), Figure(f"{label}, R^2 of its line", "value", (line.fit,))]
    if measure.kind == "fad-song":
        _note(by_file, range(len(by_file)), label, heard.figures)
        known = tuple(value for value in heard.figures if value == value)
        return [Figure(f"{label}, median", "median", known)] if known else []
    if measure.kind == "kad":
        ours, owners = _thinned(heard.running.kept, heard.running.owners)
        theirs, _ = _thinned(found.theirs(name).running.kept, found.theirs(name).running.owners)
        width = median_bandwidth(theirs)
        value = kernel_distance(ours, theirs, width)
        return [Figure(label, "value", (value,), bounds=kernel_interval(ours, owners, theirs, width, seed=seed))]
    return _neighbours(label, heard, found.theirs(name), found, by_file)


def _thinned(kept: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
    """Evenly spread embeddings, as many as a kernel distance looks at."""
    if len(kept) <= MOST_IN_KERNEL:
        return kept, owners
    rows = torch.linspace(0, len(kept) - 1, MOST_IN_KERNEL).long()
    return kept[rows], owners[rows]


def _neighbours(label: str, heard: Heard, theirs: Heard, found: Candidates, by_file: ByFile) -> list[Figure]:
    """Cosines of each candidate's mean embedding with the nearest of the reference."""
    assert found.reference is not None and found.reference_folder is not None
    nearest = nearest_neighbours(torch.stack(heard.means), torch.stack(theirs.means))
    names = [found.reference.files[row].relative_to(found.reference_folder).as_posix() for row in nearest.rows.tolist()]
    _note(by_file, range(len(by_file)), label, nearest.cosines.tolist())
    _note(by_file, range(len(by_file)), f"{label}, nearest", names)
    return [Figure(f"{label}, cosine", "mean", tuple(nearest.cosines.tolist()))]


def _kl(found: Candidates, by_file: ByFile) -> list[Figure]:
    directions: list[list[float]] = [[], []]
    places = found.pairs()
    ours, theirs = found.heard("tags").rows, found.theirs("tags").rows
    pieces = []
    for place, other in places:
        count = min(len(ours[place]), len(theirs[other]))
        made, expected = ours[place][:count].float(), theirs[other][:count].float()
        pieces.append(count)
        directions[0].append(float(kl_divergence(expected, made).mean()))
        directions[1].append(float(kl_divergence(made, expected).mean()))
    names = ("KL, reference || candidate", "KL, candidate || reference")
    weights = tuple(map(float, pieces))
    for name, values in zip(names, directions, strict=True):
        _note(by_file, [place for place, _ in places], name, values)
    return [Figure(name, "mean", tuple(values), weights) for name, values in zip(names, directions, strict=True)]


def _chroma(found: Candidates, by_file: ByFile) -> list[Figure]:
    values, frames = [], []
    places = found.pairs()
    ours, theirs = found.heard("chroma").rows, found.theirs("chroma").rows
    for place, other in places:
        count = min(len(ours[place]), len(theirs[other]))
        values.append(float((ours[place][:count] == theirs[other][:count]).float().mean()))
        frames.append(float(count))
    _note(by_file, [place for place, _ in places], "chroma cosine", values)
    return [Figure("chroma cosine", "mean", tuple(values), tuple(frames))]


def _clap_score(found: Candidates, by_file: ByFile, ears: Ears) -> list[Figure]:
    opening = ears.listener("clap-opening")
    assert isinstance(opening, ClapOpening)
    places = [place for place, path in enumerate(found.sounds.files) if path in found.captions]
    if not places:
        raise ValueError("no candidate that can be read has a caption; put a .txt of the same name beside each.")
    texts = [found.captions[found.sounds.files[place]] for place in places]
    rows = found.heard("clap-opening").rows
    values = []
    for first in range(0, len(places), 64):
        part = torch.cat([rows[place] for place in places[first : first + 64]]).float()
        spoken = opening.clap.embed_text(texts[first : first + 64])
        values += torch.cosine_similarity(part, spoken, dim=-1, eps=1e-8).tolist()
    _note(by_file, places, "CLAP score", values)
    return [Figure("CLAP score", "mean", tuple(values))]


def _likelihood(found: Candidates, by_file: ByFile, ears: Ears, pattern: str | None) -> list[Figure]:
    model = ears.need_model("likelihood")
    nats = []
    for place, path in enumerate(found.sounds.files):
        codes = found.heard("codes").rows[place].long().t()[None]  # [1, K, T]
        nats.append(likelihood(model, codes, [found.captions.get(path)], pattern=pattern).nats[0])
    table = torch.stack(nats)  # [files, K]
    label = f"cross entropy by {pattern or 'the own pattern'}"
    _note(by_file, range(len(nats)), label, table.mean(dim=1).tolist())
    figures = [Figure(label, "mean", tuple(table.mean(dim=1).tolist()))]
    figures.append(Figure("perplexity", "value", (float(table.mean().exp()),)))
    books = enumerate(table.t().tolist(), start=1)
    return figures + [Figure(f"cross entropy, codebook {book}", "mean", tuple(values)) for book, values in books]


def _memorisation(found: Candidates, by_file: ByFile) -> list[Figure]:
    ours, theirs = ([rows.long().t() for rows in each.rows] for each in (found.heard("codes"), found.theirs("codes")))
    matches = closest_match(ours, theirs)
    _note(by_file, range(len(ours)), "first codes equal", matches.tolist())
    exact, near = (matches >= 1.0).float().tolist(), (matches >= APPROXIMATE).float().tolist()
    return [Figure("exact copies", "share", tuple(exact)), Figure("approximate copies", "share", tuple(near))]


def _health(found: Candidates, by_file: ByFile) -> list[Figure]:
    facts = torch.cat(found.heard("facts").rows)  # [files, 3]
    clipped = (facts[:, 1] > 0) | (facts[:, 2] > _CLIPPED_PER_MILLION)
    shares = {"silent": facts[:, 0] > 0, "beyond full scale": facts[:, 1] > 0, "clipped": clipped}
    if "codes" in found.sounds.heard:
        rows = found.heard("codes").rows
        shares["stuck on one frame for 1 s"] = torch.cat([is_stuck(each.t()[None]) for each in rows])
    for name, values in shares.items():
        _note(by_file, range(len(facts)), name, values.float().tolist())
    return [Figure(name, "share", tuple(values.float().tolist())) for name, values in shares.items()]


def _duplicates(found: Candidates, by_file: ByFile) -> list[Figure]:
    """The share of files whose content an earlier file has."""
    first: dict[str, str] = {}
    values = []
    for (name, row), content in zip(by_file.items(), found.sounds.contents, strict=True):
        values.append(float(content in first))
        if content in first:
            row["duplicate of"] = first[content]
        first.setdefault(content, name)
    return [Figure("duplicates", "share", tuple(values))]


_PLAIN = {
    "kl": _kl,
    "chroma": _chroma,
    "memorisation": _memorisation,
    "health": _health,
    "duplicates": _duplicates,
}
