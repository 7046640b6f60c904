"""The models that listen: each turns a sound into rows of numbers that measures compare.

Weights are read from the user's disk alone. None is downloaded, and no pickle is run.
"""

from .clap import Clap
from .encodec import EncodecStates
from .listener import Listener
from .mert import MertStates
from .tags import TagClassifier
from .vggish import Vggish

__all__ = ["Clap", "EncodecStates", "Listener", "MertStates", "TagClassifier", "Vggish"]
