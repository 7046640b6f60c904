"""Numbers and descriptions that change over time: exact where nothing changes, and changed where they are asked to."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from musicgen.conditioning.condition import Span, leave_gaps
from musicgen.conditioning.melody import extract_melody
from musicgen.decoding.sampling import sample_codes
from musicgen.generation import generate as generation
from musicgen.generation.generate import generate
from musicgen.generation.params import GenerationParams
from musicgen.generation.request import Request
from musicgen.generation.schedule import Schedules, parse_schedule
from musicgen.times import Meter
from tests.recording import StandIn


def condition(m, words="jazz", **options):
    return replace(m.text_encoder.encode([words]), **options)


def request(m, *positive, duration=0.8, seed=3, negative=(), melody=None, batch_size=1, schedules=None, **numbers):
    return Request(
        params=GenerationParams(duration, seed=seed, **numbers),
        positive=positive or [condition(m)],
        negative=negative,
        melodies=[] if melody is None else [extract_melody(melody[0], 32000, m.config.chroma)] * batch_size,
        batch_size=batch_size,
        schedules=Schedules(**{name: parse_schedule(text) for name, text in (schedules or {}).items()}),
    )


def codes(m, *positive, slow=False, **options):
    return generate(m.lm, m.config, request(m, *positive, **options), slow=slow)


def first_difference(ours, theirs):
    """The first frame whose codes differ in some codebook."""
    return int((ours != theirs).any(dim=1)[0].nonzero()[0])


@pytest.mark.parametrize(
    ("text", "points"),
    [
        ("3", [(0, 3, 0)]),
        ("0s 3, 10s 6", [(0, 3, 0), (10, 6, 0)]),
        ("0s: 3\n10s ~4s: 6", [(0, 3, 0), (10, 6, 4)]),
        ("1:05 3; 2:00~1 bar = .5", [(65, 3, 0), (120, 0.5, 2)]),
        ("bar 2 -1", [(2, -1, 0)]),
        ("bar 2 beat 3 ~2 beats 1", [(3, 1, 1)]),
    ],
)
def test_a_schedule_is_read_in_every_form(text, points):
    found = parse_schedule(text, Meter(120.0)).points
    assert [(point.seconds, point.value, point.glide) for point in found] == points


def test_no_text_is_no_schedule():
    assert parse_schedule(" \n") is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("much", "'much' is not a value over time; allowed is a number, or times with numbers"),
        ("3, 4", "'3' is not a value over time"),
        ("10s 3, 5s 4", "a value begins at 5 s, before the one at 10 s has begun"),
        ("0s 3, 10s ~6s 4, 12s 5", "a value begins at 12 s, before the one at 10 s has arrived"),
        ("bar 2 3", "'bar 2' needs a tempo"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused_in_a_sentence(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        parse_schedule(text)


@pytest.mark.parametrize("name", ["hf-text", "hf-melody"])
def test_schedules_of_the_sampler_s_own_numbers_give_its_codes(name, model, sweep):
    """Values that stay as they are cost nothing and change nothing, in one piece or given point by point."""
    m = model(name)
    melody = sweep if m.config.chroma else None
    numbers = {"cfg_coef": 2.0, "temperature": 0.9, "top_k": 30}
    plain = codes(m, melody=melody, **numbers)
    constant = {**{key: str(value) for key, value in numbers.items()}, "top_p": "0", "cfg_coef_beta": "1"}
    assert torch.equal(codes(m, melody=melody, schedules=constant), plain)
    twice = {key: f"0s {value}, 0.3s {value}" for key, value in constant.items()}
    if melody is not None:
        twice["lead_strength"] = "0s 1, 0.2s 1"
    assert torch.equal(codes(m, melody=melody, schedules=twice), plain)


def test_a_value_that_changes_at_the_end_changes_no_code_before_it(model):
    """The tensors of the schedule give the codes of the numbers, bit for bit, until the change."""
    m = model("hf-text")
    numbers = {"cfg_coef": 3.0, "temperature": 1.0, "top_k": 25}
    plain = codes(m, **numbers)
    for name, late in (("cfg_coef", 9), ("temperature", 0.2), ("top_k", 1), ("top_p", 0.1)):
        changed = codes(m, **numbers, schedules={name: f"0.5s {late}"})
        # The last codebook is up to three frames behind the first, whose changed codes it hears.
        assert torch.equal(changed[:, 0, :25], plain[:, 0, :25])
        assert first_difference(changed, plain) >= 22
    assert codes(m, **numbers, schedules={"top_p": "0s 0.7, 0.4s 0.7"}).equal(codes(m, **numbers, top_p=0.7))


def test_a_temperature_of_0_takes_the_likeliest_code_from_its_time_on(model):
    m = model("hf-text")
    assert torch.equal(codes(m, schedules={"temperature": "0s 0, 0.4s 0.0"}), codes(m, temperature=0.0))
    prompt = codes(m, schedules={"temperature": "0.4s 0"})
    again = replace(request(m, temperature=0.0), prompt=prompt[:, :, :20])
    assert torch.equal(generate(m.lm, m.config, again), prompt)


@pytest.mark.parametrize("pattern", ["delay", "parallel", "flatten", "partial_flatten", "coarse_first"])
def test_schedules_are_the_same_by_the_definition_and_in_recorded_steps(pattern, model, sweep, monkeypatch):
    m = model("hf-melody")
    moving = {
        "cfg_coef": "0s 3, 0.2s ~0.2s 6",
        "temperature": "0s 1, 0.3s 0.5",
        "top_k": "0s 40, 0.2s ~0.3s 10",
        "top_p": "0.4s 0.8",
        "lead_strength": "0s 0, 0.2s ~0.1s 1.5",
        "cfg_coef_beta": "0.3s 2",
    }
    sections = [
        condition(m, span=Span(0.0, 0.3, fall=0.2)),
        condition(m, "big band", span=Span(0.3, None, rise=0.2)),
    ]
    options = {"melody": sweep, "schedules": moving, "pattern": pattern, "duration": 0.6, "batch_size": 2}
    plain = codes(m, *sections, **options)
    assert torch.equal(codes(m, *sections, slow=True, **options), plain)
    stand_in = StandIn()
    monkeypatch.setattr(generation, "why_no_graphs", lambda device: None)
    monkeypatch.setattr(generation, "CudaBackend", lambda device: stand_in)
    assert torch.equal(codes(m, *sections, **options), plain) and stand_in.replayed > 10


def test_an_item_of_a_batch_is_its_solo_run(model, sweep):
    m = model("hf-melody")
    options = {"melody": sweep, "schedules": {"cfg_coef": "0.2s 5", "lead_strength": "0.3s 0"}}
    together = codes(m, batch_size=3, seed=40, **options)
    for item in range(3):
        assert torch.equal(codes(m, seed=40 + item, **options)[0], together[item])


def test_a_melody_may_lead_for_a_part_of_the_piece_only(model, sweep):
    m = model("hf-melody")
    without, with_it = codes(m), codes(m, melody=sweep)
    early = codes(m, melody=sweep, schedules={"lead_strength": "0s 1, 0.4s 0"})
    assert torch.equal(early[:, 0, :20], with_it[:, 0, :20]) and not torch.equal(early, with_it)
    assert torch.equal(codes(m, melody=sweep, schedules={"lead_strength": "0"}), without)
    late = codes(m, melody=sweep, schedules={"lead_strength": "0s 0, 0.4s 1"})
    assert torch.equal(late[:, 0, :20], without[:, 0, :20]) and not torch.equal(late, without)


def test_text_weighs_against_a_melody(model, sweep):
    m = model("hf-melody")
    plain = codes(m, melody=sweep)
    assert not torch.equal(codes(m, melody=sweep, cfg_coef_beta=4.0), plain)
    assert torch.equal(
        codes(m, melody=sweep, schedules={"cfg_coef_beta": "4"}), codes(m, melody=sweep, cfg_coef_beta=4.0)
    )
    assert torch.equal(codes(m, cfg_coef_beta=4.0), codes(m))


def test_sections_in_seconds_are_those_in_shares(model):
    m = model("hf-text")
    shares = [condition(m, end=0.5), condition(m, "big band", start=0.5)]
    seconds = [condition(m, span=Span(0.0, 0.4)), condition(m, "big band", span=Span(0.4))]
    assert torch.equal(codes(m, *seconds), codes(m, *shares))
    assert torch.equal(codes(m, condition(m, span=Span())), codes(m))


def test_seconds_count_through_the_windows_of_a_long_piece(model):
    """The second description begins at its time, whichever window that is in, and costs no row before."""
    m = model("hf-text")
    sections = [condition(m, span=Span(0.0, 1.0)), condition(m, "big band", span=Span(1.0))]
    options = {"duration": 1.6, "window": 0.6, "extend_stride": 0.4}
    plain, changed = codes(m, **options), codes(m, *sections, **options)
    assert first_difference(plain, changed) in range(47, 54)
    asked = request(m, *sections, **options)
    groups = [len(asked.branches(m.config, window).groups) for window in asked.windows(m.config)]
    assert groups == [2, 3, 3, 2]


def test_a_section_may_hear_the_last_moments_before_it_only(model):
    m = model("hf-text")
    first = condition(m, span=Span(0.0, 0.4))
    sections = [first, condition(m, "big band", span=Span(0.4, carry=0.1))]
    found = request(m, *sections).windows(m.config)
    assert [(each.first, each.num_frames, each.prompt_frames) for each in found] == [(0, 20, 0), (15, 25, 5)]
    made, heard = codes(m, *sections), codes(m, first, condition(m, "big band", span=Span(0.4)))
    assert torch.equal(made[:, :, :20], codes(m, duration=0.4)) and int(made.min()) >= 0
    assert not torch.equal(made, heard)


def test_spans_that_follow_one_another_leave_no_gap(model):
    m = model("hf-text")
    spans = [Span(0.0, 0.3, fall=0.1), Span(0.3, 0.5, rise=0.1), Span(0.5)]
    assert not leave_gaps([condition(m, span=span) for span in spans])
    assert leave_gaps([condition(m, span=span) for span in (Span(0.0, 0.3), Span(0.3, 0.5))])
    assert leave_gaps([condition(m, span=Span(0.2))])
    assert leave_gaps([condition(m, span=Span(0.0, 0.3)), condition(m, span=Span(0.3, rise=0.1))])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"schedules": {"cfg_coef": "0s 3, 5s 6"}}, "cfg_coef has a value at 5 s, beyond the piece of 0.8 s"),
        ({"schedules": {"temperature": "-1"}}, "temperature is -1.0; allowed is at least 0"),
        ({"schedules": {"top_p": "0s 0.5, 0.2s 2"}}, "top_p is 2.0; allowed is at least 0 and at most 1"),
        ({"schedules": {"top_k": "0s 0, 0.2s ~0.1s 9"}}, "top_k glides to or from 0"),
        ({"schedules": {"lead_strength": "0.5"}}, "a strength of the melody was given without a melody"),
        ({"schedules": {"lead_strength": "-1"}}, "the strength of the melody is -1; allowed is at least 0"),
    ],
)
def test_numbers_that_do_not_fit_are_refused_in_a_sentence(options, sentence, model):
    with pytest.raises(ValueError, match=sentence):
        codes(model("hf-text"), **options)


def test_a_section_beyond_the_end_is_refused(model):
    m = model("hf-text")
    with pytest.raises(ValueError, match="a section begins at 3 s, beyond the piece of 0.8 s; make the piece longer"):
        codes(m, condition(m, span=Span(0.0, 3.0)), condition(m, span=Span(3.0)))


def test_one_number_for_each_codebook_draws_as_the_numbers_alone():
    generator = torch.Generator().manual_seed(0)
    logits, noise = torch.randn(5, 4, 64, generator=generator), torch.rand(5, 4, 64, generator=generator)
    rows = [(1.0, 0, 0.0), (0.0, 5, 0.0), (0.7, 5, 0.0), (1.3, 5, 0.6)]
    temperature, top_k, top_p = (torch.tensor(column) for column in zip(*rows, strict=True))
    drawn = sample_codes(logits, noise, temperature=temperature, top_k=top_k, top_p=top_p)
    for index, (one, two, three) in enumerate(rows):
        alone = sample_codes(logits, noise, temperature=one, top_k=two, top_p=three)
        assert torch.equal(drawn[:, index], alone[:, index])
