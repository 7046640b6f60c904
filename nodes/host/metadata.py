"""The workflow that ran, for saved files."""

from __future__ import annotations

import json
from typing import Any

import comfy.cli_args


def workflow_of(hidden: Any) -> dict[str, str]:
    """The graph that runs, as core's own savers write it into files; nothing where --disable-metadata is set."""
    if comfy.cli_args.args.disable_metadata:
        return {}
    found = {} if hidden.prompt is None else {"prompt": json.dumps(hidden.prompt)}
    extra = hidden.extra_pnginfo or {}
    return found | {name: json.dumps(value) for name, value in extra.items()}
