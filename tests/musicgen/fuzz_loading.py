"""Damage files of tiny models in every way, load them, and report: each must load or be refused in words.

Run by a test as a process of its own, which may use ten seconds of a processor for each file and
little more memory than it has after loading the undamaged models.
"""

from __future__ import annotations

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

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from musicgen import load_model  # noqa: E402

SECONDS = 10
SPARE_BYTES = 512 << 20
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
    return folder, file, draw(st.sampled_from(["flip", "cut", "splice", "describe", "describe", "empty", "link"])), draw


def prepare(work: Path) -> None:
    for name in ("hf-text", "hf-text-sharded", "audiocraft-text"):
        shutil.copytree(CHECKPOINTS / name, work / name)
    shutil.copytree(work / "hf-text", work / "hf-bin")
    torch.save(load_file(work / "hf-bin" / "model.safetensors"), work / "hf-bin" / "pytorch_model.bin")
    (work / "hf-bin" / "model.safetensors").unlink()
    (work / "outside").write_bytes(b"secret")
    for name in {folder for folder, _ in TARGETS}:
        load_model(work / name)


def main(work: Path, examples: int, number: int) -> None:
    torch.set_num_threads(1)
    prepare(work)
    outcomes: Counter[str] = Counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (in_use + SPARE_BYTES, resource.RLIM_INFINITY))
    signal.signal(signal.SIGVTALRM, stop)

    @seed(number)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(damages())
    def damage_and_load(damage: tuple) -> None:
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
            signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
            try:
                load_model(work / folder)
                outcomes["loaded"] += 1
            except (ValueError, FileNotFoundError) as error:
                assert "\n" not in str(error) and len(str(error)) < 2000, str(error)
                outcomes["refused"] += 1
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        finally:
            path.unlink()
            path.write_bytes(data)

    damage_and_load()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    print(json.dumps({**outcomes, "grown_bytes": grown}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
