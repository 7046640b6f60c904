"""The nodes on a device beside the CPU, moved there by ComfyUI's own management: the same results, no mixed devices.

No GPU exists here; `tests/labelled_device.py` has what stands in for one, and the functions that say which device
ComfyUI uses, and how much memory it has, are replaced.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest
import torch

from tests.labelled_device import LABEL, LabelledTensor, labelled_device
from tests.nodes.conftest import sound

WIDGETS = {
    "duration": 0.5,
    "batch_size": 2,
    "seed": 1,
    "cfg_coef": 3.0,
    "temperature": 1.0,
    "top_k": 250,
    "top_p": 0.0,
    "pattern": "auto",
}


@contextmanager
def on_label(management: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ComfyUI with the labelled device as its GPU, until the end."""
    free = 2**40
    with monkeypatch.context() as patch, labelled_device():
        for name in ("get_torch_device", "text_encoder_device", "vae_device"):
            patch.setattr(management, name, lambda: LABEL)
        for name in ("unet_offload_device", "text_encoder_offload_device", "vae_offload_device"):
            patch.setattr(management, name, lambda: torch.device("cpu"))
        patch.setattr(
            management,
            "get_free_memory",
            lambda dev=None, torch_free_too=False: (free,) * 2 if torch_free_too else free,
        )
        yield
        management.unload_all_models()


def play(run, name: str, *, melody: bool = False, style: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes and sound of a whole graph: load, encode, sample, continue, decode."""
    model, text, codec = run("Loader", model=f"tiny/{name}", dtype="fp32")
    positive = run("TextEncode", text_encoder=text, text="a calm piano")
    more = {"melody": run("MelodyChroma", audio=sound(1.0, batch=2))[0]} if melody else {}
    if style:
        more["style"] = run("Style", model=model, audio=sound(4.0), excerpt_length=3.0, seed=1)
    prompt = run("EnCodecEncode", codec=codec, audio=sound(0.2, batch=2))
    tokens = run("SampleTokens", model=model, positive=positive, prompt=prompt, **WIDGETS, **more)
    heard = run("EnCodecDecode", codec=codec, tokens=tokens)
    return tokens["codes"], heard["waveform"]


@pytest.mark.parametrize("name", ["text", "melody", "stereo", "style"])
def test_a_graph_gives_on_the_device_what_it_gives_on_the_cpu(name, run, comfy, monkeypatch):
    kind = {"melody": name == "melody", "style": name == "style"}
    with on_label(comfy.management, monkeypatch):
        codes, heard = play(run, name, **kind)
    for tensor in (codes, heard):
        assert tensor.device.type == "cpu" and not isinstance(tensor, LabelledTensor)
    expected_codes, expected = play(run, name, **kind)
    assert torch.equal(codes, expected_codes)
    assert float((heard - expected).abs().max()) < 1e-4
