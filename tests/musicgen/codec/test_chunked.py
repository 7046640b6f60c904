"""Coding chunk by chunk against coding everything at once: for all shapes of codec, at every kind of boundary."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from musicgen import load_model
from musicgen.codec import encodec as codec_module
from musicgen.codec.chunked import Rolling, reach, recurrent
from musicgen.codec.encodec import EnCodec, split_at_lstm
from nano.recipes import NANO_CODEC

BASE = replace(NANO_CODEC, sample_rate=3200, dimension=8, n_filters=4, ratios=(8, 5, 4, 4), lstm=2, card=16)
SHAPES = {
    "musicgen": {},
    "audiogen": {"ratios": (8, 5, 4, 2)},
    "small ratios": {"ratios": (3, 2)},
    "even kernels": {"kernel_size": 6, "last_kernel_size": 8, "residual_kernel_size": 4, "ratios": (4, 3)},
    "wide kernels": {"kernel_size": 11, "last_kernel_size": 23, "ratios": (2, 2)},
    "dilations": {"n_residual_layers": 4, "dilation_base": 3, "ratios": (4, 2)},
    "convolved skips": {"true_skip": False},
    "no lstm": {"lstm": 0},
    "one lstm": {"lstm": 1, "compress": 1},
    "causal": {"causal": True},
    "causal, trimmed in the middle": {"causal": True, "trim_right_ratio": 0.5, "ratios": (5, 3, 2)},
    "causal, trimmed on the left": {"causal": True, "trim_right_ratio": 0.0},
    "padded with zeros": {"pad_mode": "constant"},
    "padded with the ends": {"pad_mode": "replicate", "ratios": (4, 2)},
}
FRAMES = (1, 2, 3, 7, 8, 20)


def random_codec(audio_channels: int = 1, **changes) -> EnCodec:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        codec = EnCodec(replace(BASE, **changes), audio_channels).eval().requires_grad_(False)
        for layer in codec.model.quantizer.vq.layers:
            layer._codebook.embed.normal_()
            layer._codebook.inited.fill_(1)
    return codec


def random_codes(codec: EnCodec, frames: int, batch: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(frames)
    return torch.randint(codec.config.card, (batch, codec.num_codebooks, frames), generator=generator)


def assert_same_sound(sound: torch.Tensor, whole: torch.Tensor) -> None:
    """Equal to a millionth of the loudest sample, or of full scale."""
    assert sound.shape == whole.shape
    assert (sound - whole).abs().max() <= 1e-6 * max(1.0, whole.abs().max())


@pytest.fixture(params=["rows", "the package's layers"])
def either_way(request, monkeypatch):
    """The decoder's outer layers over rows, as on a CPU, and as they are, as on a GPU."""
    if request.param != "rows":
        monkeypatch.setattr(codec_module, "each_over_rows", lambda layers: layers)


@pytest.fixture
def chunks(monkeypatch):
    """Make chunks as short as a test wants them."""

    def cut(codec: EnCodec, frames: int, recurrent_frames: int) -> None:
        monkeypatch.setattr(codec_module, "_CHUNK_SECONDS", frames / codec.frame_rate)
        monkeypatch.setattr(codec_module, "_RECURRENT_FRAMES", recurrent_frames)

    return cut


