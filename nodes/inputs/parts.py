"""The parts of a model from the sockets: whether they belong together."""

from __future__ import annotations

from ...musicgen.conditioning.text import TextEncoder
from ..sockets import CodecHandle, ModelHandle, TextEncoderHandle


def check_parts(model: ModelHandle, text_encoder: TextEncoderHandle, codec: CodecHandle) -> None:
    """Refuse a language model, text encoder and codec that make no whole model together."""
    module = text_encoder.patcher.model
    if not isinstance(module, TextEncoder):
        raise ValueError(
            f"the text encoder {text_encoder.name} is not from MusicGen Loader, so it cannot be saved; connect the "
            "loader's own."
        )
    if module.width != model.config.lm.text_dim:
        raise ValueError(
            f"the text encoder of {text_encoder.name} is {module.width} wide, but the model {model.name} takes "
            f"{model.config.lm.text_dim}; use model and text encoder of one loader."
        )
    check_codec(codec, model)


def check_codec(codec: CodecHandle, model: ModelHandle) -> CodecHandle:
    """Refuse a codec that does not decode a model's codes."""
    if codec.fingerprint != model.codec:
        raise ValueError(
            f"the codec of {codec.name} is not that of the model {model.name} ({codec.fingerprint} is not "
            f"{model.codec}); use model and codec of one loader."
        )
    return codec
