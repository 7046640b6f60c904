"""Whole pieces of one size in bfloat16, the kernels of a step, and transformers' own `generate` beside them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from load import transformers_config
from torch import Tensor

from models import random_lm, text_condition
from musicgen import GenerationParams
from musicgen.config import ModelConfig
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from musicgen.lm.language_model import LMModel

from .report import Report

BATCHES = {"small": (1, 4, 16), "medium": (1,), "large": (1, 4)}
FRAMES = 50
"""Frames a second."""


class Pieces:
    """Pieces of a released shape with random weights, guided, in bfloat16."""

    def __init__(self, report: Report, size: str) -> None:
        self.report = report
        dtype = torch.float32 if report.dry else torch.bfloat16
        made: tuple[LMModel, ModelConfig] = random_lm("nano" if report.dry else size, dtype, report.device)
        self.lm, self.config = made

    def sample(self, seconds: float, batch: int = 1, graphs: bool | None = None, **numbers: Any) -> Tensor:
        """Sample codes."""
        request = Request(
            positive=[text_condition(dim=self.config.lm.text_dim)],
            params=GenerationParams(seconds, **numbers),
            batch_size=batch,
        )
        return generate(self.lm, self.config, request, device=self.report.device, use_cuda_graphs=graphs)

    def taken(self, seconds: float, batch: int = 1, **more: Any) -> float:
        """Measure the seconds of a piece."""
        self.report.wait()
        began = time.perf_counter()
        self.sample(seconds, batch, **more)
        self.report.wait()
        return time.perf_counter() - began


def run(report: Report, size: str) -> None:
    """Measure one size."""
    began = time.perf_counter()
    pieces = Pieces(report, size)
    report.note("loaded", seconds=round(time.perf_counter() - began, 2))
    whole, short = (0.3, 0.2) if report.dry else (30.0, 4.0)
    for batch in (1,) if report.dry else BATCHES[size]:
        report.attempt(f"piece, batch {batch}", _piece(pieces, whole, short, batch))
    report.attempt("kinds of steps", lambda: _kinds(pieces, short))
    report.attempt("kernels of a step", lambda: _kernels(pieces, short))
    if size == "small":
        report.attempt("transformers' generate", lambda: _transformers(report, short if report.dry else 10.0))


def _steps(pieces: Pieces, seconds: float) -> int:
    """Steps of one window."""
    return round(seconds * FRAMES) + max(pieces.config.delays)


def _piece(pieces: Pieces, whole: float, short: float, batch: int) -> Callable[[], dict[str, Any]]:
    def measure() -> dict[str, Any]:
        pieces.sample(short, batch)
        before = pieces.report.allocated()
        if not pieces.report.dry:
            torch.cuda.reset_peak_memory_stats()
        taken = pieces.taken(whole, batch)
        peak = 0 if pieces.report.dry else torch.cuda.max_memory_allocated() - before
        return {
            "steps_per_s": round(_steps(pieces, whole) / taken, 1),
            "times_real_time": round(batch * whole / taken, 2),
            "peak_gb": round(peak / 1e9, 3),
            "first_second_s": round(pieces.taken(min(1.0, whole), batch), 3),
        }

    return measure


def _kinds(pieces: Pieces, short: float) -> dict[str, Any]:
    """Steps a second of short pieces: recorded, unrecorded, and without a draw."""
    kinds: dict[str, dict[str, Any]] = {"sampled": {}, "unrecorded": {"graphs": False}}
    kinds["greedy"] = {"use_sampling": False}
    return {name: round(_steps(pieces, short) / pieces.taken(short, **more), 1) for name, more in kinds.items()}


def _kernels(pieces: Pieces, short: float) -> dict[str, Any]:
    """Kernels and microseconds of a step by name, over a short piece with its prefill."""
    from torch.profiler import ProfilerActivity, profile

    dry = pieces.report.dry
    with profile(activities=[ProfilerActivity.CPU if dry else ProfilerActivity.CUDA]) as profiler:
        pieces.sample(short)
        pieces.report.wait()
    kind = "self_cpu_time_total" if dry else "self_device_time_total"
    rows = sorted(profiler.key_averages(), key=lambda row: -getattr(row, kind))
    steps = _steps(pieces, short)
    top = [[row.key[:80], round(row.count / steps, 2), round(getattr(row, kind) / steps, 2)] for row in rows[:24]]
    return {
        "kernels_per_step": round(sum(row.count for row in rows) / steps, 1),
        "us_per_step": round(sum(getattr(row, kind) for row in rows) / steps, 1),
        "top": top,
    }


def _transformers(report: Report, seconds: float) -> dict[str, Any]:
    """Steps a second of transformers' model of the same shape, sampling with guidance as its users call it."""
    from transformers import MusicgenForConditionalGeneration

    config = transformers_config("tiny" if report.dry else "small")
    if report.dry:
        config.text_encoder.num_layers = config.text_encoder.num_decoder_layers = 1
    with torch.device(report.device):
        model = MusicgenForConditionalGeneration(config)
    model = model.to(torch.float32 if report.dry else torch.bfloat16).eval()
    card = config.decoder.vocab_size
    settings = model.generation_config
    settings.update(guidance_scale=3.0, do_sample=True, top_k=250)
    settings.update(pad_token_id=card, decoder_start_token_id=card, bos_token_id=card)
    ids = torch.randint(5, 30000, (1, 12), device=report.device)
    taken, steps = 0.0, round(seconds * FRAMES)
    with torch.inference_mode():
        for length in (5, steps):
            report.wait()
            began = time.perf_counter()
            model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=length)
            report.wait()
            taken = time.perf_counter() - began
    return {"steps_per_s": round(steps / taken, 1), "its_codec_included": True}
