"""Small models that tests write: a random MERT, a style model with all that it needs, an AudioGen.

No golden data hold these; they are made of golden parts where there are any.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

CHECKPOINTS = Path(__file__).parent / "golden" / "checkpoints"


def write_mert(folder: Path, width: int = 24, layers: int = 2, *, half: bool = False, **changes: Any) -> Any:
    """A random MERT in the files of its repository, and transformers' own model of the same weights.

    width: of a state; the small ones are small in everything but their strides.
    """
    from transformers import HubertConfig, HubertModel

    real = width == 768
    config = HubertConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=12 if real else 4,
        intermediate_size=4 * width,
        conv_dim=[512 if real else 8] * 7,
        num_conv_pos_embedding_groups=16 if real else 4,
        num_conv_pos_embeddings=128 if real else 16,
    )
    with torch.random.fork_rng():
        torch.manual_seed(11)
        hubert = HubertModel(config).eval().requires_grad_(False)
    weights = {name: weight.half() if half else weight for name, weight in hubert.state_dict().items()}
    hubert.load_state_dict(weights)
    for number, letter in enumerate("gv"):  # the names that weight normalisation had when MERT was released
        conv = "encoder.pos_conv_embed.conv"
        weights[f"{conv}.weight_{letter}"] = weights.pop(f"{conv}.parametrizations.weight.original{number}")
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(weights, folder / "pytorch_model.bin")
    own = {"model_type": "mert_model", "sample_rate": 24000, "feature_extractor_cqt": False, "deepnorm": False}
    table = {**config.to_dict(), **own, "attention_relax": -1.0, **changes}
    (folder / "config.json").write_text(json.dumps(table), encoding="utf-8")
    return hubert


def write_style_model(folder: Path) -> Path:
    """The golden style checkpoint with its T5, and a small random MERT, inside its folder."""
    shutil.copytree(CHECKPOINTS / "audiocraft-style", folder)
    shutil.copytree(CHECKPOINTS / "t5-text", folder / "t5-base")
    write_mert(folder / "MERT-v1-95M")
    return folder


def write_encodec_style_model(folder: Path) -> Path:
    """The golden style checkpoint, its style condition hearing the codes of the codec instead of MERT."""
    generator = torch.Generator().manual_seed(13)
    shutil.copytree(CHECKPOINTS / "audiocraft-style", folder)
    shutil.copytree(CHECKPOINTS / "t5-text", folder / "t5-base")
    contents = torch.load(folder / "state_dict.bin", weights_only=True)
    assert contents["xp.cfg"].count("model_name: mert") == 1
    contents["xp.cfg"] = contents["xp.cfg"].replace("model_name: mert", "model_name: encodec")
    embed = "condition_provider.conditioners.self_wav.embed"
    weights = contents["best_state"]
    width = len(weights.pop(f"{embed}.bias"))
    del weights[f"{embed}.weight"]
    card = weights["linears.0.weight"].shape[0]
    for k in range(3):
        weights[f"{embed}.{k}.weight"] = torch.randn(card, width, generator=generator) / 8
    torch.save(contents, folder / "state_dict.bin")
    return folder


def write_audiogen(folder: Path) -> Path:
    """A small AudioGen: 16 kHz, 320 samples a frame, T5 as wide as T5-large, trained on ten seconds at a time."""
    generator = torch.Generator().manual_seed(12)
    folder.mkdir(parents=True)
    lm = torch.load(CHECKPOINTS / "audiocraft-text" / "state_dict.bin", weights_only=True)
    projection = "condition_provider.conditioners.description.output_proj.weight"
    dim = lm["best_state"][projection].shape[0]
    lm["best_state"][projection] = torch.randn(dim, 1024, generator=generator) / 32
    for old, new in (
        ("solver: musicgen", "solver: audiogen"),
        ("sample_rate: 32000", "sample_rate: 16000"),
        ("segment_duration: 30", "segment_duration: 10"),
        ("name: t5-base", "name: t5-large"),
    ):
        assert lm["xp.cfg"].count(old) == 1
        lm["xp.cfg"] = lm["xp.cfg"].replace(old, new)
    torch.save(lm, folder / "state_dict.bin")
    codec = torch.load(CHECKPOINTS / "audiocraft-text" / "compression_state_dict.bin", weights_only=True)
    for name, weight in codec["best_state"].items():
        # The outermost of the four resampling layers: kernels of twice its ratio.
        if name.startswith(("encoder.model.3.conv", "decoder.model.12.convtr")) and name.endswith("weight_v"):
            codec["best_state"][name] = weight[..., :4].clone()
    codec["xp.cfg"] = codec["xp.cfg"].replace("sample_rate: 32000", "sample_rate: 16000")
    codec["xp.cfg"] = codec["xp.cfg"].replace("  - 8\n  - 5\n  - 4\n  - 4\n", "  - 8\n  - 5\n  - 4\n  - 2\n")
    torch.save(codec, folder / "compression_state_dict.bin")
    _write_t5(folder / "t5-large", generator)
    return folder


def _write_t5(folder: Path, generator: torch.Generator) -> None:
    from safetensors.torch import save_file
    from transformers import T5Config, T5EncoderModel

    shutil.copytree(CHECKPOINTS / "t5-text", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"d_model": 1024, "d_ff": 16, "d_kv": 8, "num_heads": 2, "num_layers": 1}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shapes = T5EncoderModel(T5Config(**config)).state_dict()
    del shapes["encoder.embed_tokens.weight"]
    weights = {name: torch.randn(value.shape, generator=generator) / 32 for name, value in shapes.items()}
    save_file(weights, folder / "model.safetensors")
