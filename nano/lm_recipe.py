"""How a language model is trained: every number that the result depends on, but the data and the networks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from musicgen.training.resume import as_stored


@dataclass(frozen=True)
class LMRecipe:
    """How a language model is trained: all that the result depends on, but the data and the networks."""

    steady: bool = False
    """Learn the steady songs of the corpus, not those with variation."""
    tempi: tuple[int, ...] = ()
    """Learn only songs whose beats have these numbers of frames; by default all."""
    steps: int = 10000
    stop: int | None = None
    """Train only so many of the steps; the schedules are those of all."""
    phases: tuple[tuple[float, int, int], ...] = ((0.6, 150, 12), (0.85, 300, 6), (1.0, 500, 4))
    """Up to this share of the steps, clips of so many frames, and how many in a batch; bars repeat, so that the
    first is the hard one."""
    learning_rate: float = 3e-3
    decay: float = 0.4
    """Share of the steps, the last ones, over which the learning rate falls to 3 %; it is level before, so that a
    course can be continued from any of its steps."""
    text_learning_rate: float = 5e-4
    text_first: tuple[int, int] = (1000, 48)
    """Steps, and captions in each, in which the text encoder alone learns to tell labels, before anything else."""
    warmup: int = 150
    weight_decay: float = 0.05
    first_weights: tuple[float, ...] = (2.0, 1.2, 0.5, 0.3)
    last_weights: tuple[float, ...] = (1.4, 1.1, 0.8, 0.7)
    """Weights of the codebooks' losses at the first and at the last step; the coarse ones carry the beat."""
    drop_all: float = 0.12
    """Clips without any condition."""
    drop_text: float = 0.05
    drop_melody: float = 0.2
    """Clips without one of the two, beside these; only where there is a melody."""
    unknown_words: float = 0.05
    """Words that are made unknown, so that unknown words mean nothing."""
    foreign_words: float = 0.3
    """Captions into which one to four unknown words are put."""
    anywhere: float = 0.2
    """Clips that begin on any frame of their song, and not on a bar: windows of a long piece do so. The model reads
    the codes of all of them."""
    corrupted: float = 0.05
    """Codes that are replaced by others in the model's input: its own samples will not all be right either."""
    blind: float = 0.25
    """Share of the clips whose codes the model does not get to read: it has only the conditions to go by. Once a clip
    has begun, its instruments can be heard in it, and words that only its first frames need are not learnt."""
    hidden: float = 0.0
    """Share of the other clips that the model gets to read only in part: it has to keep the beat by the words alone
    beside codes too, and not only in clips of which it reads nothing."""
    openings: tuple[tuple[int, float], ...] = ((100, 2.0), (4, 5.0))
    """So many frames at the start of a clip count so much more; later ones repeat the earlier."""
    labels: float = 1.0
    """Weight of telling a song's labels from its caption, by the text encoder alone."""
    marks: float = 2.0
    """Weight of foreseeing the score, beside the codes."""
    rhythm: float = 1.0
    """How much more the marks of beats and drums count than those of pitches and instruments."""
    induction: bool = True
    """Begin with heads that look for the last repeat."""
    ema: float = 0.999
    patterns: tuple[tuple[str, float], ...] = (("delay", 1.0),)
    """Codebook patterns, and how often a batch is laid out by each. One that takes n columns for a frame gets a
    clip, and at most a batch, that is shorter, so that a step costs about the same."""
    seed: int = 1

    @property
    def trained_steps(self) -> int:
        """The steps that are trained."""
        return self.steps if self.stop is None else self.stop

    def settings(self) -> dict[str, Any]:
        """All numbers as a checkpoint keeps them: tuples as lists."""
        return as_stored(asdict(self))
