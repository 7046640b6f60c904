"""ComfyUI's own modules in this process, without its server, on a machine that may lack some of its packages.

A package of ComfyUI's that is not installed is replaced by empty classes: a card's machine has torch and little else,
and no node of this pack needs the others. A package that is installed is never replaced.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import shutil
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from measuring import ROOT

PACK = "musicgen_pack"
GOLDEN = ROOT / "tests" / "golden"
REPLACEABLE = {
    *("aiohttp", "alembic", "av", "blake3", "comfy_angle", "einops", "kornia", "OpenGL", "pydantic"),
    *("pydantic_settings", "scipy", "sentencepiece", "simpleeval", "spandrel", "sqlalchemy", "torchsde"),
}


class _Empty(ModuleType):
    """A package whose every name is an empty class."""

    __path__: list[str] = []  # noqa: RUF012  (an attribute that the import system reads)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class _Replaced:
    """Finds the packages that nothing else found."""

    def __init__(self) -> None:
        self.used: set[str] = set()

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return a spec for the packages on the list."""
        first = name.partition(".")[0]
        if first not in REPLACEABLE:
            return None
        self.used.add(first)
        return ModuleSpec(name, self, is_package=True)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the empty package."""
        return _Empty(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing."""


class Host:
    """ComfyUI and the pack in it.

    Args:
        folder: where the models and the output of this run are.
        dynamic: turn dynamic VRAM on, as ComfyUI does by default on NVIDIA cards.
        cpu: run on the CPU.
    """

    def __init__(self, folder: Path, *, dynamic: bool, cpu: bool) -> None:
        replaced = _Replaced()
        sys.meta_path.append(replaced)
        comfyui = Path(os.environ.get("COMFYUI_DIR") or ROOT / ".host" / "ComfyUI")
        if not (comfyui / "main.py").is_file():
            raise FileNotFoundError(f"no ComfyUI in {comfyui}; set COMFYUI_DIR to the folder that holds its main.py.")
        sys.path.insert(0, str(comfyui))
        sys.argv = sys.argv[:1]  # ComfyUI reads the command line
        self.args = importlib.import_module("comfy.cli_args").args
        self.args.cpu = cpu
        sys.modules["server"] = _Empty("server")
        sys.modules["server"].PromptServer = SimpleNamespace(instance=_Server())  # type: ignore[attr-defined]
        self.dynamic = dynamic and not cpu and self._turn_dynamic_on()
        self.management: Any = importlib.import_module("comfy.model_management")
        self._place_models(folder)
        self._nodes = self._load_pack()
        self.replaced = sorted(replaced.used)

    def run(self, name: str, **inputs: Any) -> Any:
        """Execute a node, named without its prefix, as ComfyUI does."""
        import torch

        clone = self._nodes[f"MusicGen{name}"].PREPARE_CLASS_CLONE({"hidden_inputs": {"UNIQUE_ID": "7"}})
        with torch.inference_mode():
            result = clone.EXECUTE_NORMALIZED(**inputs).result or (None,)
        return result[0] if len(result) == 1 else result

    def _turn_dynamic_on(self) -> bool:
        """Do as ComfyUI's main.py does at its start; older versions of comfy_aimdo take other arguments."""
        control = importlib.import_module("comfy_aimdo.control")
        for options in ({"simple_vram_headroom": None, "nvml_pressure": True}, {"simple_vram_headroom": None}, {}):
            try:
                control.init(**options)
                break
            except TypeError:
                continue
        management = importlib.import_module("comfy.model_management")
        patcher: Any = importlib.import_module("comfy.model_patcher")
        memory: Any = importlib.import_module("comfy.memory_management")
        devices, room = management.get_all_torch_devices(), int(getattr(self.args, "vram_headroom", 0) * 1024**3)
        try:
            works = control.init_devices((device.index, room) for device in devices)
        except TypeError:
            works = control.init_devices(device.index for device in devices)
        if works:
            patcher.CoreModelPatcher = patcher.ModelPatcherDynamic
            memory.aimdo_enabled = True
        return bool(works)

    def _place_models(self, folder: Path) -> None:
        paths: Any = importlib.import_module("folder_paths")
        for kind in ("text", "melody"):
            shutil.copytree(GOLDEN / "checkpoints" / f"hf-{kind}", folder / "models" / "musicgen" / "tiny" / kind)
        loras = folder / "models" / "loras"
        shutil.copytree(GOLDEN / "loras" / "text", loras / "text")
        paths.models_dir = str(folder / "models")
        paths.set_output_directory(str(folder / "output"))
        paths.folder_names_and_paths["loras"] = ([str(loras)], {".safetensors"})

    @staticmethod
    def _load_pack() -> dict[str, Any]:
        where = [str(ROOT)]
        spec = importlib.util.spec_from_file_location(PACK, ROOT / "__init__.py", submodule_search_locations=where)
        assert spec is not None and spec.loader is not None
        pack = importlib.util.module_from_spec(spec)
        sys.modules[PACK] = pack
        spec.loader.exec_module(pack)
        extension = asyncio.run(pack.comfy_entrypoint())
        asyncio.run(extension.on_load())
        return {node.GET_SCHEMA().node_id: node for node in asyncio.run(extension.get_node_list())}


class _Server:
    """The parts of ComfyUI's server that a node talks to; nobody listens."""

    client_id = last_node_id = None

    def __init__(self) -> None:
        # ComfyUI's own table of replaced nodes, which the pack fills; older versions have none.
        if importlib.util.find_spec("app.node_replace_manager"):
            self.node_replace_manager = importlib.import_module("app.node_replace_manager").NodeReplaceManager()

    def send_progress_text(self, *args: Any, **options: Any) -> None:
        """Do nothing."""

    def send_sync(self, *args: Any, **options: Any) -> None:
        """Do nothing."""
