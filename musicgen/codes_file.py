"""Codes on disk: one small `.safetensors` file with the codes, exact, and text about them.

The tensor `codes` `[B, K, T]` has the smallest integer type that holds it. The metadata key `musicgen_tokens` holds a
JSON object; the other keys are text that belongs to the program that wrote the file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .writing import Numbered, UnwritableError, write_file

KEY = "musicgen_tokens"
SUFFIX = ".safetensors"
VERSION = 1

_NAME = "codes"
_LARGEST_HEADER = 100_000_000
_TYPES = (torch.uint8, torch.int16, torch.int32)


def write_codes(
    target: Path | Numbered, codes: Tensor, about: Mapping[str, Any], extra: Mapping[str, str] | None = None
) -> Path:
    """Write codes as a whole or not at all, and return the file's path.

    Args:
        target: a path, or a numbered name whose first free number is taken.
        codes: int `[B, K, T]`, from 0 on.
        about: anything that JSON can hold.
        extra: further texts for the metadata.

    Raises:
        ValueError: the file cannot be written.
    """
    from safetensors.torch import save

    highest = int(codes.max())
    kind = next(kind for kind in _TYPES if highest <= torch.iinfo(kind).max)
    metadata = {**(extra or {}), KEY: json.dumps({"version": VERSION, **about})}
    data = save({_NAME: codes.to("cpu", kind).contiguous()}, metadata)
    try:
        (target.folder if isinstance(target, Numbered) else target.parent).mkdir(parents=True, exist_ok=True)
        return write_file(target, lambda file: file.write(data))
    except UnwritableError as error:
        raise ValueError(str(error)) from error
    except OSError as error:
        place = target.path(target.first) if isinstance(target, Numbered) else target
        raise ValueError(
            f"{place} could not be written ({error.strerror or error}); choose a folder that can be written to."
        ) from error


def read_codes(path: Path) -> tuple[Tensor, dict[str, Any]]:
    """Return the codes of a file, int64 `[B, K, T]`, and the JSON object about them.

    Raises:
        ValueError: the file is not one of codes, is damaged, or was written by a later version.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    about = read_about(path)
    if about is None:
        raise ValueError(f"{path.name} holds no tokens; allowed is a file from MusicGen Save Tokens.")
    if about.get("version") != VERSION:
        raise ValueError(
            f"{path.name} has version {about.get('version')} of the token format; allowed is {VERSION}, so update this "
            "pack."
        )
    try:
        codes = load(path.read_bytes())[_NAME]
    except (OSError, SafetensorError, KeyError) as error:
        raise ValueError(f"{path.name} is damaged or cut short ({error}); fetch or save it again.") from error
    if codes.dim() != 3 or codes.numel() == 0 or codes.dtype not in _TYPES or int(codes.min()) < 0:
        raise ValueError(
            f"{path.name} holds codes of shape {list(codes.shape)} and type {codes.dtype}; allowed are whole numbers "
            "from 0 on, [batch, codebooks, frames]. Save it again."
        )
    return codes.to(torch.int64), about


def read_about(path: Path) -> dict[str, Any] | None:
    """Return the JSON object of a file of codes, from its header alone; None for any other file."""
    try:
        with open(path, "rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > _LARGEST_HEADER:
                return None
            about = json.loads(json.loads(file.read(size))["__metadata__"][KEY])
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError):
        return None
    return about if isinstance(about, dict) else None
