"""The batch, the reference and the models of a measurement, from the values of the sockets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...musicgen.evaluation.batch import CLAP, Sounds
from ..host import folders, patchers
from ..sockets import MAX_HEARD_SECONDS, CodecHandle
from .sound import read_audio

if TYPE_CHECKING:
    from ...musicgen.evaluation.embedders import Clap, Listener
    from ...musicgen.evaluation.measures import Ears

AUTO, ENCODEC = "auto", "encodec"
WEIGHTS = ("clap", "mert", "vggish")


def read_sounds(audio: Any, node_id: str | None) -> Sounds:
    """AUDIO -> a batch of pieces of at most 300 seconds."""
    return Sounds(*read_audio(audio, node_id, MAX_HEARD_SECONDS))


def read_ears() -> Ears:
    """The models of `models/audio_encoders`, none of them loaded yet."""
    from ...musicgen.evaluation.measures import Ears

    return Ears(search=[Path(path) for path in folders.audio_encoder_folders()])


@contextmanager
def listening(embedding: str, codec: CodecHandle | None, ears: Ears, seconds: float) -> Iterator[Listener | None]:
    """The model that embeds sounds, ready to run; None where auto finds none."""
    if embedding == AUTO:
        from ...musicgen.evaluation.measures import Measure

        there = [name for name in WEIGHTS if ears.why_not(Measure("fad", name)) is None]
        embedding = ENCODEC if codec is not None else there[0] if there else ""
    if embedding == ENCODEC:
        if codec is None:
            raise ValueError(
                "the embedding is encodec and no codec is connected; connect the codec of MusicGen Loader, or choose "
                "auto."
            )
        module = codec.patcher.model
        memory = module.memory_required(round(seconds * module.sample_rate))
        with patchers.on_device(codec.patcher, memory_required=memory, whole=True):
            from ...musicgen.evaluation.embedders import EncodecStates

            yield EncodecStates(module)
        return
    yield ears.listener(embedding) if embedding else None


def read_clap(caption: str, number: str, ears: Ears) -> tuple[Clap | None, list[str]]:
    """The CLAP model of a caption, and a note where a caption cannot be scored; an error where it must be."""
    if not caption.strip():
        return None, []
    from ...musicgen.evaluation.embedders import Clap
    from ...musicgen.evaluation.measures import Measure

    reason = ears.why_not(Measure("clap-score"))
    if reason is None:
        clap = ears.listener("clap")
        assert isinstance(clap, Clap)
        return clap, []
    if number == CLAP:
        raise ValueError(reason)
    return None, [f"no CLAP score: {reason}"]
