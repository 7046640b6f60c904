"""A ranking and its picture, from the values of the sockets."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...musicgen.evaluation.asked import key_asked, parse_key, tempo_asked
from ...musicgen.evaluation.batch import PULSE
from ...musicgen.evaluation.ranking import Asked, Ranked, rank_batch
from ...musicgen.plots import scores_plot
from ..host import progress
from ..sockets import MelodyBatch, Tokens
from .measures import read_clap, read_ears, read_sounds

AS_DESCRIBED = "as described"


def read_ranking(
    audio: Any,
    tokens: Tokens | None,
    melody: MelodyBatch | None,
    caption: str,
    bpm: float,
    key: str,
    node_id: str | None,
) -> tuple[Ranked, list[str]]:
    """A batch ranked by all that was asked, and notes about what could not be counted."""
    sounds = read_sounds(audio, node_id)
    description = caption.strip() or described(tokens)
    clap, notes = read_clap(description, PULSE, read_ears())
    asked = Asked(
        caption=description if clap is not None else "",
        bpm=bpm or tempo_asked(description),
        key=key_asked(description) if key == AS_DESCRIBED else parse_key(key),
        melodies=() if melody is None else melody.items,
    )
    report = progress.PartReporter()
    codes, rate = (None, 50) if tokens is None else (tokens["codes"], tokens["frame_rate"])
    return rank_batch(sounds, asked, codes=codes, frame_rate=rate, clap=clap, on_item=report), notes


def described(tokens: Tokens | None) -> str:
    """The one description that tokens were sampled from; empty where there is none, or several."""
    recipe = tokens and tokens["recipe"]
    texts = {entry.get("text") for entry in recipe.get("positive") or []} if recipe else set()
    text = next(iter(texts)) if len(texts) == 1 else None
    return text if isinstance(text, str) else ""


def draw_ranking(ranked: Ranked) -> Tensor:
    """The table of the scores as a picture [1, H, W, 3]."""
    order = ranked.order
    columns = [("score", ranked.scores), *ranked.parts.items()]
    return scores_plot(
        [f"#{item + 1}" for item in order],
        [(name, [values[item] for item in order]) for name, values in columns],
        [ranked.faults[item] for item in order],
    )[None]
