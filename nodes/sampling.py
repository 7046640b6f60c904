"""The node that samples: conditions -> tokens."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ..musicgen.evaluation.drift import DriftGuard
from ..musicgen.generation.generate import generate
from ..musicgen.generation.params import GenerationParams
from ..musicgen.generation.partial import complete_part
from ..musicgen.generation.patterns import PATTERN_NAMES, trained_pattern_name
from ..musicgen.generation.request import Request
from ..musicgen.generation.schedule import Schedules
from ..musicgen.generation.windows import frames_seconds
from ..musicgen.images import codes_image
from .host import kept, patchers, previews, progress
from .host.running import ready_to_sample
from .host.telling import Node
from .inputs.conditions import read_request
from .inputs.long_form import guard_of, recipe_of_long_form, told_drift, with_windows
from .inputs.parts import check_codec
from .inputs.recipes import recipe_of
from .inputs.tokens import sampled_tokens
from .inputs.widgets import batch_size_input, duration_input, sampling_inputs, seed_input
from .sockets import (
    CATEGORY,
    CodecHandle,
    CodecSocket,
    GuidanceSocket,
    LongForm,
    LongFormSocket,
    MelodyBatch,
    MelodySocket,
    ModelHandle,
    ModelSocket,
    PlayerSocket,
    StyleBatch,
    StyleSocket,
    Tokens,
    TokensSocket,
)

AUTO = "auto"
DISCARD, KEEP = "stop the run", "keep the music so far"


class MusicGenSampleTokens(Node):
    """Model and conditions -> tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MusicGenSampleTokens",
            display_name="MusicGen Sample Tokens",
            category=CATEGORY,
            essentials_category="Audio",
            description="Samples the tokens of a piece of music with a MusicGen model: from a description, along a "
            "melody, in the style of a recording, or as the continuation of one.",
            search_aliases=[
                "music",
                "generate music",
                "text to music",
                "music sampler",
                "song",
                "beat",
                "instrumental",
                "sound effect",
                "sfx",
                "loop",
                "soundtrack",
                "continue music",
            ],
            inputs=[
                ModelSocket.Input("model", tooltip="The language model, from MusicGen Loader or MusicGen LoRA Loader."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="Conditioning from MusicGen Text Encode: it describes the music. Core nodes may combine "
                    "it, average it or limit it to a range of the piece.",
                ),
                duration_input(
                    "Length of the whole piece in seconds, a prompt included. A piece longer than the model "
                    "was trained on (30 seconds, 10 for AudioGen) is sampled in overlapping windows."
                ),
                batch_size_input(),
                seed_input(),
                *sampling_inputs(),
                io.Combo.Input(
                    "pattern",
                    display_name="codebook pattern",
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
                    "than the duration. Beyond the model's window (30 seconds for the released models, 10 for "
                    "AudioGen) the music goes on from their last part.",
                ),
                StyleSocket.Input(
                    "style",
                    optional=True,
                    tooltip="A style to take up, from MusicGen Style. Style models only.",
                ),
                io.Float.Input(
                    "cfg_coef_beta",
                    display_name="text over style (cfg_coef_beta)",
                    default=1.0,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    optional=True,
                    advanced=True,
                    tooltip="Weight of the description against a style. 1 guides by both at once; about 5 brings the "
                    "description out. Without a style it does nothing.",
                ),
                CodecSocket.Input(
                    "codec",
                    optional=True,
                    tooltip="The codec from the same loader. With it, the node plays the piece as far as it exists, "
                    "while it samples.",
                ),
                io.Combo.Input(
                    "on_cancel",
                    display_name="on Cancel",
                    options=[DISCARD, KEEP],
                    default=DISCARD,
                    optional=True,
                    advanced=True,
                    tooltip=f"{DISCARD}: Cancel stops the run, as everywhere. {KEEP}: while this node samples, Cancel "
                    "ends the sampling alone, and the run goes on with the music that exists. Cancel again stops the "
                    "run.",
                ),
                PlayerSocket.Input("audioUI", optional=True, tooltip="Plays the piece while it is sampled."),
                GuidanceSocket.Input(
                    "guidance",
                    optional=True,
                    tooltip="Numbers that change during the piece, from MusicGen Guidance, in place of those here.",
                ),
                LongFormSocket.Input(
                    "long_form",
                    display_name="long form",
                    optional=True,
                    tooltip="From MusicGen Long Form, for pieces longer than the model's window: windows that drift "
                    "away from the first one are drawn again, and the node shows the drift of each.",
                ),
            ],
            outputs=[
                TokensSocket.Output(
                    "tokens", display_name="tokens", tooltip="The piece, prompt included, for MusicGen EnCodec Decode."
                )
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_inputs: Any) -> int:
        """After a Cancel that kept a part, the same graph samples anew."""
        return kept.fingerprint(cls.hidden.unique_id)

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
        codec: CodecHandle | None = None,
        on_cancel: str = DISCARD,
        guidance: Schedules | None = None,
        long_form: LongForm | None = None,
        **_player: Any,
    ) -> io.NodeOutput:
        chosen = None if pattern == AUTO else pattern
        params = GenerationParams(
            frames_seconds(duration, model.config.frame_rate),
            cfg_coef,
            temperature,
            top_k,
            top_p,
            seed=seed,
            pattern=chosen,
            # The widget weighs against a style only, as ever; MusicGen Guidance weighs against a melody too.
            cfg_coef_beta=cfg_coef_beta if melody is None else 1.0,
        )
        params = with_windows(params, long_form, model)
        request = read_request(
            model,
            params,
            batch_size,
            positive=positive,
            negative=negative,
            melody=melody,
            style=style,
            prompt=prompt,
            guidance=guidance,
        )
        _warn_of_foreign_pattern(model, params.pattern, cls.hidden.unique_id)
        _tell_of_long_prompt(model, request, cls.hidden.unique_id)
        player = None if codec is None else previews.GrowingPlayer(check_codec(codec, model), cls.hidden.unique_id)
        guard, hearing = guard_of(long_form, model, codec, request)
        codes = _sample(
            model, request, player, keep=on_cancel == KEEP, node_id=cls.hidden.unique_id, guard=guard, hearing=hearing
        )
        if guard is not None:
            progress.show(cls.hidden.unique_id, told_drift(guard))
        recipe = recipe_of(model, params, request, positive, negative, style) | recipe_of_long_form(long_form)
        tokens = sampled_tokens(codes, model, params, duration, recipe)
        return io.NodeOutput(tokens, ui=player and player.shown())


