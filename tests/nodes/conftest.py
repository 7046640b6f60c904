"""The pack loaded as ComfyUI loads it, beside ComfyUI's own modules (on the CPU), in this process.

The pack is a package under a name of its own, so its `nodes` and ComfyUI's `nodes.py` do not
meet. Without a ComfyUI the tests of this folder are skipped.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from tests.tiny import write_audiogen, write_style_model

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI")
CHECKPOINTS = ROOT / "tests" / "golden" / "checkpoints"
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
        "model_patcher": "comfy.model_patcher",
        "utils": "comfy.utils",
        "folder_paths": "folder_paths",
        "core": "nodes",
        "server": "server",
    }
    return SimpleNamespace(**{name: importlib.import_module(module) for name, module in modules.items()})


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `models/musicgen` with the tiny text, melody, stereo and style checkpoints of the golden data."""
    folder = tmp_path_factory.mktemp("models") / "musicgen"
    for name in ("text", "melody", "stereo"):
        shutil.copytree(CHECKPOINTS / f"hf-{name}", folder / "tiny" / name)
    write_style_model(folder / "tiny" / "style")
    write_audiogen(folder / "tiny" / "audiogen")
    return folder


@pytest.fixture(scope="session")
def pack(comfy: SimpleNamespace, models_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The pack after `on_load`."""
    comfy.folder_paths.models_dir = str(models_folder.parent)
    comfy.folder_paths.set_output_directory(str(tmp_path_factory.mktemp("output")))
    spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    known, began = set(sys.modules), time.thread_time()
    spec.loader.exec_module(module)
    module.extension = asyncio.run(module.comfy_entrypoint())
    asyncio.run(module.extension.on_load())
    asyncio.run(module.extension.get_node_list())
    module.import_seconds, module.imported = time.thread_time() - began, set(sys.modules) - known
    return module


@pytest.fixture(scope="session")
def host(pack: ModuleType) -> ModuleType:
    """The pack's `nodes/host`: its modules `folders`, `patchers` and `progress`."""
    return importlib.import_module(f"{PACK}.nodes.host")


@pytest.fixture(scope="session")
def inputs(pack: ModuleType) -> ModuleType:
    """The pack's `nodes/inputs/conditions.py`."""
    return importlib.import_module(f"{PACK}.nodes.inputs.conditions")


@pytest.fixture(scope="session")
def node_list(pack: ModuleType) -> list[type]:
    """Every node class."""
    return asyncio.run(pack.extension.get_node_list())


@pytest.fixture(scope="session")
def run(node_list: list[type]) -> Callable[..., Any]:
    """Execute a node, named without its prefix, as the host does: a locked clone of its class, in inference mode."""
    by_id = {node.GET_SCHEMA().node_id: node for node in node_list}

    def execute(name: str, **inputs: Any) -> Any:
        clone = by_id[f"MusicGen{name}"].PREPARE_CLASS_CLONE({"hidden_inputs": {"UNIQUE_ID": "7"}})
        with torch.inference_mode():
            result = clone.EXECUTE_NORMALIZED(**inputs).result or (None,)
        return result[0] if len(result) == 1 else result

    return execute


@pytest.fixture(scope="session")
def load(run: Callable[..., Any]) -> Callable[[str], SimpleNamespace]:
    """Load one of the tiny checkpoints, once."""
    loaded: dict[str, SimpleNamespace] = {}

    def load_once(name: str) -> SimpleNamespace:
        if name not in loaded:
            parts = run("Loader", model=f"tiny/{name}", dtype="auto")
            loaded[name] = SimpleNamespace(**dict(zip(("model", "text_encoder", "codec"), parts, strict=True)))
        return loaded[name]

    return load_once


@pytest.fixture(scope="session")
def encode(run: Callable[..., Any], load: Callable[[str], SimpleNamespace]) -> Callable[..., Any]:
    """Describe music with the text encoder of a tiny checkpoint."""
    return lambda text, name="text": run("TextEncode", text_encoder=load(name).text_encoder, text=text)


@pytest.fixture(scope="session")
def sample(run: Callable[..., Any], load: Callable[[str], SimpleNamespace]) -> Callable[..., Any]:
    """Sample half a second from a tiny checkpoint; keywords change the request."""
    widgets = {
        "duration": 0.5,
        "batch_size": 1,
        "seed": 1,
        "cfg_coef": 3.0,
        "temperature": 1.0,
        "top_k": 250,
        "top_p": 0.0,
        "pattern": "auto",
    }

    def sample_tokens(positive: Any, name: str = "text", **changes: Any) -> Any:
        return run("SampleTokens", model=load(name).model, positive=positive, **(widgets | changes))

    return sample_tokens


def sound(seconds: float, rate: int = 32000, channels: int = 1, batch: int = 1, pitch: float = 440.0) -> dict[str, Any]:
    """An AUDIO value: a tone, a fifth higher in each further batch item."""
    time = torch.arange(int(seconds * rate)) / rate
    tones = [torch.sin(2 * torch.pi * pitch * 1.5**item * time) for item in range(batch)]
    return {"waveform": 0.5 * torch.stack(tones)[:, None].repeat(1, channels, 1), "sample_rate": rate}


def owns_memory(tensor: torch.Tensor) -> bool:
    """Whether a tensor is on the CPU and keeps nothing alive but its own numbers (and a resampler's odd end)."""
    excess = tensor.untyped_storage().nbytes() - tensor.numel() * tensor.element_size()
    return tensor.device.type == "cpu" and tensor.is_contiguous() and excess < 64
