"""The only file that touches ComfyUI: folders, memory management, progress, interruption.

Everything else in the pack talks to the host through these few functions. Attributes of the host
are looked up at call time, since its start-up replaces some of them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path, PurePosixPath
from typing import Any

import comfy.model_management as mm
import comfy.model_patcher
import comfy.ops
import comfy.utils
import comfy.weight_adapter
import folder_paths
import torch
from PIL import Image
from torch import Tensor, nn

from ...musicgen.checkpoints.discovery import find_models, is_model_folder
from ...musicgen.decoding.cuda_graph import why_no_graphs
from ...musicgen.hub.download import Progress, fetch
from ...musicgen.hub.releases import RELEASES, Release, find_release

logger = logging.getLogger("musicgen")

FOLDER = "musicgen"
LORA_FOLDER = "loras"
BUNDLED = "bundled"
DEFAULT_MODEL = "bundled/musicgen-nano"
GRAPHS_VARIABLE = "MUSICGEN_CUDA_GRAPHS"
AUTO, INT8 = "auto", "int8"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

_BUNDLED_DIRECTORY = Path(__file__).resolve().parent.parent.parent / "models"
_CONFIG = "config.json"
_MODEL_FILES = (_CONFIG, "state_dict.bin")
_NAMED = 10
_PEFT_FILE, _PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
_EXTENSIONS = {".safetensors", ".bin", ".json"}
_PICTURE_INTERVAL = 0.25
_PICTURE_SIZE = 512


# Folders


def register_model_folder() -> None:
    """Add `models/musicgen`, and `output/musicgen` where models are saved, as core does for its checkpoints.
    Paths that the user configured before stay, and stay in front."""
    for parent in (folder_paths.models_dir, folder_paths.get_output_directory()):
        folder_paths.add_model_folder_path(FOLDER, os.path.join(parent, FOLDER))
    paths, extensions = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, set(extensions) | _EXTENSIONS)


def models() -> dict[str, Path]:
    """Every model's name as the loader shows it, and its folder or file; the bundled ones first."""
    found = {f"{BUNDLED}/{path.parent.name}": path.parent for path in sorted(_BUNDLED_DIRECTORY.glob(f"*/{_CONFIG}"))}
    for root in folder_paths.get_folder_paths(FOLDER):
        for name, path in find_models(Path(root)).items():
            found.setdefault(name, path)
    return found


def choices() -> list[str]:
    """What the loader offers: every model, then every release that is not there yet."""
    known = models()
    return [*known, *(release.label for release in RELEASES if release.name not in known)]


def resolve_model(name: str) -> tuple[str, Path]:
    """A name out of a workflow -> the name as it is shown, and the model's folder or file.

    Backslashes of Windows and another case are understood. For a download that was not made yet it is
    the folder that the model will have.
    """
    known = models()
    if release := find_release(name):
        return release.name, known.get(release.name, _download_folder() / release.name)
    clean = PurePosixPath(name.replace("\\", "/"))
    alike = [model for model in known if model.casefold() == str(clean).casefold()]
    for candidate in (name, str(clean), *(alike if len(alike) == 1 else ())):
        if candidate in known:
            return candidate, known[candidate]
    if clean.is_absolute() or ".." in clean.parts or ":" in name:
        raise ValueError(
            f"model is {name!r}, a path outside the models folder; put the model's folder into models/musicgen "
            "(or name its place in extra_model_paths.yaml) and choose it by its name."
        )
    raise ValueError(
        f"model is {name!r}, which does not exist; allowed are {', '.join(alike or known) or 'none'}. "
        "Put a folder with a config.json, or a single file, into models/musicgen to add one."
    )


def search_folders() -> list[Path]:
    """Where to look for what a model needs and does not hold: T5, EnCodec, MERT."""
    kinds = (FOLDER, "text_encoders", "audio_encoders")
    return [Path(path) for kind in kinds for path in folder_paths.get_folder_paths(kind)]


