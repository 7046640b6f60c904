"""The sampler: what it gives, what its inputs change, how it stops, what it refuses."""

from __future__ import annotations

import importlib
import logging
import time
from dataclasses import replace

import pytest
import torch
from PIL import Image

from .conftest import owns_memory, sound


@pytest.fixture
def melody_of(run):
    return lambda **changes: run("MelodyChroma", audio=sound(1.0, **changes))[0]


@pytest.fixture
def progress(comfy, monkeypatch):
    """Everything that is sent to the browser as progress: (value, total, preview)."""
    sent: list[tuple] = []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda *call, node_id=None: sent.append(call))
    return sent


@pytest.fixture
def said(comfy, monkeypatch):
    """Every line that is shown on a node: (text, node id)."""
    lines: list[tuple] = []

    class Server:
        def send_progress_text(self, text, node_id):
            lines.append((text, node_id))

    monkeypatch.setattr(comfy.server.PromptServer, "instance", Server(), raising=False)
    return lines


@pytest.mark.parametrize("name", ["text", "melody", "stereo"])
def test_tokens_carry_codes_and_what_they_belong_to(encode, sample, load, name):
    tokens = sample(encode("jazz", name), name, batch_size=2, seed=5)
    config = load(name).model.config
    codes, recipe = tokens.pop("codes"), tokens.pop("recipe")
    assert codes.shape == (2, config.num_codebooks, 25) and codes.dtype == torch.int64 and owns_memory(codes)
    assert 0 <= codes.min() and codes.max() < config.card
    assert tokens == {
        "frame_rate": 50,
        "sample_rate": 32000,
        "audio_channels": config.audio_channels,
        "card": config.card,
        "codec": load(name).codec.fingerprint,
        "model": f"tiny/{name}",
        "num_samples": None,
        "pattern": None,
        "seed": 5,
    }
    assert (recipe["model"], recipe["seed"], recipe["frames"]) == (f"tiny/{name}", 5, 25)
    assert recipe["positive"] == [{"text": "jazz"}] and recipe["weights"] == load(name).model.weights != ""


def test_each_item_of_a_batch_is_the_piece_of_its_own_seed(encode, sample):
    conditioning = encode("jazz")
    together = sample(conditioning, batch_size=3, seed=40)["codes"]
    for item in range(3):
        assert torch.equal(sample(conditioning, seed=40 + item)["codes"][0], together[item])


def test_the_largest_seed_works_with_a_batch(encode, sample):
    assert sample(encode("jazz"), batch_size=2, seed=0xFFFFFFFFFFFFFFFF)["codes"].shape[0] == 2


@pytest.mark.parametrize("name", ["text", "melody"])
def test_without_a_negative_guidance_is_against_the_null_condition(comfy, encode, sample, name):
    conditioning = encode("jazz piano", name)
    (zeroed,) = comfy.core.ConditioningZeroOut().zero_out(conditioning)
    plain = sample(conditioning, name)["codes"]
    for negative in (encode("", name), zeroed):
        assert torch.equal(sample(conditioning, name, negative=negative)["codes"], plain)
    assert not torch.equal(sample(conditioning, name, negative=encode("folk", name))["codes"], plain)


def test_zeroed_conditioning_samples_as_no_description_does(comfy, encode, sample):
    (zeroed,) = comfy.core.ConditioningZeroOut().zero_out(encode("jazz piano"))
    assert torch.equal(sample(zeroed)["codes"], sample(encode(""))["codes"])


def test_a_condition_over_the_whole_piece_is_no_schedule(comfy, encode, sample):
    (whole,) = comfy.core.ConditioningSetTimestepRange().set_range(encode("jazz"), 0.0, 1.0)
    assert torch.equal(sample(whole)["codes"], sample(encode("jazz"))["codes"])


def test_a_schedule_changes_the_piece_from_its_border_on(comfy, encode, sample):
    core = comfy.core
    (first,) = core.ConditioningSetTimestepRange().set_range(encode("jazz"), 0.0, 0.5)
    (second,) = core.ConditioningSetTimestepRange().set_range(encode("folk fiddle"), 0.5, 1.0)
    (both,) = core.ConditioningCombine().combine(first, second)
    changed = sample(both)["codes"] != sample(encode("jazz"))["codes"]
    assert not changed[..., :12].any() and changed[..., 13:].any()


