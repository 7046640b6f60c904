"""How much memory is free on a device, and which errors say that it ran out."""

from __future__ import annotations

from pathlib import Path

import torch

_UNKNOWN = 4 << 30
_SIGNS = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


def free_memory(device: torch.device) -> int:
    """Return the bytes that new tensors may take on a device; 4 GiB where the system does not tell."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    limits = [found for found in (_available(), _left_in_group()) if found is not None]
    return min(limits, default=_UNKNOWN)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        pass
    try:
        import psutil  # type: ignore[import-untyped]

        return int(psutil.virtual_memory().available)
    except ImportError:
        return None


def _left_in_group() -> int | None:
    """Bytes up to the limit of a container's control group (version 2); None without a limit."""
    folder = Path("/sys/fs/cgroup")
    try:
        most, used = ((folder / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current"))
        return None if most == "max" else max(0, int(most) - int(used))
    except (OSError, ValueError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, on a device or on the CPU."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
    )