@pytest.mark.parametrize("length", [(1, 1), (2, 3), (7, 4), (4, 7)], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_decoding_in_chunks_is_decoding_at_once(shape, length, chunks, either_way):
    codec = random_codec(**SHAPES[shape])
    chunks(codec, *length)
    for frames in FRAMES:
        codes = random_codes(codec, frames)
        assert_same_sound(codec.decode(codes), codec.decode(codes, whole=True))


@pytest.mark.parametrize("length", [(1, 1), (2, 3), (7, 4)], ids=str)
@pytest.mark.parametrize("shape", SHAPES)
def test_encoding_in_chunks_gives_the_codes_of_encoding_at_once(shape, length, chunks):
    codec = random_codec(**SHAPES[shape])
    chunks(codec, *length)
    hop = codec.config.hop_length
    for samples in (1, hop - 1, hop + 1, 7 * hop, 7 * hop + 1, 8 * hop - 1, 29 * hop - hop // 2):
        sound = torch.rand(1, 1, samples, generator=torch.Generator().manual_seed(samples)) - 0.5
        codes = codec.encode(sound, codec.sample_rate)
        assert torch.equal(codes, codec.encode(sound, codec.sample_rate, whole=True))


@pytest.mark.parametrize("name", ["hf-text", "hf-stereo", "audiocraft-melody", "nano"])
def test_models_code_the_same_in_chunks_as_at_once(name, model, chunks, either_way):
    m = load_model("models/musicgen-nano") if name == "nano" else model(name)
    chunks(m.codec, 9, 20)
    generator = torch.Generator().manual_seed(1)
    sound = torch.rand(2, m.codec.audio_channels, 31049, generator=generator) - 0.5
    codes = m.codec.encode(sound, m.sample_rate)
    assert torch.equal(codes, m.codec.encode(sound, m.sample_rate, whole=True))
    assert_same_sound(m.codec.decode(codes), m.codec.decode(codes, whole=True))


def test_several_chunks_of_the_length_that_is_used_are_the_whole(model, either_way):
    codec = model("hf-text").codec
    codes = random_codes(codec, 1650)
    assert codec.frame_rate == 50 and codec_module._RECURRENT_FRAMES < 1650
    assert_same_sound(codec.decode(codes), codec.decode(codes, whole=True))


@pytest.mark.parametrize("channels", [1, 2])
def test_items_and_channels_of_a_batch_are_decoded_in_chunks_as_at_once(channels, chunks, either_way):
    codec = random_codec(channels)
    chunks(codec, 3, 5)
    codes = random_codes(codec, 17, batch=3)
    sound = codec.decode(codes)
    assert_same_sound(sound, codec.decode(codes, whole=True))
    assert_same_sound(sound[1:2], codec.decode(codes[1:2]))


def test_decoding_ends_where_it_was_asked_to(chunks, either_way):
    codec = random_codec()
    chunks(codec, 3, 5)
    codes, hop = random_codes(codec, 10), codec.config.hop_length
    all_of_it = codec.decode(codes)
    for samples in (0, 1, 3 * hop, 3 * hop + 1, 10 * hop - 1, 10 * hop + 9):
        sound = codec.decode(codes, samples)
        assert torch.equal(sound, all_of_it[..., :samples])
        assert sound.untyped_storage().nbytes() == 4 * sound.numel()


def test_codes_and_states_that_chunks_share_are_left_alone(chunks):
    codec = random_codec(lstm=0)
    chunks(codec, 2, 4)
    codes = random_codes(codec, 12)
    before = codes.clone()
    first = codec.decode(codes)
    assert torch.equal(codes, before) and torch.equal(first, codec.decode(codes))


def influence(layers, frames: int, hop_in: int, hop_out: int) -> set[int]:
    """By how many frames an input frame in the middle and the output frames that it changes lie apart."""
    channels = next(layers.parameters()).shape[0 if hop_out > 1 else 1]
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, channels, frames * hop_in, generator=generator, dtype=torch.float64)
    changed = x.clone()
    middle = frames // 2
    changed[..., middle * hop_in : (middle + 1) * hop_in] += 1.0
    difference = (layers(changed) - layers(x)).abs().amax(dim=(0, 1)).view(frames, -1).amax(dim=1)
    return {int(frame) - middle for frame in difference.nonzero()}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_reach_is_as_far_as_a_frame_s_influence(shape):
    codec = random_codec(**SHAPES[shape]).double()
    hop = codec.config.hop_length
    outer = split_at_lstm(codec.model.encoder.model)[0]
    inner, _, last = split_at_lstm(codec.model.decoder.model)
    for layers, units in ((outer, (hop, 1)), (last, (1, hop)), (inner, (1, 1))):
        reached = max(map(abs, influence(layers, 61, *units)))
        # One frame may be counted that only padding at the ends, or rounding to frames on both sides, needs.
        assert reached <= reach(layers, *units) <= reached + 1 + codec.config.causal


def test_layers_whose_reach_is_unknown_are_refused():
    with pytest.raises(TypeError, match="GroupNorm"):
        reach([torch.nn.GroupNorm(1, 4)])


def test_a_sequence_that_rolls_by_keeps_no_more_than_is_asked_for():
    sequence = torch.arange(100.0).view(1, 1, 100)
    rolling = Rolling(iter(sequence.split(7, dim=2)))
    for start in range(0, 90, 3):
        assert torch.equal(rolling(start, start + 9), sequence[..., start : start + 9])
        assert rolling._kept.shape[2] < 9 + 7
    pieces = Rolling(iter(sequence.split(7, dim=2))).pieces(100, 30)
    assert [piece.shape[2] for piece in pieces] == [30, 30, 30, 10]


def test_a_recurrent_layer_goes_on_where_it_stopped():
    layer = random_codec().model.decoder.model[1]
    x = torch.randn(2, 64, 50, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(torch.cat(list(recurrent(layer, x.split(9, dim=2))), 2), layer(x), atol=1e-6, rtol=0)


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_progress_rises_to_the_end_and_what_it_raises_ends_the_work(way, chunks):
    codec = random_codec()
    chunks(codec, 4, 6)
    codes, sound = random_codes(codec, 18), torch.zeros(1, 1, 18 * codec.config.hop_length)
    told: list[tuple[int, int]] = []

    def run(on_progress):
        if way == "decode":
            codec.decode(codes, on_progress=on_progress)
        else:
            codec.encode(sound, codec.sample_rate, on_progress=on_progress)

    run(lambda *progress: told.append(progress))
    assert told == [(4, 18), (8, 18), (12, 18), (16, 18), (18, 18)]

    def cancel(done: int, total: int) -> None:
        if done == 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(cancel)


class Largest(TorchDispatchMode):
    """The largest tensor that any operation gave, and how many operations there were."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        self.bytes = max(self.bytes, *(4 * leaf.numel() for leaf in made), 0)
        return result


@pytest.mark.parametrize("way", ["encode", "decode"])
def test_no_tensor_but_the_sound_grows_with_the_length(way, chunks, either_way):
    codec = random_codec()
    chunks(codec, 5, 10)

    def largest(frames: int, whole: bool) -> int:
        sound = torch.zeros(1, 1, frames * codec.config.hop_length)
        codes = random_codes(codec, frames)
        with Largest() as seen:
            if way == "decode":
                codec.decode(codes, whole=whole)
            else:
                codec.encode(sound, codec.sample_rate, whole=whole)
        return seen.bytes

    sound = 4 * codec.config.hop_length
    assert largest(100, False) == max(largest(20, False), 100 * sound)
    assert largest(100, True) > 3 * 100 * sound


def test_the_memory_that_is_asked_for_is_flat_but_for_the_sound():
    codec, stereo, wide = random_codec(), random_codec(2), random_codec(n_filters=8)
    chunk, weights = 2 * codec.sample_rate, codec.memory_required(0)
    assert weights >= max(
        sum(p.nbytes for p in half.parameters()) for half in (codec.model.encoder, codec.model.decoder)
    )
    for samples in (chunk, 100 * chunk):
        assert codec.memory_required(samples + 1000) - codec.memory_required(samples) == 8000
    one = codec.memory_required(chunk) - weights
    assert one > codec.memory_required(chunk // 2) - weights > one // 2 - 8
    assert stereo.memory_required(chunk) - weights == 2 * one
    assert wide.memory_required(chunk) - wide.memory_required(0) > 1.9 * one
