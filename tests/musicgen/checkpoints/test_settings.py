"""Each setting of a checkpoint is read, refused by name, of no matter, or reported in the log."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from musicgen import GenerationParams, load_model, save_checkpoint
from musicgen.checkpoints.files.settings import Fields
from musicgen.checkpoints.layouts import audiocraft, huggingface
from musicgen.checkpoints.layouts.audiocraft_file import read_solver_file
from musicgen.checkpoints.loading import open_checkpoint
from musicgen.checkpoints.parts.codec import config_of_audiocraft
from musicgen.checkpoints.parts.mert import open_mert
from musicgen.checkpoints.parts.style import style_config
from musicgen.checkpoints.tables import CODEC, FEATURES, GENERAL, LM, MERT, MODEL, Table
from musicgen.checkpoints.tables.page import page
from musicgen.conditioning.melody import chroma_of, null_chroma
from musicgen.decoding.engine import FullDecoder
from musicgen.lm.cpu_team import Team
from tests.conftest import GOLDEN, ROOT
from tests.musicgen.checkpoints.test_audiocraft import edit, set_setting
from tests.musicgen.lm.test_cpu_step import WHERE_COMPILED, columns_of, conditions_of, logits_along
from tests.tiny import write_mert
from tests.tiny_models import char_tokenizer, tiny_config

CHECKPOINTS = GOLDEN / "checkpoints"
CODEC_FILE = "compression_state_dict.bin"
PARAMS = GenerationParams(duration=0.4, use_sampling=False)
TEXTS = ["a calm piano melody", "rock"]
CLASSES = {
    "MusicgenConfig": MODEL,
    "MusicgenMelodyConfig": MODEL,
    "MusicgenDecoderConfig": MODEL.tables["decoder"],
    "MusicgenMelodyDecoderConfig": MODEL.tables["decoder"],
    "EncodecConfig": MODEL.tables["audio_encoder"],
    "T5Config": MODEL.tables["text_encoder"],
    "HubertConfig": MERT,
    "Wav2Vec2Config": MERT,
}


def settings_of(name: str, file: str = "state_dict.bin") -> dict[str, Any]:
    return copy.deepcopy(dict(read_solver_file(CHECKPOINTS / name / file).settings))


def parts_of(table: Table, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Table]]:
    """A table and the tables within it, by the names that lead there."""
    yield path, table
    for name, inner in table.tables.items():
        yield from parts_of(inner, (*path, name))


def put(settings: dict[str, Any], table: Table, path: tuple[str, ...], name: str, value: Any) -> None:
    """Set a setting; the tables on the way are made, and chosen where only one of them counts."""
    for part in path:
        if table.chosen_by is not None:
            settings[table.chosen_by] = part
        settings[part] = dict(settings.get(part) or {})
        settings, table = settings[part], table.tables[part]
    settings[name] = value


def required() -> list[Any]:
    formats = {"model": MODEL, "lm": LM, "codec": CODEC, "features": FEATURES, "mert": MERT}
    found = [
        pytest.param(root, path, name, id=".".join([key, *path, name]))
        for key, root in formats.items()
        for path, table in parts_of(root)
        for name in table.only
    ]
    return [*found, *(pytest.param(MODEL, ("decoder",), name, id=name) for name in GENERAL.only)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_key_of_the_configurations_of_transformers_is_on_a_list(kind):
    """A new one fails here, and not in a user's model: find out what it does, then read, refuse or list it."""
    config = getattr(transformers, kind)
    known = {"audio_encoder": transformers.EncodecConfig(), "text_encoder": transformers.T5Config()}
    if kind in ("MusicgenConfig", "MusicgenMelodyConfig"):
        decoder = getattr(transformers, kind.replace("Config", "DecoderConfig"))()
        config = config(**known, decoder=decoder)
    else:
        config = config()
    names = {name for name in (*config.to_dict(), *vars(config)) if not name.startswith("_")}
    assert not names - CLASSES[kind].known()
    melody = transformers.MusicgenMelodyFeatureExtractor().to_dict()
    assert not melody.keys() - FEATURES.known()


