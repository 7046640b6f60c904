"""Measure a folder of candidates against a reference: one pass over each, and one figure for each measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ..environment import torch_defaults
from .figures import Candidates, figures_of
from .folders.captions import read_captions
from .folders.sounds import list_sounds
from .folders.statistics_file import read_statistics, write_statistics
from .frechet import FrechetReference
from .listening import OnFile, SoundSet, Wanted, hear_files
from .measures import EMBEDDINGS, OF_EMBEDDINGS, OTHERS, PAIRED, Ears, Measure, needed, parse_measure
from .report import Report
from .statistics import Statistics

_NEEDS_SOUNDS = ("kad", "neighbours", "kl", "chroma", "memorisation")
"""Measures that statistics in place of a reference cannot give."""
_NEEDS_REFERENCE = (*OF_EMBEDDINGS, *PAIRED, "memorisation")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to measure.

    Attributes:
        measures: names such as `fad:vggish`; empty: all whose models are at hand.
        captions: a list of captions in place of those beside the candidates.
        pattern: codebook pattern of likelihoods; None for the model's own.
        cache: folder that rows are kept in; None keeps nothing.
        skip_bad: leave out files that cannot be measured, and list them.
        seed: seed of samples and intervals.
        on_file: called after each file.
    """

    measures: Sequence[str] = ()
    captions: Path | None = None
    pattern: str | None = None
    cache: Path | None = None
    skip_bad: bool = False
    seed: int = 0
    on_file: OnFile | None = None


@dataclass
class Reference:
    """A reference: sounds that were heard, or published statistics."""

    folder: Path | None = None
    sounds: SoundSet | None = None
    statistics: dict[str, Statistics] = field(default_factory=dict)


@torch_defaults()
def evaluate(
    reference: str | Path | None, candidates: str | Path, ears: Ears | None = None, options: Options | None = None
) -> Report:
    """Measure the sounds of a folder.

    Args:
        reference: a folder of sounds, an `.npz` file of statistics, or None for measures without one.
        candidates: a folder of sounds.
        ears: the models to listen with; by default none.
        options: the measures and how to take them.

    Returns:
        Figures with their intervals, and each file's own.

    Raises:
        FileNotFoundError: a folder or a model's weights are missing; the sentence says which.
        ValueError: the input gives no figure; one sentence says why, and the remedy.
    """
    ears, options = ears or Ears(), options or Options()
    folder = Path(candidates)
    files = list_sounds(folder)
    theirs = _reference_files(reference)
    captions = read_captions(folder, files, options.captions)
    measures, notes = _measures(options, ears, reference, files, theirs, captions)
    # The reference first, since figures of single candidates are distances to it.
    whole = _hear_reference(reference, theirs, measures, ears, options)
    distances = {name: FrechetReference(each) for name, each in whole.statistics.items()}
    wanted = _wanted(measures, ears, False, distances)
    heard = hear_files(
        files, wanted, name="candidates", cache=options.cache, skip_bad=options.skip_bad, on_file=options.on_file
    )
    _check_set(heard, folder, measures)
    found = Candidates(folder, heard, captions, whole.folder, whole.sounds, whole.statistics, distances)
    figures, by_file = figures_of(measures, found, ears, seed=options.seed, pattern=options.pattern)
    bad = [*([] if whole.sounds is None else whole.sounds.bad), *heard.bad]
    counts = (0 if whole.sounds is None else len(whole.sounds.files), len(heard.files))
    embeddings = _embeddings(heard, whole.sounds)
    return Report(figures, by_file, bad, notes, counts, embeddings)


def save_statistics(folder: str | Path, path: Path, embeddings: Sequence[str], ears: Ears, options: Options) -> None:
    """Write the statistics of a folder's embeddings as `.npz`, for use in place of a reference.

    Args:
        folder: of sounds.
        path: the file to write.
        embeddings: names of `EMBEDDINGS`.
        ears: the models to listen with.
        options: cache, bad files and progress.
    """
    wanted = [Wanted(ears.listener(name), statistics=True) for name in embeddings]
    heard = hear_files(
        list_sounds(folder), wanted, cache=options.cache, skip_bad=options.skip_bad, on_file=options.on_file
    )
    pairs = [(each.listener, heard.heard[each.listener.name].running.statistics()) for each in wanted]
    write_statistics(path, pairs)


def _reference_files(reference: str | Path | None) -> list[Path]:
    """The sounds of a reference; none of a file of statistics or without a reference."""
    if reference is None or Path(reference).suffix.lower() == ".npz":
        return []
    return list_sounds(reference)


def _measures(
    options: Options,
    ears: Ears,
    reference: str | Path | None,
    files: Sequence[Path],
    theirs: Sequence[Path],
    captions: dict[Path, str],
) -> tuple[list[Measure], list[str]]:
    """The measures to take, and a note for each that is left out; a named one that cannot be taken is an error."""
    named = [parse_measure(name) for name in options.measures]
    everything = [Measure(kind, each) for each in EMBEDDINGS for kind in OF_EMBEDDINGS if kind != "fad-song"]
    chosen: list[Measure] = []
    left: dict[str, list[str]] = {}
    for measure in dict.fromkeys(named or [*everything, *map(Measure, OTHERS)]):
        reason = _why_not(measure, ears, reference, files, theirs, captions)
        if reason is None:
            chosen.append(measure)
        elif named:
            raise _refusal(f"{measure} cannot be taken: {reason}")
        else:
            left.setdefault(reason, []).append(str(measure))
    notes = [f"left out: {', '.join(names)}, since {reason}" for reason, names in left.items()]
    missing = [path for path in files if path not in captions]
    if captions and missing:
        notes.append(f"{len(missing)} of {len(files)} candidates have no caption, first {missing[0].name}.")
    return chosen, notes


