"""The shipped API workflows run in the real host and end in the sound they promise."""

from __future__ import annotations

import io
import time
from pathlib import Path

import numpy as np
import pytest

from dev.comfy_server import describe_failure

SAVED = Path(__file__).parents[1] / "saved" / "api"
MELODY = [440.0, 523.25, 659.25, 523.25]
OTHER_MELODY = [246.94, 369.99, 277.18, 415.30]


@pytest.mark.parametrize("name", ["text_to_music", "melody_to_music", "continue_music"])
def test_workflow_saves_sound_of_the_wanted_length(host, name):
    samples, rate = host.play(host.workflow(name, duration=1.5))
    assert rate == 16000
    assert samples.shape == (1, 24000)
    assert np.isfinite(samples).all()
    assert samples.std() > 1e-4


@pytest.mark.parametrize("name", sorted(path.stem for path in SAVED.glob("*.json")))
def test_a_workflow_that_somebody_saved_still_runs_and_sounds_the_same(host, name):
    old = host.play_batch(host.workflow(name, folder=SAVED, seed=5))
    if name == "codebook_patterns":  # today's graph of this name is another: it plays, and asks for another piece
        assert len(old) == 4 and all(samples.std() > 1e-4 for samples, _ in old)
        return
    new = host.play_batch(host.workflow(name, seed=5))
    assert len(old) == len(new) > 0
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(old, new, strict=True))


def test_a_batch_is_saved_as_one_file_per_item_and_items_differ(host):
    entry = host.server.run(host.workflow("text_to_music", batch_size=2))
    assert describe_failure(entry) is None
    items = [item for out in entry["outputs"].values() for item in out.get("audio", []) if item["type"] == "output"]
    first, second = map(host.server.view, items)
    assert first != second


def test_the_melody_workflow_shows_the_chromagram(host):
    entry = host.server.run(host.workflow("melody_to_music"))
    images = [item for out in entry["outputs"].values() for item in out.get("images", [])]
    assert len(images) == 1
    assert host.server.view(images[0]).startswith(b"\x89PNG")


def test_the_guidance_workflow_gives_figures_and_a_map_for_each_value(host):
    entry = host.server.run(host.workflow("guidance_measured", batch_size=2))
    assert describe_failure(entry) is None
    texts = [text for out in entry["outputs"].values() for text in out.get("text", [])]
    figures = [text for text in texts if text.startswith("fad (encodec) ")]
    assert len(figures) == 2 and all("item 2: pulse" in text and "chroma cosine" in text for text in figures)
    assert len(set(figures)) == 2
    maps = [item for out in entry["outputs"].values() for item in out.get("images", [])]
    assert len(maps) == 2 and host.server.view(maps[0]).startswith(b"\x89PNG")


def test_progress_arrives_up_to_the_last_step_with_pictures_of_the_codes(host):
    from PIL import Image

    events = []
    prompt = host.workflow("text_to_music", duration=20.0)
    sampler = next(key for key, node in prompt.items() if node["class_type"] == "MusicGenSampleTokens")
    host.play(prompt, lambda name, data: events.append((name, data)))
    steps = [(data["value"], data["max"]) for name, data in events if name == "progress" and data["node"] == sampler]
    assert len(steps) > 3
    assert steps == sorted(steps)
    assert steps[-1][0] == steps[-1][1] >= 1000
    pictures = [data for name, data in events if name == "preview"]
    assert pictures and all(data["node_id"] == sampler for data in pictures)
    assert np.asarray(Image.open(io.BytesIO(pictures[-1]["image"]))).std() > 0


def test_interrupt_lands_within_a_second_and_the_next_run_works(host):
    moments = {}

    def stop_early(name, data):
        if name == "progress" and data["value"] >= 5 and "asked" not in moments:
            moments["asked"] = time.monotonic()
            host.server.interrupt()
        if name == "execution_interrupted":
            moments["ended"] = time.monotonic()

    entry = host.server.run(host.workflow("text_to_music", duration=200.0), stop_early, timeout=300)
    assert describe_failure(entry) == "MusicGenSampleTokens: interrupted"
    assert moments["ended"] - moments["asked"] < 1.0
    samples, _ = host.play(host.workflow("text_to_music"))
    assert samples.shape == (1, 16000)


def test_another_melody_gives_other_sound_and_the_same_melody_the_same(host):
    # The copy has another name, so ComfyUI cannot answer it from its cache.
    host.record("one.wav", host.tune(MELODY))
    host.record("one_again.wav", host.tune(MELODY))
    host.record("two.wav", host.tune(OTHER_MELODY))
    one, again, two = (
        host.play(host.workflow("melody_to_music", audio=f"{name}.wav", seed=7))[0]
        for name in ("one", "one_again", "two")
    )
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)


def test_a_continuation_begins_with_the_recording_s_codes_and_not_without_it(host):
    first = host.play(host.workflow("continue_music", duration=2.0, seed=3))[0]
    second = host.play(host.workflow("continue_music", duration=2.0, seed=4))[0]
    half = round(0.3 * 16000)  # the recording lasts 0.5 s; the codec looks a little ahead
    assert np.abs(first[:, :half] - second[:, :half]).max() < 1e-3
    assert np.abs(first[:, 16000:] - second[:, 16000:]).max() > 1e-3


def test_the_same_seed_gives_the_same_sound_after_the_cache_is_gone(host):
    once = host.play(host.workflow("text_to_music", seed=11))[0]
    host.server.free()
    assert np.array_equal(once, host.play(host.workflow("text_to_music", seed=11))[0])
