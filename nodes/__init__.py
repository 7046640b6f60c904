"""The node pack: one literal list of nodes. Each node is a thin translation to the `musicgen` library."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .catalogue import MusicGenCatalogue
from .codec import MusicGenEnCodecDecode, MusicGenEnCodecEncode
from .conditioning import MusicGenMelodyChroma, MusicGenStyle, MusicGenTextEncode
from .directing import MusicGenGuidance, MusicGenTimeline
from .editing import MusicGenEditTokens
from .filling import MusicGenFill, MusicGenLoop
from .host import folders
from .loaders import MusicGenLoader, MusicGenLoraLoader
from .long_form import MusicGenLongForm
from .measuring import MusicGenMeasure
from .picking import MusicGenPick
from .pictures import MusicGenPlot
from .ranking import MusicGenRank
from .replacements import register_replacements
from .sampling import MusicGenSampleTokens
from .saving import MusicGenSaveCheckpoint
from .scores import MusicGenEditMelody, MusicGenSaveMidi, MusicGenScore
from .songs import MusicGenDataset
from .text_to_music import MusicGenTextToMusic
from .timing import MusicGenCurves, MusicGenDuration
from .token_files import MusicGenLoadTokens, MusicGenSaveTokens
from .training import MusicGenSaveLora, MusicGenTrainLora
from .words import MusicGenTempoKey


class MusicGenExtension(ComfyExtension):
    """Answers ComfyUI: the model folder, the nodes, and the nodes of other packs that they can replace."""

    async def on_load(self) -> None:
        """Make `models/musicgen` and the replacements known to the host."""
        folders.register_model_folder()
        await register_replacements()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of the pack, in the order of everyday use, which ComfyUI keeps where its search finds several."""
        return [
            MusicGenLoader,
            MusicGenTextEncode,
            MusicGenSampleTokens,
            MusicGenEnCodecDecode,
            MusicGenMelodyChroma,
            MusicGenScore,
            MusicGenEditMelody,
            MusicGenEnCodecEncode,
            MusicGenStyle,
            MusicGenTimeline,
            MusicGenGuidance,
            MusicGenLoraLoader,
            MusicGenLongForm,
            MusicGenTempoKey,
            MusicGenDuration,
            MusicGenPick,
            MusicGenRank,
            MusicGenPlot,
            MusicGenCurves,
            MusicGenSaveTokens,
            MusicGenLoadTokens,
            MusicGenSaveMidi,
            MusicGenSaveCheckpoint,
            MusicGenTextToMusic,
            MusicGenCatalogue,
            MusicGenMeasure,
            MusicGenDataset,
            MusicGenTrainLora,
            MusicGenSaveLora,
            MusicGenEditTokens,
            MusicGenFill,
            MusicGenLoop,
        ]
