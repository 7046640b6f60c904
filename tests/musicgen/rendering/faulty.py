"""Renderers with faults, for the workers of a cluster, which import this file by its name."""

from __future__ import annotations

import os
import time

from musicgen.rendering import Renderer


class Faulty(Renderer):
    """Fails for descriptions that name a fault; each batch takes a while, so that a kill finds it at work."""

    def sample(self, model, batch):
        for piece in batch:
            if "poison" in piece.description:
                raise ValueError("the row is bad")
            if "crash" in piece.description:
                os._exit(1)
        time.sleep(float(batch[0].columns.get("pause", 0)))
        return super().sample(model, batch)
