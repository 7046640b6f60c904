"""The exact length of a piece, and the music that Cancel keeps."""

from __future__ import annotations

import pytest
import torch


@pytest.mark.parametrize(("seconds", "frames", "samples"), [(0.5, 25, 16000), (0.501, 26, 16032), (0.58, 29, 18560)])
def test_the_sound_is_as_long_as_the_sampler_was_asked_for_to_the_sample(
    encode, sample, run, load, seconds, frames, samples
):
    tokens = sample(encode("jazz"), duration=seconds)
    assert tokens["codes"].shape[2] == frames
    sound = run("EnCodecDecode", codec=load("text").codec, tokens=tokens)["waveform"]
    assert sound.shape[2] == samples
    whole = sample(encode("jazz"), duration=frames / 50)
    assert torch.equal(tokens["codes"], whole["codes"])


@pytest.fixture
def cancel_in_step(comfy, monkeypatch):
    """Press Cancel in a step of the next run."""

    def arm(step):
        def watch(_, value, *args):
            if value == step:
                comfy.management.interrupt_current_processing()

        monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", watch)

    yield arm
    comfy.management.interrupt_current_processing(False)


KEEP = "keep the music so far"


def test_cancel_keeps_the_frames_that_are_complete_and_clears_the_hosts_mark(comfy, encode, sample, cancel_in_step):
    whole = sample(encode("jazz"), batch_size=2)
    cancel_in_step(12)
    kept = sample(encode("jazz"), batch_size=2, on_cancel=KEEP)
    frames = kept["codes"].shape[2]
    assert 8 <= frames <= 12 and torch.equal(kept["codes"], whole["codes"][:, :, :frames])
    assert kept["recipe"]["frames"] == frames and kept["num_samples"] is None
    assert not comfy.management.processing_interrupted()


def test_cancel_stops_the_run_by_default_and_where_nothing_is_complete(comfy, encode, sample, cancel_in_step):
    stopped = comfy.management.InterruptProcessingException
    cancel_in_step(12)
    with pytest.raises(stopped):
        sample(encode("jazz"))
    cancel_in_step(2)
    with pytest.raises(stopped):
        sample(encode("jazz"), on_cancel=KEEP)
    cancel_in_step(12)
    with pytest.raises(stopped):  # no frame is complete before the second half
        sample(encode("jazz"), on_cancel=KEEP, pattern="coarse_first")


def test_music_beyond_the_prompt_is_kept_and_the_prompt_alone_is_not(comfy, encode, sample, cancel_in_step):
    prompt = sample(encode("jazz"))
    cancel_in_step(2)
    with pytest.raises(comfy.management.InterruptProcessingException):
        sample(encode("folk"), prompt=prompt, duration=1.0, on_cancel=KEEP)
    cancel_in_step(14)
    kept = sample(encode("folk"), prompt=prompt, duration=1.0, on_cancel=KEEP)["codes"]
    assert kept.shape[2] > 30 and torch.equal(kept[:, :, :25], prompt["codes"])
