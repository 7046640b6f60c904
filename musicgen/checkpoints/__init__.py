"""Checkpoints: every dialect is found, read and translated into one naming here, and models are loaded and saved."""

from .discovery import find_models, is_model_folder
from .loading import Components, load_components, open_checkpoint
from .saving import save_checkpoint

__all__ = ["Components", "find_models", "is_model_folder", "load_components", "open_checkpoint", "save_checkpoint"]
