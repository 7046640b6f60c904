"""The nodes in ComfyUI's own modules, in one of its modes: codes, LoRA, memory, Cancel, and little memory free.

Modes: `default` is ComfyUI as it starts on a card (dynamic VRAM, cudaMallocAsync), `legacy` has neither, and
`nographs` is legacy with MUSICGEN_CUDA_GRAPHS=0.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bare_host import Host
    from .report import Report

MODES = ("default", "legacy", "nographs")
TEXT = "funk with drums and bass"
NANO = "bundled/musicgen-nano"
WIDGETS = {
    "batch_size": 1,
    "seed": 1,
    "cfg_coef": 3.0,
    "temperature": 1.0,
    "top_k": 250,
    "top_p": 0.0,
    "pattern": "auto",
}


def prepare(mode: str) -> None:
    """Set the environment of a mode; before torch is imported."""
    if mode == "default":
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "backend:cudaMallocAsync"
    if mode == "nographs":
        os.environ["MUSICGEN_CUDA_GRAPHS"] = "0"


def run(report: Report, mode: str) -> None:
    """Run all checks of one mode."""
    from .bare_host import Host

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        host = Host(Path(folder), dynamic=mode == "default", cpu=report.dry)
        report.note(
            "booted",
            seconds=round(time.perf_counter() - began, 2),
            device=str(host.management.get_torch_device()),
            dynamic_as_asked=host.dynamic == (mode == "default" and not report.dry),
            replaced=host.replaced,
        )
        trial = Trial(report, host)
        for check in (
            trial.piece,
            trial.half,
            trial.melody,
            trial.lora,
            trial.cancel,
            trial.memory,
            trial.short_memory,
        ):
            if not (report.dry and check in (trial.half, trial.memory, trial.short_memory)):
                report.attempt(check.__name__, check)


class Trial:
    """Checks that share the bundled model, one piece of it, and its codes by the library on the CPU."""

    def __init__(self, report: Report, host: Host) -> None:
        self.report, self.host = report, host
        self.seconds = 0.3 if report.dry else 6.0
        self.model, text_encoder, self.codec = host.run("Loader", model=NANO, dtype="fp32")
        self.condition = host.run("TextEncode", text_encoder=text_encoder, text=TEXT)
        self.expected: Any = None
        self.sound: Any = None

    def sample(self, model: Any = None, positive: Any = None, **changes: Any) -> Any:
        """Sample tokens through the node."""
        inputs = {"model": model or self.model, "positive": positive or self.condition, "duration": self.seconds}
        return self.host.run("SampleTokens", **(WIDGETS | inputs | changes))

    def is_same(self) -> bool:
        """Whether the same piece has the same codes again."""
        import torch

        return torch.equal(self.sample()["codes"], self.expected)

    def piece(self) -> dict[str, Any]:
        """Sample a piece three times, decode it, and compare it with the library on the CPU."""
        import torch
        from measuring import ROOT, seconds

        from musicgen import GenerationParams, load_model

        taken = [
            round(seconds(lambda: self.sample(), self.report.device), 3) for _ in range(1 if self.report.dry else 3)
        ]
        tokens = self.sample()
        self.expected = tokens["codes"]
        decoded = self.host.run("EnCodecDecode", codec=self.codec, tokens=tokens)
        self.sound = decoded[0] if isinstance(decoded, tuple) else decoded
        alone = load_model(ROOT / "models" / "musicgen-nano", dtype=torch.float32)
        expected = alone.generate([TEXT], GenerationParams(self.seconds, seed=1))
        difference = float((self.sound["waveform"] - alone.decode(expected)).abs().max())
        return {
            "as_the_library_on_the_cpu": torch.equal(expected, self.expected),
            "sample_s": taken,
            "sound": difference,
        }

    def half(self) -> dict[str, Any]:
        """Sample in half precision: twice the same, and a row of a batch is the piece alone."""
        import torch

        found: dict[str, Any] = {}
        for dtype in ("bf16", "fp16"):
            model = self.host.run("Loader", model=NANO, dtype=dtype)[0]
            once, again = (self.sample(model)["codes"] for _ in range(2))
            batch = self.sample(model, batch_size=3, seed=0)["codes"]
            found |= {f"{dtype}_same_twice": torch.equal(once, again), f"{dtype}_row": torch.equal(batch[1], once[0])}
            found[f"{dtype}_share_as_fp32"] = round((once == self.expected).float().mean().item(), 3)
        return found

    def melody(self) -> dict[str, Any]:
        """Follow a melody, and continue a recording."""
        import torch

        model, text_encoder, _ = self.host.run("Loader", model=f"{NANO}-melody", dtype="fp32")
        positive = self.host.run("TextEncode", text_encoder=text_encoder, text="piano")
        lead = self.host.run("MelodyChroma", audio=self.sound)[0]
        led = self.sample(model, positive, melody=lead)["codes"]
        start = {**self.sound, "waveform": self.sound["waveform"][..., : 64000 if not self.report.dry else 3200]}
        prompt = self.host.run("EnCodecEncode", codec=self.codec, audio=start)
        more = self.sample(prompt=prompt)["codes"]
        frames = prompt["codes"].shape[2]
        return {"frames": led.shape[2], "prompt_kept": torch.equal(more[:, :, :frames], prompt["codes"])}

    def lora(self) -> dict[str, Any]:
        """Put a LoRA on and take it off again."""
        import torch

        model, text_encoder, _ = self.host.run("Loader", model="tiny/text", dtype="fp32")
        positive = self.host.run("TextEncode", text_encoder=text_encoder, text="rock")
        with_lora = self.host.run("LoraLoader", model=model, lora="text", strength=1.0)
        plain, changed, again = (self.sample(each, positive)["codes"] for each in (model, with_lora, model))
        return {"changes": not torch.equal(plain, changed), "plain_again": torch.equal(plain, again)}

    def cancel(self) -> dict[str, Any]:
        """Press Cancel at several times; the next piece is as before."""
        management, found = self.host.management, dict[str, Any]()
        for at in (0.05,) if self.report.dry else (0.01, 0.05, 0.15, 0.3):
            timer = threading.Timer(at, management.interrupt_current_processing)
            timer.start()
            began = time.perf_counter()
            try:
                self.sample(duration=20.0)
                found[f"stopped_after_{at}"] = False
            except management.InterruptProcessingException:
                found[f"ms_after_{at}"] = round((time.perf_counter() - began - at) * 1e3, 1)
            timer.cancel()
            management.interrupt_current_processing(False)
        return {**found, "same_after": self.is_same()}

    def memory(self) -> dict[str, Any]:
        """Unload and load again; eight more pieces take no more memory."""
        self._unload()
        found: dict[str, Any] = {"bytes_after_unload": self.report.allocated(), "same_after_reload": self.is_same()}
        for _ in range(8):
            self.sample(duration=1.0)
        before = self.report.allocated()
        for _ in range(8):
            self.sample(duration=1.0)
        grown = self.report.allocated() - before
        return {**found, "grown_bytes": grown, "flat": grown <= 0}

    def short_memory(self) -> dict[str, Any]:
        """Sample where ComfyUI is told that 700 MiB are free."""
        self._unload()
        management, free = self.host.management, 700 * 2**20
        real: Callable[..., Any] = management.get_free_memory
        management.get_free_memory = lambda dev=None, torch_free_too=False: (free, free) if torch_free_too else free
        try:
            return {"same": self.is_same()}
        finally:
            management.get_free_memory = real

    def _unload(self) -> None:
        self.host.management.unload_all_models()
        self.report.allocated()
        self.host.management.soft_empty_cache()
