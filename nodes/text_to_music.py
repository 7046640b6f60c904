"""The whole graph from a description to sound as one node, which ComfyUI expands into the nodes of the stages."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .host import folders
from .host.expansion import GraphBuilder
from .host.telling import Node
from .inputs.widgets import batch_size_input, duration_input, sampling_inputs, seed_input
from .sockets import CATEGORY, ModelHandle, ModelSocket, PlayerSocket


class MusicGenTextToMusic(Node):
    """A model's name and a description -> AUDIO."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = folders.choices()
        return io.Schema(
            node_id="MusicGenTextToMusic",
            display_name="MusicGen Text to Music",
            category=CATEGORY,
            description="Makes music from a description in one step. It runs MusicGen Loader, Text Encode, Sample "
            "Tokens and EnCodec Decode; use these for a melody, a style, a negative description or LoRAs. Meta's "
            "released weights are licensed CC-BY-NC 4.0: no commercial use.",
            search_aliases=["one step music", "simple music", "quick music", "background music"],
            essentials_category="Audio",
            inputs=[
                io.Combo.Input(
                    "model_name",
                    display_name="model",
                    options=names,
                    default=folders.DEFAULT_MODEL if folders.DEFAULT_MODEL in names else None,
                    tooltip="A bundled model, a model from models/musicgen, or a download into that folder, as in "
                    "MusicGen Loader.",
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Describe the music: genre, instruments, mood, tempo. An empty text is no description.",
                ),
                duration_input("Length of the whole piece in seconds, a prompt included."),
                seed_input(),
                batch_size_input(extra=True),
                *sampling_inputs(follows="its description", extra=True),
                ModelSocket.Input(
                    "model",
                    display_name="loaded model",
                    optional=True,
                    tooltip="A model from MusicGen Loader or MusicGen LoRA Loader, instead of the one chosen above.",
                ),
                io.Audio.Input(
                    "prompt",
                    optional=True,
                    tooltip="A recording to continue, shorter than the duration. The piece begins with it.",
                ),
                PlayerSocket.Input("audioUI", optional=True, tooltip="Plays the sound after a run."),
            ],
            outputs=[io.Audio.Output("audio", display_name="audio", tooltip="The piece, one batch item for each.")],
            is_output_node=True,
            enable_expand=True,
        )

    @classmethod
    def validate_inputs(cls, model_name: str | None, model: Any = False) -> bool | str:
        """Explain a name that no model has, unless a loaded model is linked, for which ComfyUI passes None."""
        try:
            if model_name is not None and model is not None:
                folders.resolve_model(model_name)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model_name: str,
        text: str,
        duration: float,
        seed: int,
        batch_size: int = 1,
        cfg_coef: float = 3.0,
        temperature: float = 1.0,
        top_k: int = 250,
        top_p: float = 0.0,
        model: ModelHandle | None = None,
        prompt: io.Audio.Type | None = None,
        **_player: Any,
    ) -> io.NodeOutput:
        graph = GraphBuilder()
        lm, text_encoder, codec = _parts(graph, model_name, model)
        positive = graph.node("MusicGenTextEncode", text_encoder=text_encoder, text=text).out(0)
        widgets = {"cfg_coef": cfg_coef, "temperature": temperature, "top_k": top_k, "top_p": top_p, "pattern": "auto"}
        if prompt is not None:
            widgets["prompt"] = graph.node("MusicGenEnCodecEncode", codec=codec, audio=prompt).out(0)
        request = {"duration": duration, "batch_size": batch_size, "seed": seed, **widgets}
        tokens = graph.node("MusicGenSampleTokens", model=lm, positive=positive, **request).out(0)
        audio = graph.node("MusicGenEnCodecDecode", codec=codec, tokens=tokens).out(0)
        return io.NodeOutput(audio, expand=graph.finalize())


def _parts(graph: GraphBuilder, name: str, loaded: ModelHandle | None) -> tuple[Any, Any, Any]:
    """Language model, text encoder and codec: links to a loader in the graph, or handles."""
    if loaded is None:
        loader = graph.node("MusicGenLoader", model=name, dtype="auto")
        return loader.out(0), loader.out(1), loader.out(2)
    if loaded.parts is None:
        raise ValueError(
            f"model is {loaded.name!r} without its text encoder and codec; connect MusicGen Loader, or use "
            "MusicGen Text Encode, Sample Tokens and EnCodec Decode one by one."
        )
    return (loaded, *loaded.parts)