@pytest.mark.parametrize("table", [MODEL, LM, CODEC, FEATURES, MERT, GENERAL], ids=lambda table: table.name)
def test_a_setting_is_on_one_list_alone(table):
    for path, part in parts_of(table):
        lists = [part.read, tuple(part.only), *part.unused.values(), tuple(part.tables)]
        names = [name for names in lists for name in names]
        assert len(names) == len(set(names)), path


@pytest.mark.parametrize(("root", "path", "name"), required())
def test_a_setting_with_a_value_that_is_not_implemented_is_refused_by_its_name(root, path, name):
    settings: dict[str, Any] = {}
    put(settings, root, path, name, "strange")
    with pytest.raises(ValueError, match=rf": {name} is 'strange', which is not implemented; allowed is "):
        root.require(Fields(settings, "config"))


def test_the_files_that_are_known_have_no_unknown_setting(style_folder, tmp_path):
    folders = [path for path in CHECKPOINTS.iterdir() if path.name.startswith(("hf", "audiocraft"))]
    for folder in [*folders, *(ROOT / "models").iterdir(), style_folder]:
        if folder.name != "audiocraft-style" or folder == style_folder:
            assert open_checkpoint(folder).unknown == (), folder
    write_mert(tmp_path / "MERT")
    assert open_mert(tmp_path / "MERT").unknown == ()


@pytest.mark.parametrize(
    ("layout", "file", "name"),
    [
        ("audiocraft-text", "state_dict.bin", "transformer_lm.rotary_fraction"),
        ("audiocraft-text", "state_dict.bin", "codebooks_pattern.delay.rotary_fraction"),
        ("audiocraft-text", "state_dict.bin", "fuser.rotary_fraction"),
        ("audiocraft-text", "state_dict.bin", "conditioners.description.t5.rotary_fraction"),
        ("audiocraft-melody", "state_dict.bin", "conditioners.self_wav.chroma_stem.rotary_fraction"),
        ("audiocraft-text", CODEC_FILE, "encodec.rotary_fraction"),
        ("audiocraft-text", CODEC_FILE, "seanet.rotary_fraction"),
        ("audiocraft-text", CODEC_FILE, "seanet.encoder.rotary_fraction"),
        ("audiocraft-text", CODEC_FILE, "seanet.decoder.rotary_fraction"),
        ("audiocraft-text", CODEC_FILE, "rvq.rotary_fraction"),
        ("audiocraft-text", "t5-base/config.json", "rotary_fraction"),
        ("hf-text", "config.json", "rotary_fraction"),
        ("hf-text", "config.json", "decoder.rotary_fraction"),
        ("hf-text", "config.json", "audio_encoder.rotary_fraction"),
        ("hf-text", "config.json", "text_encoder.rotary_fraction"),
    ],
)
def test_a_setting_on_no_list_is_told_once_by_its_name_and_value(layout, file, name, checkpoint_copy, caplog):
    folder = checkpoint_copy(layout)
    if file.endswith(".json"):
        table = json.loads((folder / file).read_text(encoding="utf-8"))
        set_setting(table, name, 0.5)
        (folder / file).write_text(json.dumps(table), encoding="utf-8")
    else:
        edit(folder, lambda _, settings: set_setting(settings, name, 0.5), file)
    load_model(folder)
    told = [record.getMessage() for record in caplog.records if "rotary_fraction" in record.getMessage()]
    assert len(told) == 1 and "rotary_fraction is 0.5, a setting that this version does not know" in told[0]


@pytest.mark.parametrize("root", [MODEL, LM, CODEC, MERT], ids=lambda table: table.name)
def test_an_unused_setting_is_let_through_whatever_it_is(root):
    for path, table in parts_of(root):
        for names in table.unused.values():
            for name in names:
                settings: dict[str, Any] = {}
                put(settings, root, path, name, "strange")
                root.require(Fields(settings, "config"))
                assert root.unknown(Fields(settings, "config")) == (), (path, name)


class Watched(dict):
    """A table that notes which settings are looked up."""

    def __init__(self, values: Mapping[str, Any], seen: set[tuple[str, ...]], path: tuple[str, ...] = ()) -> None:
        super().__init__(
            {
                name: Watched(value, seen, (*path, name)) if value and isinstance(value, dict) else value
                for name, value in values.items()
            }
        )
        self.seen, self.path = seen, path

    def get(self, name: str, default: Any = None) -> Any:
        self.seen.add((*self.path, name))
        return super().get(name, default)


