"""The models that listen beside transformers' own classes and beside the formulas of their publishers."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from musicgen.checkpoints.files.tensors import TensorRecord
from musicgen.evaluation.embedders.clap import Clap, ClapOpening
from musicgen.evaluation.embedders.encodec import EncodecCodes, EncodecStates
from musicgen.evaluation.embedders.laion import config_of, renamed
from musicgen.evaluation.embedders.mert import MertStates
from musicgen.evaluation.embedders.tags import TagClassifier
from musicgen.evaluation.embedders.vggish import Vggish, VggishNetwork, mel_matrix, patches
from tests.conftest import golden_json
from tests.musicgen.evaluation.small import laion_state, noise, write_clap, write_classifier, write_small_mert

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def clap(tmp_path_factory):
    """A small CLAP's folder and transformers' own model."""
    folder = tmp_path_factory.mktemp("clap")
    return folder, write_clap(folder)


def laion_audio(model, folder: Path, waves: list[torch.Tensor]) -> torch.Tensor:
    """Unit embeddings of waves at 48 kHz by transformers, after LAION's rounding to 16 bits."""
    extractor = transformers.ClapFeatureExtractor.from_pretrained(folder)
    rounded = [((np.clip(w.numpy(), -1, 1) * 32767.0).astype(np.int16) / 32767.0).astype(np.float32) for w in waves]
    found = model.get_audio_features(**extractor(rounded, sampling_rate=48000, return_tensors="pt"))
    return F.normalize(found if isinstance(found, torch.Tensor) else found.pooler_output, dim=-1)


def test_clap_embeds_as_transformers_does_after_laions_rounding(clap):
    folder, model = clap
    waves = [noise(480000), 12 * noise(100000, seed=1)]
    ours = Clap(folder)
    expected = laion_audio(model, folder, waves)
    torch.testing.assert_close(
        torch.cat([ours.embed_audio(wave[None], 48000) for wave in waves]), expected, rtol=0, atol=1e-6
    )
    torch.testing.assert_close(ClapOpening(ours).listen(waves[0]), expected[:1], rtol=0, atol=1e-6)


def test_windows_of_clap_begin_at_every_hop_and_end_in_silence(clap):
    folder, model = clap
    wave = noise(48000 * 12, seed=2)
    rows = Clap(folder, hop=5.0).listen(wave)
    windows = [F.pad(part, (0, 480000 - len(part))) for part in (wave[:480000], wave[240000:], wave[480000:])]
    torch.testing.assert_close(rows, laion_audio(model, folder, windows), rtol=0, atol=1e-6)
    assert Clap(folder).fingerprint != Clap(folder, hop=5.0).fingerprint


