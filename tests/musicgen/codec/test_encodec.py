"""EnCodec: lengths, rates, channels, and what it refuses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from musicgen import load_model
from musicgen.audio import downmix
from musicgen.checkpoints.files.settings import Fields
from musicgen.checkpoints.parts.codec import config_of_transformers
from musicgen.codec import EnCodec
from tests.conftest import golden_model


@pytest.mark.parametrize(("samples", "frames"), [(1, 1), (416, 1), (640, 1), (641, 2), (31049, 49), (32000, 50)])
def test_frames_are_the_hops_begun(samples, frames, model):
    m = model("hf-text")
    codes = m.encode(torch.rand(1, 1, samples) - 0.5, 32000)
    assert codes.shape == (1, 4, frames) and codes.dtype == torch.int64
    assert m.decode(codes).shape == (1, 1, 640 * frames)
    assert m.codec.decode(codes, samples).shape == (1, 1, samples)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 31999])
def test_a_second_of_any_rate_is_fifty_frames(rate, model):
    codes = model("hf-text").encode(torch.rand(2, 1, rate) - 0.5, rate)
    assert codes.shape == (2, 4, 50)


def test_channels_are_averaged_for_mono_and_copied_for_stereo(model, tensors):
    mono, stereo = model("hf-text"), model("hf-stereo")
    wave = tensors("signals")["prompt_stereo"][None]
    assert torch.equal(mono.encode(wave, 32000), mono.encode(wave.mean(1, keepdim=True), 32000))
    codes = stereo.encode(wave[:, :1], 32000)
    assert codes.shape[1] == 8 and torch.equal(codes[:, 0::2], codes[:, 1::2])


@pytest.mark.parametrize("name", ["hf-text", "hf-stereo"])
def test_more_channels_are_mixed_down(name, model):
    wave = torch.rand(1, 8, 3200) - 0.5
    assert torch.equal(model(name).encode(wave, 32000), model(name).encode(downmix(wave), 32000))


def test_stereo_codebooks_alternate_left_and_right(model, tensors):
    m = model("hf-stereo")
    wave = tensors("signals")["prompt_stereo"][None]
    codes, swapped = m.encode(wave, 32000), m.encode(wave.flip(1), 32000)
    assert torch.equal(codes[:, 0::2], swapped[:, 1::2]) and not torch.equal(codes, swapped)
    assert torch.equal(m.decode(codes).flip(1), m.decode(swapped))


def test_items_of_a_batch_are_coded_as_alone(model, sweep):
    m = model("hf-text")
    batch = torch.cat([sweep[..., :32000], sweep[..., 32000:64000]])
    codes = m.encode(batch, 32000)
    for item in (0, 1):
        assert torch.equal(codes[item], m.encode(batch[item : item + 1], 32000)[0])


def test_decoded_audio_is_float32_on_the_cpu_and_its_own(model):
    audio = model("hf-text").decode(torch.zeros(1, 4, 3, dtype=torch.int32))
    assert audio.dtype == torch.float32 and audio.device.type == "cpu"
    assert audio.untyped_storage().nbytes() == audio.numel() * 4


def test_the_fingerprint_tells_codecs_apart_and_survives_half_precision(model, checkpoint_copy):
    from safetensors.torch import load_file, save_file

    folder = checkpoint_copy("hf-text-legacy")
    half = {key: value.half() for key, value in load_file(folder / "model.safetensors").items()}
    save_file(half, folder / "model.safetensors")
    prints = [model(name).codec.fingerprint for name in ("hf-text", "hf-melody", "hf-stereo")]
    assert len(set(prints)) == 3 and all(len(p) == 12 for p in prints)
    assert load_model(folder).codec.fingerprint == prints[0]


@pytest.mark.parametrize(
    ("audio", "rate", "words"),
    [
        (torch.zeros(1, 1, 0), 32000, "empty"),
        (torch.zeros(0, 1, 9), 32000, "empty"),
        (torch.full((1, 1, 9), float("inf")), 32000, "NaN or infinite"),
        (torch.zeros(9), 32000, "allowed is \\[batch, channels, samples\\]"),
        (torch.zeros(1, 1, 9), 0, "sample rate of 0"),
        (torch.zeros(1, 1, 9), 1, "sample rate of 1, too low"),
    ],
)
def test_what_is_no_sound_is_refused(audio, rate, words, model):
    with pytest.raises(ValueError, match=words):
        model("hf-text").encode(audio, rate)


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (torch.zeros(1, 8, 5, dtype=torch.long), "needs \\[B, 4, T\\]"),
        (torch.zeros(1, 4, 0, dtype=torch.long), "at least one frame"),
        (torch.zeros(4, 5, dtype=torch.long), "shape \\[4, 5\\]"),
        (torch.full((1, 4, 5), 64), "run from 64 to 64; this codec's codebooks have 0 to 63"),
        (torch.full((1, 4, 5), -1), "run from -1"),
        (torch.zeros(1, 4, 5), "float32; allowed are whole numbers"),
    ],
)
def test_what_are_no_codes_is_refused(codes, words, model):
    with pytest.raises(ValueError, match=words):
        model("hf-text").decode(codes)


def random_codec(seed=1, channels=1, **changes):
    """A codec of any numbers with seeded random weights."""
    codec = EnCodec(dataclasses.replace(golden_model("hf-text").config.codec, **changes), channels)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in codec.model.state_dict().items():
        if name.endswith("inited"):
            tensor.fill_(1)
        elif tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * (1.0 if "embed" in name else 0.1))
    return codec.eval().requires_grad_(False)


@pytest.mark.parametrize(
    "changes",
    [
        {"card": 400},
        {"card": 3, "num_codebooks": 1},
        {"card": 1000, "num_codebooks": 20},
        {"num_codebooks": 1, "sample_rate": 16000, "ratios": (8, 5, 4, 2)},
        {"num_codebooks": 32, "sample_rate": 24000, "ratios": (8, 5, 4, 2), "n_residual_layers": 3},
        {"card": 2048, "sample_rate": 48000, "ratios": (8, 5, 4, 2), "n_residual_layers": 2, "causal": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_codec_of_any_size_codes_sound_in_chunks_as_whole(changes, channels):
    codec = random_codec(channels=channels, **changes)
    sound = torch.randn(2, channels, 7 * codec.config.hop_length, generator=torch.Generator().manual_seed(2)) * 0.1
    codes = codec.encode(sound, codec.sample_rate)
    assert codes.shape == (2, codec.num_codebooks, 7) and int(codes.max()) < codec.config.card
    assert torch.equal(codes, codec.encode(sound, codec.sample_rate, whole=True))
    audio = codec.decode(codes)
    assert audio.shape == sound.shape
    torch.testing.assert_close(audio, codec.decode(codes, whole=True), atol=1e-5, rtol=1e-4)


def test_codebooks_of_400_codes_are_counted_as_transformers_counts_them():
    from transformers import EncodecConfig

    table = EncodecConfig(
        codebook_size=400, target_bandwidths=[1.8], sampling_rate=32000, upsampling_ratios=[8, 5, 4, 4]
    )
    fields = {**table.to_dict(), "normalize": False, "audio_channels": 1, "chunk_length_s": None}
    assert config_of_transformers(Fields(fields, "config.json")).num_codebooks == table.num_quantizers == 4