def model_fingerprint(name: str) -> str:
    """Changes when a file of the model does, or what lies in the other folders that are searched for its parts.
    ComfyUI writes it into saved files, so it tells no paths."""
    path = resolve_model(name)[1]
    inside = path.rglob("*") if path.is_dir() else [path]
    beside = [] if path.is_dir() else [inner.name for inner in path.parent.iterdir() if inner.is_dir()]
    others = sorted(name for name in beside if not is_model_folder(path.parent / name))
    apart = [folder.stat().st_mtime_ns for folder in search_folders() if folder.is_dir() and folder.name != FOLDER]
    return _file_fingerprint(path, sorted(inside), [*others, *apart])


def _file_fingerprint(path: Path, files: list[Path], apart: list[Any]) -> str:
    stats = ((str(file), file.stat()) for file in files if file.is_file())
    state = repr((str(path), [(file, stat.st_mtime_ns, stat.st_size) for file, stat in stats], apart))
    return hashlib.sha256(state.encode()).hexdigest()


def loras() -> dict[str, Path]:
    """Every LoRA's name as the LoRA loader shows it, and its file; a folder that PEFT saved is one entry."""
    found: dict[str, Path] = {}
    for file in folder_paths.get_filename_list(LORA_FOLDER):
        name, path = PurePosixPath(file.replace("\\", "/")), folder_paths.get_full_path(LORA_FOLDER, file)
        if name.suffix == ".safetensors" and path is not None:
            from_peft = name.name == _PEFT_FILE and len(name.parts) > 1 and Path(path).with_name(_PEFT_CONFIG).is_file()
            found[str(name.parent if from_peft else name)] = Path(path).parent if from_peft else Path(path)
    return found


def resolve_lora(name: str) -> tuple[str, Path]:
    """A name out of a workflow -> the name with forward slashes, and the LoRA's file or folder."""
    clean, known = str(PurePosixPath(name.replace("\\", "/"))), loras()
    if clean not in known:
        first = ", ".join(list(known)[:_NAMED]) or "none"
        more = f" and {len(known) - _NAMED} more" if len(known) > _NAMED else ""
        raise ValueError(
            f"lora is {name!r}, which does not exist; allowed are {first}{more}. Put a .safetensors file, or a folder "
            "that PEFT saved, into models/loras to add one."
        )
    return clean, known[clean]


def lora_fingerprint(name: str) -> str:
    """Changes when a file of the LoRA does."""
    path = resolve_lora(name)[1]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return _file_fingerprint(path, files, [])


def model_name(path: Path) -> str:
    """The name under which the loader shows a folder or file."""
    names = [name for name, found in models().items() if found == path]
    return names[0] if names else "move it into models/musicgen first"


def _download_folder() -> Path:
    return Path(folder_paths.models_dir, FOLDER)


def fetch_release(release: Release, node_id: str | None) -> Path:
    """Download a release into `models/musicgen`, with a bar and a line on the node, until the user presses Cancel."""
    bar, shown = comfy.utils.ProgressBar(1), ""

    def on_progress(progress: Progress) -> None:
        nonlocal shown
        check_interrupt()
        if progress.total:
            bar.update_absolute(progress.done, progress.total)
            text = f"{release.name}: {progress.done / 1e9:.2f} of {progress.total / 1e9:.2f} GB, {progress.file}"
            if text != shown:
                show(node_id, text)
                shown = text

    places = {kind: list(map(Path, folder_paths.get_folder_paths(kind))) for kind, _ in release.companions}
    return fetch(release, _download_folder(), places, on_progress)


