"""MIDI files: read as another library writes them, written as it reads them, and damaged ones."""

from __future__ import annotations

import io
import random

import mido
import pytest

from musicgen.notation import Note, midi_bytes, read_midi


def saved(*tracks, kind: int = 1, ticks: int = 480) -> bytes:
    """A file that the other library writes."""
    file = mido.MidiFile(type=kind, ticks_per_beat=ticks)
    file.tracks.extend(mido.MidiTrack(track) for track in tracks)
    stream = io.BytesIO()
    file.save(file=stream)
    return stream.getvalue()


def on(pitch: int, time: int = 0, channel: int = 0, velocity: int = 64):
    return mido.Message("note_on", note=pitch, velocity=velocity, time=time, channel=channel)


def off(pitch: int, time: int, channel: int = 0):
    return mido.Message("note_off", note=pitch, time=time, channel=channel)


def tempo(bpm: float, time: int = 0):
    return mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(bpm), time=time)


PIANO = [
    mido.MetaMessage("track_name", name="piano"),
    on(60),
    on(64),
    off(60, 480),
    on(62, 0),
    off(64, 480),
    off(62, 0),
    on(67, 480, velocity=100),
    on(67, 240, velocity=0),
]


def test_notes_lie_at_their_seconds_through_changes_of_tempo():
    score = read_midi(saved([tempo(60), tempo(120, 960)], PIANO))
    assert [voice.name for voice in score.voices] == ["piano"]
    assert [(n.start, n.end, n.pitch) for n in score.voices[0].notes] == [
        (0, 1, 60),
        (0, 2, 64),
        (1, 2, 62),
        (2.5, 2.75, 67),
    ]
    assert score.bpm == 60 and score.seconds == 2.75 and not score.ranked


def test_a_given_tempo_takes_the_place_of_the_own_one():
    assert read_midi(saved([tempo(60)], PIANO), bpm=120).voices[0].notes[1].end == 1


def test_each_channel_is_a_voice_and_drums_are_left_out():
    track = [on(60, channel=0), on(40, channel=9), on(72, channel=3), off(60, 480), off(40, 0, 9), off(72, 0, 3)]
    score = read_midi(saved(track, kind=0))
    assert [(voice.name, voice.notes[0].pitch) for voice in score.voices] == [
        ("track 1, channel 1", 60),
        ("track 1, channel 4", 72),
    ]


def test_the_key_is_that_of_the_file():
    key = mido.MetaMessage("key_signature", key="F#m")
    assert read_midi(saved([key, on(66), off(66, 480)])).key == (6, "minor")


def test_notes_that_never_end_or_begin_twice_end_somewhere():
    score = read_midi(saved([on(60), on(60, 480), on(64, 0), off(62, 480)]))
    assert [(n.start, n.end, n.pitch) for n in score.voices[0].notes] == [(0, 0.5, 60), (0.5, 1, 60), (0.5, 1, 64)]


def test_running_status_system_messages_and_other_chunks_are_understood():
    track = bytes.fromhex("00f00343f700 00903c40 60 3c00 00 4040 60 4000 00ff2f00".replace(" ", ""))
    data = b"MThd\0\0\0\6\0\1\0\1\0\x60" + b"XYZ!\0\0\0\2ab" + b"MTrk" + len(track).to_bytes(4, "big") + track
    assert [(n.start, n.pitch) for n in read_midi(data).voices[0].notes] == [(0, 60), (0.5, 64)]


def test_frames_per_second_may_be_the_clock():
    track = bytes.fromhex("00903c40 28803c40 00ff2f00".replace(" ", ""))
    data = b"MThd\0\0\0\6\0\0\0\1" + bytes((256 - 25, 40)) + b"MTrk" + len(track).to_bytes(4, "big") + track
    assert read_midi(data).voices[0].notes[0].end == pytest.approx(0.04)


def test_the_other_library_reads_back_each_note_that_is_written():
    notes = [Note(0.0, 0.5, 60), Note(0.5, 1.25, 67), Note(0.5, 1.0, 64), Note(2.0, 2.001, 71)]
    file = mido.MidiFile(file=io.BytesIO(midi_bytes(notes, bpm=90, name="tune")))
    assert file.type == 0 and file.length == pytest.approx(2.001, abs=2e-3)
    time, begun = 0.0, {}
    for message in file:
        time += message.time
        if message.type == "note_on":
            begun[message.note] = time
        if message.type == "set_tempo":
            assert mido.tempo2bpm(message.tempo) == pytest.approx(90, abs=1e-3)
    assert begun == {pitch: pytest.approx(start, abs=2e-3) for start, pitch in ((0, 60), (0.5, 67), (0.5, 64), (2, 71))}
    again = read_midi(midi_bytes(notes, bpm=90))
    assert [n.pitch for n in again.voices[0].notes] == [60, 64, 67, 71] and again.bpm == pytest.approx(90, abs=1e-3)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "breaks off at byte 0"),
        (b"RIFF" + bytes(40), "does not begin with MThd"),
        (b"MThd\0\0\0\6\0\2\0\1\0\x60", "it has format 2, and allowed are 0 and 1"),
        (b"MThd\0\0\0\6\0\1\0\1\0\0", "its ticks have no length"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60", "it holds no track"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\xff\xff\xff\xff", "breaks off"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\x3c\x40\0", "is no event"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\5\xff\xff\xff\xff\xff", "a time in it has more than four bytes"),
        (b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\4\0\xff\x2f\0", "it has no note besides drums"),
        (bytes(10_000_001), "mine.mid has more than 10000000 bytes"),
    ],
)
def test_files_that_are_none_are_refused(data, words):
    with pytest.raises(ValueError, match=words):
        read_midi(data, "mine.mid")


def test_a_file_that_was_cut_or_changed_is_read_or_refused_in_a_sentence():
    whole, rng = saved([tempo(60), tempo(120, 960)], PIANO), random.Random(3)
    for place in range(len(whole)):
        _read_or_refuse(whole[:place])
    for _ in range(3000):
        damaged = bytearray(whole)
        for _ in range(rng.randrange(1, 6)):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        _read_or_refuse(bytes(damaged))


def _read_or_refuse(data: bytes) -> None:
    try:
        assert read_midi(data).num_notes > 0
    except ValueError as error:
        assert str(error).endswith(".")
