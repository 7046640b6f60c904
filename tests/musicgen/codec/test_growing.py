"""Codes decoded as they arrive sound as codes decoded at once."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from musicgen import load_model
from musicgen.codec.growing import GrowingDecoder

CHECKPOINTS = Path(__file__).resolve().parents[2] / "golden" / "checkpoints"


@pytest.fixture(scope="module", params=["hf-text", "hf-stereo"])
def codec(request):
    return load_model(CHECKPOINTS / request.param).codec


def test_the_sound_of_all_parts_is_that_of_one_pass(codec):
    codes = torch.randint(0, codec.config.card, (codec.num_codebooks, 130), generator=torch.Generator().manual_seed(0))
    decoder, parts, start = GrowingDecoder(codec), [], 0
    for count in (10, 1, 0, 40, 79):
        part = codes[:, start : start + count]
        start += count
        parts.append(decoder.push(part, last=start == codes.shape[1]))
        assert sum(p.shape[1] for p in parts) <= start * codec.config.hop_length
    whole = codec.decode(codes[None], whole=True)[0]
    sound = torch.cat(parts, dim=1)
    assert sound.shape == whole.shape and torch.allclose(sound, whole, atol=1e-6)


def test_only_new_frames_are_decoded(codec):
    """The state of a long piece is no larger than that of a short one."""
    decoder = GrowingDecoder(codec)
    codes = torch.zeros(codec.num_codebooks, 48, dtype=torch.int64)
    sizes = []
    for _ in range(6):
        decoder.push(codes)
        sizes.append(decoder.kept_frames)
    assert sizes[2:] == sizes[2:3] * 4 and sizes[-1] < 60


def test_layers_meet_few_lengths_whatever_arrives(codec):
    """A library of convolutions keeps something for each length that it met."""
    draw, lengths = random.Random(0), set()
    for _ in range(6):
        decoder = GrowingDecoder(codec)
        hooks = [
            layer.register_forward_pre_hook(lambda _, inputs: lengths.add(inputs[0].shape[-1]))
            for layer in codec.model.decoder.modules()
            if isinstance(layer, torch.nn.Conv1d)
        ]
        for _ in range(8):
            decoder.push(torch.zeros(codec.num_codebooks, draw.randrange(1, 120), dtype=torch.int64))
        for hook in hooks:
            hook.remove()
    layers = sum(isinstance(layer, torch.nn.Conv1d) for layer in codec.model.decoder.modules())
    assert 0 < len(lengths) < 12 * layers
