"""The only folder that touches ComfyUI: its folders, its memory management, its progress and interruption.

The rest of the pack talks to the host through these three modules.
"""

from . import folders, patchers, progress
from .patchers import may_record, on_device
from .progress import StepReporter, say

__all__ = ["StepReporter", "folders", "may_record", "on_device", "patchers", "progress", "say"]
