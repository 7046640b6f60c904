"""The cost of measuring folders beside the models that listen, and its memory over many files.

    python benchmarks/evaluation.py                      overhead with VGGish, memory over 10,000 files
    python benchmarks/evaluation.py --clips 4 --files 200

Theory. Reading, resampling, the cache and the table should cost next to nothing beside the model that listens, and
memory should not depend on the number of files, since statistics are streamed.

VGGish has random weights of its real size, which take the same time as the published ones. Times are of the processor
and not of the clock, so that other work on the machine does not count.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import wave
from pathlib import Path

import torch
from measuring import finish
from torch import Tensor

from musicgen.evaluation.embedders.vggish import Vggish, VggishNetwork
from musicgen.evaluation.folders.sounds import list_sounds, read_sound
from musicgen.evaluation.listening import Wanted, hear_files

RATE = 32000
SHORT = 0.05
WIDTH = 128


class Bands:
    """A listener that costs next to nothing: levels of 128 bands of a sound's spectrum, 4 rows a sound."""

    name = "bands"
    sample_rate = RATE
    fingerprint = "1"
    aliases: tuple[str, ...] = ()

    def listen(self, audio: Tensor) -> Tensor:
        """Return levels `[4, 128]` of audio `[L]`."""
        window = torch.hann_window(2 * WIDTH)
        return torch.stft(audio, 2 * WIDTH, window=window, return_complex=True).abs()[:WIDTH, :4].t()


def write_noise(folder: Path, count: int, seconds: float) -> list[Path]:
    """Write sounds of noise that differ, 16 bits, at 32 kHz."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        samples = torch.randint(-3000, 3000, (round(seconds * RATE),), generator=generator, dtype=torch.int16)
        with wave.open(str(folder / f"{number:05}.wav"), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(RATE)
            file.writeframes(samples.numpy().astype("<i2").tobytes())
    return list_sounds(folder)


def overhead(folder: Path, clips: int) -> tuple[float, float]:
    """Seconds of the processor for a clip of 10 s: by the model alone, and in all."""
    files = write_noise(folder / "clips", clips, 10.0)
    torch.save(VggishNetwork().state_dict(), folder / "vggish.pth")
    listener = Vggish(folder / "vggish.pth")
    waves = [read_sound(path)[0][0, ::2].contiguous() for path in files]  # the length that 16 kHz has
    hear_files(files[:1], [Wanted(listener, statistics=True)])  # imports and first allocations do not count
    began = time.process_time()
    for each in waves:
        listener.listen(each)
    alone = time.process_time() - began
    began = time.process_time()
    hear_files(files, [Wanted(listener, statistics=True)], cache=folder / "cache")
    return alone / clips, (time.process_time() - began) / clips


def memory(folder: Path, count: int) -> list[tuple[int, float]]:
    """The most MB that the process ever held after a tenth, a half and all of many files, kept rows included."""
    files = write_noise(folder / "many", count, SHORT)
    marks: list[tuple[int, float]] = []

    def note(name: str, done: int, total: int) -> None:
        if done in (total // 10, total // 2, total):
            marks.append((done, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))

    hear_files(files, [Wanted(Bands(), statistics=True)], cache=folder / "kept", on_file=note)
    return marks


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python benchmarks/evaluation.py", description=__doc__)
    parser.add_argument("--clips", type=int, default=16, help="clips of 10 s for the overhead")
    parser.add_argument("--files", type=int, default=10_000, help="files of 0.05 s for the memory")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        marks = memory(Path(scratch), options.files)
        for done, most in marks:
            print(f"after {done} files: at most {most:.0f} MB")
        alone, whole = overhead(Path(scratch), options.clips)
    print(f"VGGish, 10 s: {alone:.3f} s alone, {whole:.3f} s in all, {100 * (whole / alone - 1):.1f} % more")
    row = {"alone": alone, "whole": whole, "overhead": whole / alone - 1, "megabytes": dict(marks)}
    finish("evaluation", [row], clips=options.clips, files=options.files, threads=options.threads)


if __name__ == "__main__":
    main()