def new_checkpoint_path(prefix: str) -> Path:
    """Where to save a model: a prefix, with core's placeholders and sub-folders, below the output folder, numbered."""
    prefix = prefix.replace("\\", "/")
    if not prefix.rpartition("/")[2] or prefix.rpartition("/")[2].startswith("."):
        raise ValueError(f"filename_prefix is {prefix!r}; allowed are names that begin neither with nothing nor a dot.")
    root = folder_paths.get_output_directory()
    if not folder_paths.is_within_directory(root, os.path.join(root, os.path.dirname(prefix))):
        raise ValueError(f"filename_prefix is {prefix!r}; allowed are places inside of ComfyUI's output folder.")
    folder, name, counter, _, _ = folder_paths.get_save_image_path(prefix, root)
    return Path(folder, f"{name}_{counter:05}_.safetensors")


# Memory management


def lm_dtype(choice: str, node_id: str | None = None) -> torch.dtype | None:
    """A number format of the loader's combo -> torch dtype, None for float32 over what the weights are kept in best."""
    device = mm.get_torch_device()
    on_cpu = device.type == "cpu"
    if choice == INT8 and not on_cpu:
        say(node_id, f"int8 is for the CPU and this runs on {device.type}: the model is loaded as auto.")
    elif choice == INT8:
        return torch.int8
    elif choice != AUTO:
        return DTYPES[choice]
    if on_cpu:
        return None
    if mm.should_use_bf16(device):
        return torch.bfloat16
    return torch.float16 if mm.should_use_fp16(device) else torch.float32


def lm_operations() -> Any:
    """The layers that the language model is built of: they fetch weights that were offloaded.

    The host turns that on where it offloads or patches in passing. Its other layers, manual_cast, look for
    something to fetch and cast in every call, which takes a third of a step of the smallest model.
    """
    return comfy.ops.disable_weight_init


def wrap_lm(module: nn.Module) -> Any:
    """A ModelPatcher around a language model: where its steps can be recorded, one that lets weights lie still."""
    device = mm.get_torch_device()
    may_move = _graphs_are_off() or why_no_graphs(device)
    return _wrap(module, device, mm.unet_offload_device(), None if may_move else comfy.model_patcher.ModelPatcher)


def wrap_text_encoder(module: nn.Module) -> Any:
    """A ModelPatcher around a text encoder."""
    return _wrap(module, mm.text_encoder_device(), mm.text_encoder_offload_device())


def wrap_style(module: nn.Module) -> Any:
    """A ModelPatcher around a style conditioner, which runs where text encoders do."""
    return wrap_text_encoder(module)


def wrap_codec(module: nn.Module) -> Any:
    """A ModelPatcher around a codec."""
    return _wrap(module, mm.vae_device(), mm.vae_offload_device())


def _wrap(module: nn.Module, load_device: torch.device, offload_device: torch.device, kind: Any = None) -> Any:
    mm.archive_model_dtypes(module)
    kind = kind or comfy.model_patcher.CoreModelPatcher
    return kind(module, load_device=load_device, offload_device=offload_device)


def _graphs_are_off() -> str | None:
    off = os.environ.get(GRAPHS_VARIABLE, "").strip() == "0"
    return f"{GRAPHS_VARIABLE} is 0" if off else None


def may_record(patcher: Any) -> bool:
    """Whether the steps of a language model that is loaded now can be recorded: its weights must lie still on the GPU
    until the run ends. Says in the log why not, where there is a GPU."""
    module, device = patcher.model, patcher.load_device
    reason = _graphs_are_off() or why_no_graphs(device)
    if reason is None and patcher.is_dynamic():
        reason = "ComfyUI may move its weights at any time (dynamic VRAM)"
    if reason is None and (module.model_lowvram or any(p.device.type != device.type for p in module.parameters())):
        reason = "it is not in the GPU's memory as a whole"
    changes = ("weight_function", "bias_function")
    if reason is None and any(getattr(m, name, None) for m in module.modules() for name in changes):
        reason = "its weights are changed whenever they are used"
    if reason is not None and device.type != "cpu":
        logger.info("Steps of the language model are not recorded: %s.", reason)
    return reason is None


