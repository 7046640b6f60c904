"""The list of releases, and the README's table of them held against what the code computes."""

from __future__ import annotations

import pytest
import torch

from musicgen.conditioning.condition import TextCondition
from musicgen.conditioning.melody import RecordedMelody, null_chroma
from musicgen.conditioning.style import StyleConditioner
from musicgen.config import RELEASED_CHROMA, CodecConfig, LMConfig, ModelConfig, StyleConfig
from musicgen.generation.params import GenerationParams
from musicgen.generation.request import Request
from musicgen.hub.releases import RELEASES, find_release, named_release, select_files
from musicgen.lm.language_model import LMModel
from tests.conftest import ROOT

# Width and layers of the language models, as released.
SHAPES = {"small": (1024, 24), "medium": (1536, 48), "large": (2048, 48), "melody": (1536, 48), "style": (1536, 48)}
# The style condition as released: 512 wide, MERT's states at 75 a second, 6 codebooks, one token of 15 frames.
STYLE = StyleConfig(512, 8, 8, 2048, False, "mert", 768, 1, 24000, 6, 1024, 3, 15, 3.0, 1.5, 4.5)
STYLE_TOKENS = 15  # of 3 seconds
MERT_NUMBERS = 94371712


def released_config(name: str) -> ModelConfig:
    audiogen, stereo, melody = "audiogen" in name, "stereo" in name, "melody" in name
    size = "large" if name.endswith("-large") else name.rpartition("-")[2]
    (dim, layers), channels = SHAPES[size], 2 if stereo else 1
    codec = CodecConfig(
        32000, 1, 128, 64, 1, (8, 5, 4, 4), 7, 7, 3, 2, 2, 2, False, "reflect", True, 1.0, num_codebooks=4, card=2048
    )
    cross = not (melody or "style" in name)
    text_dim = 1024 if audiogen else 768
    lm = LMConfig(
        dim=dim,
        num_layers=layers,
        num_heads=dim // 64,
        ffn_dim=4 * dim,
        cross_attention=cross,
        num_codebooks=4 * channels,
        card=2048,
        text_dim=text_dim,
        text_projection=True,
        chroma_dim=12 if melody else None,
        style_dim=STYLE.dim if "style" in name else None,
    )
    chroma = RELEASED_CHROMA if melody else None
    delays = tuple(q // channels for q in range(lm.num_codebooks))
    window, stride = (10.0, 2.0) if audiogen else (30.0, 18.0)
    style = STYLE if "style" in name else None
    return ModelConfig(name, lm, codec, {}, chroma, style, channels, delays, window, stride)


def melodies_for(config):
    """A melody of silence, for a model that follows one."""
    chroma = config.chroma
    return () if chroma is None else (RecordedMelody(null_chroma(chroma), torch.zeros(chroma.sample_rate), chroma),)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_the_readme_gives_each_release_the_size_licence_and_memory_that_the_code_does(release):
    config = released_config(release.name)
    with torch.device("meta"):
        numbers = sum(p.numel() for p in LMModel(config.lm).parameters())
    text = TextCondition(torch.zeros(1, 20, config.lm.text_dim), torch.ones(1, 20, dtype=torch.bool))
    # A style is guided twice: one row of the batch more.
    params = GenerationParams(config.window, cfg_coef_beta=None if config.style is None else 5.0)
    styles = () if config.style is None else (torch.zeros(STYLE_TOKENS, config.style.dim),)
    request = Request(positive=(text,), params=params, melodies=melodies_for(config), styles=styles)
    memory = 2 * numbers + request.bytes(config, torch.bfloat16.itemsize)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (row,) = (line.split(" | ") for line in readme.splitlines() if line.startswith(f"| `{release.repo}` |"))
    download = f"{release.gigabytes:.1f} GB" + "".join(
        f", with {'T5' if kind == 'text_encoders' else 'MERT'}" for kind, _ in release.companions
    )
    assert row[2:] == [f"{numbers / 1e9:.1f} B", download, f"{memory / 1e9:.1f} GB", "CC-BY-NC 4.0 |"]


def test_the_readme_gives_the_style_condition_the_memory_that_it_takes():
    with torch.device("meta"):
        style = StyleConditioner(STYLE)
    numbers = MERT_NUMBERS + sum(tensor.numel() for tensor in style.state_dict().values())
    memory = 4 * numbers + style.memory_required(STYLE.excerpt_length)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"the style condition with MERT ({memory / 1e9:.1f} GB)" in " ".join(readme.split())


def test_each_release_is_found_by_its_label_whatever_its_size():
    for release in RELEASES:
        assert find_release(release.label) == release
        assert find_release(f"download {release.repo} (of another size)") == release
        assert "CC-BY-NC 4.0" in release.label and " GB" in release.label
    assert find_release("musicgen-small") is None and find_release("download nobody/nothing") is None
    assert len({release.name for release in RELEASES}) == len(RELEASES) == 12


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ({"model.safetensors", "pytorch_model.bin"}, ["config.json", "model.safetensors"]),
        ({"pytorch_model.bin", "state_dict.bin"}, ["config.json", "pytorch_model.bin"]),
        (
            {"pytorch_model.bin.index.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"},
            ["config.json", "pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin",
             "pytorch_model.bin.index.json"],
        ),
        (
            {"model.safetensors.index.json", "model-00001-of-00002.safetensors", "pytorch_model.bin"},
            ["config.json", "pytorch_model.bin"],
        ),
        ({"state_dict.bin", "compression_state_dict.bin"}, ["compression_state_dict.bin", "state_dict.bin"]),
        ({"state_dict.bin"}, []),
    ],
)  # fmt: skip
def test_one_layout_of_a_repository_is_chosen(names, chosen):
    assert sorted(select_files(names | {"config.json", "README.md"})) == chosen


# Sizes of the files that are fetched, in GB, as the repositories' own pages state them.
PUBLISHED = {
    "facebook/musicgen-small": 2.36,
    "facebook/musicgen-medium": 8.04,
    "facebook/musicgen-large": 13.72,
    "facebook/musicgen-melody": 6.13,
    "facebook/musicgen-melody-large": 10.5,
    "facebook/musicgen-stereo-small": 1.22,
    "facebook/musicgen-stereo-medium": 4.07,
    "facebook/musicgen-stereo-large": 6.92,
    "facebook/musicgen-stereo-melody-large": 10.64,
}


def test_sizes_are_those_of_the_repositories():
    sizes = {release.repo: release.gigabytes for release in RELEASES}
    for repo, size in PUBLISHED.items():
        assert sizes[repo] == pytest.approx(size, rel=0.05)


@pytest.mark.parametrize("name", ["facebook/musicgen-small", "musicgen-small", " Facebook/MusicGen-Small "])
def test_a_release_is_known_by_its_repository_and_by_its_name(name):
    assert named_release(name).repo == "facebook/musicgen-small"
    assert named_release("somebody/musicgen-small") is None
