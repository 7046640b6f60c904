"""Tiny, seeded, untrained models in the Hugging Face layout: the whole machine runs, the sound is noise.

`python -m musicgen.training.untrained FOLDER` writes `musicgen-untrained` and
`musicgen-untrained-melody` into FOLDER, the same files on every run. transformers builds and
saves them, so that the layout is its own.
"""

from __future__ import annotations

import argparse
import string
import tempfile
from pathlib import Path
from typing import Any

import torch

SEED = 2306_05284
CARD = 64
_TEXT_SPREAD, _LM_SPREAD, _LOUDNESS = 0.5, 0.2, 0.1


def char_tokenizer() -> Any:
    """A T5 tokenizer over single characters."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import T5TokenizerFast

    special = ["<pad>", "</s>", "<unk>"]
    pieces = [(token, 0.0) for token in special]
    pieces += [(char, -4.0) for char in "\u2581" + string.ascii_lowercase + string.digits + ".,-!?'&"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
    return T5TokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_ids=0
    )


def tiny_config(melody: bool, vocab_size: int) -> Any:
    """transformers' configuration of a tiny text or melody model."""
    from transformers import EncodecConfig, MusicgenConfig, MusicgenMelodyConfig, T5Config

    text = T5Config(
        vocab_size=vocab_size, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="relu"
    )
    codec = EncodecConfig(
        target_bandwidths=[1.2],
        sampling_rate=32000,
        audio_channels=1,
        normalize=False,
        hidden_size=16,
        num_filters=4,
        num_residual_layers=1,
        upsampling_ratios=[8, 5, 4, 4],
        norm_type="weight_norm",
        kernel_size=7,
        residual_kernel_size=3,
        dilation_growth_rate=2,
        use_causal_conv=False,
        pad_mode="reflect",
        compress=2,
        num_lstm_layers=2,
        codebook_size=CARD,
        codebook_dim=16,
        use_conv_shortcut=False,
    )
    decoder = {
        "vocab_size": CARD,
        "hidden_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 192,
        "num_codebooks": 4,
        "pad_token_id": CARD,
        "bos_token_id": CARD,
        "audio_channels": 1,
    }
    kind = MusicgenMelodyConfig if melody else MusicgenConfig
    return kind(text_encoder=text.to_dict(), audio_encoder=codec.to_dict(), decoder=decoder)


def spread_weights(model: Any, generator: torch.Generator) -> None:
    """Seeded numbers in every tensor, wide enough that conditions and codes make a difference."""
    for name, tensor in sorted(model.state_dict().items()):
        if not tensor.is_floating_point() or name.endswith(("inited", "cluster_size", "original0", "embed_positions")):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.startswith("audio_encoder"):
            fan_in = tensor[0].numel() if tensor.dim() > 1 else 100
            scale = 1.0 if "quantizer" in name else 1.2 / fan_in**0.5
        elif "norm" in name:
            noise, scale = 1.0 + 0.1 * noise, 1.0
        else:
            scale = _TEXT_SPREAD if name.startswith("text_encoder") else _LM_SPREAD
        tensor.copy_(noise * scale)
    for name, tensor in model.state_dict().items():
        if name.endswith("original0"):
            direction = model.state_dict()[name[:-1] + "1"]
            tensor.copy_(direction.flatten(1).norm(dim=1).view(tensor.shape))


def _set_loudness(model: Any, generator: torch.Generator) -> None:
    """Scale the codec's last convolution so that random codes sound at a set level."""
    codes = torch.randint(0, CARD, (1, 1, 4, 50), generator=generator)
    audio = model.audio_encoder.decode(codes, [None]).audio_values
    last = model.audio_encoder.decoder.layers[-1].conv
    last.parametrizations.weight.original0.mul_(_LOUDNESS / audio.std())
    last.bias.mul_(_LOUDNESS / audio.std())


@torch.no_grad()
def write_untrained(folder: Path, *, melody: bool, seed: int = SEED) -> None:
    """Write one untrained model into `folder`, which must not exist yet."""
    from transformers import MusicgenForConditionalGeneration, MusicgenMelodyForConditionalGeneration

    if folder.exists():
        raise FileExistsError(f"{folder} exists already; remove it first.")
    kind = MusicgenMelodyForConditionalGeneration if melody else MusicgenForConditionalGeneration
    tokenizer = char_tokenizer()
    generator = torch.Generator().manual_seed(seed + melody)
    model = kind(tiny_config(melody, len(tokenizer))).eval()
    spread_weights(model, generator)
    _set_loudness(model, generator)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        part = Path(scratch) / folder.name
        model.half().save_pretrained(part)
        tokenizer.save_pretrained(part)
        part.rename(folder)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write the two model folders")
    folder = parser.parse_args().folder
    write_untrained(folder / "musicgen-untrained", melody=False)
    write_untrained(folder / "musicgen-untrained-melody", melody=True)


if __name__ == "__main__":
    main()
