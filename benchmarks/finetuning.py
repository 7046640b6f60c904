"""Time and memory of a LoRA's training step, beside transformers with PEFT on one batch, and the memory of cards.

    python benchmarks/finetuning.py --threads 1 --rounds 3
    python benchmarks/finetuning.py --table              memory that cards need, computed

Theory. Forward and backward passes take three times the arithmetic of a forward pass, in any program; the adapters add
little. Programs differ in the tensors that they keep for the backward pass, and in how often they read the weights.
Each contender runs in a process of its own on random weights of the released shapes. Memory is the process's highest
resident size, the packages and the weights included. `--table` prints the estimate for cards instead, by which
MusicGen Train LoRA reserves its memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from measuring import ROOT

from models import NAMES, SIZES, random_lm, released_config, text_condition
from musicgen.conditioning.condition import TextCondition
from musicgen.finetuning.adapters import ALL_LINEAR, TARGETS, AdaptedLM, trainable_copy
from musicgen.finetuning.memory import estimate
from musicgen.finetuning.objective import Batch, codebook_losses
from musicgen.finetuning.recipe import Recipe
from musicgen.generation.patterns import trained_pattern

RANK, TOKENS = 16, 12
OURS, PEFT = "this library", "transformers + PEFT"


def make_batch(config: Any, batch: int, frames: int) -> Batch:
    """Random codes with one caption."""
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(config.card, (batch, config.num_codebooks, frames), generator=generator)
    text, none = text_condition(TOKENS, config.lm.text_dim), torch.zeros(batch, dtype=torch.bool)
    return Batch(codes, _repeated(text, batch), (), none, none)


def _repeated(text: TextCondition, batch: int) -> TextCondition:
    return TextCondition(text.states.expand(batch, -1, -1), text.mask.expand(batch, -1))


def our_step(size: str, batch: Batch) -> Callable[[], float]:
    """A step of this library."""
    lm, config = random_lm(size)
    lm = trainable_copy(lm, lm.state_dict(), torch.float32, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    adapted = AdaptedLM(lm, config, rank=RANK, alpha=float(RANK), targets=ALL_LINEAR, generator=generator)
    optimizer = torch.optim.AdamW(adapted.parameters().values(), lr=1e-3)

    def step() -> float:
        loss = codebook_losses(lm, config, batch, torch.device("cpu")).mean()
        return _descend(loss, optimizer)

    return step


def peft_step(size: str, batch: Batch) -> Callable[[], float]:
    """A step of transformers' decoder with PEFT's adapters; text states and labels are the same."""
    import peft
    from transformers import MusicgenForCausalLM
    from transformers.models.musicgen.configuration_musicgen import MusicgenDecoderConfig

    config = released_config(size)
    lm = config.lm
    decoder = MusicgenForCausalLM(
        MusicgenDecoderConfig(
            vocab_size=lm.card,
            hidden_size=lm.dim,
            num_hidden_layers=lm.num_layers,
            num_attention_heads=lm.num_heads,
            ffn_dim=lm.ffn_dim,
            num_codebooks=lm.num_codebooks,
            pad_token_id=lm.card,
            bos_token_id=lm.card,
            dropout=0.0,
        )
    )
    decoder.config.decoder_start_token_id = lm.card
    model = peft.get_peft_model(
        decoder, peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=[*TARGETS[ALL_LINEAR]])
    )
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=1e-3)
    project = torch.nn.Linear(lm.text_dim, lm.dim).requires_grad_(False)
    states = project(batch.text.states)
    pattern = trained_pattern(batch.codes.shape[2], config.delays)
    sequence = pattern.build_sequence(batch.codes, lm.card)
    labels = sequence[:, :, 1:].transpose(1, 2)

    def step() -> float:
        read = sequence[:, :, :-1].reshape(-1, sequence.shape[2] - 1)
        loss = model(input_ids=read, encoder_hidden_states=states, labels=labels).loss
        return _descend(loss, optimizer)

    return step


def _descend(loss: torch.Tensor, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run one contender in this process."""
    torch.set_num_threads(args.threads)
    batch = make_batch(released_config(args.model), args.batch, args.frames)
    step = (our_step if args.contender == OURS else peft_step)(args.model, batch)
    step()
    seconds, used = [], []
    for _ in range(args.rounds):
        began, before = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - began)
        used.append(time.process_time() - before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "contender": args.contender,
        "model": args.model,
        "seconds": round(statistics.median(seconds), 3),
        "processor_seconds": round(statistics.median(used), 3),
        "megabytes": round(peak),
    }


def table() -> str:
    """The estimated GB of a LoRA of rank 16 on 30 s of music in bf16: batches of 1 and 4, without and with
    gradient checkpointing."""
    lines = ["| model | batch 1 | batch 4 | batch 1, checkpointing | batch 4, checkpointing |", "|---|---|---|---|---|"]
    for size in SIZES:
        cells = []
        for recompute in (False, True):
            for batch in (1, 4):
                recipe = Recipe(batch=batch, recompute=recompute, dtype="bf16", targets=ALL_LINEAR, rank=RANK)
                cells.append(f"{estimate(released_config(size), recipe, 1500, TOKENS).total / 1e9:.1f}")
        lines.append(f"| {size} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=NAMES, default="nano")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--contender", choices=(OURS, PEFT), help="run one in this process")
    parser.add_argument("--table", action="store_true", help="print the memory of cards, computed")
    args = parser.parse_args()
    if args.table:
        sys.stdout.write(table() + "\n")
        return
    if args.contender:
        sys.stdout.write(json.dumps(measure(args)) + "\n")
        return
    rows = []
    for contender in (OURS, PEFT):
        command = [sys.executable, __file__, *sys.argv[1:], "--contender", contender]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    sys.stdout.write(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
