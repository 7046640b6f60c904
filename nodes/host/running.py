"""A language model that is ready to sample, with the codec beside it where that is wanted and fits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...musicgen.lm.cpu_compiler import is_decided, why_not_compiled
from . import patchers, progress


@contextmanager
def ready_to_sample(model: Any, memory: int, node_id: str | None, codec: Any = None) -> Iterator[dict[str, Any]]:
    """Bring a model to its device and yield the arguments of `generate` for it.

    model: a ModelHandle. memory: bytes of activations and caches. codec: a holder of the codec's patcher,
    which would like to be there too.
    """
    beside = None if codec is None else codec.patcher
    with patchers.on_device(model.patcher, memory_required=memory, beside=beside) as device:
        graphs = patchers.may_record(model.patcher)
        if device.type == "cpu" and model.patcher.model.dtype == torch.float32 and not is_decided():
            progress.show(node_id, "compiling for this processor, once")
            why_not_compiled()
            progress.show(node_id, "")
        yield {"device": device, "use_cuda_graphs": graphs}
