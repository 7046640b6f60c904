"""A graph of nodes that one node stands for: ComfyUI runs them in its place, and caches each of them."""

from __future__ import annotations

from comfy_execution.graph_utils import GraphBuilder

__all__ = ["GraphBuilder"]