def looked_up(kind: str, folder: Path) -> tuple[set[tuple[str, ...]], dict[str, Any], Table]:
    """The settings that are looked up where a model is opened, all settings, and their table."""
    seen: set[tuple[str, ...]] = set()
    if kind == "codec":
        settings = settings_of("audiocraft-text", CODEC_FILE)
        config_of_audiocraft(Fields(Watched(settings, seen), "xp.cfg"))
        return seen, settings, CODEC
    settings = settings_of(f"audiocraft-{kind}")
    solver = read_solver_file(folder / "state_dict.bin")
    root = Fields(Watched(settings, seen), "xp.cfg")
    LM.require(root)
    audiocraft.lm_config(root, solver.stored.shapes())
    audiocraft._audio_channels(root)
    audiocraft._pattern(root, 4)
    audiocraft._text_encoder_name(root)
    audiocraft._window(root)
    if kind == "melody":
        audiocraft._chroma_config(root, 32000)
    if kind == "style":
        style_config(audiocraft._conditioner(root, "self_wav")[1], solver.stored, 32000)
    return seen, settings, LM


@pytest.mark.parametrize("kind", ["text", "melody", "style", "codec"])
def test_every_setting_on_the_list_of_the_read_ones_is_looked_up(kind):
    seen, settings, root = looked_up(kind, CHECKPOINTS / f"audiocraft-{'text' if kind == 'codec' else kind}")
    apart = {"solver", "compression_model_checkpoint", "compression_model_n_q", "sample_rate", "q_modeling"}
    for path, table in parts_of(root):
        values: Any = settings
        for name in path:
            values = values.get(name) if isinstance(values, dict) else None
        # The two sides of a codec are compared as wholes.
        if isinstance(values, dict) and path[:1] not in (("seanet",),) and "encodec_n_q" not in values:
            unread = {name for name in table.read if name in values and (*path, name) not in seen}
            chosen = path[:1] != ("codebooks_pattern",) or path[1:] in ((), ("delay",))
            assert not unread - apart or not chosen, (path, unread)


def test_the_page_of_the_documentation_is_made_of_the_tables():
    assert (ROOT / "docs" / "formats.md").read_text(encoding="utf-8") == page(), "its first line says how to write it"


# Settings that are honoured


@pytest.fixture(scope="module")
def shifted(tmp_path_factory) -> Path:
    """A text model whose positions have another period and another scale."""
    folder = Path(shutil.copytree(CHECKPOINTS / "audiocraft-text", tmp_path_factory.mktemp("shifted") / "mine"))
    edit(folder, lambda _, settings: settings["transformer_lm"].update(max_period=500, positional_scale=0.5))
    return folder


def test_period_and_scale_of_the_positions_are_those_of_the_settings(shifted, tmp_path):
    m = load_model(shifted)
    seen = []
    m.lm.transformer.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    places = torch.arange(40)
    m.lm.transformer(torch.zeros(1, 40, 48), places)
    angle = places[:, None].double() * 500.0 ** (-torch.arange(24, dtype=torch.float64) / 23)
    torch.testing.assert_close(seen[0][0].double(), 0.5 * torch.cat([angle.cos(), angle.sin()], -1), atol=1e-5, rtol=0)
    save_checkpoint(m, tmp_path / "one.safetensors")
    again = load_model(tmp_path / "one.safetensors")
    assert again.config.lm == m.config.lm and (m.config.lm.max_period, m.config.lm.positional_scale) == (500, 0.5)
    assert torch.equal(again.generate(["calm"], PARAMS), m.generate(["calm"], PARAMS))


def test_positions_act_with_a_cache_and_without(shifted):
    m, plain = load_model(shifted), load_model(CHECKPOINTS / "audiocraft-text")
    sequence = columns_of(m, 2, 24)
    ordinary = logits_along(m, TEXTS, sequence)
    with torch.no_grad():
        full = FullDecoder(m.lm, conditions_of(m, TEXTS), torch.device("cpu"))
        slow = torch.stack([full.next_logits(sequence, s) for s in range(1, 25)])
    torch.testing.assert_close(ordinary, slow, atol=3e-5, rtol=0)
    assert float((ordinary - logits_along(plain, TEXTS, sequence)).abs().max()) > 0.1


