"""The nodes that open files: a checkpoint (a folder, a single file, or a release to download first), and a LoRA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io

from ..musicgen.checkpoints.discovery import is_model_folder
from ..musicgen.checkpoints.loading import Components, load_components
from ..musicgen.hub.releases import find_release, named_release
from ..musicgen.lora.apply import read_lora
from .host import folders, patchers, progress
from .host.telling import Node
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

NO_LORA, NONE = "no LoRA in models/loras", "none"
ROWS = 4


class MusicGenLoader(Node):
    """A checkpoint -> model, text encoder, codec."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = folders.choices()
        return io.Schema(
            node_id="MusicGenLoader",
            display_name="MusicGen Loader",
            category=CATEGORY,
            essentials_category="Audio",
            description="Loads a MusicGen model: a bundled one, a folder or a single file from models/musicgen, or "
            "one of Meta's releases, which it downloads if you choose that entry. It downloads nothing else. Meta's "
            "released weights are licensed CC-BY-NC 4.0: no commercial use.",
            search_aliases=[
                "music",
                "load musicgen",
                "text to music",
                "music generation",
                "music model",
                "song",
                "beat",
                "instrumental",
                "sound effect",
                "sfx",
                "audiogen",
                "audiocraft",
            ],
            inputs=[
                io.Combo.Input(
                    "model",
                    options=names,
                    default=folders.DEFAULT_MODEL if folders.DEFAULT_MODEL in names else None,
                    tooltip="A bundled model, a folder (with a config.json or a state_dict.bin) or a single "
                    ".safetensors file from models/musicgen, or a download into that folder. A download also fetches "
                    "the T5 and the MERT in its name into models/text_encoders and models/audio_encoders where they "
                    "are missing, and an EnCodec model where the repository only names one. Meta's released weights "
                    "are CC-BY-NC 4.0: no commercial use.",
                ),
                io.Combo.Input(
                    "dtype",
                    display_name="number format (dtype)",
                    options=[patchers.AUTO, *patchers.DTYPES, patchers.INT8],
                    default=patchers.AUTO,
                    tooltip="Number format of the language model. auto: bf16 or fp16 where the GPU computes well in "
                    "it, else fp32; a CPU keeps the weights in fp16 where that loses nothing. int8, for the CPU: "
                    "weights rounded to 8 bits, quickest with the released models and a little less exact. Text "
                    "encoder and codec always stay in fp32.",
                ),
            ],
            outputs=[
                ModelSocket.Output(
                    "model", display_name="model", tooltip="The language model, for MusicGen Sample Tokens."
                ),
                TextEncoderSocket.Output(
                    "text_encoder", display_name="text_encoder", tooltip="The T5 encoder, for MusicGen Text Encode."
                ),
                CodecSocket.Output(
                    "codec", display_name="codec", tooltip="The EnCodec model, for MusicGen EnCodec Decode and Encode."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, model: str | None) -> bool | str:
        """Accept backslashes from workflows saved on Windows, and explain every other refusal in a sentence."""
        try:
            if model is not None:
                folders.resolve_model(model)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, model: str, dtype: str) -> str:
        """Load again when a file of the checkpoint changed."""
        return folders.model_fingerprint(model)

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        name, path = _fetched(model, cls.hidden.unique_id)
        parts = _loaded(name, path, patchers.lm_dtype(dtype, cls.hidden.unique_id))
        text_encoder = TextEncoderHandle(patchers.wrap_text_encoder(parts.text_encoder), name)
        codec = CodecHandle(patchers.wrap_codec(parts.codec), parts.codec.fingerprint, name)
        lm, beside = patchers.wrap_lm(parts.lm), (text_encoder, codec)
        weights = parts.lm.fingerprint()
        handle = ModelHandle(lm, parts.config, codec.fingerprint, name, _style_handle(parts), beside, weights)
        return io.NodeOutput(handle, text_encoder, codec)


def _fetched(choice: str, node_id: str | None) -> tuple[str, Path]:
    """A choice of the combo -> the model's name and path, after its download where it is one."""
    name, path = folders.resolve_model(choice)
    release = find_release(choice)
    if release is not None and not is_model_folder(path):
        folders.fetch_release(release, node_id)
    return name, path


def _loaded(name: str, path: Path, dtype: torch.dtype | None) -> Components:
    """The parts of a model; a release that is here and damaged offers its download."""
    try:
        return load_components(path, dtype=dtype, operations=patchers.lm_operations(), search=folders.search_folders())
    except ValueError as error:
        release = named_release(name)
        if release is None:
            raise
        raise ValueError(
            f"{error} To download {release.repo} again, move {path} away, press R and choose {release.label!r}."
        ) from error


def _style_handle(parts: Components) -> StyleHandle | None:
    if parts.style is None:
        return None
    return StyleHandle(patchers.wrap_style(parts.style), parts.style.fingerprint)


def _further_rows() -> list[Any]:
    """The inputs of the second to the fourth LoRA."""
    rows: list[Any] = []
    for number in range(2, ROWS + 1):
        rows += [
            io.Combo.Input(
                f"lora_{number}",
                display_name=f"LoRA {number}",
                options=[NONE, *folders.fitting_loras()],
                default=NONE,
                optional=True,
                advanced=True,
                tooltip="One more LoRA, added to those above.",
            ),
            io.Float.Input(
                f"strength_{number}",
                display_name=f"strength {number}",
                default=1.0,
                min=-10.0,
                max=10.0,
                step=0.01,
                optional=True,
                advanced=True,
                tooltip="Share of this LoRA to add.",
            ),
        ]
    return rows


class MusicGenLoraLoader(Node):
    """Model and a LoRA file -> the model with the LoRA."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenLoraLoader",
            display_name="MusicGen LoRA Loader",
            category=CATEGORY,
            description="Adds a LoRA, a small file that was trained to change a model, to a MusicGen model. Several "
            "of these nodes in a row add several. Meta's weights are licensed CC-BY-NC 4.0: no commercial use, with "
            "or without a LoRA.",
            search_aliases=["load lora", "peft adapter", "fine-tune", "finetune"],
            inputs=[
                ModelSocket.Input(
                    "model", tooltip="The language model, from MusicGen Loader or another of these nodes."
                ),
                io.Combo.Input(
                    "lora",
                    options=folders.fitting_loras() or [NO_LORA],
                    tooltip="A file from models/loras, or a folder there that PEFT saved. It must have been trained on "
                    "this very model: small, medium, melody and large do not share LoRAs.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.01,
                    tooltip="Share of the LoRA to add. 1 adds it as it was trained, 0 nothing, a negative number the "
                    "opposite.",
                ),
                *_further_rows(),
            ],
            outputs=[
                ModelSocket.Output(
                    "model",
                    display_name="model",
                    tooltip="The language model with the LoRA, for MusicGen Sample Tokens.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls, lora: str | None, lora_2: str | None = None, lora_3: str | None = None, lora_4: str | None = None
    ) -> bool | str:
        """Accept backslashes from workflows saved on Windows, and explain every other refusal in a sentence."""
        try:
            for name in (lora, lora_2, lora_3, lora_4):
                if name not in (None, NONE):
                    folders.resolve_lora(name)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, lora: str, **rows: Any) -> list[str]:
        """Read again when a file changed."""
        names = [lora, *(rows.get(f"lora_{number}") or NONE for number in range(2, ROWS + 1))]
        return [folders.lora_fingerprint(name) for name in names if name != NONE]

    @classmethod
    def execute(cls, model: ModelHandle, lora: str, strength: float, **further: Any) -> io.NodeOutput:
        rows = [(lora, strength)]
        for number in range(2, ROWS + 1):
            rows.append((further.get(f"lora_{number}") or NONE, further.get(f"strength_{number}", 1.0)))
        said, told = [], []
        for name, share in rows:
            if name == NONE:
                continue
            if share == 0.0:
                told.append(f"{name}: strength 0, changes nothing")
                continue
            changes: Any = read_lora(folders.resolve_lora(name)[1], model.config)
            said += [*changes.warnings, *changes.without_text]
            loras = (*model.loras, (name, share))
            model = replace(model, patcher=patchers.patch_lm(model.patcher, changes, share), loras=loras)
            count = len(changes.low_rank) + len(changes.replacements)
            told.append(f"{name}: strength {share:g}, changes {count} matrices")
        if said:
            progress.logger.warning(" ".join(said))
        progress.show(cls.hidden.unique_id, "\n".join([*told, *said]))
        return io.NodeOutput(model)
