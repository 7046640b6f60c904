"""Time, memory and exactness of EnCodec at the released width, compared with `encodec` and transformers.

Theory. The decoder of the 32 kHz codec (64 filters, ratios 8, 5, 4, 4) multiplies and adds about 7.6
GFLOP a second of sound: 6 in convolutions, of which the four upsampling ones and the residual blocks
next to the sound make up most, and 1.7 in two LSTM layers of 1024. The convolutions are matrix products
large enough to run at the machine's own rate of such products, which is measured here. Half of the LSTM
is not: each of its 50 steps a second multiplies one row by 17 MB of weights a layer, so it runs at the
rate at which the caches deliver them. The least time of the convolutions is thus their work by that rate,
plus the time of pads, copies and ELUs (0.3 G of them a second of sound).

Memory. In one pass the outermost layers hold several tensors of 64 channels, about 1.2 kB per sample.
In chunks of two seconds the memory is that of one chunk, plus the sound.

The contenders run in turns in one process, on random weights: ours, the same modules all at once as
the `encodec` package runs them, and with `--transformers` its EncodecModel (weights of its own). The
difference is the largest of one sample to the package's, as a share of the loudest. Memory is measured
in a process for each, above the resident memory after a decode of one frame; on a GPU it is the most that
PyTorch has given out. Linux only.

    python benchmarks/codec.py --seconds 30
    python benchmarks/codec.py --seconds 30 --encode --transformers
    python benchmarks/codec.py --seconds 300 --alone --rounds 1

prints a table, and one line of JSON for machines.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from measuring import finish, in_turns, peak_memory, seconds, spread
from torch import Tensor, nn

from models import released_config
from musicgen.codec.encodec import EnCodec

CONFIG = released_config("small").codec
WHO = ("ours", "encodec", "transformers")


def codec_of(device: str) -> EnCodec:
    """Build the released codec with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        codec = EnCodec(CONFIG, 1).eval().requires_grad_(False)
        for layer in codec.model.quantizer.vq.layers:
            layer._codebook.embed.normal_()
            layer._codebook.inited.fill_(1)
    return codec.to(device)


def transformers_codec(device: str) -> Any:
    """Build transformers' model of the same shape, with its own random weights."""
    from load import transformers_config
    from transformers import EncodecModel

    return EncodecModel(transformers_config("tiny").audio_encoder).eval().requires_grad_(False).to(device)


