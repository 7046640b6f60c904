"""Compiles the decoding step for the processor that runs it, once in a process, through llvmlite.

llvmlite is optional: many packs bring it (it is a part of numba). Without it, or on a processor that
cannot widen float16 numbers, the ordinary step runs. A compilation takes half a second and is kept
in memory only: there is no file to be damaged, to belong to another processor, or to be written.
"""

from __future__ import annotations

import ctypes
import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("musicgen")

VARIABLE = "MUSICGEN_COMPILED"
_NEEDED = {"x86_64": ("avx2", "fma", "f16c"), "amd64": ("avx2", "fma", "f16c"), "aarch64": (), "arm64": ()}
_MEMORY: dict[str, Any] = {}
_LOCK = threading.Lock()
_ENGINES: list[Any] = []  # they own the machine code


def why_not_compiled() -> str | None:
    """Give the reason for which steps are not compiled here, or None. Compiles the step on the first call."""
    if _is_off():
        return f"{VARIABLE} is 0"
    with _LOCK:
        if "reason" not in _MEMORY:
            _MEMORY["reason"] = _try_to_compile()
        return _MEMORY["reason"]


def compiled_step() -> Callable[[int, int, int], None]:
    """The machine code: `step(thread, threads, address of the plan)`. Only after :func:`why_not_compiled` gave None."""
    return _MEMORY["step"]


def is_decided() -> bool:
    """Whether :func:`why_not_compiled` answers at once, since the step was compiled or was found impossible."""
    return "reason" in _MEMORY or _is_off()


def give_up(reason: str) -> None:
    """Run no compiled step any more in this process; the log says why."""
    _MEMORY["reason"] = reason
    logger.warning(
        "The compiled decoding step is not used, since %s. The ordinary one goes on; %s=0 keeps to it.",
        reason,
        VARIABLE,
    )


def _is_off() -> bool:
    return os.environ.get(VARIABLE, "").strip() == "0"


def give_way() -> int:
    """The address of the system's function that gives the core to another thread, 0 where there is none."""
    try:
        if sys.platform == "win32":
            function = ctypes.WinDLL("kernel32").SwitchToThread
        else:
            function = ctypes.CDLL(None).sched_yield
    except (OSError, AttributeError):
        return 0
    return ctypes.cast(function, ctypes.c_void_p).value or 0


def _try_to_compile() -> str | None:
    """Compile; give the reason where that fails, which the log tells once."""
    began = time.perf_counter()
    try:
        reason = _compile()
    except ImportError as error:
        reason = f"llvmlite cannot be imported ({error}); `pip install llvmlite` makes decoding on this CPU faster"
    except Exception as error:  # a fault of a compiler must not keep anyone from music
        reason = f"the compilation failed with {type(error).__name__}: {str(error)[:200]}"
    if reason is None:
        logger.info("The decoding step was compiled for this processor in %.1f s.", time.perf_counter() - began)
    else:
        logger.info("Decoding steps are not compiled: %s.", reason)
    return reason


def _compile() -> str | None:
    import llvmlite.binding as llvm

    machine = platform.machine().lower()
    if machine not in _NEEDED:
        return f"they are for x86 and ARM with 64 bits, and this processor is {machine or 'unknown'}"
    features = llvm.get_host_cpu_features()
    missing = [name for name in _NEEDED[machine] if not features.get(name)]
    if missing:
        return f"this processor lacks {', '.join(missing)}"
    _MEMORY["step"] = build()
    return None


def build(*, measured: bool = False, without: str | None = None) -> Callable[[int, int, int], None]:
    """Compile the step for this processor, whether it can run it or not.

    Args:
        measured: whether it adds up the times of its phases.
        without: the beginning of the names of features of the processor that are not to be used, such as `avx512`.
    """
    import llvmlite.binding as llvm

    from .cpu_kernels import SYMBOL, step_module

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    if without is not None:
        features.update({name: False for name in features if name.startswith(without)})
    triple = llvm.get_process_triple()
    if sys.platform == "win32":
        triple += "-elf"  # LLVM's loader for machine code reads this format everywhere
    target = llvm.Target.from_triple(triple).create_target_machine(
        cpu=llvm.get_host_cpu_name() if without is None else "",
        features=features.flatten(),
        opt=3,
        reloc="default",
        codemodel="jitdefault",
        jit=True,
    )
    source = step_module(many_registers=bool(features.get("avx512f")), measured=measured)
    source.triple = triple
    module = llvm.parse_assembly(str(source))
    module.verify()
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    _ENGINES.append(engine)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)
    return kind(engine.get_function_address(SYMBOL))
