"""Peak memory and time of loading checkpoints of the released sizes, compared with transformers.

Theory. The weights as they are kept must be written once, and the file must be read once. So the
least memory is the bytes kept, and the least time is that of reading the file into memory that has
just been taken (which costs the kernel about as much as the copy). Everything that a loader adds is its mark:
a second copy of the model, a file that is mapped and stays resident, numbers made before they are
overwritten. Ours reads each tensor straight into the parameter, or through a buffer of 1 MiB where
the format of numbers changes, and looks once at each number to see whether it is finite. The marks
to keep are 1.15 times the bytes kept (1.3 for `.bin`), and 1.5 times the reading of the file.

Random weights of the real shapes are written to a folder (`--folder`), one model after the other,
and removed again. Each load is a process of its own with one thread. Its peak is that of resident
memory (VmHWM) less the resident memory after all imports. Mapped pages of a file count; anonymous
memory is also listed by itself, since the kernel may take mapped pages back. The file is read once
before, so that it comes from the page cache as far as it fits there. Seconds are given by the clock
and of the processor; the ratio is that of the processor's, which other work on the machine disturbs
less. The quickest of several measurements counts, and the largest peak. Linux only.

    python benchmarks/load.py small medium large

prints a table, and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from measuring import ROOT, Anonymous, finish, status

SIZES = {"tiny": (128, 2, 2), "small": (1024, 24, 16), "medium": (1536, 48, 24), "large": (2048, 48, 32)}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "auto": None}
"""The language model's; auto is float16 where float16 is exact, as it is for the numbers written here."""
LOADS = [("hf", "fp32"), ("hf", "auto"), ("hf", "bf16"), ("audiocraft", "bf16")]
BLOCK = 1 << 24
MARKS = {"hf": 1.15, "audiocraft": 1.3}
FILES = ("state_dict.bin", "compression_state_dict.bin")
KEPT: list[Any] = []


