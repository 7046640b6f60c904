"""The process that the library runs in: the packages that it imports, and torch's global switches.

Other code in the same process may have changed a switch, and a package may be missing or broken. Both
are met here: the library's public functions compute under torch's own defaults, and third-party packages
are imported under them too. A fault of a package is reported as one, and never as a fault of a model.
"""

from __future__ import annotations

import errno
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
_REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"
_LAST_TORCHAUDIO = (2, 11)
"""The last release of torchaudio; each belongs to the torch of the same number."""
_NEEDED = {
    "torchaudio.functional": (),
    "encodec.modules": ("SEANetEncoder", "SEANetDecoder"),
    "encodec.quantization": ("ResidualVectorQuantizer",),
    "tokenizers": ("Tokenizer",),
    "transformers": ("T5Config", "T5EncoderModel", "PreTrainedTokenizerFast"),
}
"""The modules and names that every model is built of."""


@contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute under torch's own defaults: float32, the CPU, and no autocast. A context and a decorator.

    One default is not kept: float32 stays whole also in the convolutions of a GPU, which torch computes in
    TF32 unless it is told otherwise. A codec's sound is then off by up to 1e-3, and some of its codes are others.

    The switches are put back afterwards. Weights and inputs that are on another device, or in another
    format, stay as they are.
    """
    dtype = torch.get_default_dtype()
    with ExitStack() as stack:
        if dtype != torch.float32:
            torch.set_default_dtype(torch.float32)
            stack.callback(torch.set_default_dtype, dtype)
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        for device in _AUTOCAST_DEVICES:
            if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        for place, name, whole in _float32_switches():
            kept = getattr(place, name)
            if kept != whole:
                setattr(place, name, whole)
                stack.callback(setattr, place, name, kept)
        yield


def _float32_switches() -> list[tuple[Any, str, Any]]:
    """(place, name, value) of the switches that let float32 be computed with fewer bits.

    torch 2.9 gave each operation its own and refuses the old ones where both were used, so the old
    ones are touched only by older versions.
    """
    backends = torch.backends
    if hasattr(backends.cudnn, "conv") and hasattr(backends.cuda.matmul, "fp32_precision"):
        places = [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]
        places += [
            getattr(backends.mkldnn, name) for name in ("conv", "rnn", "matmul") if hasattr(backends.mkldnn, name)
        ]
        return [(place, "fp32_precision", "ieee") for place in places]
    return [(backends.cudnn, "allow_tf32", False), (backends.cuda.matmul, "allow_tf32", False)]


def imported(module: str, *names: str) -> Any:
    """Import a third-party module and return it, or the names of it that are asked for, as a tuple.

    Raises:
        ImportError: the package is missing or broken; the sentence names it and how to install it.
        MemoryError: memory ran out during the import.
    """
    try:
        with torch_defaults():
            found = importlib.import_module(module)
            return tuple(getattr(found, name) for name in names) if names else found
    except Exception as error:
        if _is_memory(error):
            raise MemoryError(f"memory ran out while {module} was imported; close other programs first.") from error
        raise ImportError(_advice(module, error)) from error


def require_packages() -> None:
    """Import everything that a model is built of, before anything is built.

    Raises:
        ImportError: a package is missing or broken; the sentence names it and how to install it.
    """
    for module, names in _NEEDED.items():
        imported(module, *names)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_memory(error: Exception) -> bool:
    texts = ("cannot allocate memory", "failed to map segment")
    return any(
        isinstance(one, MemoryError)
        or (isinstance(one, OSError) and one.errno == errno.ENOMEM)
        or (isinstance(one, ImportError | OSError) and any(text in str(one).lower() for text in texts))
        for one in _chain(error)
    )


def _advice(module: str, error: Exception) -> str:
    """The sentence about a package that could not be imported."""
    package = module.partition(".")[0]
    missing = [one.name for one in _chain(error) if isinstance(one, ModuleNotFoundError) and one.name]
    culprit, fault = missing[-1].partition(".")[0] if missing else package, list(_chain(error))[-1]
    if culprit != "torchaudio" and (broken := _fault_of("torchaudio")) is not None:
        culprit, fault = "torchaudio", broken
    is_missing = isinstance(fault, ModuleNotFoundError) and (fault.name or "").partition(".")[0] == culprit
    reason = f"{type(fault).__name__}: {fault}".splitlines()[0][:200]
    needs = "" if culprit == package else f", which {package} needs,"
    install = f"{_quoted(sys.executable)} -m pip install"
    packages = f"-r {_quoted(str(_REQUIREMENTS))}" if _REQUIREMENTS.is_file() else "encodec"
    if culprit == "torchaudio":
        return (
            f"torchaudio {_version('torchaudio')}{needs} does not load with torch {torch.__version__} ({reason}); "
            "the model is not at fault. Install a torchaudio made for the torch in use: "
            f"{install} {_matching()} {packages}"
        )
    state = "is not installed" if is_missing else f"cannot be imported ({reason})"
    return (
        f"the Python package {culprit}{needs} {state}; the model is not at fault. "
        f"Install it and start again: {install} {packages}"
    )


def versions() -> str:
    """The versions of the packages that networks are built with, for a message."""
    return f"torch {torch.__version__}, transformers {_version('transformers')} and encodec {_version('encodec')}"


def _fault_of(package: str) -> Exception | None:
    try:
        with torch_defaults():
            importlib.import_module(package)
        return None
    except Exception as error:
        return error


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _matching() -> str:
    """The arguments of pip for the torchaudio of the running torch, and for an older torch where there is none."""
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    if (major, minor) <= _LAST_TORCHAUDIO:
        return f'"torchaudio=={major}.{minor}.*"'
    number = ".".join(map(str, _LAST_TORCHAUDIO))
    return f'"torch=={number}.*" "torchaudio=={number}.*"'


def _quoted(text: str) -> str:
    return f'"{text}"' if " " in text else text