@pytest.mark.parametrize("blend", ["average", "concat", "combine"])
def test_blends_by_core_nodes_change_the_piece(comfy, encode, sample, blend):
    first, second = encode("jazz piano"), encode("heavy metal")
    core = comfy.core
    (mixed,) = {
        "average": lambda: core.ConditioningAverage().addWeighted(first, second, 0.5),
        "concat": lambda: core.ConditioningConcat().concat(first, second),
        "combine": lambda: core.ConditioningCombine().combine(first, second),
    }[blend]()
    codes = sample(mixed)["codes"]
    assert not any(torch.equal(codes, sample(alone)["codes"]) for alone in (first, second))


def test_different_melodies_give_different_pieces_and_the_same_one_the_same(encode, sample, melody_of):
    conditioning = encode("jazz", "melody")
    low, high = (sample(conditioning, "melody", melody=melody_of(pitch=p))["codes"] for p in (440.0, 587.0))
    assert not torch.equal(low, high)
    assert torch.equal(low, sample(conditioning, "melody", melody=melody_of(pitch=440.0))["codes"])


def test_a_melody_per_item_reaches_its_item(encode, sample, melody_of):
    conditioning = encode("jazz", "melody")
    pair = sample(conditioning, "melody", melody=melody_of(batch=2), batch_size=2)["codes"]
    alone = sample(conditioning, "melody", melody=melody_of(pitch=440.0 * 1.5), seed=2)["codes"]
    assert torch.equal(pair[1], alone[0])


def test_a_piece_begins_with_its_prompt(encode, sample):
    prompt = sample(encode("jazz"))
    kept = prompt["codes"].clone()
    longer = sample(encode("folk"), prompt=prompt, duration=1.0, batch_size=2)["codes"]
    assert longer.shape == (2, 4, 50)
    assert torch.equal(longer[:, :, :25], kept.expand(2, -1, -1))
    assert torch.equal(prompt["codes"], kept)


def test_progress_runs_to_its_end_with_a_growing_picture(encode, sample, progress):
    began = time.monotonic()
    sample(encode("jazz"), duration=2.0)
    pictures = [preview for _, _, preview in progress if preview is not None]
    value, total, last = progress[-1]
    assert value == total == 103 and last is pictures[-1]
    assert len(pictures) <= 2 + (time.monotonic() - began) / 0.25
    kind, picture, size = last
    assert kind == "JPEG" and isinstance(picture, Image.Image) and max(picture.size) <= size


def test_cancel_lands_within_a_step_and_the_next_run_works(comfy, encode, sample, monkeypatch):
    conditioning, before = encode("jazz"), sample(encode("jazz"))["codes"]
    calls = []

    def cancel_in_step_5(value, *_, **__):
        calls.append(value)
        if value >= 5:
            comfy.management.interrupt_current_processing()

    monkeypatch.setattr(comfy.utils.ProgressBar, "update_absolute", lambda _, *args: cancel_in_step_5(*args))
    with pytest.raises(comfy.management.InterruptProcessingException):
        sample(conditioning)
    assert calls[-1] == 5
    monkeypatch.undo()
    assert torch.equal(sample(conditioning)["codes"], before)


def test_the_models_own_pattern_is_auto_and_needs_no_word(encode, sample, said):
    conditioning = encode("jazz")
    assert torch.equal(sample(conditioning, pattern="delay")["codes"], sample(conditioning)["codes"])
    assert said == []


@pytest.mark.parametrize(
    "pattern", ["parallel", "partial_delay", "flatten", "partial_flatten", "coarse_first", "musiclm"]
)
@pytest.mark.parametrize("name", ["text", "stereo"])
def test_another_pattern_works_and_says_so_plainly(encode, sample, said, caplog, name, pattern):
    with caplog.at_level(logging.WARNING, "musicgen"):
        tokens = sample(encode("jazz", name), name, pattern=pattern)
    assert tokens["pattern"] == pattern and tokens["codes"].min() >= 0
    ((text, node_id),) = said
    assert node_id == "7" and text in caplog.messages
    assert f"Pattern {pattern}: the model tiny/{name} was not trained on it but on delay" in text


