"""MusicGen (Copet et al. 2023, "Simple and Controllable Music Generation") as a library.

It does not depend on ComfyUI. Load a model, generate codes from descriptions and melodies, and
decode the codes to audio::

    model = load_model("models/musicgen-nano")
    codes = model.generate(["a calm piano melody"], GenerationParams(duration=10.0))
    audio = model.decode(codes)
"""

from .checkpoints.saving import save_checkpoint
from .generation.generate import StepProgress
from .generation.params import GenerationParams
from .generation.patterns import PATTERN_NAMES
from .lora.apply import read_lora
from .model import MusicGen, load_model

__all__ = [
    "PATTERN_NAMES",
    "GenerationParams",
    "MusicGen",
    "StepProgress",
    "load_model",
    "read_lora",
    "save_checkpoint",
]
