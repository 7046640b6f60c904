"""LoRA: adapter files, and their changes to a model."""

from .apply import LoRA, merged_lm, read_lora

__all__ = ["LoRA", "merged_lm", "read_lora"]
