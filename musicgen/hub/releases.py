"""The released models that may be fetched, and which files of a repository make one. Nothing is fetched here."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

LICENCE = "CC-BY-NC 4.0"
"""The licence of the weights of every release below."""


@dataclass(frozen=True)
class Release:
    """A released model.

    gigabytes: size of all files that are fetched. companions: models that it needs and does not hold, each as the
    kind of its models folder and its repository.
    """

    repo: str
    gigabytes: float
    companions: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """The model's folder."""
        return self.repo.rpartition("/")[2]

    @property
    def size(self) -> str:
        """The end of the model's name: small, melody, stereo-large."""
        return self.name.partition("-")[2]

    @property
    def label(self) -> str:
        """The entry in a list of choices."""
        extra = " and ".join(repo.rpartition("/")[2] for _, repo in self.companions)
        return f"download {self.repo}{extra and f' with {extra}'} ({self.gigabytes:.1f} GB, {LICENCE})"


_T5_BASE, _T5_LARGE = ("text_encoders", "google-t5/t5-base"), ("text_encoders", "google-t5/t5-large")
# The feature model of the style model; its weights are under the same licence.
_MERT = ("audio_encoders", "m-a-p/MERT-v1-95M")
RELEASES = (
    Release("facebook/musicgen-small", 2.4),
    Release("facebook/musicgen-medium", 8.0),
    Release("facebook/musicgen-large", 13.7),
    Release("facebook/musicgen-melody", 6.1),
    Release("facebook/musicgen-melody-large", 10.5),
    Release("facebook/musicgen-stereo-small", 1.2),
    Release("facebook/musicgen-stereo-medium", 4.1),
    Release("facebook/musicgen-stereo-large", 6.9),
    Release("facebook/musicgen-stereo-melody", 6.3),
    Release("facebook/musicgen-stereo-melody-large", 10.6),
    Release("facebook/musicgen-style", 4.3, (_T5_BASE, _MERT)),
    Release("facebook/audiogen-medium", 6.9, (_T5_LARGE,)),
)


def find_release(label: str) -> Release | None:
    """The release that a choice names, whatever size an older version of this list gave it."""
    match = re.match(r"download (\S+)", label)
    return next((release for release in RELEASES if match and release.repo == match[1]), None)


def named_release(name: str) -> Release | None:
    """Return the release of a repository, of a model's name, or of the size in that name, in any case.

    >>> named_release("facebook/musicgen-small").name
    'musicgen-small'
    >>> named_release("Medium").name
    'musicgen-medium'
    """
    clean = name.strip().casefold()
    known = {word: release for release in reversed(RELEASES) for word in (release.repo, release.name, release.size)}
    return known.get(clean)


def select_files(names: Collection[str]) -> list[str]:
    """The files of a repository that a model needs: its configuration, its tokenizer, and its weights in the
    first layout that is whole: one safetensors, shards of it, one .bin, shards of it, audiocraft's pair."""
    names = set(names)
    weights = _weights(names)
    if not weights or "state_dict.bin" in weights:
        return weights
    tokenizer = ["tokenizer.json"] if "tokenizer.json" in names else ["spiece.model"]
    small = ["config.json", "generation_config.json", "preprocessor_config.json", "tokenizer_config.json", *tokenizer]
    return [name for name in small if name in names] + weights


def _weights(names: Collection[str]) -> list[str]:
    if "config.json" in names:
        for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
            if f"{stem}.{suffix}" in names:
                return [f"{stem}.{suffix}"]
            index, form = f"{stem}.{suffix}.index.json", re.compile(rf"{stem}-\d+-of-(\d+)\.{suffix}")
            shards = sorted(name for name in names if form.fullmatch(name))
            if index in names and shards and len(shards) == int(form.fullmatch(shards[0])[1]):  # type: ignore[index]
                return [index, *shards]
    pair = ["state_dict.bin", "compression_state_dict.bin"]
    return pair if set(pair) <= set(names) else []


def expected_files(repo: str, release: Release) -> list[str]:
    """The files that a repository is expected to hold, where it could not be asked."""
    if repo == release.repo and release.companions:
        return ["state_dict.bin", "compression_state_dict.bin"]
    if ("audio_encoders", repo) in release.companions:
        return ["config.json", "pytorch_model.bin"]
    melody = ["preprocessor_config.json"] if "melody" in repo else []
    weights = "model.safetensors (or all its shards and model.safetensors.index.json, or the same as .bin)"
    return ["config.json", *melody, "tokenizer.json", weights]
