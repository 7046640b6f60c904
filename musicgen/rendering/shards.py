"""Shards: many pieces in one file, with their codes, sound, recipe and columns, for those who train on them.

Parquet needs pyarrow; a WebDataset shard is a tar file in which the members of a piece share their name.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..environment import imported
from .renderer import Sound

FOLDER = "shards"
KINDS = ("parquet", "webdataset")
SUFFIXES = {"parquet": "parquet", "webdataset": "tar"}


def sample(sound: Sound, data: bytes) -> dict[str, Any]:
    """Return a piece as one flat record; codes are whole numbers `[K x T]` in row order."""
    piece = sound.piece
    return {
        "id": piece.id,
        "description": piece.description,
        "seconds": sound.audio.shape[1] / sound.sample_rate,
        "codes": sound.codes.reshape(-1).to(torch.int32).numpy(),
        "codebooks": len(sound.codes),
        "audio": data,
        "format": piece.format,
        "sample_rate": sound.sample_rate,
        "recipe": json.dumps(piece.recipe(), ensure_ascii=False),
        "columns": json.dumps(dict(piece.columns), ensure_ascii=False),
    }


def npy(codes: Tensor) -> bytes:
    """Return codes `[K, T]` as the bytes of a `.npy` file, int16 where all codes fit."""
    import numpy as np

    target = io.BytesIO()
    np.save(target, codes.to(torch.int16 if int(codes.max()) < 1 << 15 else torch.int32).numpy())
    return target.getvalue()


def encode(samples: Sequence[dict[str, Any]], kind: str) -> bytes:
    """Return the bytes of a shard.

    Raises:
        ImportError: pyarrow is missing or broken, for Parquet.
    """
    return _parquet(samples) if kind == "parquet" else _tar(samples)


def _parquet(samples: Sequence[dict[str, Any]]) -> bytes:
    table = imported("pyarrow").Table.from_pylist(list(samples))
    return _table_bytes(table)


def _table_bytes(table: Any) -> bytes:
    target = io.BytesIO()
    imported("pyarrow.parquet").write_table(table, target)
    return target.getvalue()


def _tar(samples: Sequence[dict[str, Any]]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for item in samples:
            key = item["id"].replace(".", "_")  # in a WebDataset a name ends at its first dot
            codes = torch.from_numpy(item["codes"]).reshape(item["codebooks"], -1)
            about = {name: item[name] for name in ("id", "description", "seconds", "format", "sample_rate")}
            about |= {name: json.loads(item[name]) for name in ("recipe", "columns")}
            members = {
                item["format"]: item["audio"],
                "json": json.dumps(about, ensure_ascii=False).encode(),
                "codes.npy": npy(codes),
            }
            for suffix, data in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return target.getvalue()


def without(path: Path, ids: Collection[str]) -> bytes | None:
    """Return the bytes of a shard without some pieces, or None if none are left."""
    if path.suffix == ".parquet":
        table = imported("pyarrow.parquet").read_table(path)
        kept = [index for index, name in enumerate(table["id"].to_pylist()) if name not in ids]
        return _table_bytes(table.take(kept)) if kept else None
    dropped = {name.replace(".", "_") for name in ids}
    target, left = io.BytesIO(), 0
    with tarfile.open(path) as old, tarfile.open(fileobj=target, mode="w", format=tarfile.USTAR_FORMAT) as new:
        for info in old:
            if info.name.partition(".")[0] not in dropped:
                new.addfile(info, old.extractfile(info))
                left += 1
    return target.getvalue() if left else None


def ids_in(path: Path) -> Iterator[str]:
    """Yield the ids of the pieces in a shard."""
    if path.suffix == ".parquet":
        yield from imported("pyarrow.parquet").read_table(path, columns=["id"])["id"].to_pylist()
        return
    with tarfile.open(path) as tar:
        for info in tar:
            if info.name.endswith(".json"):
                found = tar.extractfile(info)
                assert found is not None
                yield json.load(found)["id"]
