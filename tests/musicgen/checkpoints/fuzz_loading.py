"""Damage files of tiny models in every way, load and use them, and report: each must work or be refused in words.

Run by a test as a process of its own, since nothing less than a process shows a crash or a call that never
comes back. Each file has ten seconds, and is watched for the memory that it takes beyond what was resident
before; what may be reserved at all is limited too, so that a claim of a terabyte fails even where the system
would only promise it. Linux only.
"""

from __future__ import annotations

import ctypes
import faulthandler
import hashlib
import json
import resource
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path

import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from musicgen import GenerationParams, load_model, read_lora, save_checkpoint  # noqa: E402
from tests.tiny import write_style_model  # noqa: E402

SECONDS = 10
SPARE_BYTES = 128 << 20
CHECKPOINTS = ROOT / "tests" / "golden" / "checkpoints"
TARGETS = [
    ("hf-text", "model.safetensors"),
    ("hf-text", "config.json"),
    ("hf-text-sharded", "model.safetensors.index.json"),
    ("hf-text-sharded", "model-00002-of-00002.safetensors"),
    ("hf-bin", "pytorch_model.bin"),
    ("audiocraft-text", "state_dict.bin"),
    ("audiocraft-text", "compression_state_dict.bin"),
    ("audiocraft-text", "t5-base/config.json"),
    ("audiocraft-text", "t5-base/model.safetensors"),
    ("audiocraft-text", "t5-base/tokenizer.json"),
    ("style", "state_dict.bin"),
    ("style", "MERT-v1-95M/config.json"),
    ("style", "MERT-v1-95M/pytorch_model.bin"),
    ("single", "one.safetensors"),
    ("single-style", "one.safetensors"),
    ("spiece", "spiece.model"),
    ("lora", "adapter_model.safetensors"),
    ("lora", "adapter_config.json"),
]
BYTES = [
    b"",
    b"\x00",
    b"\xff\xff\xff\xff",
    b"\x00\x00\xc0\x7f",
    b"]" * 100,
    b"[" * 10_000,
    b"9" * 20,
    b"-",
    b"1e999",
    b"{}",
]
# Half of the damage is to what a file says about itself, which is most of what is believed.
HOW = ["flip", "flip", "cut", "splice", "splice", "empty", "link"] + ["describe"] * 7
VALUES = [
    None,
    True,
    -1,
    0,
    1,
    3,
    2**31,
    2**63,
    10**40,
    1e300,
    float("nan"),
    float("inf"),
    "",
    "relu",
    "F64",
    "I8",
    [],
    {},
]


class Overtime(BaseException):
    """The ten seconds are over."""


def stop(*_: object) -> None:
    raise Overtime


def places(length: int, header: int) -> st.SearchStrategy[int]:
    """Positions in a file, half of them where its description stands."""
    return (
        st.integers(0, max(min(header, length - 1), 0)) | st.integers(-min(header, length), -1) | st.integers(0, length)
    )


