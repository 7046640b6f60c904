"""Where the weights of a listening model are, and how they get into its module without running a pickle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ...checkpoints.files.tensors import TensorRecord


@dataclass(frozen=True)
class Place:
    """Where a model's files belong. folder: under a folder of models; files: which ones to put there."""

    folder: str
    files: str


PLACES = {
    "clap": Place(
        "clap",
        "config.json, model.safetensors, preprocessor_config.json and tokenizer.json of a CLAP model in transformers' "
        "layout (such as laion/larger_clap_music), or LAION's .pt (such as music_audioset_epoch_15_esc_90.14.pt) with "
        "tokenizer.json of roberta-base",
    ),
    "mert": Place(
        "MERT-v1-95M",
        "config.json, preprocessor_config.json and pytorch_model.bin (or model.safetensors) of m-a-p/MERT-v1-95M "
        "(CC-BY-NC 4.0)",
    ),
    "vggish": Place("vggish", "vggish-10086976.pth, the weights of VGGish that torchvggish 0.1 published"),
    "tags": Place(
        "tags",
        "config.json, preprocessor_config.json and model.safetensors of a classifier of sound in transformers' layout "
        "(such as MIT/ast-finetuned-audioset-10-10-0.4593)",
    ),
}
"""By the name of a model; EnCodec comes with a MusicGen model."""


def find_weights(name: str, given: Path | None, search: Sequence[Path]) -> Path:
    """Return the folder or file of a model's weights.

    Args:
        name: a name of `PLACES`.
        given: the user's own path, which must exist.
        search: folders of models, each of which may hold the model's folder.

    Raises:
        FileNotFoundError: there are none; the sentence names the files and the folder to put them into.
    """
    place = PLACES[name]
    if given is not None:
        if not given.exists():
            raise FileNotFoundError(f"{given}, given for {name}, does not exist; put there {place.files}.")
        return given
    for folder in search:
        if (folder / place.folder).is_dir():
            return folder / place.folder
    wanted = (search[0] if search else Path("models")) / place.folder
    raise FileNotFoundError(f"{name} needs weights that are not here; put {place.files} into {wanted}.")


def fill_module(
    module: nn.Module, records: Mapping[str, TensorRecord], where: Path, ignored: Iterable[str] = ()
) -> None:
    """Read a module's parameters and buffers from records of the same names.

    Args:
        module: a module on the CPU.
        records: stored tensors by the module's own names.
        where: the file or folder, for messages.
        ignored: ends of names that need not be stored, or need not be read.

    Raises:
        ValueError: a tensor is missing, unknown or of another shape; the sentence lists the first five.
    """
    ends = tuple(ignored)
    wanted = {name: tensor for name, tensor in module.state_dict().items() if not (ends and name.endswith(ends))}
    stored = {name: record for name, record in records.items() if not (ends and name.endswith(ends))}
    faults = {
        "missing": sorted(wanted.keys() - stored.keys()),
        "unknown": sorted(stored.keys() - wanted.keys()),
        "misshaped": [
            name for name in sorted(wanted.keys() & stored.keys()) if stored[name].shape != wanted[name].shape
        ],
    }
    parts = [f"{len(names)} {fault} tensors, first {', '.join(names[:5])}" for fault, names in faults.items() if names]
    if parts:
        raise ValueError(f"{where} does not fit its configuration: {'; '.join(parts)}. Fetch the whole model again.")
    with torch.no_grad():
        for name, tensor in wanted.items():
            stored[name].read_into(tensor, name)