def _refusal(reason: str) -> Exception:
    return FileNotFoundError(reason) if "weights that are not here" in reason else ValueError(reason)


def _why_not(
    measure: Measure,
    ears: Ears,
    reference: str | Path | None,
    files: Sequence[Path],
    theirs: Sequence[Path],
    captions: dict[Path, str],
) -> str | None:
    kind = measure.kind
    if kind in _NEEDS_REFERENCE and reference is None:
        return "they compare with a reference; give a folder of sounds or an .npz file of statistics."
    if kind in _NEEDS_SOUNDS and not theirs:
        return f"sounds are compared, and the reference {reference} holds statistics; give a folder of sounds."
    if kind in PAIRED and not {path.stem for path in files} & {path.stem for path in theirs}:
        return (
            "sounds of the same file name are compared, and no candidate is called as a reference is (first "
            f"{files[0].name} and {theirs[0].name}); name each candidate after its reference."
        )
    if kind == "clap-score" and not captions:
        return (
            "captions are needed, and none is beside the candidates; put a .txt of the same name beside each, or give "
            "a list with --captions."
        )
    return ears.why_not(measure)


def _hear_reference(
    reference: str | Path | None, files: Sequence[Path], measures: Sequence[Measure], ears: Ears, options: Options
) -> Reference:
    distances = {each.embedding for each in measures if each.kind in ("fad", "fad-inf", "fad-song")}
    names = [name for name in EMBEDDINGS if name in distances]
    if reference is None or not any(each.kind in _NEEDS_REFERENCE for each in measures):
        return Reference()
    if not files:
        return Reference(statistics={name: read_statistics(Path(reference), ears.listener(name)) for name in names})
    heard = hear_files(
        files,
        _wanted(measures, ears, True, {}),
        name="reference",
        cache=options.cache,
        skip_bad=options.skip_bad,
        on_file=options.on_file,
    )
    _check_set(heard, Path(reference), measures)
    statistics = {name: heard.heard[name].running.statistics(f"the reference's {name}") for name in names}
    return Reference(Path(reference), heard, statistics)


def _wanted(
    measures: Sequence[Measure], ears: Ears, is_reference: bool, distances: dict[str, FrechetReference]
) -> list[Wanted]:
    """The listeners that measures need of a set, each once, the plain facts first."""
    kinds: dict[str, set[str]] = {"facts": set()}
    for measure in measures:
        if not (is_reference and measure.kind not in _NEEDS_REFERENCE):
            # Codes, where there is a codec, also tell health.
            more = ("codes",) if measure.kind == "health" and ears.model is not None else ()
            for name in (*needed(measure), *more):
                kinds.setdefault(name, set()).add(measure.kind)
    wanted = []
    for name, of in kinds.items():
        each: Callable[[Tensor], float] | None = None
        if not is_reference and "fad-song" in of:
            each = _song_distance(distances[name])
        wanted.append(
            Wanted(
                ears.listener(name),
                statistics=bool(of & {"fad", "fad-inf", "fad-song", "kad", "neighbours"}),
                rows=name not in EMBEDDINGS,
                means="neighbours" in of,
                each=each,
            )
        )
    return wanted


def _song_distance(reference: FrechetReference) -> Callable[[Tensor], float]:
    return lambda rows: reference.distance_to(rows) if len(rows) > 1 else float("nan")


def _check_set(heard: SoundSet, folder: Path, measures: Sequence[Measure]) -> None:
    """Refuse a set that distances say nothing about."""
    of_sets = [str(each) for each in measures if each.kind in ("fad", "fad-inf", "kad")]
    others = [str(each) for each in measures if each.kind not in ("health", "duplicates")]
    if of_sets and len(heard.files) < 2:
        raise ValueError(
            f"{folder} holds one sound, {heard.files[0].name}; {of_sets[0]} compares sets, so give at least two sounds."
        )
    if others and all(bool(rows[0, 0]) for rows in heard.heard["facts"].rows):
        raise ValueError(
            f"all {len(heard.files)} sounds in {folder} are silent (below -50 dB of full scale), so {others[0]} says "
            "nothing; give other sounds, or measure health alone."
        )


def _embeddings(candidates: SoundSet, reference: SoundSet | None) -> dict[str, tuple[Tensor, Tensor | None]]:
    """The kept embeddings of both sets by listener, for pictures."""
    found: dict[str, tuple[Tensor, Tensor | None]] = {}
    for name in EMBEDDINGS:
        if name in candidates.heard and candidates.heard[name].running.count:
            theirs = None if reference is None or name not in reference.heard else reference.heard[name].running.kept
            found[name] = candidates.heard[name].running.kept, theirs
    return found
