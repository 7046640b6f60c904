"""The settings in audiocraft's files, `xp.cfg`: those of a language model, and those of its codec."""

from __future__ import annotations

from .table import FIRST_VALUES, OTHER_USES, PLACES, REQUEST, SPEED, TOLD_ELSEWHERE, TRAINING, Table

_TRANSFORMER = Table(
    "transformer_lm",
    read=(
        "dim",
        "num_heads",
        "num_layers",
        "hidden_scale",
        "n_q",
        "card",
        "max_period",
        "positional_scale",
        "cross_attention",
        "q_modeling",
    ),
    only={
        "positional_embedding": ("sin",),
        "xpos": (False,),
        "activation": ("gelu",),
        "norm": ("layer_norm",),
        "norm_first": (True,),
        "causal": (True,),
        "past_context": (),
        "layer_scale": (),
        "kv_repeat": (1,),
        "qk_layer_norm": (False,),
        "qk_layer_norm_cross": (False,),
        "bias_ff": (False,),
        "bias_attn": (False,),
        "bias_proj": (False,),
    },
    unused={
        TRAINING: ("dropout", "attention_dropout", "emb_lr", "lr", "weight_decay"),
        FIRST_VALUES: ("weight_init", "depthwise_init", "zero_bias_init"),
        SPEED: ("custom", "memory_efficient", "attention_as_float32", "checkpointing", "safe_streaming"),
        REQUEST: ("two_step_cfg",),
    },
)
_PATTERN = Table(
    "codebooks_pattern",
    read=("modeling",),
    chosen_by="modeling",
    tables={
        "parallel": Table("parallel", read=("flatten_first", "empty_initial")),
        "delay": Table("delay", read=("delays", "flatten_first", "empty_initial")),
        "unroll": Table("unroll", read=("flattening", "delays")),
        "coarse_first": Table("coarse_first", read=("delays",)),
        "musiclm": Table("musiclm", read=("group_by",)),
        "music_lm": Table("music_lm", read=("group_by",)),
    },
)
_FUSER = Table(
    "fuser",
    read=("cross", "prepend"),
    only={"sum": ([],), "input_interpolate": ([],), "ignore": ([],), "cross_attention_pos_emb": (False,)},
    unused={TOLD_ELSEWHERE: ("cross_attention_pos_emb_scale",)},
)
_T5 = Table(
    "t5",
    read=("name",),
    only={"finetune": (False,), "normalize_text": (False,)},
    unused={TRAINING: ("word_dropout",), SPEED: ("autocast_dtype", "device")},
)
_CHROMA = Table(
    "chroma_stem",
    read=("sample_rate", "radix2_exp", "nfft", "winlen", "winhop", "argmax", "norm"),
    only={"n_chroma": (12,)},
    unused={
        TRAINING: ("eval_wavs", "n_eval_wavs", "match_len_on_eval"),
        PLACES: ("cache_path",),
        TOLD_ELSEWHERE: ("duration",),
        SPEED: ("device",),
    },
)
_STYLE = Table(
    "style",
    read=(
        "model_name",
        "transformer_scale",
        "encodec_checkpoint",
        "encodec_n_q",
        "n_q_out",
        "bins",
        "length",
        "varying_lengths",
        "ds_factor",
        "eval_q",
    ),
    only={"batch_norm": (True,)},
    unused={
        TRAINING: (
            "q_dropout",
            "compute_mask",
            "num_codebooks_lm",
            "ds_rate_compression",
            "rvq_threshold_ema_dead_code",
        ),
        REQUEST: ("use_middle_of_segment", "sample_rate"),
        SPEED: ("device",),
    },
)
LM = Table(
    "xp.cfg",
    read=("lm_model", "sample_rate", "channels", "solver", "compression_model_checkpoint", "compression_model_n_q"),
    is_open=True,
    tables={
        "transformer_lm": _TRANSFORMER,
        "codebooks_pattern": _PATTERN,
        "fuser": _FUSER,
        "conditioners": Table(
            "conditioners",
            tables={
                "description": Table("description", read=("model",), chosen_by="model", tables={"t5": _T5}),
                "self_wav": Table(
                    "self_wav",
                    read=("model",),
                    chosen_by="model",
                    tables={"chroma_stem": _CHROMA, "style": _STYLE},
                ),
                "args": Table("args", unused={TRAINING: ("merge_text_conditions_p", "drop_desc_p")}),
            },
        ),
        "interleave_stereo_codebooks": Table(
            "interleave_stereo_codebooks", read=("use",), only={"per_timestep": (False,)}
        ),
        "dataset": Table("dataset", read=("segment_duration",), is_open=True),
    },
)
"""The settings in a `state_dict.bin`. Its other tables concern training."""

BOTH_SIDES = (
    "dimension",
    "n_filters",
    "n_residual_layers",
    "ratios",
    "kernel_size",
    "last_kernel_size",
    "residual_kernel_size",
    "dilation_base",
    "causal",
    "pad_mode",
    "true_skip",
    "compress",
    "lstm",
)
"""Settings of `seanet` that `encoder` and `decoder` may repeat; they are read where both have one value."""
_REQUIRED = {
    "channels": (1,),
    "activation": ("ELU",),
    "norm": ("weight_norm", "none"),
    "norm_params": ({},),
}
_NORMALISED = {TOLD_ELSEWHERE: ("disable_norm_outer_blocks",)}
_ELU = {"activation_params": Table("activation_params", only={"alpha": (1.0, 1), "inplace": (True, False)})}
CODEC = Table(
    "xp.cfg",
    read=("compression_model", "sample_rate"),
    is_open=True,
    tables={
        "encodec": Table(
            "encodec",
            read=("sample_rate",),
            only={
                "autoencoder": ("seanet",),
                "quantizer": ("rvq",),
                "channels": (1,),
                "renormalize": (False,),
            },
            unused={TOLD_ELSEWHERE: ("causal",), OTHER_USES: ("renorm",)},
        ),
        "seanet": Table(
            "seanet",
            read=BOTH_SIDES,
            only=_REQUIRED,
            unused=_NORMALISED,
            tables={
                **_ELU,
                "encoder": Table("encoder", read=BOTH_SIDES, only=_REQUIRED, unused=_NORMALISED, tables=_ELU),
                "decoder": Table(
                    "decoder",
                    read=(*BOTH_SIDES, "trim_right_ratio"),
                    only={**_REQUIRED, "final_activation": ()},
                    unused={TOLD_ELSEWHERE: ("disable_norm_outer_blocks", "final_activation_params")},
                    tables=_ELU,
                ),
            },
        ),
        "rvq": Table(
            "rvq",
            read=("n_q", "bins"),
            unused={
                TRAINING: (
                    "q_dropout",
                    "decay",
                    "kmeans_init",
                    "kmeans_iters",
                    "threshold_ema_dead_code",
                    "orthogonal_reg_weight",
                    "orthogonal_reg_active_codes_only",
                    "orthogonal_reg_max_codes",
                ),
            },
        ),
    },
)
"""The settings in a `compression_state_dict.bin`. Its other tables concern training."""
