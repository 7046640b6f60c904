"""Written music in the real host: a template, a MIDI file in and out, and refusals."""

from __future__ import annotations

import io

import mido
import numpy as np
import pytest

from dev.comfy_server import ComfyError, describe_failure

from .conftest import decode
from .test_bad_input import assert_sentence


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def score(**changes):
    return node("MusicGenScore", **({"source": "chords", "text": "C | G", "bpm": 0.0, "beats_per_bar": 4} | changes))


def test_the_score_template_lasts_as_long_as_its_score_and_shows_it(host):
    entry = host.server.run(host.workflow("score_to_music", duration=["6", 2]))
    assert describe_failure(entry) is None
    outputs = entry["outputs"]
    assert len(outputs["6"]["images"]) == 1
    (item,) = [item for out in outputs.values() for item in out.get("audio", []) if item["type"] == "output"]
    sound, rate = decode(host.server.view(item))
    assert sound.shape[1] == round(16 * 60 / 107 * rate) and np.std(sound) > 1e-3


def test_a_midi_file_comes_in_is_edited_and_goes_out(host):
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(60))])
    for pitch in (60, 64, 67, 65):
        track += [mido.Message("note_on", note=pitch), mido.Message("note_off", note=pitch, time=480)]
    file = mido.MidiFile(type=0, ticks_per_beat=480)
    file.tracks.append(track)
    file.save(host.base / "input" / "led.mid")
    graph = {
        "1": score(source="MIDI file", file="led.mid"),
        "2": node("MusicGenEditMelody", melody=["1", 0], transpose=2, stretch=0.5, repeat=1, keep="0s to 3s"),
        "3": node("MusicGenSaveMidi", melody=["2", 0], filename_prefix="midi/out", bpm=["1", 3]),
    }
    entry = host.server.run(graph)
    assert describe_failure(entry) is None
    (item,) = entry["outputs"]["3"]["files"]
    assert item["subfolder"] == "midi" and item["filename"].endswith(".mid")
    saved = mido.MidiFile(file=io.BytesIO(host.server.view(item)))
    assert [message.note for message in saved if message.type == "note_on"] == [62, 66, 69]
    assert saved.length == pytest.approx(1.5, abs=0.1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"text": "C | H7"}, "bar 2 has the chord 'H7', which is unknown"),
        ({"source": "ABC", "text": "X:1\nK:C\nC D &"}, "line 3 of the ABC text cannot be read"),
    ],
)
def test_a_text_that_cannot_be_read_is_told(host, changes, words):
    assert_sentence(host.fail({"1": score(**changes)}), words)


def test_a_midi_file_that_is_not_there_is_told_before_the_run(host):
    with pytest.raises(ComfyError, match=r"none\.mid.*does not exist"):
        host.server.run({"1": score(source="MIDI file", file="none.mid")})
    assert describe_failure(host.server.run({"1": score(file="none.mid")})) is None  # no MIDI file is wanted
