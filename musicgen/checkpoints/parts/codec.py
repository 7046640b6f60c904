"""The EnCodec of a checkpoint: its numbers and its names in either layout, and where to find one that lies apart."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...config import CodecConfig
from ..checkpoint import Part
from ..files.regular import is_there
from ..files.settings import Fields, is_number, read_json, shown
from ..files.tensors import Recipe, StoredTensors
from ..files.weights import has_weights, read_weights
from ..layouts.audiocraft_file import SolverFile, read_solver_file
from ..tables import audiocraft, transformers
from .search import cached_folder, folders_in, named_first

CONFIG_FILE = "config.json"
COMPRESSION_FILE = "compression_state_dict.bin"
_IN_MUSICGEN = "audio_encoder."
_PAD_MODES = ("reflect", "constant", "replicate")
_TRAINING = re.compile(r"(inited|cluster_size|embed_avg)$")
_CODEBOOK = re.compile(r"quantizer\.(?:vq\.)?layers\.(\d+)\.")


@dataclass(frozen=True)
class CodecFiles:
    """A codec on disk: its numbers, its tensors, and its settings that are not known here."""

    where: Path
    config: CodecConfig
    part: Part
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class CodecNeeds:
    """The numbers that a language model needs its codec to have."""

    sample_rate: int
    num_codebooks: int
    card: int

    def check(self, codec: CodecFiles) -> None:
        """Raise ValueError if the codec is another."""
        theirs = codec.config
        if (theirs.sample_rate, theirs.card) != (self.sample_rate, self.card) or (
            theirs.num_codebooks < self.num_codebooks
        ):
            raise ValueError(
                f"the codec in {codec.where} has {theirs.num_codebooks} x {theirs.card} codes at "
                f"{theirs.sample_rate} Hz; the model needs {self.num_codebooks} x {self.card} at {self.sample_rate} Hz."
            )


def config_of_transformers(fields: Fields) -> CodecConfig:
    """The codec that transformers' EncodecConfig describes."""
    transformers.ENCODEC.require(fields)
    ratios = fields.integers("upsampling_ratios")
    bandwidths = fields.get("target_bandwidths")
    if not isinstance(bandwidths, list) or not bandwidths or not all(is_number(b) and b > 0 for b in bandwidths):
        raise ValueError(f"{fields.where}: target_bandwidths is {shown(bandwidths)}; allowed is a list of numbers.")
    fields.require("codebook_dim", fields.integer("hidden_size"))
    sample_rate, card = fields.integer("sampling_rate"), fields.integer("codebook_size")
    if card < 2:
        raise ValueError(f"{fields.where}: codebook_size is {card}; allowed is a whole number from 2 on.")
    frame_rate = math.ceil(sample_rate / math.prod(ratios))
    num_codebooks = min(1000 * bandwidths[-1] / (frame_rate * math.ceil(math.log2(card))), 1e6)
    return CodecConfig(
        sample_rate=sample_rate,
        channels=1,
        dimension=fields.integer("hidden_size"),
        n_filters=fields.integer("num_filters"),
        n_residual_layers=fields.count("num_residual_layers"),
        ratios=ratios,
        kernel_size=fields.integer("kernel_size"),
        last_kernel_size=fields.integer("last_kernel_size"),
        residual_kernel_size=fields.integer("residual_kernel_size"),
        dilation_base=fields.integer("dilation_growth_rate"),
        compress=fields.integer("compress"),
        lstm=fields.count("num_lstm_layers"),
        causal=fields.flag("use_causal_conv"),
        pad_mode=fields.choice("pad_mode", _PAD_MODES, "reflect"),
        true_skip=not fields.flag("use_conv_shortcut"),
        trim_right_ratio=fields.number("trim_right_ratio"),
        num_codebooks=math.floor(num_codebooks),
        card=card,
    )


def config_of_audiocraft(root: Fields) -> CodecConfig:
    """The codec that the settings of an audiocraft compression model describe."""
    root.choice("compression_model", ("encodec",), "encodec")
    audiocraft.CODEC.require(root)
    model, net, rvq = root.part("encodec"), _both_sides(root.part("seanet")), root.part("rvq")
    return CodecConfig(
        sample_rate=model.integer("sample_rate", root.integer("sample_rate")),
        channels=1,
        dimension=net.integer("dimension"),
        n_filters=net.integer("n_filters"),
        n_residual_layers=net.count("n_residual_layers"),
        ratios=net.integers("ratios"),
        kernel_size=net.integer("kernel_size"),
        last_kernel_size=net.integer("last_kernel_size"),
        residual_kernel_size=net.integer("residual_kernel_size"),
        dilation_base=net.integer("dilation_base"),
        compress=net.integer("compress"),
        lstm=net.count("lstm"),
        causal=net.flag("causal", False),
        pad_mode=net.choice("pad_mode", _PAD_MODES, "reflect"),
        true_skip=net.flag("true_skip"),
        trim_right_ratio=root.part("seanet").part("decoder", {}).number("trim_right_ratio", 1.0),
        num_codebooks=rvq.count("n_q"),
        card=rvq.integer("bins"),
    )


def _both_sides(net: Fields) -> Fields:
    """The settings that encoder and decoder share: either may set one anew. Raises ValueError where they differ."""
    encoder, decoder = ({**net.values, **net.part(side, {}).values} for side in ("encoder", "decoder"))
    for name in audiocraft.BOTH_SIDES:
        if encoder.get(name) != decoder.get(name):
            raise ValueError(
                f"{net.where}: {name} is {shown(encoder.get(name))} in the encoder and {shown(decoder.get(name))} in "
                "the decoder, which is not implemented; allowed is one value for both."
            )
    return Fields(encoder, net.where)


