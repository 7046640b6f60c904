"""Music for pictures and pictures of music, pieces picked from a batch, tokens on disk: one graph of the real host."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest

from dev.comfy_server import ComfyError, describe_failure

from .conftest import decode
from .test_bad_input import assert_sentence

IMAGES, FPS = 29, 29.97


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


@pytest.fixture(scope="module")
def graph(host):
    """A batch of two pieces for a series of images, with everything that can be made of them."""
    base = host.workflow("text_to_music", batch_size=2, text="slow jazz")
    keys = {value["class_type"]: key for key, value in base.items()}
    audio, tokens = [keys["MusicGenEnCodecDecode"], 0], [keys["MusicGenSampleTokens"], 0]
    base[tokens[0]]["inputs"]["duration"] = ["11", 0]
    return base | {
        "10": node("EmptyImage", width=64, height=48, batch_size=IMAGES, color=255),
        "11": node(
            "MusicGenDuration", source="connected", fps=FPS, bars=1.0, bpm=120.0, beats_per_bar=4, images=["10", 0]
        ),
        "12": node("CreateVideo", images=["10", 0], fps=["11", 2], audio=audio),
        "13": node("SaveVideo", video=["12", 0], filename_prefix="video/scored", format="auto", codec="auto"),
        "14": node("MusicGenCurves", audio=audio, fps=["11", 2], frames=["11", 1]),
        "15": node("MaskToImage", mask=["14", 0]),
        "16": node("PreviewImage", images=["15", 0]),
        "20": node("MusicGenSaveTokens", tokens=["22", 0], filename_prefix="tokens/second"),
        "22": node("MusicGenPick", index=1, marked="2", tokens=tokens, audio=audio),
        "23": node("SaveAudioAdvanced", audio=["22", 1], filename_prefix="audio/second", format="flac"),
        "24": node("MusicGenPlot", plot="spectrogram", theme="dark", audio=audio),
        "25": node("MusicGenPlot", plot="pattern", theme="light", tokens=tokens, width=512, height=256),
    }


@pytest.fixture(scope="module")
def ran(host, graph):
    """The history of the graph, and the lines that its nodes showed."""
    lines = {}

    def listen(name, data):
        if name == "text":
            lines[data["node"]] = data["text"]

    entry = host.server.run(host.for_this_version(graph), listen, timeout=300)
    assert describe_failure(entry) is None
    return entry, lines


def test_a_video_of_images_gets_music_of_exactly_its_length(host, ran):
    import av

    entry, lines = ran
    assert lines["11"] == "0.967633 s: 29 images at 29.97 fps"
    (item,) = entry["outputs"]["13"]["images"]
    with av.open(io.BytesIO(host.server.view(item))) as container:
        assert sum(1 for _ in container.decode(video=0)) == IMAGES
    decoder = next(key for key, n in entry["prompt"][2].items() if n["class_type"] == "MusicGenEnCodecDecode")
    sound, rate = decode(host.server.view(entry["outputs"][decoder]["audio"][1]))
    assert sound.shape[1] == round(IMAGES * 1001 / 30000 * rate)


def test_the_length_of_a_loaded_video_is_that_of_its_frames(host, ran):
    (item,) = ran[0]["outputs"]["13"]["images"]
    shutil.copy(host.base / "output" / item["subfolder"] / item["filename"], host.base / "input" / "scored.mp4")
    lines = []
    prompt = {
        "1": node("LoadVideo", file="scored.mp4"),
        "2": node("MusicGenDuration", source="video", fps=1.0, bars=1.0, bpm=120.0, beats_per_bar=4, video=["1", 0]),
        "3": node("PreviewAny", source=["2", 1]),
    }
    entry = host.server.run(prompt, lambda name, data: lines.append(data["text"]) if name == "text" else None)
    assert describe_failure(entry) is None
    assert entry["outputs"]["3"]["text"] == [str(IMAGES)]
    assert lines[0] == "0.967634 s: 29 video frames at 29.97 fps"  # the file holds 2997/100


def test_curves_give_one_picture_for_each_image(host, ran):
    from PIL import Image

    images = ran[0]["outputs"]["16"]["images"]
    levels = [np.asarray(Image.open(io.BytesIO(host.server.view(image)))).mean() for image in images]
    assert len(levels) == IMAGES and max(levels) == 255 and min(levels) < 128


def test_plots_are_shown_on_their_node(host, ran):
    from PIL import Image

    for key, count, size in (("24", 2, (768, 384)), ("25", 1, (512, 256))):
        images = ran[0]["outputs"][key]["images"]
        assert [Image.open(io.BytesIO(host.server.view(image))).size for image in images] == [size] * count


def test_saved_tokens_are_listed_and_sound_the_same(host, ran):
    picked = decode(host.server.view(ran[0]["outputs"]["23"]["audio"][0]))[0]
    name = "tokens/second_00001_.safetensors [output]"
    spec = host.server.object_info()["MusicGenLoadTokens"]["input"]["required"]["file"]
    assert name in (spec[0] if isinstance(spec[0], list) else spec[1]["options"])
    prompt = {
        "1": node("MusicGenLoader", model="bundled/musicgen-nano", dtype="auto"),
        "2": node("MusicGenLoadTokens", file=name, codec=["1", 2]),
        "3": node("MusicGenEnCodecDecode", codec=["1", 2], tokens=["2", 0]),
        "4": node("SaveAudioAdvanced", audio=["3", 0], filename_prefix="audio/again", format="flac"),
        "5": node("PreviewAny", source=["2", 1]),
    }
    entry = host.server.run(host.for_this_version(prompt))
    assert describe_failure(entry) is None
    again = decode(host.server.view(entry["outputs"]["4"]["audio"][0]))[0]
    assert np.array_equal(again, picked)
    recipe = json.loads(entry["outputs"]["5"]["text"][0])
    assert recipe["positive"][0]["text"] == "slow jazz" and recipe["model"] == "bundled/musicgen-nano"
    file = host.base / "output" / "tokens" / "second_00001_.safetensors"
    assert file.stat().st_size < 20_000 and b'"prompt"' in file.read_bytes()


def test_missing_files_and_pieces_are_refused(host, ran):
    name = "tokens/second_00001_.safetensors [output]"
    prompt = {
        "1": node("MusicGenLoader", model="bundled/musicgen-nano-melody", dtype="auto"),
        "2": node("MusicGenLoadTokens", file=name, codec=["1", 2]),
        "3": node("PreviewAny", source=["2", 1]),
    }
    with pytest.raises(ComfyError, match=r"MusicGenLoadTokens.*'nobody'.*does not exist; allowed are"):
        host.server.queue(prompt | {"2": node("MusicGenLoadTokens", file="nobody", codec=["1", 2])})
    prompt["2"] = node("MusicGenLoadTokens", file=name)
    prompt["4"] = node("MusicGenPick", index=5, tokens=["2", 0])
    prompt["5"] = node("MusicGenSaveTokens", tokens=["4", 0], filename_prefix="tokens/x")
    assert_sentence(host.fail(prompt), "piece 5 was picked from a batch of 1")


def test_an_output_without_its_input_says_so_behind_the_picker(host, ran):
    name = "tokens/second_00001_.safetensors [output]"
    prompt = {
        "2": node("MusicGenLoadTokens", file=name),
        "4": node("MusicGenPick", index=1, tokens=["2", 0]),
        "5": node("SaveAudioAdvanced", audio=["4", 1], filename_prefix="audio/none", format="flac"),
    }
    told = []
    host.server.run(
        host.for_this_version(prompt), lambda name, data: told.append(data) if name == "execution_error" else None
    )
    assert "MusicGen Pick has no audio to pick from; connect the audio" in told[0]["exception_message"]
    assert told[0]["node_id"] == "5"