def codes_and_sound(length: int, device: str) -> tuple[Tensor, Tensor]:
    """Return random codes [1, 4, T] and noise [1, 1, L] for a number of seconds."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(CONFIG.card, (1, CONFIG.num_codebooks, length * CONFIG.frame_rate), generator=generator)
    sound = 0.2 * torch.randn(1, 1, length * CONFIG.sample_rate, generator=generator)
    return codes.to(device), sound.to(device)


def action(who: str, way: str, length: int, device: str, codec: EnCodec | None = None) -> Callable[[], Tensor]:
    """Return a function that encodes or decodes once with one contender.

    Args:
        who: the contender, one of WHO.
        way: "encode" or "decode".
        length: seconds of sound.
        device: where to compute.
        codec: our codec, built anew if None.
    """
    codes, sound = codes_and_sound(length, device)
    if who == "transformers":
        theirs = transformers_codec(device)
        if way == "decode":
            return lambda: theirs.decode(codes[None], [None]).audio_values
        return lambda: theirs.encode(sound, bandwidth=theirs.config.target_bandwidths[0]).audio_codes
    codec, whole = codec or codec_of(device), who == "encodec"
    if way == "decode":
        return lambda: codec.decode(codes, whole=whole)
    return lambda: codec.encode(sound, CONFIG.sample_rate, whole=whole)


def gemm_rate(device: str, repeats: int = 5) -> float:
    """Measure the floating-point operations per second of a large matrix product."""
    a, b = torch.randn(4096, 512, device=device), torch.randn(512, 512, device=device)
    a @ b
    return 2 * 4096 * 512 * 512 / min(seconds(lambda: a @ b, device) for _ in range(repeats))


def work(codec: EnCodec, way: str) -> dict[str, float]:
    """Count the floating-point operations per second of sound in the convolutions and in the LSTM."""
    done = {"convolutions": 0.0, "lstm": 0.0}

    def note(module: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        if isinstance(module, nn.LSTM):
            weights = sum(w.numel() for name, w in module.named_parameters() if name.startswith("weight"))
            done["lstm"] += 2.0 * weights * inputs[0].shape[0]
        else:
            steps = inputs[0].shape[-1] if isinstance(module, nn.ConvTranspose1d) else output.shape[-1]
            done["convolutions"] += 2.0 * module.weight.numel() * steps

    half = codec.model.decoder if way == "decode" else codec.model.encoder
    kinds = (nn.Conv1d, nn.ConvTranspose1d, nn.LSTM)
    hooks = [module.register_forward_hook(note) for module in half.modules() if isinstance(module, kinds)]
    device = next(half.parameters()).device
    action("encodec", way, 1, str(device), codec)()
    for hook in hooks:
        hook.remove()
    return done


def child(who: str, way: str, length: int, device: str) -> int:
    """Measure the peak bytes of one run; called in a new process."""
    codec = None if who == "transformers" else codec_of(device)
    run = action(who, way, length, device, codec)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    if codec is not None:
        codec.decode(codes_and_sound(1, device)[0][..., :1])
    return peak_memory(run)


def run_child(who: str, way: str, length: int, device: str) -> int:
    """Measure the peak bytes of one run in a new process."""
    command = [sys.executable, __file__, "--child", who, way, "--seconds", str(length), "--device", device]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{who} {way} failed: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def difference(way: str, ours: Tensor, theirs: Tensor) -> float:
    """For sound, the largest difference of a sample as a share of the loudest; for codes, the share that differs."""
    if way == "encode":
        return float((ours != theirs).double().mean())
    return float((ours - theirs).abs().max() / theirs.abs().max())


def measure(way: str, length: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Compare all contenders on one length of sound."""
    device = options.device
    codec = codec_of(device)
    left_out = WHO[1:] if options.alone else () if options.transformers else ("transformers",)
    who = [name for name in WHO if name not in left_out]
    actions = {name: action(name, way, length, device, codec) for name in who}
    apart = None if options.alone else difference(way, actions["ours"](), actions["encodec"]())
    samples = in_turns(actions, options.rounds, device)
    flops, rate = work(codec, way), gemm_rate(device)
    total = sum(flops.values()) * length
    base = statistics.median(samples[who[-1] if options.alone else "encodec"])
    rows = []
    for name in who:
        middle = statistics.median(samples[name])
        row = {"way": way, "seconds": length, "who": name, "samples": samples[name], "ratio": middle / base}
        row |= {"flops": total, "gemm_rate": rate, "of_gemm": total / middle / rate}
        row |= {"peak": run_child(name, way, length, device), "difference": apart if name == "ours" else None}
        rows.append(row)
        print(line(row), flush=True)
    return rows


def line(row: dict[str, Any]) -> str:
    """Format a measurement as a line of the table."""
    apart = "" if row["difference"] is None else f"{row['difference']:.1e}"
    return (
        f"{row['way']:7}{row['seconds']:6} {row['who']:13}{spread(row['samples']):>20}{row['ratio']:8.2f}"
        f"{row['flops'] / statistics.median(row['samples']) / 1e9:10.1f}{row['of_gemm']:8.0%}"
        f"{row['peak'] / 1e9:9.2f}{apart:>12}"
    )


HEADINGS = (
    f"{'way':7}{'sound':>6} {'who':13}{'s: min median max':>20}{'/encodec':>8}{'GFLOP/s':>10}{'/GEMM':>8}{'+GB':>9}"
    f"{'difference':>12}"
)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, nargs="+", default=[30], help="lengths of sound; 30 by default")
    parser.add_argument("--encode", action="store_true", help="measure encoding too")
    parser.add_argument("--transformers", action="store_true", help="measure transformers' EncodecModel too")
    parser.add_argument("--alone", action="store_true", help="measure only ours: at once, 300 s take 12 GB")
    parser.add_argument("--device", default="cpu", help="cpu (the default) or cuda")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--rounds", type=int, default=3, help="time samples of each contender")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        if options.child:
            who, way = options.child
            print(child(who, way, options.seconds[0], options.device))
            return
        print(HEADINGS)
        ways = ["decode"] + ["encode"] * options.encode
        rows = [row for way in ways for length in options.seconds for row in measure(way, length, options)]
    finish("codec", rows, device=options.device)


if __name__ == "__main__":
    main()
