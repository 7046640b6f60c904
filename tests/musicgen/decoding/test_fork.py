"""Branches of one piece share its prefill: the codes are those of each branch alone, and one item is run."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from musicgen import GenerationParams
from musicgen.generation.generate import generate
from musicgen.generation.request import Request
from tests.conftest import golden_model


def request_of(model, prompt: torch.Tensor, batch: int, texts: tuple[str, ...] = ("rock",)) -> Request:
    params = GenerationParams(0.8, seed=4, top_k=20)
    return Request(params=params, positive=[model.text_encoder.encode(list(texts))], batch_size=batch, prompt=prompt)


def prompt_of(model, items: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, model.config.card, (items, model.num_codebooks, 20), generator=generator)


def rows_of_prefill(model, request: Request) -> tuple[torch.Tensor, int]:
    """The codes of a request, and how many rows its longest call of the transformer has."""
    seen: list[torch.Size] = []
    hook = model.lm.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    try:
        codes = generate(model.lm, model.config, request, use_compiled_steps=False)
    finally:
        hook.remove()
    return codes, max(seen, key=lambda shape: shape[1])[0]


@pytest.mark.parametrize("name", ["hf-text", "hf-melody", "hf-stereo"])
def test_branches_of_one_prompt_are_prefilled_once(name):
    model = golden_model(name)
    request = request_of(model, prompt_of(model, 1), 3)
    codes, rows = rows_of_prefill(model, request)
    assert rows == 2  # the description and the null condition, for one item
    assert torch.equal(codes[:, :, :20], request.prompt.expand(3, -1, -1))
    assert not torch.equal(codes[0], codes[1])
    for item in range(3):
        assert torch.equal(codes[item : item + 1], generate(model.lm, model.config, request.select([item])))
    assert torch.equal(codes, generate(model.lm, model.config, request))  # compiled, where that is possible


def test_items_of_different_prompts_or_descriptions_are_prefilled_side_by_side():
    model = golden_model("hf-text")
    _, rows = rows_of_prefill(model, request_of(model, prompt_of(model, 3), 3))
    assert rows == 6
    request = request_of(model, prompt_of(model, 1), 2, ("rock", "a calm piano"))
    codes, rows = rows_of_prefill(model, request)
    assert rows == 4
    for item in range(2):
        alone = generate(model.lm, model.config, request.select([item]))
        assert torch.equal(codes[item : item + 1], alone)


def test_two_equal_prompts_of_a_batch_are_one():
    model = golden_model("hf-text")
    prompt = prompt_of(model, 1)
    one = request_of(model, prompt, 2)
    codes, rows = rows_of_prefill(model, replace(one, prompt=prompt.repeat(2, 1, 1)))
    assert rows == 2 and torch.equal(codes, generate(model.lm, model.config, one))
