"""The process around the library: packages that are missing or broken, and switches that other code left set."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import textwrap

import pytest
import torch

from musicgen import GenerationParams, load_model
from musicgen.conditioning.tokenizer import load_tokenizer
from tests.conftest import GOLDEN, ROOT, golden_model

PARAMS = GenerationParams(duration=0.3, seed=7)
TEXT = GOLDEN / "checkpoints" / "hf-text"
REQUIREMENTS = f"-m pip install -r {ROOT / 'requirements.txt'}"


def run(script: str) -> str:
    """The output of a script in a fresh interpreter, which blocks the packages named on `block` as it says."""
    start = f"""
import importlib.abc, os, sys
sys.path.insert(0, {str(ROOT)!r})

def block(package, error):
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name.split(".")[0] == package:
                raise error(name)
    sys.meta_path.insert(0, Finder())

def missing(name):
    return ModuleNotFoundError(f"No module named {{name!r}}", name=name)

def try_to_load(path={str(TEXT)!r}):
    from musicgen import load_model
    try:
        load_model(path)
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("loaded")
"""
    command = [sys.executable, "-c", start + textwrap.dedent(script)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300).stdout.strip()


BLAME = ("fetch", "describes no model", "damaged", "tokenizer")


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("block('encodec', missing)", "ImportError", ["package encodec is not installed", REQUIREMENTS]),
        (
            "block('einops', missing)",
            "ImportError",
            ["package einops, which encodec needs, is not installed", REQUIREMENTS],
        ),
        (
            "block('torchaudio', lambda name: OSError('Could not load this library: libtorchaudio.so'))",
            "ImportError",
            ["torchaudio", "does not load with torch", "libtorchaudio.so", '"torchaudio==', "-m pip install"],
        ),
        ("block('torchaudio', missing)", "ImportError", ["torchaudio", "-m pip install"]),
        ("block('transformers', missing)", "ImportError", ["package transformers is not installed", REQUIREMENTS]),
        (
            "block('tokenizers', lambda name: ImportError('failed to map segment from shared object'))",
            "MemoryError",
            ["memory ran out while tokenizers was imported"],
        ),
    ],
    ids=["encodec", "einops", "broken torchaudio", "torchaudio", "transformers", "memory"],
)
def test_a_fault_of_a_package_is_told_as_one_and_not_as_a_fault_of_the_model(script, error, words):
    said = run(f"{script}\ntry_to_load()")
    assert said.startswith(error) and all(word in said for word in words)
    assert not any(word in said for word in BLAME if word not in "tokenizers")


def test_a_missing_sentencepiece_is_no_fault_of_the_tokenizer(monkeypatch, tmp_path):
    shutil.copy(GOLDEN / "spiece.model", tmp_path)
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(ImportError, match=r"package sentencepiece is not installed; .* -m pip install -r"):
        load_tokenizer(tmp_path)


def test_no_package_is_imported_under_a_device_or_a_number_format_of_others():
    """On torch 2.6 transformers' T5 cannot be imported at all where the default device is `meta`."""
    said = run(
        """
        import torch

        seen = []

        class Watch(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path, target=None):
                if name.split(".")[0] in ("transformers", "encodec", "tokenizers", "torchaudio"):
                    seen.append((str(torch.get_default_device()), str(torch.get_default_dtype())))

        sys.meta_path.insert(0, Watch())
        torch.set_default_dtype(torch.float64)
        with torch.device("meta"):
            try_to_load()
        print(sorted(set(seen)), torch.get_default_dtype())
        """
    )
    assert said.splitlines() == ["loaded", "[('cpu', 'torch.float32')] torch.float64"]


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def fewer_bits():
    kept = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(kept)


NEIGHBOURS = {
    "float32 of fewer bits": fewer_bits,
    "float16": lambda: default_dtype(torch.float16),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "float64": lambda: default_dtype(torch.float64),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("fresh", [False, True], ids=["loaded before", "loaded there"])
@pytest.mark.parametrize("name", ["hf-text", "hf-melody"])
def test_other_code_s_switches_change_nothing(neighbour, fresh, name, sweep):
    model, melody = golden_model(name), sweep[0] if name == "hf-melody" else None

    def everything(used):
        codes = used.generate(["calm", None], PARAMS, melody=melody)
        sound = used.decode(codes)
        return codes, sound, used.encode(sound, used.sample_rate), used.encode(sweep, 44100)

    wanted = everything(model)
    with NEIGHBOURS[neighbour]():
        before = torch.get_default_dtype(), torch.get_default_device()
        found = everything(load_model(GOLDEN / "checkpoints" / name) if fresh else model)
        assert (torch.get_default_dtype(), torch.get_default_device()) == before
    assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
def test_other_code_s_switches_change_no_style_and_no_lora(neighbour, style_model, sweep):
    from musicgen import read_lora

    model, lora = golden_model("hf-text"), GOLDEN / "loras" / "text"
    style = style_model.encode_style(sweep[0], 32000)
    merged = model.with_lora(read_lora(lora, model.config)).lm.state_dict()
    with NEIGHBOURS[neighbour]():
        assert torch.equal(style_model.encode_style(sweep[0], 32000), style)
        again = model.with_lora(read_lora(lora, model.config)).lm.state_dict()
    assert all(torch.equal(again[key], weight) for key, weight in merged.items())


def tf32_switches() -> list[object]:
    if hasattr(torch.backends.cudnn, "conv"):
        return [torch.backends.cudnn.conv.fp32_precision, torch.backends.cuda.matmul.fp32_precision]
    return [torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32]


def test_codec_and_text_encoder_compute_float32_with_all_its_bits_and_put_the_switches_back():
    """torch's default for the convolutions of a GPU is TF32; there is no GPU here, so the switches are read."""
    model = golden_model("hf-text")
    whole = [["ieee", "ieee"], [False, False]]
    before, seen = tf32_switches(), []
    parts = [*model.codec.model.modules(), *model.text_encoder.t5.modules()]
    hooks = [part.register_forward_pre_hook(lambda *_: seen.append(tf32_switches())) for part in parts]
    try:
        codes = model.generate(["a text that no other test has encoded"], PARAMS)
        sound = model.decode(codes)
        model.encode(sound, model.sample_rate)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(seen) >= 2 and all(state in whole for state in seen)
    assert before not in whole and tf32_switches() == before