def test_the_clap_score_is_audiocrafts_cosine(clap):
    folder, model = clap
    texts = ["a flute and drums", "x" * 200]
    ours = Clap(folder)
    score = ours.score(noise(2, 160000), 16000, texts)
    tokens = ours._tokenizer(texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt")
    words = model.get_text_features(**tokens)
    words = words if isinstance(words, torch.Tensor) else words.pooler_output
    expected = F.cosine_similarity(ours.embed_audio(noise(2, 160000), 16000), words, dim=1, eps=1e-8)
    torch.testing.assert_close(score, expected, rtol=0, atol=1e-6)


def test_laions_file_gives_the_embeddings_of_transformers_layout(clap, tmp_path):
    folder, model = clap
    torch.save({"epoch": 15, "state_dict": laion_state(model), "name": "x"}, tmp_path / "music.pt")
    for file in folder.glob("tokenizer*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    theirs, ours = Clap(folder), Clap(tmp_path)
    wave = noise(1, 480000)
    torch.testing.assert_close(ours.embed_audio(wave, 48000), theirs.embed_audio(wave, 48000), rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.embed_text(["a flute"]), theirs.embed_text(["a flute"]), rtol=0, atol=1e-6)


def test_the_names_of_laions_music_checkpoint_become_those_of_transformers():
    """The names and shapes are of laion_clap 1.1.7 with HTSAT-base, the published music checkpoint's architecture."""
    keys = golden_json("real_keys/laion_clap_htsat_base.json")
    records = {
        name.removeprefix("module."): TensorRecord(None, 0, torch.float32, tuple(shape)) for name, shape in keys.items()
    }
    ours = renamed(records)
    config = transformers.ClapConfig(**config_of(ours))
    assert (config.audio_config.hidden_size, config.audio_config.depths) == (1024, [2, 2, 12, 2])
    with torch.device("meta"):
        model = transformers.ClapModel(config)
    left = ("position_ids", "token_type_ids", "relative_position_index", "num_batches_tracked")
    wanted = {name: tuple(t.shape) for name, t in model.state_dict().items() if not name.endswith(left)}
    assert {name: record.shape for name, record in ours.items()} == wanted


class _Deed:
    """A pickle that would write a file when it is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (lambda path: {"state_dict": {"audio_branch.x": _Deed(path / "deed")}}, "not a tensor"),
        (lambda path: {"state_dict": {"audio_branch.patch_embed.fusion_model.w": torch.zeros(1)}}, "fuses parts"),
        (lambda path: {"state_dict": {"w": torch.zeros(1)}}, "no CLAP model with an HTSAT"),
        (lambda path: [1, 2], "no dictionary of tensors"),
    ],
)
def test_another_file_than_laions_is_refused_and_none_is_run(contents, words, tmp_path):
    torch.save(contents(tmp_path), tmp_path / "music.pt")
    with pytest.raises(ValueError, match=words):
        Clap(tmp_path)
    assert not (tmp_path / "deed").exists()
    (tmp_path / "music.pt").write_bytes(pickle.dumps(_Deed(tmp_path / "deed")))
    with pytest.raises(ValueError):
        Clap(tmp_path)
    assert not (tmp_path / "deed").exists()


def test_a_folder_without_weights_or_tokenizer_is_named(clap, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no config.json and 0 .pt"):
        Clap(tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Clap(tmp_path / "missing")
    torch.save(laion_state(clap[1]), tmp_path / "music.pt")
    with pytest.raises(FileNotFoundError, match="tokenizer.json"):
        Clap(tmp_path / "music.pt").embed_text(["x"])


@pytest.mark.parametrize("normalise", [True, False])
def test_mert_returns_the_last_states_of_transformers_hubert(normalise, tmp_path):
    model = write_small_mert(tmp_path / "mert", normalise)
    wave = 3 * noise(24000, seed=3) + 0.2
    heard = (wave - wave.mean()) / torch.sqrt(wave.var(correction=0) + 1e-7) if normalise else wave
    expected = model(heard[None]).last_hidden_state[0]
    ours = MertStates(tmp_path / "mert")
    torch.testing.assert_close(ours.listen(wave), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="at least 400"):
        ours.listen(wave[:100])


def test_mert_without_its_preprocessor_says_which_file_is_missing(tmp_path):
    write_small_mert(tmp_path / "mert", True)
    (tmp_path / "mert" / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="preprocessor_config.json"):
        MertStates(tmp_path / "mert")


def test_vggishs_patches_are_audiosets_by_kaldis_mel_bands_and_numpy():
    from torchaudio.compliance import kaldi

    # Kaldi's triangles are linear in mel too; it leaves the last bin out.
    banks, _ = kaldi.get_mel_banks(64, 512, 16000.0, 125.0, 7500.0, 100.0, -500.0, 1.0)
    torch.testing.assert_close(mel_matrix()[:256].t().float(), banks.float(), rtol=0, atol=1e-4)
    wave = noise(16000 * 3, seed=4).double().numpy()
    window = 0.5 - 0.5 * np.cos(2 * np.pi / 400 * np.arange(400))
    frames = np.stack([wave[start : start + 400] * window for start in range(0, len(wave) - 399, 160)])
    levels = np.log(np.abs(np.fft.rfft(frames, 512)) @ mel_matrix().numpy() + 0.01)
    expected = np.stack([levels[first : first + 96] for first in range(0, len(levels) - 95, 96)])
    found = patches(torch.from_numpy(wave))
    assert found.shape == (3, 96, 64)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5)


def test_vggish_reads_the_published_names_and_lays_channels_last(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(5)
        network = VggishNetwork().eval().requires_grad_(False)
    torch.save(network.state_dict(), tmp_path / "vggish-10086976.pth")
    ours, wave = Vggish(tmp_path), noise(16000 * 2, seed=6)
    planes = network.features(patches(wave)[:, None])
    # torchvggish's own order of steps: transpose 1 and 3, then 1 and 2.
    rows = planes.transpose(1, 3).transpose(1, 2).contiguous().view(len(planes), -1)
    torch.testing.assert_close(ours.listen(wave), network.embeddings(rows))
    assert ours.listen(wave[:8000]).shape == (1, 128)
    names = {"features": (0, 3, 6, 8, 11, 13), "embeddings": (0, 2, 4)}
    expected = {f"{part}.{at}.{kind}" for part, places in names.items() for at in places for kind in ("weight", "bias")}
    assert set(network.state_dict()) == expected
    torch.save({"features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "vggish-10086976.pth")
    with pytest.raises(ValueError, match="missing tensors"):
        Vggish(tmp_path)


def test_tags_are_the_softmax_of_transformers_logits_piece_by_piece(tmp_path):
    model = write_classifier(tmp_path)
    wave = noise(16000 * 11, seed=7)
    extractor = transformers.ASTFeatureExtractor.from_pretrained(tmp_path)
    pieces = [wave[:160000].numpy(), wave[160000:].numpy()]
    logits = [model(**extractor(piece, sampling_rate=16000, return_tensors="pt")).logits[0] for piece in pieces]
    ours = TagClassifier(tmp_path)
    torch.testing.assert_close(ours.listen(wave), torch.stack(logits).softmax(dim=-1), rtol=0, atol=1e-6)
    assert len(ours.listen(wave[: 160000 + 2400])) == 1  # 0.15 s more are left out
    (tmp_path / "preprocessor_config.json").unlink()
    with pytest.raises(FileNotFoundError, match="preprocessor_config.json"):
        TagClassifier(tmp_path)


def test_encodecs_states_are_its_encoders_and_quantise_to_its_codes(model):
    codec = model("hf-text").codec
    wave = noise(40000, seed=8)
    states = EncodecStates(codec).listen(wave)
    with torch.no_grad():
        expected = codec.model.encoder(wave[None, None])
    torch.testing.assert_close(states, expected[0].t(), rtol=0, atol=1e-5)
    codes = EncodecCodes(codec).listen(wave)
    assert torch.equal(codes.long(), codec.model.quantize(states.t()[None])[0].t())
    assert codes.dtype == torch.int16
