"""LoRA files in every dialect, and what they come to: the same change written into a checkpoint's own tensors."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RANK = 3
Factors = dict[str, tuple[torch.Tensor, torch.Tensor]]
AUDIOCRAFT = (
    ("decoder.model.decoder.embed_tokens", "emb"),
    ("decoder.model.decoder", "transformer"),
    ("decoder.lm_heads", "linears"),
    ("audio_enc_to_dec_proj", "condition_provider.conditioners.self_wav.output_proj"),
    ("enc_to_dec_proj", "condition_provider.conditioners.description.output_proj"),
    ("encoder_attn", "cross_attention"),
    (".fc", ".linear"),
)


def draw_factors(folder: Path, pattern: str = r".*(_proj|fc\d|heads\.\d)", rank: int = RANK, seed: int = 3) -> Factors:
    """Random up `[outputs, rank]` and down `[rank, inputs]` for the modules of a language model that match, by the
    names of the Hugging Face layout."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, weight in sorted(load_file(folder / "model.safetensors").items()):
        path = name.removesuffix(".weight")
        ours = path.startswith(("decoder.", "enc_to", "audio_enc_to"))
        if ours and path != name and weight.dim() == 2 and re.fullmatch(pattern, path):
            up, down = (
                torch.randn(weight.shape[0], rank, generator=generator),
                torch.randn(rank, weight.shape[1], generator=generator),
            )
            factors[path] = (0.2 * up, 0.3 * down)
    return factors


def merge(folder: Path, factors: Factors, scale: float) -> None:
    """Add scale * up @ down to a checkpoint's tensors on the disk."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for path, (up, down) in factors.items():
        tensors[f"{path}.weight"] = tensors[f"{path}.weight"] + scale * (up @ down)
    save_file(tensors, file)


def _name_by_suffix(prefix: str, down: str, up: str):
    def write(factors: Factors) -> dict[str, torch.Tensor]:
        found = {}
        for path, (b, a) in factors.items():
            found |= {f"{prefix}{path}{down}": a, f"{prefix}{path}{up}": b}
        return found

    return write


def kohya(factors: Factors, alpha: float = 2.0 * RANK) -> dict[str, torch.Tensor]:
    tensors = {}
    for path, (up, down) in factors.items():
        name = "lora_unet_" + path.replace(".", "_")
        tensors |= {
            f"{name}.lora_down.weight": down,
            f"{name}.lora_up.weight": up,
            f"{name}.alpha": torch.tensor(alpha),
        }
    return tensors


def audiocraft_names(factors: Factors) -> Factors:
    renamed = {}
    for path, pair in factors.items():
        for ours, theirs in AUDIOCRAFT:
            path = path.replace(ours, theirs)
        renamed[path] = pair
    return renamed


peft = _name_by_suffix("base_model.model.", ".lora_A.weight", ".lora_B.weight")
DIALECTS = {
    "peft": peft,
    "peft with the adapter's name": _name_by_suffix(
        "base_model.model.", ".lora_A.default.weight", ".lora_B.default.weight"
    ),
    "peft of the decoder alone": lambda factors: peft(
        {path.removeprefix("decoder."): pair for path, pair in factors.items()}
    ),
    "bare lora_A": _name_by_suffix("", ".lora_A", ".lora_B"),
    "lora_down": _name_by_suffix("", ".lora_down.weight", ".lora_up.weight"),
    "diffusers": _name_by_suffix("transformer.", ".lora.down.weight", ".lora.up.weight"),
    "old diffusers": _name_by_suffix("", "_lora.down.weight", "_lora.up.weight"),
    "diffusers' linear layer": _name_by_suffix("", ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight"),
    "kohya": lambda factors: kohya(factors, RANK),
    "audiocraft": lambda factors: peft(audiocraft_names(factors)),
    "audiocraft in kohya's form": lambda factors: kohya(audiocraft_names(factors), RANK),
}


def save(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    """Write tensors, which may share memory, as a safetensors file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, path)
    return path
