"""Layouts: Hugging Face, audiocraft and the single file, read into one naming."""
