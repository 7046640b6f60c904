"""A T5 tokenizer over the words that captions are made of.

transformers rebuilds T5 tokenizers from their vocabulary alone and forgets normalisers, so all
that this one does is in its pieces: every word also stands there capitalised and in capitals,
every whole number up to 240 as a tempo, and the beginnings of words that a very short known word
must not be found in. Such a piece shares the embedding of the word it `folds` to (an
unknown word, that of <unk>), which the export writes out as equal rows.
"""

from __future__ import annotations

import string
from functools import cached_property
from typing import Any

from .corpus.genres import TEMPI

_SPECIAL = ("<pad>", "</s>", "<unk>")
UNKNOWN_ID = 2
_MARK = "\u2581"
_SIGNS = ".;!?()&/-+\"'"
# Spellings that captions do not have and people do.
_ALSO = {
    "hip-hop": "hop",
    "mid-tempo": "tempo",
    "lo-fi": "lofi",
    "beats": "beat",
    "drum": "drums",
    "drumbeat": "drums",
    "pianos": "piano",
    "guitars": "guitar",
    "flutes": "flute",
    "trumpets": "trumpet",
    "clarinets": "clarinet",
    "bell": "bells",
    "violin": "violins",
    "string": "strings",
    "pad": "pads",
    "synths": "synth",
    "songs": "song",
}


class Vocabulary:
    """Pieces in the order of their ids, and the id that each shares its embedding with."""

    def __init__(self, words: list[str]) -> None:
        """words: the words of captions, in small letters, signs included."""
        self.pieces = list(_SPECIAL)
        self.fold = [0, 1, UNKNOWN_ID]
        self._ids: dict[str, int] = {}
        signs = [word for word in words if not word[0].isalnum()]
        self.words = [word for word in words if word[0].isalnum()]
        for word in self.words:
            self._add(_MARK + word, None)
        for sign in signs:
            self._add(sign, None)
            self._add(_MARK + sign, sign)
        self._add_spellings(signs[0])
        self._add_tempi()
        self._add_beginnings()

    def _add(self, piece: str, like: str | None) -> None:
        if piece not in self._ids:
            self._ids[piece] = len(self.pieces)
            self.fold.append(self._ids[piece] if like is None else self._ids.get(like, UNKNOWN_ID))
            self.pieces.append(piece)

    def _add_spellings(self, comma: str) -> None:
        for word in self.words:
            for spelling in (word.capitalize(), word.upper()):
                self._add(_MARK + spelling, _MARK + word)
        for spelling, word in _ALSO.items():
            for variant in (spelling, spelling.capitalize()):
                self._add(_MARK + variant, _MARK + word)
        for sign in _SIGNS:
            self._add(sign, comma)
        self._add("#", _MARK + "sharp")

    def _add_tempi(self) -> None:
        tempi = sorted(TEMPI.values())
        for number in range(40, 241):
            nearest = min(tempi, key=lambda tempo: abs(tempo - number))
            self._add(f"{_MARK}{number}", f"{_MARK}{nearest}")

    def _add_beginnings(self) -> None:
        """So that `coffee` is two unknown pieces and not the key of C with something behind it."""
        for word in [word for word in self.words if len(word) <= 2 and word.isalpha()]:
            for letter in string.ascii_lowercase:
                self._add(_MARK + word + letter, None)
                self.fold[-1] = UNKNOWN_ID if self.fold[-1] == len(self.pieces) - 1 else self.fold[-1]

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer, as transformers has it."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
        from transformers import T5TokenizerFast

        scores = [(piece, 0.0 if piece in _SPECIAL else -1.0) for piece in self.pieces]
        tokenizer = Tokenizer(models.Unigram(scores, unk_id=UNKNOWN_ID, byte_fallback=False))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.WhitespaceSplit(),
                pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme="always", split=True),
            ]
        )
        tokenizer.decoder = decoders.Metaspace(replacement=_MARK, prepend_scheme="always", split=True)
        tokenizer.post_processor = processors.TemplateProcessing("$A </s>", "$A </s> $B </s>", [("</s>", 1)])
        return T5TokenizerFast(
            tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>", pad_token="<pad>", extra_ids=0
        )
