"""Every template runs in the real host and leaves the files that it promises."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest

from dev.comfy_server import describe_failure
from dev.media import FILM_RATE, FILM_SECONDS, make_media
from tests.browser.templates import TEMPLATES, Template
from tests.conftest import GOLDEN, ROOT
from tests.tiny import write_audiogen, write_style_model

SMALL = {
    "facebook/musicgen-stereo-small": "templates/stereo",
    "facebook/musicgen-style": "templates/style",
    "facebook/audiogen-medium": "templates/audiogen",
}
PICTURES = {
    "music_for_a_video": FILM_SECONDS * FILM_RATE,
    "slideshow": 3 * 24,
    "beat_driven_pictures": 12,  # one second
}


@pytest.fixture(scope="module")
def models(host):
    """Small models in the place of the released ones, and all that the templates name."""
    make_media(host.base / "input")
    folder = host.models / "templates"
    write_style_model(folder / "style")
    write_audiogen(folder / "audiogen")
    shutil.copytree(GOLDEN / "checkpoints" / "hf-stereo", folder / "stereo")
    yield
    shutil.rmtree(folder)


def short_prompt(template: Template) -> dict:
    """A template's workflow with a second of music where nothing else sets the length, and small models."""
    prompt = json.loads((ROOT / "workflows" / "api" / f"{template.slug}.json").read_text(encoding="utf-8"))
    for node in prompt.values():
        inputs = node["inputs"]
        whole = template.slug in ("timeline", "guidance_shaped")  # whose changes stand at times of their own
        if node["class_type"] == "MusicGenSampleTokens" and not isinstance(inputs["duration"], list) and not whole:
            inputs["duration"] = 2.5 if template.slug == "continue_music" else 1.0
        if node["class_type"] == "MusicGenFill":
            inputs |= {"sections": "0.4s - 0.6s", "candidates": 2}
        if node["class_type"] == "MusicGenLoop":
            inputs |= {"bars": 0.5, "candidates": 2}
        if node["class_type"] == "MusicGenDataset":
            inputs["seconds"] = 2.0
        if node["class_type"] == "MusicGenTrainLora":
            inputs |= {"steps": 4, "preview_every": 2, "batch": 1}
        if node["class_type"] == "MusicGenLoader" and template.released:
            assert inputs["model"] == template.released.label
            inputs["model"] = SMALL[template.released.repo]
        if node["class_type"] == "MusicGenStyle":
            inputs["excerpt_length"] = 1.5  # the recording here is shorter than the one of make_media
        if node["class_type"] == "RecordAudio":
            assert inputs["audio"] == ""  # nobody has recorded yet
            inputs["audio"] = "melody.wav"
    return prompt


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.slug)
def test_a_template_runs_and_leaves_its_files(host, models, template):
    entry = host.server.run(short_prompt(template), timeout=300)
    assert describe_failure(entry) is None
    for key in template.outputs:
        files = [item for items in entry["outputs"][str(key)].values() for item in items if isinstance(item, dict)]
        assert files, f"node {key} shows nothing"
        for file in files:
            content = host.server.view(file)
            if file["filename"].endswith(".flac"):
                samples = sound_of(content)[0]
                assert np.isfinite(samples).all() and samples.std() > 1e-5
                # Core's Concatenate Audio makes two channels of one.
                stereo = template.slug == "stereo" or (template.slug, key) == ("seamless_loop", 7)
                assert samples.shape[0] == (2 if stereo else 1)
                if template.slug == "seamless_loop":
                    assert samples.shape[1] == (32000 if key == 7 else 16000)
            elif file["filename"].endswith(".png"):
                assert content.startswith(b"\x89PNG")
            else:
                check_film(content, PICTURES[template.slug])


def check_film(content: bytes, pictures: int) -> None:
    """A film of the wanted number of pictures, whose sound ends with the last of them."""
    import av

    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.video[0]
        rate = float(stream.average_rate)
        assert sum(1 for _ in container.decode(stream)) == pictures
    samples, sample_rate = sound_of(content)
    assert samples.std() > 1e-5
    # AAC pads the sound to whole blocks of 1024 samples, with one more at the start.
    assert abs(samples.shape[1] / sample_rate - pictures / rate) < 3 * 1024 / sample_rate


def sound_of(content: bytes) -> tuple[np.ndarray, int]:
    """The sound in a file as float [C, L], and its sample rate."""
    import av

    with av.open(io.BytesIO(content)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp")
        frames = [out.to_ndarray() for frame in container.decode(stream) for out in resampler.resample(frame)]
        return np.concatenate(frames, axis=1), stream.rate
