"""The node that opens a checkpoint: a folder, a single file, or a release that it downloads first."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..musicgen.checkpoints.discovery import is_model_folder
from ..musicgen.checkpoints.loading import load_components
from ..musicgen.hub.releases import find_release
from . import host
from .sockets import (
    CATEGORY,
    CodecHandle,
    CodecSocket,
    ModelHandle,
    ModelSocket,
    StyleHandle,
    TextEncoderHandle,
    TextEncoderSocket,
)


class MusicGenLoader(io.ComfyNode):
    """A checkpoint -> model, text encoder, codec."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = host.choices()
        return io.Schema(
            node_id="MusicGenLoader",
            display_name="MusicGen Loader",
            category=CATEGORY,
            description="Opens a MusicGen model: a bundled one, a folder or a single file under models/musicgen, or "
            "one of Meta's releases, which is downloaded if you choose to. Nothing else is ever downloaded. Meta's "
            "released weights are licensed CC-BY-NC 4.0: no commercial use.",
            search_aliases=["load musicgen", "text to music", "music generation", "music model", "audiocraft"],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=names,
                    default=host.DEFAULT_MODEL if host.DEFAULT_MODEL in names else None,
                    tooltip="A model bundled with this pack, a folder (with a config.json or a state_dict.bin) or a "
                    "single .safetensors file under models/musicgen, or a download into models/musicgen. A download "
                    "also brings the T5 and MERT that its name tells of into models/text_encoders and "
                    "models/audio_encoders where they are missing, and an EnCodec model where the repository only "
                    "names one. Meta's released weights are CC-BY-NC 4.0: no commercial use.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=[host.AUTO, *host.DTYPES, host.INT8],
                    default=host.AUTO,
                    tooltip="Number format of the language model. auto: bf16 or fp16 where the GPU is good at it, "
                    "else fp32, on a CPU over weights in fp16 where that loses nothing of them. int8, for the CPU: "
                    "weights rounded to 8 bits, a little faster and a little off. Text encoder and codec always stay "
                    "in fp32.",
                ),
            ],
            outputs=[
                ModelSocket.Output("model", display_name="model", tooltip="The language model, for the sampler."),
                TextEncoderSocket.Output(
                    "text_encoder", display_name="text_encoder", tooltip="The T5 encoder, for MusicGen Text Encode."
                ),
                CodecSocket.Output(
                    "codec", display_name="codec", tooltip="The EnCodec model, which turns tokens into sound and back."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        """Accept backslashes of workflows saved on Windows; say in a sentence what else is wrong."""
        try:
            if model is not None:
                host.resolve_model(model)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str, dtype: str) -> str:
        """Load again when a file of the checkpoint changed."""
        return host.model_fingerprint(model)

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        name, path = host.resolve_model(model)
        release = find_release(model)
        if release is not None and not is_model_folder(path):
            host.fetch_release(release, cls.hidden.unique_id)
        parts: Any = load_components(
            path,
            dtype=host.lm_dtype(dtype, cls.hidden.unique_id),
            operations=host.lm_operations(),
            search=host.search_folders(),
        )
        fingerprint = parts.codec.fingerprint
        style = None if parts.style is None else StyleHandle(host.wrap_style(parts.style), parts.style.fingerprint)
        return io.NodeOutput(
            ModelHandle(host.wrap_lm(parts.lm), parts.config, fingerprint, name, style),
            TextEncoderHandle(host.wrap_text_encoder(parts.text_encoder), name),
            CodecHandle(host.wrap_codec(parts.codec), fingerprint, name),
        )
