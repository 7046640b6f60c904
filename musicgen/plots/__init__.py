"""Plots with a title and labelled axes, legible when a node shows them small; drawn with Pillow."""

from .canvas import THEMES
from .dataset import dataset_plot
from .score import score_plot
from .scores import scores_plot
from .sound import loudness_plot, melody_plot, spectrogram_plot, waveform_plot
from .tokens import codes_plot, pattern_plot

__all__ = [
    "THEMES",
    "codes_plot",
    "dataset_plot",
    "loudness_plot",
    "melody_plot",
    "pattern_plot",
    "score_plot",
    "scores_plot",
    "spectrogram_plot",
    "waveform_plot",
]