def random_block(dtype: torch.dtype) -> bytes:
    """Return a block of plausible weights, which is repeated to fill a file."""
    numbers = torch.randn(BLOCK // dtype.itemsize, generator=torch.Generator().manual_seed(0)) * 0.02
    return numbers.half().to(dtype).view(torch.uint8).numpy().tobytes()


def fill(file: Any, nbytes: int, block: bytes) -> None:
    """Write nbytes to the file by repeating the block."""
    for start in range(0, nbytes, len(block)):
        file.write(block[: min(len(block), nbytes - start)])


def transformers_config(size: str) -> Any:
    """Return transformers' configuration of a released model."""
    from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config

    dim, layers, heads = SIZES[size]
    text = T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
    codec = EncodecConfig(
        target_bandwidths=[2.2],
        sampling_rate=32000,
        audio_channels=1,
        num_filters=64,
        upsampling_ratios=[8, 5, 4, 4],
        codebook_size=2048,
        codebook_dim=128,
        hidden_size=128,
        use_causal_conv=False,
        use_conv_shortcut=False,
        num_residual_layers=1,
        pad_mode="reflect",
    )
    decoder = MusicgenDecoderConfig(
        hidden_size=dim, num_hidden_layers=layers, num_attention_heads=heads, ffn_dim=4 * dim, num_codebooks=4
    )
    return MusicgenConfig(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder.to_dict())


def write_tokenizer(folder: Path) -> None:
    """Write any tokenizer, since no text is encoded here."""
    shutil.copy(ROOT / "models" / "musicgen-nano" / "tokenizer.json", folder)


def write_hf(folder: Path, size: str) -> None:
    """Write a model in the Hugging Face layout: float32, one safetensors file."""
    from transformers import MusicgenForConditionalGeneration

    config = transformers_config(size)
    with torch.device("meta"):
        tensors = MusicgenForConditionalGeneration(config).state_dict()
    # T5's embedding has two names; a file holds it once.
    tensors.pop("text_encoder.encoder.embed_tokens.weight", None)
    folder.mkdir()
    config.save_pretrained(folder)
    write_tokenizer(folder)
    write_safetensors(folder / "model.safetensors", {name: tuple(t.shape) for name, t in tensors.items()})


def write_safetensors(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Write a file of float32 tensors without holding them in memory."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = 4 * torch.Size(shape).numel()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    block = random_block(torch.float32)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        fill(file, at, block)


def write_audiocraft(folder: Path, hf: Path) -> None:
    """Write a model in audiocraft's layout: the language model in float16, codec and T5 in float32."""
    import yaml

    from musicgen.checkpoints.layouts import audiocraft, huggingface
    from musicgen.checkpoints.parts.codec import codec_recipes
    from musicgen.codec.encodec import EnCodec
    from musicgen.lm.language_model import LMModel

    config = huggingface.read_config(hf)
    with torch.device("meta"):
        lm = LMModel(config.lm).state_dict()
        codec = EnCodec(config.codec, 1).model.state_dict()
    golden = ROOT / "tests" / "golden" / "checkpoints" / "audiocraft-text"
    settings = [torch.load(golden / name, weights_only=True)["xp.cfg"] for name in FILES]
    lm_settings, codec_settings = (yaml.safe_load(text) for text in settings)
    lm_settings["transformer_lm"] |= {"dim": config.lm.dim, "num_heads": config.lm.num_heads, "card": 2048}
    lm_settings["transformer_lm"]["num_layers"] = config.lm.num_layers
    codec_settings["seanet"] |= {"n_filters": 64, "dimension": 128}
    codec_settings["rvq"]["bins"] = 2048
    folder.mkdir()
    shapes = sources(audiocraft.lm_recipes(config, ()), lm)
    write_bin(folder / FILES[0], shapes, torch.float16, yaml.safe_dump(lm_settings))
    shapes = sources(codec_recipes(codec, (), "", renamed=False), codec)
    write_bin(folder / FILES[1], shapes, torch.float32, yaml.safe_dump(codec_settings))
    write_t5(folder / "t5-base", hf)


def sources(recipes: dict[str, Any], ours: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the stored tensors that the parameters are made from."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, recipe in recipes.items():
        shapes |= recipe.source_shapes(ours[name].shape)
    return shapes


def write_bin(path: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, settings: str) -> None:
    """Write a file of torch.save: first its structure, then its numbers, so that it need not fit into memory."""
    from musicgen.checkpoints.layouts.audiocraft_file import read_solver_file

    tensors = {name: torch.empty(shape, dtype=dtype) for name, shape in shapes.items()}
    with torch.serialization.skip_data():
        torch.save({"best_state": tensors, "xp.cfg": settings}, path)
    block = random_block(dtype)
    stored = read_solver_file(path).stored
    with open(path, "r+b") as file:
        for record in stored.records.values():
            file.seek(record.offset)
            fill(file, record.nbytes, block)


def write_t5(folder: Path, hf: Path) -> None:
    """Write the text encoder of the model in the folder `hf` alone."""
    fields = json.loads((hf / "config.json").read_text(encoding="utf-8"))["text_encoder"]
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(fields), encoding="utf-8")
    write_tokenizer(folder)
    from musicgen.checkpoints.files.weights import read_weights

    shapes = read_weights(hf).shapes()
    prefix = "text_encoder."
    mine = {name.removeprefix(prefix): shape for name, shape in shapes.items() if name.startswith(prefix)}
    write_safetensors(folder / "model.safetensors", mine)


def measured(load: Any) -> dict[str, float]:
    """Run a load whose result has a number of bytes; resident memory added, and seconds."""
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    resident, anonymous = status("VmRSS"), status("RssAnon")
    watch = Anonymous()
    watch.start()
    began, busy = time.perf_counter(), time.process_time()
    kept = load()
    seconds, cpu = time.perf_counter() - began, time.process_time() - busy
    watch.over.set()
    watch.join()
    return {
        "seconds": seconds,
        "cpu": cpu,
        "kept": kept,
        "peak": status("VmHWM") - resident,
        "peak_anonymous": max(watch.peak, status("RssAnon")) - anonymous,
    }


def bytes_of(modules: list[Any]) -> int:
    """Return the bytes of all weights, and keep the modules alive until the process ends."""
    tensors = {t.data_ptr(): t.nbytes for m in modules for t in [*m.parameters(), *m.buffers()]}
    KEPT.extend(modules)
    return sum(tensors.values())


def child(who: str, folder: Path, dtype: str) -> dict[str, float]:
    """Take one measurement; called in a new process."""
    torch.set_num_threads(1)
    if who == "read":
        return measured(lambda: read_all(folder))
    if who == "transformers":
        from transformers import MusicgenForConditionalGeneration

        tiny = ROOT / "models" / "musicgen-nano"
        MusicgenForConditionalGeneration.from_pretrained(tiny)
        return measured(
            lambda: bytes_of([MusicgenForConditionalGeneration.from_pretrained(folder, dtype=DTYPES[dtype])])
        )
    from musicgen import load_model

    load_model(ROOT / "models" / "musicgen-nano")

    def load() -> int:
        model = load_model(folder, dtype=DTYPES[dtype])
        return bytes_of([model.lm, model.text_encoder, model.codec])

    return measured(load)


def read_all(folder: Path) -> int:
    """Read the weight files of a folder once into newly allocated memory, and return their bytes."""
    total = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix in (".bin", ".safetensors"):
            out = torch.empty(path.stat().st_size, dtype=torch.uint8)
            view = out.numpy().data
            with open(path, "rb", buffering=0) as file:
                while view:
                    view = view[file.readinto(view) :]
            total += len(out)
            KEPT.append(out)
    return total


def run_child(who: str, folder: Path, dtype: str = "fp32") -> dict[str, float]:
    """Take one measurement in a new process."""
    command = [sys.executable, __file__, "--child", who, "--folder", str(folder), "--dtype", dtype]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{who} on {folder} failed: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def best(who: str, folder: Path, dtype: str, repeats: int) -> dict[str, Any]:
    """Return the fastest of several measurements, with the largest of their peaks."""
    rows = [run_child(who, folder, dtype) for _ in range(repeats)]
    peaks = {name: max(row[name] for row in rows) for name in ("peak", "peak_anonymous")}
    return {**min(rows, key=lambda row: row["cpu"]), **peaks}


def measure(size: str, folder: Path, with_transformers: bool, repeats: int) -> list[dict[str, Any]]:
    """Measure all loads of one model."""
    rows = []
    for layout, dtype in LOADS:
        place = folder / layout
        if not place.exists():
            write_hf(place, size) if layout == "hf" else write_audiocraft(place, folder / "hf")
        run_child("read", place)
        read = best("read", place, dtype, repeats)
        for who in ["ours"] + ["transformers"] * (with_transformers and layout == "hf" and dtype != "auto"):
            row = best(who, place, dtype, repeats)
            row |= {"model": size, "layout": layout, "to": dtype, "who": who, "file": read["kept"]}
            row |= {"memory_ratio": row["peak"] / row["kept"], "mark": MARKS[layout]}
            row |= {"read_seconds": read["seconds"], "read_cpu": read["cpu"], "time_ratio": row["cpu"] / read["cpu"]}
            rows.append(row)
            print(line(row), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """Format a measurement as a line of the table."""
    sizes = [row[name] / 1e9 for name in ("file", "kept", "peak", "peak_anonymous")]
    return (
        f"{row['model']:7} {row['layout']:11} {row['to']:5} {row['who']:13}"
        + "".join(f"{size:10.2f}" for size in sizes)
        + f"{row['memory_ratio']:8.2f}{row['seconds']:8.2f}{row['cpu']:8.2f}"
        + f"{row['read_seconds']:8.2f}{row['read_cpu']:8.2f}{row['time_ratio']:8.2f}"
    )


HEADINGS = (
    f"{'model':7} {'layout':11} {'to':5} {'who':13}{'file GB':>10}{'kept GB':>10}{'peak GB':>10}{'anon GB':>10}"
    f"{'/kept':>8}{'load s':>8}{'cpu s':>8}{'read s':>8}{'cpu s':>8}{'/read':>8}"
)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["small"], help=f"some of {', '.join(SIZES)}; small by default")
    parser.add_argument("--folder", type=Path, help="folder to write the models to; a temporary one by default")
    parser.add_argument("--without-transformers", action="store_true", help="measure only this library")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of each load; the fastest counts")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--dtype", choices=DTYPES, default="fp32", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(options.child, options.folder, options.dtype)))
        return
    if unknown := set(options.models) - set(SIZES):
        parser.error(f"{', '.join(sorted(unknown))} is no model; allowed are {', '.join(SIZES)}")
    rows = []
    print(HEADINGS)
    for size in options.models:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            rows += measure(size, Path(folder), not options.without_transformers, options.repeats)
    finish("load", rows)


if __name__ == "__main__":
    main()
