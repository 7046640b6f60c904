"""The node that samples: conditions -> tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ..musicgen.conditioning.condition import TextCondition
from ..musicgen.config import GenerationParams
from ..musicgen.generation.generate import generate_codes, memory_required, plan_steps
from ..musicgen.generation.patterns import PATTERN_NAMES, trained_pattern_name
from ..musicgen.images import codes_image
from . import host
from .inputs import read_conditioning, read_melody, read_prompt, read_style, sampled_tokens
from .sockets import (
    CATEGORY,
    MAX_SECONDS,
    MelodyBatch,
    MelodySocket,
    ModelHandle,
    ModelSocket,
    StyleBatch,
    StyleSocket,
    Tokens,
    TokensSocket,
)

AUTO = "auto"


class MusicGenSampleTokens(io.ComfyNode):
    """Model and conditions -> tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenSampleTokens",
            display_name="MusicGen Sample Tokens",
            category=CATEGORY,
            description="Samples the tokens of a piece of music with a MusicGen model: from a description, along a "
            "melody, in the style of a recording, or as the continuation of one.",
            search_aliases=["musicgen sampler", "generate music", "text to music", "melody to music", "continue music"],
            inputs=[
                ModelSocket.Input("model", tooltip="The language model, from MusicGen Loader or MusicGen LoRA Loader."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="Conditioning from MusicGen Text Encode: it describes the music. Core nodes may combine "
                    "it, average it or limit it to a range of the piece.",
                ),
                io.Float.Input(
                    "duration",
                    default=10.0,
                    min=0.1,
                    max=MAX_SECONDS,
                    step=0.1,
                    tooltip="Length of the whole piece in seconds, a prompt included. A piece longer than the model "
                    "was trained on (30 seconds, 10 for AudioGen) is sampled in overlapping windows.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Number of pieces to sample at once. Piece i equals the piece that seed + i gives alone.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Starts the random numbers. The same seed gives the same piece.",
                ),
                io.Float.Input(
                    "cfg_coef",
                    default=3.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    tooltip="Classifier-free guidance: the higher, the closer the piece follows its conditions. 1 "
                    "turns guidance off and takes less time.",
                ),
                io.Float.Input(
                    "temperature",
                    default=1.0,
                    min=0.0,
                    max=5.0,
                    step=0.01,
                    tooltip="Below 1 the music is more predictable, above 1 more varied. 0 always takes the likeliest "
                    "token.",
                ),
                io.Int.Input(
                    "top_k",
                    default=250,
                    min=0,
                    max=65536,
                    tooltip="Draw each token from this many of the likeliest ones. 0 draws from all.",
                ),
                io.Float.Input(
                    "top_p",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Draw each token from the likeliest ones that together have this probability. Above 0 it "
                    "replaces top_k.",
                ),
                io.Combo.Input(
                    "pattern",
                    options=[AUTO, *PATTERN_NAMES],
                    default=AUTO,
                    tooltip="Order in which the codebooks are sampled. auto takes the pattern that the model was "
                    "trained on. With any other pattern an ordinary model makes noise.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="Conditioning to guide away from. Without it, guidance leads away from music without a "
                    "description.",
                ),
                MelodySocket.Input(
                    "melody",
                    optional=True,
                    tooltip="A melody to follow, from MusicGen Melody Chroma. Melody models only.",
                ),
                TokensSocket.Input(
                    "prompt",
                    optional=True,
                    tooltip="Tokens to continue, from MusicGen EnCodec Encode or from this node. They must be shorter "
                    "than the window of the model (30 seconds for the released models, 10 for AudioGen).",
                ),
                StyleSocket.Input(
                    "style",
                    optional=True,
                    tooltip="A style to take up, from MusicGen Style. Style models only.",
                ),
                io.Float.Input(
                    "cfg_coef_beta",
                    default=1.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    tooltip="Weight of the description against a style. 1 guides by both at once; about 5 brings the "
                    "description out. Without a style it does nothing.",
                ),
            ],
            outputs=[
                TokensSocket.Output(
                    "tokens", display_name="tokens", tooltip="The piece, prompt included, for MusicGen EnCodec Decode."
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: ModelHandle,
        positive: list[Any],
        duration: float,
        batch_size: int,
        seed: int,
        cfg_coef: float,
        temperature: float,
        top_k: int,
        top_p: float,
        pattern: str,
        negative: list[Any] | None = None,
        melody: MelodyBatch | None = None,
        prompt: Tokens | None = None,
        style: StyleBatch | None = None,
        cfg_coef_beta: float = 1.0,
    ) -> io.NodeOutput:
        params = GenerationParams(
            duration,
            cfg_coef,
            temperature,
            top_k,
            top_p,
            seed=seed,
            pattern=None if pattern == AUTO else pattern,
            cfg_coef_beta=cfg_coef_beta,
        )
        conditions = [read_conditioning(c, model, batch_size) for c in (positive, negative or [])]
        request: dict[str, Any] = {
            "negative": conditions[1],
            "batch_size": batch_size,
            "melodies": read_melody(melody, model, batch_size),
            "styles": read_style(style, model, batch_size),
            "prompt": read_prompt(prompt, model, batch_size),
        }
        request["on_step"] = _reporter(model, params, request["prompt"])
        _warn_of_foreign_pattern(model, params.pattern, cls.hidden.unique_id)
        memory = _memory(model, params, conditions[0], request)
        with host.on_device(model.patcher, memory_required=memory) as device:
            request["use_cuda_graphs"] = host.may_record(model.patcher)
            codes = generate_codes(model.patcher.model, model.config, conditions[0], params, device=device, **request)
        return io.NodeOutput(sampled_tokens(codes, model, params))


def _reporter(model: ModelHandle, params: GenerationParams, prompt: Any) -> host.StepReporter:
    steps = plan_steps(model.config, params, 0 if prompt is None else prompt.shape[2])
    return host.StepReporter(steps, partial(_draw_first, card=model.config.card))


def _draw_first(codes: Any, card: int) -> Any:
    return codes_image(codes[0], card)


def _memory(
    model: ModelHandle, params: GenerationParams, positive: tuple[TextCondition, ...], request: dict[str, Any]
) -> int:
    return memory_required(
        model.config,
        positive,
        params,
        negative=request["negative"],
        batch_size=request["batch_size"],
        melody=request["melodies"] is not None,
        style_tokens=max((len(tokens) for tokens in request["styles"]), default=0),
        prompt_frames=0 if request["prompt"] is None else request["prompt"].shape[2],
        itemsize=model.patcher.model.dtype.itemsize,
    )


def _warn_of_foreign_pattern(model: ModelHandle, pattern: str | None, node_id: str | None) -> None:
    own = trained_pattern_name(model.config.delays, model.config.audio_channels)
    if pattern is not None and pattern != own:
        trained = own or f"delays of {', '.join(map(str, model.config.delays))}"
        host.say(
            node_id,
            f"Pattern {pattern}: the model {model.name} was not trained on it but on {trained}, so expect noise.",
        )
