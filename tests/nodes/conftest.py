"""The pack loaded as ComfyUI loads it, beside ComfyUI's own modules (on the CPU), in this process.

The pack is a package under a name of its own, so its `nodes` and ComfyUI's `nodes.py` do not
meet. Without a ComfyUI the tests of this folder are skipped.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from types import ModuleType, SimpleNamespace

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI")
PACK = "musicgen_pack"


@pytest.fixture(scope="session")
def comfy() -> SimpleNamespace:
    """ComfyUI's own modules."""
    if not (COMFYUI / "main.py").is_file():
        pytest.skip(f"no ComfyUI in {COMFYUI}")
    sys.path.insert(0, str(COMFYUI))
    importlib.import_module("comfy.cli_args").args.cpu = True
    modules = {
        "management": "comfy.model_management",
        "memory": "comfy.memory_management",
        "utils": "comfy.utils",
        "folder_paths": "folder_paths",
        "core": "nodes",
        "server": "server",
    }
    return SimpleNamespace(**{name: importlib.import_module(module) for name, module in modules.items()})


@pytest.fixture(scope="session")
def pack(comfy: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The pack after `on_load`, with a models folder of the tests' own."""
    comfy.folder_paths.models_dir = str(tmp_path_factory.mktemp("models"))
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    module.extension = asyncio.run(module.comfy_entrypoint())
    asyncio.run(module.extension.on_load())
    return module


@pytest.fixture(scope="session")
def node_list(pack: ModuleType) -> list[type]:
    """Every node class."""
    return asyncio.run(pack.extension.get_node_list())


@pytest.fixture(scope="session")
def nodes(node_list: list[type]) -> SimpleNamespace:
    """The node classes by their id."""
    return SimpleNamespace(**{node.GET_SCHEMA().node_id: node for node in node_list})


@pytest.fixture(scope="session")
def run() -> Callable[..., Any]:
    """Execute a node as the host does: on a locked clone of its class, with its hidden inputs."""

    def execute(node: type, **inputs: Any) -> Any:
        clone = node.PREPARE_CLASS_CLONE({"hidden_inputs": {"UNIQUE_ID": "7"}})
        result = clone.EXECUTE_NORMALIZED(**inputs).result
        return result[0] if len(result) == 1 else result

    return execute


@pytest.fixture(autouse=True)
def inference_mode():
    """ComfyUI runs nodes under inference mode."""
    with torch.inference_mode():
        yield
