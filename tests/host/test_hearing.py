"""Players on nodes, sound that arrives while it is sampled, and Cancel that keeps it."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np

from dev.comfy_server import describe_failure

from .conftest import decode

KEEP = "keep the music so far"


def key_of(prompt, class_type):
    return next(key for key, node in prompt.items() if node["class_type"] == class_type)


def audible(host, prompt):
    """The prompt with the codec at the sampler."""
    prompt[key_of(prompt, "MusicGenSampleTokens")]["inputs"]["codec"] = [key_of(prompt, "MusicGenLoader"), 2]
    return prompt


def test_every_item_of_a_batch_can_be_heard_on_the_decoder(host):
    prompt = host.workflow("text_to_music", batch_size=3)
    entry = host.server.run(prompt)
    assert describe_failure(entry) is None
    files = entry["outputs"][key_of(prompt, "MusicGenEnCodecDecode")]["audio"]
    (row, rate), *items = (decode(host.server.view(item)) for item in files)
    assert [item["type"] for item in files] == ["temp"] * 4
    assert row.shape[1] == 3 * rate + 2 * rate // 2
    for index, (item, _) in enumerate(items):
        assert np.array_equal(row[:, index * rate * 3 // 2 :][:, :rate], item)
    assert not row[:, rate : rate * 3 // 2].any()


def test_the_piece_can_be_heard_while_it_is_sampled(host):
    # Two versions are at least a second and a half apart, and 30 s of music may be there by then.
    prompt = audible(host, host.workflow("text_to_music", duration=300.0))
    sampler, heard = key_of(prompt, "MusicGenSampleTokens"), []

    def listen(name, data):
        if name == "executed" and data["node"] == sampler:
            sound, rate = decode(host.server.view(data["output"]["audio"][0]))
            heard.append((time.monotonic(), sound, rate, data["prompt_id"]))

    began = time.monotonic()
    entry = host.server.run(prompt, listen)
    assert describe_failure(entry) is None
    ended = [time.monotonic(), began]
    times = [moment for moment, *_ in heard[:-1]]  # the last one is the node's own output
    assert len(times) >= 2 and times[0] < ended[0] - 1, (times, ended)
    assert all(later - sooner > 1 for sooner, later in pairwise(times))
    lengths = [sound.shape[1] for _, sound, *_ in heard]
    assert lengths == sorted(lengths) and 0 < lengths[0] < lengths[-1] <= 300 * heard[0][2]
    (key,) = [key for key, node in prompt.items() if node["class_type"].startswith("SaveAudio")]
    final = decode(host.server.view(entry["outputs"][key]["audio"][0]))[0]
    part = heard[-1][1]
    # The decoder lowers a piece that would clip; the version so far is clipped where it is too loud.
    final, whole = final[:, : part.shape[1]], np.abs(part) < 0.98
    gain = (final[whole] @ part[whole]) / (part[whole] @ part[whole])
    assert 0.3 < gain <= 1.001 and whole.mean() > 0.99
    assert np.allclose(part[whole] * gain, final[whole], atol=2e-3)


def test_cancel_keeps_the_music_decodes_it_and_leaves_the_queue_alone(host):
    prompt = host.workflow("text_to_music", duration=30.0, on_cancel=KEEP)
    other = host.workflow("text_to_music")
    later, lines, pressed = [], [], []

    def stop(name, data):
        if name == "text":
            lines.append(data["text"])
        if name == "progress" and data["value"] > 300 and not pressed:
            pressed.append(time.monotonic())
            later.append(host.server.queue(other))
            host.server.interrupt()
        elif name == "executing" and data["node"] == key_of(prompt, "MusicGenEnCodecDecode") and len(pressed) == 1:
            pressed.append(time.monotonic())

    entry = host.server.run(prompt, stop)
    assert describe_failure(entry) is None
    (saved,) = [item for out in entry["outputs"].values() for item in out.get("audio", []) if item["type"] == "output"]
    sound, rate = decode(host.server.view(saved))
    seconds = sound.shape[1] / rate
    assert 5.5 < seconds < 29
    assert any(f"goes on with the first {seconds:g} of 30 s" in line for line in lines), lines
    assert _seconds_of_next_run(host, prompt) == (30, True), "the part was taken for the whole"
    assert _seconds_of_next_run(host, prompt) == (30, False), "the whole was not taken from the cache"
    for _ in range(600):
        if history := host.server.history(later[0]):
            break
        time.sleep(0.1)
    assert describe_failure(history) is None


def _seconds_of_next_run(host, prompt):
    """Run a prompt again: seconds of its saved sound, and whether the sampler ran."""
    ran, sampler = [], key_of(prompt, "MusicGenSampleTokens")
    entry = host.server.run(prompt, lambda name, data: ran.append(data.get("node")) if name == "executing" else None)
    assert describe_failure(entry) is None
    (saved,) = [item for out in entry["outputs"].values() for item in out.get("audio", []) if item["type"] == "output"]
    sound, rate = decode(host.server.view(saved))
    return sound.shape[1] / rate, sampler in ran


def test_cancel_acts_within_a_tenth_of_a_second(host):
    delays = []
    for _ in range(3):
        pressed = []

        def stop(name, data, pressed=pressed):
            if name == "progress" and data["value"] > 100 and not pressed:
                pressed.append(time.monotonic())
                host.server.interrupt()
            if name == "execution_interrupted":
                delays.append(time.monotonic() - pressed[0])

        entry = host.server.run(audible(host, host.workflow("text_to_music", duration=30.0)), stop)
        assert describe_failure(entry) == "MusicGenSampleTokens: interrupted"
    assert min(delays) < 0.1, delays
