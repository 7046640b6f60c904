"""The base class of every node: a node shows the sentence of its own refusal, where the user is looking."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from comfy_api.latest import io

from .progress import show


class Node(io.ComfyNode):
    """A node that shows a refusal as a line on itself; the frontend keeps the exception's text behind a button."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let a subclass's `execute` tell its refusals. The host makes further subclasses, one for each run."""
        super().__init_subclass__(**options)
        own = cls.__dict__.get("execute")
        if isinstance(own, classmethod) and not hasattr(own.__func__, "__wrapped__"):
            cls.execute = classmethod(_telling(own.__func__))


def _telling(execute: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(execute)
    def told(cls: Any, *values: Any, **inputs: Any) -> Any:
        try:
            return execute(cls, *values, **inputs)
        except (ValueError, OSError) as error:
            show(getattr(cls.hidden, "unique_id", None), str(error))
            raise

    return told
