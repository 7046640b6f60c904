"""Small models that listen, with random weights of the real architectures, in the files of their publishers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from tests.tiny import write_mert
from tests.tiny_models import char_tokenizer


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def write_clap(folder: Path, **sound: Any) -> Any:
    """A CLAP in transformers' layout; transformers' own model of the same weights."""
    import transformers

    tokenizer = char_tokenizer()
    text = {"vocab_size": len(tokenizer), "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    text |= {"intermediate_size": 32, "max_position_embeddings": 128, "pad_token_id": 1, "type_vocab_size": 1}
    text |= {"layer_norm_eps": 1e-5, "projection_dim": 8}
    sound = {
        "hidden_size": 64,
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 1, 1],
        "num_hidden_layers": 4,
        "projection_dim": 8,
        **sound,
    }
    config = transformers.ClapConfig(text_config=text, audio_config=sound, projection_dim=8)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        model = transformers.ClapModel(config).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point() and "norm" in name:
            tensor.add_(0.1 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(len(name))))
    model.save_pretrained(folder)
    transformers.ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


LAION = (
    ("text_model.", "text_branch."),
    ("audio_model.audio_encoder.", "audio_branch."),
    ("_projection.linear1.", "_projection.0."),
    ("_projection.linear2.", "_projection.2."),
    (".batch_norm.", ".bn0."),
    (".layernorm_before.", ".norm1."),
    (".layernorm_after.", ".norm2."),
)
BLOCK = ((".intermediate.dense.", ".mlp.fc1."), (".attention.output.dense.", ".attn.proj."))
BLOCK += ((".output.dense.", ".mlp.fc2."), (".attention.self.", ".attn."))


def laion_state(model: Any) -> dict[str, torch.Tensor]:
    """The same weights under LAION's names, as its trainer saves them."""
    state: dict[str, torch.Tensor] = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in (*LAION, *(BLOCK if "audio_encoder" in name else ())):
            name = name.replace(ours, theirs)
        if "token_type_ids" not in name:
            state[name] = tensor
    for name in [name for name in state if ".attn.query." in name]:
        parts = [state.pop(name.replace(".query.", f".{part}.")) for part in ("query", "key", "value")]
        state[name.replace(".query.", ".qkv.")] = torch.cat(parts)
    state["audio_branch.tscam_conv.weight"] = torch.zeros(5, 64, 2, 3)
    state["audio_branch.logmel_extractor.melW"] = torch.zeros(513, 64)
    state["text_transform.sequential.0.weight"] = torch.zeros(8, 8)
    return {f"module.{name}": tensor for name, tensor in state.items()}


def write_small_mert(folder: Path, normalise: bool) -> Any:
    """A MERT with the file of its preprocessor; transformers' own model of the same weights."""
    model = write_mert(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": normalise, "sampling_rate": 24000}))
    return model


def write_classifier(folder: Path) -> Any:
    """An audio spectrogram transformer of five tags; transformers' own model of the same weights."""
    import transformers

    config = transformers.ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, num_labels=5
    )
    with torch.random.fork_rng():
        torch.manual_seed(6)
        model = transformers.ASTForAudioClassification(config).eval().requires_grad_(False)
    for name, tensor in model.state_dict().items():
        if "classifier" in name:
            tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2)))
    model.save_pretrained(folder)
    transformers.ASTFeatureExtractor().save_pretrained(folder)
    return model
