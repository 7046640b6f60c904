"""Whether a file can be a LoRA of a MusicGen model, by the names and shapes in its header alone."""

from __future__ import annotations

import re
from pathlib import Path

from ..checkpoints.files.tensors import TensorRecord
from ..checkpoints.files.weights import read_file
from .names import adapter_modules

_OURS = re.compile(
    r"(^|_)layers_\d+_(self_attn|encoder_attn|cross_attention|fc[12]|linear[12])(_|$)"
    r"|(^|_)(lm_heads|linears|heads|enc_to_dec_proj|audio_enc_to_dec_proj|embed_tokens|emb|output_proj)(_|$)"
)
_FOREIGN = re.compile(
    r"_(mlp|gate_proj|up_proj|(down|up|mid|double|single|transformer|joint)_blocks?|attn[12]|to_[qkv]|visual|vision"
    r"|text_model|decoder_block_\d+|proj_(in|out)|cross_attn)_"
)


def may_fit(path: Path) -> bool:
    """Return whether a file may be a LoRA of MusicGen; True where its header does not tell, as in a damaged file.

    One for an image model is told apart, and one for a language model whose queries and values differ in width. Another
    language model with square attention under the same names is not.
    """
    if path.suffix.lower() != ".safetensors":
        return True
    try:
        stored = read_file(path)
    except (OSError, ValueError):
        return True
    names = [f"_{name.replace('.', '_')}_" for name in stored]
    return any(map(_OURS.search, names)) and not any(map(_FOREIGN.search, names)) and _is_square(stored)


def _is_square(stored: dict[str, TensorRecord]) -> bool:
    """Whether the projections of attention map the model's width to itself, or to three times it where fused."""
    try:
        modules, _ = adapter_modules("the file", stored)
    except ValueError:
        return True
    for module in modules:
        if re.search(r"attn.*_(q|k|v|out|in)_proj$", module.path.replace(".", "_")) and {"up", "down"} <= set(
            module.keys
        ):
            up, down = stored[module.keys["up"]].shape, stored[module.keys["down"]].shape
            if len(up) == len(down) == 2 and up[0] not in (down[1], 3 * down[1]):
                return False
    return True
