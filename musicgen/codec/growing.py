"""Decode codes that are still being made: each call decodes only the new part, and its sound is final.

The decoder's convolutions look ahead, so the sound ends some frames before the codes do until the last call. The sound
of all calls together is that of one pass over everything, up to the rounding of sums in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..environment import torch_defaults
from .chunked import reach
from .encodec import EnCodec, each_over_rows, split_at_lstm

_UNIT, _LARGEST = 8, 512
"""Frames of the smallest and of the largest piece that is decoded at once."""


class GrowingDecoder:
    """The sound of one item, decoded as its codes arrive. It keeps only what the next call needs.

    Codes are decoded in pieces of 8, 16, 32 frames and so on, since a library of convolutions keeps all that it
    prepared for each length it ever met: hundreds of megabytes for lengths that are drawn by the clock.
    """

    def __init__(self, codec: EnCodec) -> None:
        """codec: its weights must be on the device where they will be when :meth:`push` is called."""
        inner, self._lstm, outer = split_at_lstm(codec.model.decoder.model)
        self._codec, hop = codec, codec.config.hop_length
        self._state: Any = None
        self._waiting = torch.zeros(codec.num_codebooks, 0, dtype=torch.int64)
        device = next(codec.model.parameters()).device
        layers = each_over_rows(outer) if device.type == "cpu" else outer
        self._inner = _Stage(inner, reach(inner), 1)
        self._outer = _Stage(layers, reach(outer, 1, hop), hop)
        self._device = device

    @property
    def kept_frames(self) -> int:
        """Frames of codes and of states that are kept for the next call."""
        return self._waiting.shape[1] + self._inner.kept_frames + self._outer.kept_frames

    @torch.no_grad()
    @torch_defaults()
    def push(self, codes: Tensor, *, last: bool = False) -> Tensor:
        """Decode the next frames.

        Args:
            codes: int `[K, n]`, the frames after those of the call before; n may be 0.
            last: these are the last ones, so that the sound runs to its end.

        Returns:
            float32 `[C, L]`: the sound after that of the call before; L is 0 where nothing new is final yet.
        """
        waiting = torch.cat([self._waiting, codes.to(self._waiting)], dim=1)
        sound = []
        while waiting.shape[1] >= _UNIT:
            size = min(_LARGEST, _UNIT << (waiting.shape[1] // _UNIT).bit_length() - 1)
            sound.append(self._decode(waiting[:, :size], last=False))
            waiting = waiting[:, size:]
        if last:
            sound.append(self._decode(waiting, last=True))
            waiting = waiting[:, :0]
        self._waiting = waiting.clone()
        return torch.cat(sound, dim=1) if sound else torch.zeros(self._codec.audio_channels, 0)

    def _decode(self, codes: Tensor, last: bool) -> Tensor:
        per_channel = codes.view(self._codec.config.num_codebooks, self._codec.audio_channels, -1).transpose(0, 1)
        states = self._codec.model.quantizer.decode(per_channel.transpose(0, 1).to(self._device))  # [C, D, n]
        inner = self._inner.push(states, last)
        if self._lstm is not None and inner is not None:
            rows = inner.permute(2, 0, 1)  # [n, C, D]
            out, self._state = self._lstm.lstm(rows, self._state)
            inner = (out + rows if self._lstm.skip else out).permute(1, 2, 0)
        sound = self._outer.push(inner, last)  # [C, 1, L]
        return torch.zeros(len(states), 0) if sound is None else sound[:, 0].to("cpu", torch.float32)


class _Stage:
    """Layers whose output depends on `context` frames of input on either side, fed piece by piece."""

    def __init__(self, layers: Callable[[Tensor], Tensor], context: int, unit_out: int) -> None:
        self._layers, self._context, self._unit = layers, context, unit_out
        self._kept: Tensor | None = None
        self._start = self._done = 0  # the first kept frame, and the first one without output

    @property
    def kept_frames(self) -> int:
        """Frames of input that are kept."""
        return 0 if self._kept is None else self._kept.shape[2]

    def push(self, new: Tensor | None, last: bool) -> Tensor | None:
        """Take frames `[B, C, n]` or none, and return the output that is final now, `[B, C', m x unit_out]` or none."""
        parts = [part for part in (self._kept, new) if part is not None]
        if not parts:
            return None
        kept = torch.cat(parts, dim=2)
        there = self._start + kept.shape[2]
        ready = there if last else there - self._context
        if ready <= self._done:
            self._kept = kept
            return None
        out = self._layers(kept)
        out = out[..., (self._done - self._start) * self._unit : (ready - self._start) * self._unit]
        first = max(0, ready - self._context)
        self._kept, self._start, self._done = kept[..., first - self._start :].clone(), first, ready
        return out