def test_a_pattern_that_the_model_was_trained_on_needs_no_word(encode, run, load, said):
    handle = load("text").model
    model = replace(handle, config=replace(handle.config, patterns=("flatten",)))
    widgets = {"seed": 1, "cfg_coef": 3.0, "temperature": 1.0, "top_k": 250, "top_p": 0.0}
    for pattern in ("flatten", "parallel"):
        run(
            "SampleTokens", model=model, positive=encode("jazz"), duration=0.5, batch_size=1, pattern=pattern, **widgets
        )
    ((text, _),) = said
    assert "Pattern parallel" in text and "was not trained on it but on delay, flatten" in text


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
@pytest.mark.parametrize("name", ["text", "melody", "stereo"])
def test_half_precision_weights_sample_too(run, encode, name, dtype):
    model, _, _ = run("Loader", model=f"tiny/{name}", dtype=dtype)
    widgets = {"seed": 1, "cfg_coef": 3.0, "temperature": 1.0, "top_k": 250, "top_p": 0.0, "pattern": "auto"}
    tokens = run("SampleTokens", model=model, positive=encode("jazz", name), duration=0.5, batch_size=2, **widgets)
    assert tokens["codes"].shape[2] == 25 and tokens["codes"].min() >= 0


def test_memory_is_asked_for_once_and_grows_with_the_request(comfy, encode, sample, monkeypatch):
    asked = []
    original = comfy.management.load_models_gpu

    def spy(models, memory_required=0, **rest):
        asked.append(memory_required)
        return original(models, memory_required=memory_required, **rest)

    conditioning = encode("jazz")
    monkeypatch.setattr(comfy.management, "load_models_gpu", spy)
    sample(conditioning)
    sample(conditioning, batch_size=4)
    sample(conditioning + conditioning)
    assert len(asked) == 3
    assert asked[1] > 3 * asked[0] > 0 and asked[2] > asked[0]


def test_a_text_model_refuses_a_melody(encode, sample, melody_of):
    with pytest.raises(ValueError, match="tiny/text is a text model and cannot follow a melody"):
        sample(encode("jazz"), melody=melody_of())


def test_a_mono_model_refuses_stereo_tokens(encode, sample):
    tokens = sample(encode("jazz", "stereo"), "stereo")
    with pytest.raises(ValueError, match=r"8 codebooks \(stereo\), but the model tiny/text works with 4 \(mono\)"):
        sample(encode("jazz"), prompt=tokens)


def test_a_model_refuses_tokens_of_another_codec(encode, sample):
    with pytest.raises(ValueError, match="belong to the codec of tiny/text"):
        sample(encode("jazz", "melody"), "melody", prompt=sample(encode("jazz")))


def test_a_batch_of_melodies_or_prompts_must_fit(encode, sample, melody_of):
    with pytest.raises(ValueError, match="2 melodies arrived; allowed are 1 or the batch size 3"):
        sample(encode("jazz", "melody"), "melody", melody=melody_of(batch=2), batch_size=3)
    with pytest.raises(ValueError, match="2 items; allowed are 1 or the batch size 3"):
        sample(encode("jazz"), prompt=sample(encode("jazz"), batch_size=2), duration=1.0, batch_size=3)


def test_a_prompt_longer_than_the_piece_is_refused(encode, sample):
    with pytest.raises(ValueError, match="prompt is 0.5 seconds long"):
        sample(encode("jazz"), prompt=sample(encode("jazz")), duration=0.4)


def test_conditioning_of_another_encoder_is_refused(sample):
    with pytest.raises(ValueError, match="MusicGenTextEncode"):
        sample([[torch.randn(1, 77, 768), {"pooled_output": None}]])


