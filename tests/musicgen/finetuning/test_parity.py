"""Loss and gradients are those of transformers on the same batch; adapters are those of PEFT by seed and step."""

from __future__ import annotations

import pytest
import torch

from musicgen.checkpoints.layouts.huggingface import lm_recipes
from musicgen.conditioning.condition import TextCondition
from musicgen.finetuning.adapters import ALL_LINEAR, ATTENTION, TARGETS, AdaptedLM, trainable_copy
from musicgen.finetuning.objective import EMPTY, Batch, codebook_losses
from musicgen.generation.patterns import trained_pattern
from tests.conftest import GOLDEN, PROMPTS, golden_model

CPU = torch.device("cpu")


def copy_of(m):
    return trainable_copy(m.lm, m.lm.state_dict(), torch.float32, CPU)


def batch_of(m, frames=20, lengths=(20, 20), seed=3):
    """Two pieces with random codes; the second may be shorter."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(m.config.card, (2, m.config.num_codebooks, frames), generator=generator)
    for row, length in enumerate(lengths):
        codes[row, :, length:] = EMPTY
    text = m.text_encoder.encode([PROMPTS[0], PROMPTS[1]])
    none = torch.zeros(2, dtype=torch.bool)
    chromas = tuple(torch.eye(12)[torch.randint(12, (40,), generator=generator)] for _ in range(2))
    return Batch(codes, TextCondition(text.states.clone(), text.mask), chromas, none, none)


def transformers_loss(theirs, m, batch):
    """The loss that transformers gives for its labels: the sequence without its first column."""
    special = m.config.lm.special_token_id
    pattern = trained_pattern(batch.codes.shape[2], m.config.delays)
    sequence = pattern.build_sequence(batch.codes, special)
    labels = torch.where(sequence == EMPTY, special, sequence)[:, :, 1:].transpose(1, 2)  # [B, S - 1, K]
    tokens = m.text_encoder.tokenizer([PROMPTS[0], PROMPTS[1]], return_tensors="pt", padding=True)
    return theirs(**tokens, labels=labels).loss


@pytest.fixture
def theirs():
    from transformers import MusicgenForConditionalGeneration

    model = MusicgenForConditionalGeneration.from_pretrained(GOLDEN / "checkpoints" / "hf-text").eval()
    # The configuration class of transformers 5 has no such field, and its loss reads it.
    model.config.decoder.decoder_start_token_id = model.config.decoder.bos_token_id
    return model


@pytest.mark.parametrize("lengths", [(20, 20), (20, 13)], ids=["equal", "one shorter"])
def test_loss_and_gradients_are_those_of_transformers(theirs, lengths):
    m = golden_model("hf-text")
    batch, lm = batch_of(m, lengths=lengths), copy_of(m).requires_grad_(True)
    ours = codebook_losses(lm, m.config, batch, CPU).mean()
    loss = transformers_loss(theirs, m, batch)
    assert ours.item() == pytest.approx(loss.item(), abs=1e-5)
    ours.backward()
    loss.backward()
    gradients = dict(theirs.named_parameters())
    for name, parameter in lm.named_parameters():
        sources = lm_recipes(m.config)[name].sources
        wanted = torch.cat([gradients[source].grad for source in sources])
        assert torch.allclose(parameter.grad, wanted, atol=1e-5), name


def test_recomputing_layers_changes_no_gradient():
    m = golden_model("hf-text")
    found = []
    for recompute in (False, True):
        lm = copy_of(m).requires_grad_(True)
        codebook_losses(lm, m.config, batch_of(m), CPU, recompute=recompute).mean().backward()
        found.append({name: parameter.grad for name, parameter in lm.named_parameters()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("targets", [ATTENTION, ALL_LINEAR])
def test_adapters_are_those_of_peft_at_the_first_step_and_after_some(theirs, targets):
    peft = pytest.importorskip("peft")
    m, batches = golden_model("hf-text"), [batch_of(golden_model("hf-text"), seed=seed) for seed in range(3)]
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=list(TARGETS[targets]))
    torch.manual_seed(5)
    wrapped = peft.get_peft_model(theirs, config)
    generator = torch.Generator().manual_seed(5)
    adapted = AdaptedLM(copy_of(m), m.config, rank=4, alpha=8.0, targets=targets, generator=generator)
    own = adapted.parameters()
    named = {n.replace(".default", ""): p for n, p in wrapped.named_parameters() if p.requires_grad}
    assert own.keys() == named.keys() and all(torch.equal(own[name], named[name]) for name in own)
    steps = [torch.optim.AdamW(each.values(), lr=1e-2, weight_decay=0.0) for each in (own, named)]
    for batch in batches:
        losses = [codebook_losses(adapted.lm, m.config, batch, CPU).mean(), transformers_loss(wrapped, m, batch)]
        assert losses[0].item() == pytest.approx(losses[1].item(), abs=1e-5)
        for loss, optimizer in zip(losses, steps, strict=True):
            optimizer.zero_grad()
            loss.backward()
        # Where a gradient is next to nothing, AdamW turns its rounding into a whole step.
        for name in own:
            assert torch.allclose(own[name].grad, named[name].grad, atol=1e-5), name
            own[name].grad.copy_(named[name].grad)
        for optimizer in steps:
            optimizer.step()
    assert all(torch.allclose(own[name], named[name], atol=1e-6) for name in own)


def test_a_caption_that_is_left_out_is_the_null_condition():
    m = golden_model("hf-text")
    batch = batch_of(m)
    alone = Batch(batch.codes, batch.text, (), torch.tensor([False, True]), batch.no_melody)
    second = Batch(batch.codes[1:], m.text_encoder.encode([None]), (), torch.tensor([True]), batch.no_melody[1:])
    first = Batch(batch.codes[:1], m.text_encoder.encode([PROMPTS[0]]), (), torch.tensor([False]), batch.no_melody[:1])
    losses = [codebook_losses(m.lm, m.config, each, CPU) for each in (alone, first, second)]
    assert torch.allclose(losses[0], (losses[1] + losses[2]) / 2, atol=1e-5)


@pytest.mark.parametrize(("no_text", "no_melody"), [(False, False), (True, False), (False, True), (True, True)])
def test_the_logits_of_a_melody_model_are_those_that_sampling_decodes_by(no_text, no_melody):
    """The slow decoder of sampling gives the first token; its likelihood must be what the loss says."""
    from musicgen.conditioning.fuser import fuse
    from musicgen.conditioning.melody import MelodyLead, RecordedMelody

    m = golden_model("hf-melody")
    batch = batch_of(m)
    flags = [torch.tensor([value, False]) for value in (no_text, no_melody)]
    mixed = Batch(batch.codes, batch.text, batch.chromas, *flags)
    loss = codebook_losses(m.lm, m.config, mixed, CPU)
    # Each piece alone, its conditions fused as guidance fuses them: the piece's text decides the length of the null.
    total = torch.zeros(m.config.num_codebooks)
    pattern = trained_pattern(20, m.config.delays)
    for row in range(2):
        sequence = pattern.build_sequence(batch.codes[row : row + 1], m.config.lm.special_token_id)
        lead = MelodyLead(m.config.chroma, RecordedMelody(batch.chromas[row], torch.zeros(1), m.config.chroma))
        left_out = bool(flags[0][row]), bool(flags[1][row])
        text = batch.text.select([row])
        fused = fuse(m.lm, [text, None if left_out[0] else text], 1, CPU, led=[True, not left_out[1]], leads=[lead])
        prefix = fused.prefix[1:]
        hidden = torch.cat([prefix, m.lm.embed(sequence[:, :, :-1])], dim=1)
        positions = torch.arange(hidden.shape[1])
        logits = m.lm(hidden, positions, sequence.shape[2] - 1)
        likelihood = logits.log_softmax(-1).gather(3, sequence[:, :, 1:, None].clamp_max(m.config.card - 1))[0, ..., 0]
        mask = pattern.mask[:, 1:]
        total -= (likelihood * mask).sum(1) / mask.sum(1) / 2
    assert torch.allclose(loss, total, atol=1e-5)
