"""LoRA: adapter files, and their changes of a model."""