def _sample(
    model: ModelHandle,
    request: Request,
    player: previews.GrowingPlayer | None,
    *,
    keep: bool,
    node_id: str | None,
    guard: DriftGuard | None = None,
    hearing: CodecHandle | None = None,
) -> Tensor:
    """Codes of a request, with the weights and the memory from the host; with keep, on Cancel those that exist.

    hearing: the codec of the guard.
    """
    lm, config = model.patcher.model, model.config
    report = progress.StepReporter(request.steps(config), partial(_draw_first, card=config.card))
    memory = request.bytes(config, lm.dtype.itemsize) + (0 if player is None else player.memory_required())
    beside = hearing or player
    with ready_to_sample(model, memory, node_id, beside) as ready:
        if hearing is not None:
            patchers.require_whole(hearing.patcher)
        if player is not None:
            report.watch = player.start()
        try:
            return generate(lm, config, request, on_step=report, guard=guard, **ready)
        except progress.Interrupted:
            codes = complete_part(report.last.codes()) if keep and report.last is not None else None
            if codes is None or codes.shape[2] <= request.prompt_frames:
                raise
    kept.note_kept(node_id)
    made, wanted = codes.shape[2] / config.frame_rate, request.params.duration
    fewer = f" of {len(codes)} from {request.batch_size} pieces" if len(codes) < request.batch_size else ""
    progress.say(node_id, f"Cancel ended the sampling; the run goes on with the first {made:g} of {wanted:g} s{fewer}.")
    return codes


def _draw_first(codes: Tensor, card: int) -> Tensor:
    return codes_image(codes[0], card)


def _tell_of_long_prompt(model: ModelHandle, request: Request, node_id: str | None) -> None:
    window, rate = request.windows(model.config)[0], model.config.frame_rate
    if window.first > 0:
        progress.say(
            node_id,
            f"The prompt is {request.prompt_frames / rate:g} s long, beyond the model's window of "
            f"{model.config.window:g} s. The music goes on from its last {window.prompt_frames / rate:g} s.",
        )


def _warn_of_foreign_pattern(model: ModelHandle, pattern: str | None, node_id: str | None) -> None:
    own = trained_pattern_name(model.config.delays, model.config.audio_channels, model.config.pattern)
    if pattern is not None and pattern not in (own, *model.config.patterns):
        trained = ", ".join([own or f"delays of {', '.join(map(str, model.config.delays))}", *model.config.patterns])
        progress.say(
            node_id,
            f"Pattern {pattern}: the model {model.name} was not trained on it but on {trained}, so expect noise.",
        )
