"""Batches of pieces: each is the piece that the library makes alone; a bad one fails alone."""

from __future__ import annotations

import sys

import pytest
import torch

from musicgen.rendering import Renderer, read_manifest, render_catalogue
from musicgen.rendering.batches import even_parts, make_batches
from musicgen.rendering.renderer import TRIES, Failure, Sound
from musicgen.rendering.sounds import encode_sound, read_sound
from tests.lora_files import draw_factors, kohya

from .conftest import CHECKPOINTS, alone, file_alone

TEXTS = ["rock", "a calm piano melody with soft drums", "", "rock and roll"]


class Watched(Renderer):
    """Counts its models, batches and texts; fails for descriptions that name a fault."""

    def __init__(self):
        super().__init__("cpu")
        self.loaded, self.batches, self.encoded, self.tried = [], [], [], []
        self.limit = 1000

    def load(self, piece):
        model = super().load(piece)
        self.loaded.append(piece.model)
        encode = model.text_encoder.encode

        def counted(texts):
            self.encoded += texts
            return encode(texts)

        model.text_encoder.encode = counted
        return model

    def sample(self, model, batch):
        self.batches.append(len(batch))
        if len(batch) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        for piece in batch:
            if "poison" in piece.description:
                self.tried.append((piece.id, len(batch)))
                raise ValueError("the row is bad")
        return super().sample(model, batch)


def test_each_file_is_bit_for_bit_that_of_the_library_alone(catalogue, text_model, tmp_path):
    rows = [{"id": f"p{i}", "description": text, "seed": 7 * i} for i, text in enumerate(TEXTS)]
    rows += [{"id": "n", "description": "rock", "negative": "piano"}, {"id": "m", "negative": "a flute and a harp"}]
    rows += [{"id": "s", "description": "rock", "seed": 2**64 - 2, "seeds": 2, "duration": 0.3, "temperature": 1.2}]
    found = catalogue(*rows, level="as it is")
    summary = render_catalogue(found, tmp_path / "out", tokens=True)
    assert len(summary.made) == len(found.pieces) == 8 and not summary.failed
    lines = {line["id"]: line for line in read_manifest(tmp_path / "out")}
    for piece in found.pieces:
        assert (tmp_path / "out" / lines[piece.id]["file"]).read_bytes() == file_alone(text_model, piece)


def test_melodies_and_prompts_are_those_of_the_library_alone(catalogue, melody_model, sweep, tmp_path):
    for name, part in (("one", sweep[0, :, :16000]), ("two", sweep[0, :, 50000:66000]), ("short", sweep[0, :, :3200])):
        (tmp_path / f"{name}.wav").write_bytes(encode_sound(part, 32000, "wav"))
    rows = [
        {"id": f"m{i}", "description": "rock", "melody": f"{name}.wav"} for i, name in enumerate(["one", "two", "one"])
    ]
    rows += [{"id": "p", "prompt": "short.wav"}, {"id": "q", "prompt": "short.wav", "seed": 5}, {"id": "t"}]
    found = catalogue(*rows, model="hf-melody")
    assert [len(batch) for batch in make_batches(found.pieces)] == [3, 2, 1]
    for batch in make_batches(found.pieces):
        for sound in Renderer("cpu").render(batch):
            assert torch.equal(sound.codes, alone(melody_model, sound.piece)), sound.piece.id


def test_a_lora_and_a_level_are_applied_as_the_library_does(catalogue, text_model, tmp_path):
    from safetensors.torch import save_file

    from musicgen import read_lora
    from musicgen.loudness import apply_gain, loudness_gain

    file = tmp_path / "one.safetensors"
    save_file(kohya(draw_factors(CHECKPOINTS / "hf-text")), file)
    piece = catalogue({"id": "a", "loras": "one.safetensors:0.5", "level": -20}).pieces[0]
    (sound,) = Renderer("cpu").render([piece])
    model = text_model.with_lora(read_lora(file, text_model.config), 0.5)
    codes = alone(model, piece)
    assert torch.equal(sound.codes, codes) and not torch.equal(codes, alone(text_model, piece))
    audio = model.decode(codes[None])
    assert torch.equal(sound.audio[None], apply_gain(audio, loudness_gain(audio, model.sample_rate, -20.0)))