class TestMayRecord:
    """Whether steps become CUDA graphs, decided on ComfyUI's own patcher. No GPU exists here: that the device could
    record is told it, and everything else is real."""

    @pytest.fixture(autouse=True)
    def a_gpu(self, host, monkeypatch):
        monkeypatch.setattr(host.patchers, "why_no_graphs", lambda device: None)
        monkeypatch.delenv("MUSICGEN_CUDA_GRAPHS", raising=False)

    @pytest.fixture
    def patcher(self, run, host):
        patcher = run("Loader", model="tiny/text", dtype="auto")[0].patcher
        with host.patchers.on_device(patcher):
            return patcher

    def test_a_model_that_is_loaded_as_a_whole_may(self, host, patcher, comfy):
        assert type(patcher) is comfy.model_patcher.ModelPatcher
        assert host.patchers.may_record(patcher)

    def test_a_dynamic_one_may_not(self, host, patcher, monkeypatch):
        monkeypatch.setattr(type(patcher), "is_dynamic", lambda self: True)
        assert not host.patchers.may_record(patcher)

    def test_one_that_is_partly_offloaded_may_not(self, host, patcher, monkeypatch):
        monkeypatch.setattr(patcher.model, "model_lowvram", True)
        assert not host.patchers.may_record(patcher)

    def test_one_with_a_weight_elsewhere_may_not(self, host, patcher):
        patcher.model.head.weight = torch.nn.Parameter(patcher.model.head.weight.to("meta"), requires_grad=False)
        assert not host.patchers.may_record(patcher)

    @pytest.mark.parametrize("function", ["weight_function", "bias_function"])
    def test_one_whose_weights_are_changed_at_each_use_may_not(self, host, patcher, function):
        setattr(patcher.model.head, function, [lambda weight: weight])
        assert not host.patchers.may_record(patcher)

    def test_what_the_host_s_layers_multiply_by_is_then_the_very_weight_that_they_hold(self, host, patcher, comfy):
        """A graph keeps addresses, and these layers cast their weights in every call, which must come to nothing."""
        assert host.patchers.may_record(patcher)
        ops = importlib.import_module("comfy.ops")
        layers = [layer for layer in patcher.model.modules() if isinstance(layer, ops.CastWeightBiasOp)]
        assert {"Linear", "Embedding", "LayerNorm"} <= {base.__name__ for x in layers for base in type(x).__mro__}
        for layer in layers:
            given = torch.zeros(1, dtype=layer.weight.dtype)
            used = ops.cast_bias_weight(layer, given, offloadable=True)
            assert used[0].data_ptr() == layer.weight.data_ptr()
            assert getattr(layer, "bias", None) is None or used[1].data_ptr() == layer.bias.data_ptr()

    def test_the_environment_turns_it_off(self, host, patcher, monkeypatch):
        monkeypatch.setenv("MUSICGEN_CUDA_GRAPHS", "0")
        assert not host.patchers.may_record(patcher)


def test_where_no_steps_can_be_recorded_the_host_chooses_the_patcher(run, host, comfy, monkeypatch):
    class Chosen(comfy.model_patcher.ModelPatcher):
        pass

    monkeypatch.setattr(comfy.model_patcher, "CoreModelPatcher", Chosen)
    patcher = run("Loader", model="tiny/text", dtype="auto")[0].patcher
    assert type(patcher) is Chosen and not host.patchers.may_record(patcher)


def test_a_prompt_beyond_the_window_is_continued_and_the_node_says_from_where(encode, sample, said):
    prompt = sample(encode("rain", "audiogen"), "audiogen")
    prompt = {**prompt, "codes": prompt["codes"].repeat(1, 1, 22)}  # 11 s, the window being 10
    tokens = sample(encode("rain", "audiogen"), "audiogen", prompt=prompt, duration=11.5)
    assert torch.equal(tokens["codes"][:, :, :550], prompt["codes"]) and tokens["codes"].shape[2] == 575
    ((text, _),) = said
    assert text == ("The prompt is 11 s long, beyond the model's window of 10 s. The music goes on from its last 8 s.")