def codec_recipes(
    names: Iterable[str], stored: Iterable[str], prefix: str = _IN_MUSICGEN, *, renamed: bool = True
) -> dict[str, Recipe]:
    """The codec's parameters. A convolution's weight may be stored plain, or as weight
    normalisation's magnitude and direction under the old or the new names.

    renamed: whether the names are those of transformers; audiocraft's are those of the `encodec` package.
    """
    stored, recipes = set(stored), {}
    for name in names:
        if _TRAINING.search(name):
            continue
        theirs = prefix + (_name_in_transformers(name) if renamed else name)
        module = theirs.removesuffix(".weight")
        pairs = (
            (f"{module}.parametrizations.weight.original0", f"{module}.parametrizations.weight.original1"),
            (f"{module}.weight_g", f"{module}.weight_v"),
        )
        pair = next((pair for pair in pairs if theirs.endswith(".weight") and pair[0] in stored), None)
        recipes[name] = Recipe("weight_norm", pair) if pair else Recipe("copy", (theirs,))
    return recipes


def _name_in_transformers(name: str) -> str:
    name = name.replace("quantizer.vq.layers.", "quantizer.layers.").replace("._codebook.", ".codebook.")
    name = re.sub(r"^(encoder|decoder)\.model\.", r"\1.layers.", name)
    return name.replace(".conv.conv.", ".conv.").replace(".convtr.convtr.", ".conv.")


def codec_part(
    stored: StoredTensors, prefix: str, *, renamed: bool, num_codebooks: int | None = None, ignore_rest: bool = False
) -> Part:
    """The codec among some tensors, under a prefix. Not needed are tensors that only training reads, codebooks from
    num_codebooks on and, with ignore_rest, all that does not begin with the prefix."""

    def needless(name: str) -> bool:
        if not name.startswith(prefix):
            return ignore_rest
        codebook = _CODEBOOK.search(name)
        beyond = codebook is not None and num_codebooks is not None and int(codebook[1]) >= num_codebooks
        return beyond or (codebook is not None and _TRAINING.search(name) is not None)

    ignored = frozenset(name for name in stored.records if needless(name))
    return Part(stored, lambda names: codec_recipes(names, stored.records, prefix, renamed=renamed), ignored)


def open_codec(path: Path, num_codebooks: int | None = None) -> CodecFiles:
    """Open the codec of a folder: a MusicGen model in either layout, or EnCodec alone; or of an audiocraft file.

    num_codebooks: how many of its codebooks are wanted, None for all. Raises FileNotFoundError and ValueError.
    """
    file = path / COMPRESSION_FILE if path.is_dir() else path
    if path.is_dir() and (path / CONFIG_FILE).is_file() and has_weights(path):
        root = read_json(path / CONFIG_FILE)
        alone = root.choice("model_type", ("musicgen", "musicgen_melody", "encodec")) == "encodec"
        fields = root if alone else root.part(_IN_MUSICGEN.removesuffix("."))
        config = config_of_transformers(fields)
        prefix = "" if alone else _IN_MUSICGEN
        part = codec_part(read_weights(path), prefix, renamed=True, num_codebooks=num_codebooks, ignore_rest=True)
        return CodecFiles(path, config, part, transformers.ENCODEC.unknown(fields))
    solver = read_solver_file(file)
    if solver.pretrained is not None:
        raise ValueError(f"{file} only points to {solver.pretrained}; give the folder of that codec.")
    return _codec_of(solver, num_codebooks)


def _codec_of(solver: SolverFile, num_codebooks: int | None) -> CodecFiles:
    solver.require_weights()
    part = codec_part(solver.stored, "", renamed=False, num_codebooks=num_codebooks)
    config = config_of_audiocraft(solver.fields)
    return CodecFiles(solver.path, config, part, audiocraft.CODEC.unknown(solver.fields))


def find_codec(
    needs: CodecNeeds, name: str | None, beside: Path, given: Path | None = None, search: Sequence[Path] = ()
) -> CodecFiles:
    """The codec of a language model that has none in its own file.

    name: the repository that the model says its codec is of. Looked for in this order: `given`, and then
    nowhere else; the file in the folder `beside`; the local Hugging Face cache, for `name`; the folders
    next to `beside`, and those in `search`. Nothing is fetched. Raises FileNotFoundError that tells
    where to put it, ValueError if a codec given or found beside does not fit.
    """
    own = beside / COMPRESSION_FILE
    if given is None and is_there(own):
        solver = read_solver_file(own)
        if solver.pretrained is None:
            given = own
        name = solver.pretrained or name
    if given is not None:
        codec = open_codec(given, needs.num_codebooks)
        needs.check(codec)
        return codec
    name = (name or "").removeprefix("//pretrained/")
    for path in _candidates(name, beside, search):
        try:
            codec = open_codec(path, needs.num_codebooks)
            needs.check(codec)
            return codec
        except (ValueError, FileNotFoundError):
            continue
    raise FileNotFoundError(
        f"the model in {beside} has no codec of its own: it needs {name[:80] or 'one'} with {needs.num_codebooks} x "
        f"{needs.card} codes at {needs.sample_rate} Hz, and no folder beside it holds one; put the model's "
        f"{COMPRESSION_FILE}, or another MusicGen model of that kind, there."
    )


def _candidates(name: str, beside: Path, search: Sequence[Path]) -> Iterator[Path]:
    folder = cached_folder(name) if name else None
    if folder is not None:
        yield folder
    for path in named_first(folders_in([beside, beside.parent, *search]), name):
        if path != beside and ((path / COMPRESSION_FILE).is_file() or (path / CONFIG_FILE).is_file()):
            yield path