def test_a_model_is_loaded_once_and_a_text_encoded_once(catalogue):
    rows = [{"id": f"p{i}", "description": TEXTS[i % 2], "duration": 0.1 + 0.1 * (i % 3)} for i in range(12)]
    renderer = Watched()
    sounds = [sound for batch in make_batches(catalogue(*rows).pieces, 3) for sound in renderer.render(batch)]
    assert len(sounds) == 12 and len(renderer.loaded) == 1
    assert sorted(renderer.encoded) == sorted(TEXTS[:2])


def test_a_poison_row_is_tried_three_times_and_the_rest_goes_on(catalogue):
    rows = [{"id": f"p{i}", "description": "poison" if i == 5 else "rock", "seed": i} for i in range(8)]
    renderer = Watched()
    found = list(renderer.render(list(catalogue(*rows).pieces)))
    assert sorted(result.piece.id for result in found) == sorted(f"p{i}" for i in range(8))
    (failure,) = [result for result in found if isinstance(result, Failure)]
    assert failure.piece.id == "p5" and failure.error == "ValueError: the row is bad"
    assert [size for _, size in renderer.tried].count(1) == TRIES == 3


def test_where_memory_runs_out_batches_are_halved_and_stay_so(catalogue):
    pieces = list(catalogue(*({"id": f"p{i}", "seed": i} for i in range(16))).pieces)
    renderer = Watched()
    renderer.limit = 5
    assert sum(isinstance(result, Sound) for result in renderer.render(pieces)) == 16
    assert renderer.batches == [16, 8, 4, 4, 4, 4]
    renderer.batches.clear()
    assert len(list(renderer.render(pieces))) == 16 and renderer.batches == [4, 4, 4, 4]


def test_the_batch_size_follows_from_the_estimate_of_memory(catalogue, monkeypatch):
    pieces = list(catalogue(*({"id": f"p{i}", "seed": i} for i in range(16))).pieces)
    renderer = Watched()
    model = renderer.load(pieces[0])
    one = renderer._request(model, pieces[:1]).bytes(model.config)
    monkeypatch.setattr("musicgen.rendering.renderer.free_memory", lambda device: 2 * 6 * one + 1000)
    assert len(list(renderer.render(pieces))) == 16 and renderer.batches == [6, 5, 5]


def test_batches_are_full_and_dealt_out_evenly(catalogue):
    rows = [{"id": f"p{i}", "duration": 0.2 if i % 4 else 0.4, "description": TEXTS[i % 3]} for i in range(40)]
    batches = make_batches(catalogue(*rows).pieces, 8, workers=2)
    assert [len(batch) for batch in batches] == [5, 5, 8, 8, 7, 7]
    assert [batch[0].seconds for batch in batches] == [0.4, 0.4, 0.2, 0.2, 0.2, 0.2]
    assert [len(part) for part in even_parts(list(range(400)), 64, 2)] == [50] * 8
    assert [len(part) for part in even_parts(list(range(5)), 64, 2)] == [5]


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_a_sound_comes_back_from_its_file(form, tmp_path):
    audio = torch.rand(2, 4000) * 2.2 - 1.1
    (tmp_path / "a").write_bytes(encode_sound(audio, 16000, form))
    back, rate = read_sound(tmp_path / "a")
    assert rate == 16000 and back.shape == (2, 4000)
    assert (back - audio.clamp(-1, 1)).abs().max() < 1e-4


def render_with_little_memory(pieces, answer):
    """Make pieces in a process whose memory is too small for the codes of more than a few."""
    import resource
    from pathlib import Path

    class Greedy(Renderer):
        def sample(self, model, batch):
            held = torch.ones(len(batch), 1 << 25)  # 128 MB for each piece, which are really taken
            return super().sample(model, batch) + held[:, :1, None].long() * 0

    renderer = Greedy("cpu")
    next(renderer.render(pieces[:1]))
    status = Path("/proc/self/status").read_text(encoding="ascii")
    used = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmSize:"))
    resource.setrlimit(resource.RLIMIT_AS, (used + (700 << 20), -1))
    answer.put([(type(result).__name__, result.piece.id) for result in renderer.render(pieces)])


@pytest.mark.skipif(sys.platform != "linux", reason="sets a limit on memory")
def test_a_process_that_really_runs_out_of_memory_makes_all_pieces_in_smaller_batches(catalogue):
    import multiprocessing

    pieces = list(catalogue(*({"id": f"p{i}", "seed": i} for i in range(16))).pieces)
    context = multiprocessing.get_context("fork")
    answer = context.SimpleQueue()
    process = context.Process(target=render_with_little_memory, args=(pieces, answer))
    process.start()
    assert answer.get() == [("Sound", piece.id) for piece in pieces]
    process.join()
