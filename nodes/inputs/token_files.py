"""MUSICGEN_TOKENS on disk: the recipe that a file keeps with them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from ...musicgen.codes_file import read_codes, write_codes
from ...musicgen.writing import Numbered
from ..sockets import CodecHandle, Tokens
from .tokens import read_tokens

_KINDS: dict[str, tuple[type, ...]] = {
    "frame_rate": (int,),
    "sample_rate": (int,),
    "audio_channels": (int,),
    "card": (int,),
    "codec": (str,),
    "model": (str,),
    "num_samples": (int, type(None)),
    "pattern": (str, type(None)),
    "seed": (int, type(None)),
    "recipe": (dict, type(None)),
}


def save_tokens(tokens: Tokens, target: Numbered, extra: Mapping[str, str]) -> Path:
    """Write tokens and everything that is known about them."""
    about = {name: tokens.get(name) for name in _KINDS} | ({"loop": True} if tokens.get("loop") else {})
    return write_codes(target, tokens["codes"], about, extra)


def loaded_tokens(path: Path, codec: CodecHandle | None) -> tuple[Tokens, str]:
    """Tokens from a file, and their recipe as text; refused where a codec is given that is not theirs."""
    codes, about = read_codes(path)
    wrong = [name for name, kinds in _KINDS.items() if not isinstance(about.get(name), kinds)]
    if wrong:
        raise ValueError(f"{path.name} says nothing about {', '.join(wrong)} of its tokens; save them again.")
    fields: dict[str, Any] = {name: about[name] for name in _KINDS}
    if int(codes.max()) >= fields["card"]:
        raise ValueError(
            f"{path.name} holds the code {int(codes.max())}; its codebooks have 0 to {fields['card'] - 1}. Save it "
            "again."
        )
    if about.get("loop") is True:
        fields["loop"] = True
    tokens = cast(Tokens, {"codes": codes, **fields})
    if codec is not None:
        read_tokens(tokens, codec)
    return tokens, json.dumps(about["recipe"] or {"model": about["model"]}, indent=2, ensure_ascii=False)
