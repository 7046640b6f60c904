"""A rival for CPUs alone: OpenVINO on one decoding step, on weights of the same shapes.

It is a stateful model, as OpenVINO exports language models: its cache lies within, in 8 bits, which is its own default.
Both rows attend to the condition. It is measured where `openvino` and `nncf` are installed, which is done by hand:

    pip install openvino nncf
"""

from __future__ import annotations

import importlib.util
import logging
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from peers import Setting, draw
from torch import Tensor, nn

from musicgen.lm.transformer import sinusoidal_positions

KINDS = ("fp16", "int8")


def is_installed() -> bool:
    """Whether both packages can be imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("openvino", "nncf"))


class _Step(nn.Module):
    """One column for all rows: `[rows, 1, dim]` and the cache -> logits and the longer cache."""

    def __init__(self, setting: Setting, condition: Tensor) -> None:
        super().__init__()
        self.heads, self.layers = setting.config.lm.num_heads, setting.config.lm.num_layers
        self.kept: dict[str, Tensor] = {name: w.float() for name, w in setting.weights.items()}
        self.condition = []
        for index in range(self.layers):
            kv = self._linear(condition, f"transformer.layers.{index}.cross_attn.kv")
            self.condition.append([self._split(part) for part in kv.chunk(2, dim=-1)])

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.kept[f"{name}.weight"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.kept[f"{name}.weight"], self.kept[f"{name}.bias"])

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, name: str) -> Tensor:
        found = F.scaled_dot_product_attention(self._split(q), k, v)
        return self._linear(found.transpose(1, 2).flatten(2), name)

    def forward(self, x: Tensor, past: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits `[rows, 1, K x card]`, and keys and values of each layer in turn."""
        present = []
        for index in range(self.layers):
            place = f"transformer.layers.{index}."
            qkv = self._linear(self._norm(x, place + "norm_self"), place + "self_attn.qkv")
            q, k, v = qkv.chunk(3, dim=-1)
            k = torch.cat([past[2 * index], self._split(k)], dim=2)
            v = torch.cat([past[2 * index + 1], self._split(v)], dim=2)
            present += [k, v]
            x = x + self._attend(q, k, v, place + "self_attn.out")
            q = self._linear(self._norm(x, place + "norm_cross"), place + "cross_attn.q")
            keys, values = self.condition[index]
            x = x + self._attend(q, keys, values, place + "cross_attn.out")
            inner = F.gelu(self._linear(self._norm(x, place + "norm_ffn"), place + "ffn_in"))
            x = x + self._linear(inner, place + "ffn_out")
        return self._linear(self._norm(x, "out_norm"), "head"), present


class OpenVino:
    """The step of OpenVINO with weights of one of KINDS."""

    def __init__(self, setting: Setting, kind: str) -> None:
        import openvino as ov  # type: ignore[import-not-found]

        lm, self.rows = setting.config.lm, 2 * setting.batch
        self.lm, self.base, self.position = lm, setting.cache, 0
        self.table = setting.weights["embedding.weight"].float()
        self.shape = (self.rows, lm.num_heads, -1, lm.dim // lm.num_heads)
        condition = torch.randn(self.rows, 16, lm.dim, generator=torch.Generator().manual_seed(1))
        model = _stateful(ov, _Step(setting, condition), self.shape, lm)
        core = ov.Core()
        if kind == "int8":
            import nncf  # type: ignore[import-not-found]

            logging.getLogger("nncf").setLevel(logging.ERROR)
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
        else:
            folder = Path(tempfile.mkdtemp())
            ov.save_model(model, folder / "step.xml", compress_to_fp16=True)
            model = core.read_model(folder / "step.xml")
        chosen = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        self.request = core.compile_model(model, "CPU", chosen).create_infer_request()
        self.tensor = ov.Tensor
        self.order = np.arange(self.rows, dtype=np.int32)
        self.codes = torch.zeros(self.rows, lm.num_codebooks, dtype=torch.long)

    def reset(self, position: int) -> None:
        """Pretend that so many positions are decoded."""
        self.position = position
        for index, state in enumerate(self.request.query_state()):
            numbers = self.base[index // 2][index % 2][:, :, :position].contiguous()
            state.state = self.tensor(numbers.numpy())

    def step(self) -> None:
        """Decode one column."""
        offsets = torch.arange(self.lm.num_codebooks) * (self.lm.card + 1)
        x = F.embedding(self.codes + offsets, self.table).sum(dim=1, keepdim=True)
        x = x + sinusoidal_positions(torch.tensor([self.position]), self.lm.dim)
        logits = next(iter(self.request.infer({"x": x.numpy(), "beam_idx": self.order}).values()))
        drawn = draw(torch.from_numpy(logits).view(self.rows, self.lm.num_codebooks, -1), 3.0, 250)
        self.codes = drawn.repeat(2, 1)
        self.position += 1


def _stateful(ov: Any, step: _Step, shape: tuple[int, ...], lm: Any) -> Any:
    """The step as a model of OpenVINO that keeps its cache."""
    from openvino import opset13 as ops
    from openvino._offline_transformations import (  # type: ignore[import-not-found]
        apply_make_stateful_transformation,
    )

    rows, heads, _, size = shape
    past = [torch.randn(rows, heads, 5, size) for _ in range(2 * lm.num_layers)]
    with torch.no_grad():
        model = ov.convert_model(step, example_input=(torch.randn(rows, 1, lm.dim), past))
    column, *kept = model.inputs
    column.get_tensor().set_names({"x"})
    column.get_node().set_partial_shape(ov.PartialShape([rows, 1, lm.dim]))
    names = {}
    for index, (before, after) in enumerate(zip(kept, model.outputs[1:], strict=True)):
        before.get_tensor().set_names({f"past{index}"})
        before.get_node().set_partial_shape(ov.PartialShape(list(shape)))
        after.get_tensor().set_names({f"present{index}"})
        names[f"past{index}"] = f"present{index}"
    # Exported language models choose their rows anew in every step; OpenVINO looks for that to fuse the attention.
    order = ops.parameter([-1], dtype=np.int32, name="beam_idx")
    order.output(0).get_tensor().add_names({"beam_idx"})
    model.add_parameters([order])
    for before in kept:
        users = before.get_target_inputs()
        chosen = ops.gather(before, order, ops.constant(0))
        for user in users:
            user.replace_source_output(chosen.output(0))
    model.validate_nodes_and_infer_types()
    apply_make_stateful_transformation(model, names)
    empty = ops.constant(np.array([rows, heads, 0, size], np.int64))
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":
            node.set_arguments([ops.broadcast(ops.constant(0.0, dtype=np.float32), empty)])
    model.validate_nodes_and_infer_types()
    return model
