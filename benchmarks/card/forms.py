"""Every form of a request: recorded steps equal unrecorded ones, codes equal the CPU's, rows equal solo runs.

Also: memory is given back, and a piece cancelled at any step leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from measuring import ROOT
from torch import Tensor

from musicgen import GenerationParams, MusicGen, load_model
from musicgen.conditioning.melody import extract_melody
from musicgen.generation.generate import StepProgress, generate
from musicgen.generation.request import Request

from .report import Report

TEXTS = ("funk with drums and bass", "a slow waltz", "techno")
CANCELLED_AT = (1, 2, 3, 40, 150)
DRY = ("text", "windows", "batch with a melody")
"""The forms of a dry run."""


@dataclass(frozen=True)
class Form:
    """A form of a request: numbers of its params, and the parts that it has besides the description."""

    seconds: float = 3.0
    numbers: dict[str, Any] = field(default_factory=dict)
    texts: tuple[str | None, ...] = TEXTS[:1]
    negative: bool = False
    continues: bool = False
    schedule: bool = False
    melody: bool = False


TEXT_FORMS = {
    "text": Form(),
    "batch": Form(texts=TEXTS),
    "no guidance": Form(numbers={"cfg_coef": 1.0}),
    "greedy": Form(numbers={"use_sampling": False}),
    "top-p": Form(numbers={"top_p": 0.9}),
    "plain": Form(numbers={"top_k": 0, "temperature": 0.8}),
    "negative": Form(negative=True),
    "no text": Form(texts=(None,)),
    "windows": Form(20.0),
    "flattening": Form(2.0, {"pattern": "flatten"}),
    "parallel": Form(numbers={"pattern": "parallel"}),
    "continuation": Form(6.0, continues=True),
    "schedule": Form(6.0, schedule=True),
}
MELODY_FORMS = {name: TEXT_FORMS[name] for name in ("text", "batch", "windows", "continuation", "negative")}
MELODY_FORMS |= {f"{name} with a melody": replace(form, melody=True) for name, form in MELODY_FORMS.items()}


class Models:
    """One model on the device in float32 and bfloat16, and on the CPU."""

    def __init__(self, name: str, device: torch.device) -> None:
        folder = ROOT / "models" / name
        self.exact = load_model(folder, device=device, dtype=torch.float32)
        self.half = load_model(folder, device=device, dtype=torch.bfloat16)
        self.cpu = load_model(folder, dtype=torch.float32)


def run(report: Report) -> None:
    """Check all forms on both bundled models."""
    for name, forms in (("musicgen-nano", TEXT_FORMS), ("musicgen-nano-melody", MELODY_FORMS)):
        models = Models(name, report.device)
        for label, form in forms.items():
            if report.dry:
                if label not in DRY:
                    continue
                form = replace(form, seconds=0.2, numbers={**form.numbers, "window": 0.16})
            report.attempt(f"{name}: {label}", _check(report, models, form))
        if name == "musicgen-nano":
            report.attempt("cancelled", _cancelled(report, models.exact))


def request_of(m: MusicGen, form: Form) -> Request:
    """Write the request of a form, with texts encoded by the model that samples."""
    encode, batch = m.text_encoder.encode, len(form.texts)
    positive = [encode(list(form.texts))]
    if form.schedule:
        positive = [replace(encode([TEXTS[0]]), end=0.5), replace(encode([TEXTS[1]]), start=0.5)]
    prompt = None
    if form.continues:
        generator = torch.Generator().manual_seed(5)
        prompt = torch.randint(0, m.config.card, (1, m.num_codebooks, 60), generator=generator)
    melodies = []
    if form.melody and m.config.chroma is not None:
        tone = 0.5 * torch.sin(torch.arange(96000) * (2 * torch.pi * 440 / 16000))[None]
        melodies = [extract_melody(tone, 16000, m.config.chroma)] * batch
    return Request(
        positive=positive,
        params=GenerationParams(form.seconds, **{"seed": 3, **form.numbers}),
        batch_size=batch,
        negative=[encode([TEXTS[1]])] if form.negative else (),
        melodies=melodies,
        prompt=prompt,
    )


def sample(m: MusicGen, form: Form, graphs: bool | None = None) -> Tensor:
    """Sample the codes of a form."""
    return generate(m.lm, m.config, request_of(m, form), device=m.device, use_cuda_graphs=graphs)


def _check(report: Report, models: Models, form: Form) -> Callable[[], dict[str, Any]]:
    def check() -> dict[str, Any]:
        before = report.allocated()
        exact, half = sample(models.exact, form), sample(models.half, form)
        cpu = sample(models.cpu, form)
        found = {
            "as_on_the_cpu": torch.equal(exact, cpu),
            "share_as_on_the_cpu": round((exact == cpu).float().mean().item(), 4),
            "same_twice": torch.equal(exact, sample(models.exact, form)),
            "recorded_is_unrecorded": torch.equal(exact, sample(models.exact, form, False)),
            "recorded_is_unrecorded_bf16": torch.equal(half, sample(models.half, form, False)),
        }
        if len(form.texts) > 1:
            alone = replace(form, texts=form.texts[1:2], numbers={**form.numbers, "seed": 4})
            found["row_is_solo"] = torch.equal(exact[1], sample(models.exact, alone)[0])
            found["row_is_solo_bf16"] = torch.equal(half[1], sample(models.half, alone)[0])
        left = report.allocated() - before
        return {**found, "left_bytes": left, "memory_given_back": left <= 0}

    return check


def _cancelled(report: Report, m: MusicGen) -> Callable[[], dict[str, Any]]:
    """Cancel at several steps; afterwards the same piece must have the same codes."""
    form = replace(TEXT_FORMS["text"], seconds=0.2 if report.dry else 3.5)

    def cancel() -> dict[str, Any]:
        expected, before, found = sample(m, form), report.allocated(), {}
        for at in CANCELLED_AT[:2] if report.dry else CANCELLED_AT:

            def on_step(progress: StepProgress, at: int = at) -> None:
                if progress.step == at:
                    raise InterruptedError

            try:
                generate(m.lm, m.config, request_of(m, form), device=m.device, on_step=on_step)
                found[f"stopped_at_{at}"] = False
            except InterruptedError:
                found[f"stopped_at_{at}"] = True
        left = report.allocated() - before
        found |= {"memory_given_back": left <= 0, "same_after": torch.equal(sample(m, form), expected)}
        return {**found, "left_bytes": left}

    return cancel