def flip(draw, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(draw(st.integers(1, 12))):
        damaged[draw(places(len(data), 20_000)) % len(data)] ^= 1 << draw(st.integers(0, 7))
    return bytes(damaged)


def cut(draw, data: bytes) -> bytes:
    return data[: draw(places(len(data), 20_000))]


def splice(draw, data: bytes) -> bytes:
    """Replace a stretch by something else, or by another stretch."""
    begin = draw(places(len(data), 20_000)) % len(data)
    end = begin + draw(st.integers(0, 64))
    other = draw(st.integers(0, len(data) - 1))
    return data[:begin] + draw(st.sampled_from([*BYTES, data[other : other + 64]])) + data[end:]


def edit_json(draw, table: object) -> None:
    """Change, remove or add one entry, anywhere in a tree of tables and lists."""
    for _ in range(6):
        keys = list(table) if isinstance(table, dict) else list(range(len(table)))
        key = draw(st.sampled_from(keys))
        inner = table[key]
        if not (isinstance(inner, dict | list) and inner) or draw(st.integers(0, 3)) == 0:
            break
        table = inner
    action = draw(st.integers(0, 5))
    if action == 0:
        del table[key]
    elif action == 1 and isinstance(table, dict):
        table[draw(st.sampled_from(["weight_map", "__metadata__", "x"]))] = table[key]
    else:
        table[key] = draw(st.sampled_from(VALUES))


def edit_description(draw, data: bytes, path: Path) -> bytes:
    """Change what a file says about itself."""
    if path.suffix == ".json":
        table = json.loads(data)
        edit_json(draw, table)
        return json.dumps(table).encode()
    if path.suffix == ".safetensors":
        length = int.from_bytes(data[:8], "little")
        table = json.loads(data[8 : 8 + length])
        edit_json(draw, table)
        header = json.dumps(table).encode()
        header += b" " * max(0, length - len(header))
        return len(header).to_bytes(8, "little") + header + data[8 + length :]
    if path.suffix == ".model":
        return splice(draw, splice(draw, data))
    package = torch.load(path, weights_only=True)
    tensors = package.get("best_state", package)
    name = draw(st.sampled_from(sorted(tensors)))
    damage = st.sampled_from([lambda t: t.long(), lambda t: t * float("nan"), lambda t: t[:0], lambda t: "text"])
    tensors[name] = draw(damage)(tensors[name])
    if "xp.cfg" in package and draw(st.booleans()):
        package["xp.cfg"] = splice(draw, package["xp.cfg"].encode()).decode("utf-8", "replace")
    torch.save(package, path)
    return path.read_bytes()


@st.composite
def damages(draw) -> tuple[str, str, str, object]:
    folder, file = draw(st.sampled_from(TARGETS))
    return folder, file, draw(st.sampled_from(HOW)), draw


def prepare(work: Path) -> None:
    """Every layout once, undamaged."""
    for name in ("hf-text", "hf-text-sharded", "audiocraft-text"):
        shutil.copytree(CHECKPOINTS / name, work / name)
    for name in ("hf-bin", "spiece"):
        shutil.copytree(work / "hf-text", work / name)
    torch.save(load_file(work / "hf-bin" / "model.safetensors"), work / "hf-bin" / "pytorch_model.bin")
    (work / "hf-bin" / "model.safetensors").unlink()
    (work / "spiece" / "tokenizer.json").unlink()
    shutil.copy(CHECKPOINTS.parent / "spiece.model", work / "spiece")
    write_style_model(work / "style")
    for name, source in (("single", "hf-text"), ("single-style", "style")):
        (work / name).mkdir()
        save_checkpoint(load_model(work / source), work / name / "one.safetensors")
    shutil.copytree(CHECKPOINTS.parent / "loras" / "text", work / "lora")
    (work / "outside").write_bytes(b"secret")


def use(work: Path, folder: str) -> None:
    """Load what lies in a folder, and let it make a moment of music."""
    if folder == "lora":
        model = load_model(work / "hf-text")
        model = model.with_lora(read_lora(work / folder, model.config))
    else:
        one = work / folder / "one.safetensors"
        model = load_model(one if one.exists() or one.is_symlink() else work / folder)
    model.decode(model.generate(["rock"], GenerationParams(0.1)))


def memory(field: str) -> int:
    """Bytes, of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) * 1024


def attempt(work: Path, folder: str) -> tuple[str, int]:
    """How a damaged folder is met, and the memory that it takes at most."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # what earlier files left to the allocator would hide what this one takes
        trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True)  # for what holds the interpreter and never comes back
    try:
        use(work, folder)
        outcome = "used"
    except (ValueError, FileNotFoundError) as error:
        check_words(error, work)
        outcome = "refused"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
    return outcome, memory("VmHWM") - before


def check_words(error: Exception, work: Path) -> None:
    """A refusal is a sentence of this library that tells the file, and no lack of memory in disguise."""
    words = str(error)
    assert type(error) in (ValueError, FileNotFoundError), repr(error)
    assert "\n" not in words and len(words) < 700 + 3 * len(str(work)) and words.endswith("."), words
    assert str(work) in words or "logits" in words, words
    assert not any(hint in words.lower() for hint in ("memoryerror", "alloc", "out of memory")), words


def main(work: Path, examples: int, number: int) -> None:
    torch.set_num_threads(1)
    prepare(work)
    for name in dict.fromkeys(folder for folder, _ in TARGETS):
        use(work, name)
    outcomes: Counter[str] = Counter()
    seen: set[str] = set()
    excess = 0
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + SPARE_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGALRM, stop)

    @seed(number)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damages())
    def damage_and_use(damage: tuple) -> None:
        nonlocal excess
        folder, file, how, draw = damage
        path = work / folder / file
        data = path.read_bytes()
        try:
            if how == "link":
                path.unlink()
                path.symlink_to(work / "outside")
            else:
                edits = {"flip": flip, "cut": cut, "splice": splice, "empty": lambda *_: b""}
                path.write_bytes(edit_description(draw, data, path) if how == "describe" else edits[how](draw, data))
            damaged = path.read_bytes()
            outcome, taken = attempt(work, folder)
            size = sum(part.stat().st_size for part in (work / folder).rglob("*") if part.is_file())
            excess = max(excess, taken - size)
            key = hashlib.sha256(file.encode() + folder.encode() + damaged).hexdigest()
            if damaged != data and key not in seen:
                seen.add(key)
                outcomes[outcome] += 1
        finally:
            path.unlink()
            path.write_bytes(data)

    damage_and_use()
    print(json.dumps({**outcomes, "excess_bytes": excess}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