def patch_lm(patcher: Any, lora: Any, strength: float) -> Any:
    """A clone of a language model's patcher that adds a LoRA. Both share one module: the host changes its weights when
    it loads the clone, and back when it loads the other."""
    whole = {_patch_key(change.rows): ("diff", (change.value,)) for change in lora.replacements}
    low_rank: dict[Any, Any] = {}
    for change in lora.low_rank:
        alpha = change.scale * change.down.shape[0]  # the host divides by the rank
        low_rank[_patch_key(change.rows)] = comfy.weight_adapter.LoRAAdapter(
            set(), (change.up, change.down, alpha, None, None, None)
        )
    patched = patcher.clone()
    done = patched.add_patches(whole, strength, 1.0 - strength) + patched.add_patches(low_rank, strength)
    if len(done) != len(whole) + len(low_rank):
        raise RuntimeError(f"ComfyUI took {len(done)} of {len(whole) + len(low_rank)} changes of LoRA {lora.name}.")
    return patched


def _patch_key(rows: Any) -> tuple[str, tuple[int, int, int]]:
    return rows.parameter, (0, rows.start, rows.count)


@contextmanager
def on_device(patcher: Any, *, memory_required: int = 0, whole: bool = False) -> Iterator[torch.device]:
    """Bring a model to its device and yield that device.

    memory_required: bytes of activations and caches. whole: for modules of plain torch layers,
    which cannot run while a part of them is offloaded.
    """
    mm.load_models_gpu([patcher], memory_required=memory_required, force_full_load=whole)
    device = patcher.load_device
    # Only with several GPUs, and only in newer hosts.
    context = getattr(mm, "cuda_device_context", None)
    with context(device) if context else nullcontext():
        yield device


def load_for_saving(patchers: list[Any]) -> None:
    """Bring models to where :func:`weights_for_saving` finds them, all at once so that none evicts another."""
    mm.load_models_gpu(patchers)


def weights_for_saving(patcher: Any, part: str | None = None) -> dict[str, Tensor]:
    """The state dict of a model or of one of its modules, with patches such as LoRA worked in, as core's own savers
    do it; some of its tensors compute themselves when they are moved to the CPU."""
    if part is None:
        return patcher.model_state_dict_for_saving()
    return patcher.model_state_dict_for_saving(getattr(patcher.model, part), f"{part}.")


# Progress and interruption


def check_interrupt() -> None:
    """Raise if the user pressed Cancel."""
    mm.throw_exception_if_processing_interrupted()


def say(node_id: str | None, text: str) -> None:
    """Show a line on a node, and in the log."""
    logger.warning(text)
    show(node_id, text)


def show(node_id: str | None, text: str) -> None:
    """Show a line on a node."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    if server is not None and node_id is not None:
        server.send_progress_text(text, node_id)


class PartReporter:
    """Called with what is done of a part and what there is of it: stops on interruption and moves the progress bar.

    parts: how many, as long as one another, come one after the other.
    """

    def __init__(self, parts: int = 1) -> None:
        self._bar, self._parts = comfy.utils.ProgressBar(parts), parts

    def __call__(self, done: int, total: int, part: int = 0) -> None:
        check_interrupt()
        self._bar.update_absolute(part * total + done, self._parts * total)


class StepReporter:
    """Called after every step: stops on interruption, moves the progress bar, and now and then shows a picture."""

    def __init__(self, total: int, draw: Callable[[Tensor], Tensor]) -> None:
        """total: steps. draw: codes [B, K, T] -> picture [H, W, 3], floats of 0 to 1."""
        self._bar = comfy.utils.ProgressBar(total)
        self._draw = draw
        self._next_picture = 0.0

    def __call__(self, progress: Any) -> None:
        check_interrupt()
        preview = None
        if progress.step == progress.total or time.monotonic() >= self._next_picture:
            picture = (self._draw(progress.codes()) * 255).to(torch.uint8).numpy()
            preview = ("JPEG", Image.fromarray(picture), _PICTURE_SIZE)
            self._next_picture = time.monotonic() + _PICTURE_INTERVAL
        self._bar.update_absolute(progress.step, progress.total, preview)