@WHERE_COMPILED
def test_positions_act_in_compiled_steps(shifted, monkeypatch):
    monkeypatch.setenv("MUSICGEN_COMPILED", "1")
    m = load_model(shifted)
    sequence = columns_of(m, 2, 24)
    with Team(2) as team:
        compiled = logits_along(m, TEXTS, sequence, team=team)
    torch.testing.assert_close(compiled, logits_along(m, TEXTS, sequence), atol=3e-5, rtol=0)


@pytest.mark.parametrize("scale", [0, -1.0])
def test_positions_may_be_turned_off_or_around(scale, checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")
    edit(folder, lambda _, settings: settings["transformer_lm"].update(positional_scale=scale))
    assert load_model(folder).config.lm.positional_scale == scale


CHROMA = [
    {"winlen": 8192},
    {"winhop": 1024},
    {"nfft": 32768},
    {"radix2_exp": 12, "nfft": 8192, "winhop": 1000},
    {"argmax": False},
    {"argmax": False, "norm": 2, "winlen": 5000, "nfft": 6000, "winhop": 1500},
]


@pytest.mark.parametrize("changes", CHROMA, ids=str)
def test_a_chroma_is_computed_by_its_settings(changes, checkpoint_copy, sweep, tmp_path):
    """The definition: a power spectrogram, folded onto pitch classes, each frame divided by its norm."""
    from musicgen.conditioning.melody import chroma_filter_bank

    folder = checkpoint_copy("audiocraft-melody")
    edit(folder, lambda _, settings: settings["conditioners"]["self_wav"]["chroma_stem"].update(changes))
    m = load_model(folder)
    config, wave = m.config.chroma, sweep[0, 0]
    winlen = changes.get("winlen") or 2 ** changes.get("radix2_exp", 14)
    n_fft, hop = changes.get("nfft") or winlen, changes.get("winhop") or winlen // 4
    window = torch.hann_window(winlen)
    spectrum = torch.stft(wave, n_fft, hop, winlen, window, center=True, pad_mode="reflect", return_complex=True)
    raw = chroma_filter_bank(replace(config, n_fft=n_fft)) @ (spectrum.abs() ** 2 / window.pow(2).sum())
    wanted = torch.nn.functional.normalize(raw, p=changes.get("norm", math.inf), dim=0, eps=1e-6).T
    if changes.get("argmax", True):
        wanted = torch.nn.functional.one_hot(wanted.argmax(1), 12).float()
    torch.testing.assert_close(chroma_of(wave, config), wanted, atol=1e-5, rtol=1e-5)
    silence = chroma_of(torch.zeros(30 * 32000), config)
    assert torch.equal(null_chroma(config), silence) and len(silence) == config.chroma_length
    save_checkpoint(m, tmp_path / "one.safetensors")
    again = load_model(tmp_path / "one.safetensors")
    assert again.config.chroma == config
    codes = [one.generate(["calm"], PARAMS, melody=sweep[0]) for one in (m, again)]
    assert torch.equal(*codes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"winlen": 8192, "nfft": 4096}, "nfft is 4096 and winlen 8192; allowed is an nfft from winlen on"),
        ({"norm": -1}, "norm is -1; allowed is a number above 0"),
        ({"n_chroma": 24}, "n_chroma is 24, which is not implemented"),
    ],
)
def test_a_chroma_that_cannot_be_computed_is_refused(changes, words, checkpoint_copy):
    folder = checkpoint_copy("audiocraft-melody")
    edit(folder, lambda _, settings: settings["conditioners"]["self_wav"]["chroma_stem"].update(changes))
    with pytest.raises(ValueError, match=words):
        load_model(folder)


def test_a_melody_model_exactly_as_wide_as_its_chroma_has_no_projection_and_loads(tmp_path, sweep):
    """transformers leaves the projection out; the golden melody model of that width is made by it."""
    tokenizer = char_tokenizer()
    config = tiny_config(True, len(tokenizer))
    config.decoder.hidden_size, config.decoder.num_attention_heads, config.decoder.ffn_dim = 12, 2, 48
    with torch.random.fork_rng():
        torch.manual_seed(5)
        theirs = transformers.MusicgenMelodyForConditionalGeneration(config).eval()
    assert not hasattr(theirs, "audio_enc_to_dec_proj")
    theirs.save_pretrained(tmp_path / "narrow")
    tokenizer.save_pretrained(tmp_path / "narrow")
    m = load_model(tmp_path / "narrow")
    assert m.config.lm.chroma_dim == 12 and not m.config.lm.chroma_projection
    chroma = torch.eye(12)[None]
    assert torch.equal(m.lm.project_melody(chroma), chroma)
    codes = m.generate(["calm"], PARAMS, melody=sweep[0])
    save_checkpoint(m, tmp_path / "one.safetensors")
    again = load_model(tmp_path / "one.safetensors")
    assert again.config.lm == m.config.lm and torch.equal(again.generate(["calm"], PARAMS, melody=sweep[0]), codes)


def test_encoder_and_decoder_of_a_codec_may_both_repeat_a_setting_but_not_differ(checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")
    sides = {"encoder": {"n_filters": 4}, "decoder": {"n_filters": 4, "trim_right_ratio": 1.0}}
    edit(folder, lambda _, settings: settings["seanet"].update(sides, n_filters=8), CODEC_FILE)
    assert load_model(folder).config.codec.n_filters == 4
    edit(folder, lambda _, settings: settings["seanet"].update(n_filters=4), CODEC_FILE)
    for side in sides:
        edit(folder, lambda _, settings, side=side: settings["seanet"].update({side: {"kernel_size": 5}}), CODEC_FILE)
        with pytest.raises(ValueError, match=r"kernel_size is \d in the encoder and \d in the decoder"):
            load_model(folder)
        edit(folder, lambda _, settings: settings["seanet"].update(encoder={}, decoder={}), CODEC_FILE)


def test_convolutions_without_weight_norm_at_the_ends_of_a_codec_are_told_by_their_tensors(checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")

    def unnormalise(tensors, settings):
        settings["seanet"]["disable_norm_outer_blocks"] = 1
        name = "encoder.model.0.conv.conv.weight"
        tensors[name] = torch._weight_norm(tensors.pop(f"{name}_v"), tensors.pop(f"{name}_g"), 0)

    wanted = load_model(folder)
    edit(folder, unnormalise, CODEC_FILE)
    found, sound = load_model(folder), torch.sin(torch.arange(6400) / 9)[None, None]
    assert torch.equal(found.encode(sound, 32000), wanted.encode(sound, 32000))


@pytest.mark.parametrize("name", ["pad_token_id", "bos_token_id", "decoder_start_token_id", "eos_token_id"])
def test_another_special_token_than_the_one_behind_the_codes_is_refused(name, checkpoint_copy):
    folder = checkpoint_copy("hf-text")
    table = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    table["decoder"][name] = 7
    (folder / "config.json").write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(ValueError, match=f"{name} is 7, which is not implemented; allowed is 64"):
        huggingface.read_config(folder)


def test_the_pattern_may_have_its_older_name_and_place(checkpoint_copy):
    folder = checkpoint_copy("audiocraft-text")

    def older(_, settings):
        settings["codebooks_pattern"] = {"modeling": None}
        settings["transformer_lm"]["q_modeling"] = "delay"

    edit(folder, older)
    assert load_model(folder).config.delays == (0, 1, 2, 3)
    edit(folder, lambda _, settings: settings.update(codebooks_pattern={"modeling": "musiclm"}))
    assert load_model(folder).config.pattern.kind == "music_lm"


def test_numbers_of_a_style_that_contradict_its_tensors_are_refused(tmp_path, style_folder):
    folder = Path(shutil.copytree(style_folder, tmp_path / "mine"))
    edit(folder, lambda _, settings: settings["conditioners"]["self_wav"]["style"].update(n_q_out=5))
    with pytest.raises(ValueError, match="n_q_out is 5, but the tensors are those of 6"):
        open_checkpoint(folder)
