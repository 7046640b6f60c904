"""Checkpoints as trainers write them: tensors with attributes, FSDP, Lightning, DDP, torch.compile."""

from __future__ import annotations

from collections import OrderedDict, defaultdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from musicgen import load_model
from tests.conftest import GOLDEN
from tests.musicgen.checkpoints.test_audiocraft import CODEC, LM, same

AUDIOCRAFT = "audiocraft-text"


def contents(file=LM, name=AUDIOCRAFT):
    return torch.load(GOLDEN / "checkpoints" / name / file, weights_only=True)


def prefixed(table, prefix):
    return {prefix + name: weight for name, weight in table.items()}


def number(weight):
    weight = weight.clone()
    weight.trained_by = 3
    return weight


def table_of_things(weight):
    """DeepSpeed hangs whole objects on its weights, tensors and classes among them."""
    weight = weight.clone()
    weight.ds = {"shape": weight.shape, "of": [weight.new_zeros(2), torch.float16, OrderedDict(a=1)], "kind": dict}
    weight.other = torch.nn.Parameter(torch.zeros(3))
    return weight


def parameter_with_attributes(weight):
    weight = torch.nn.Parameter(weight.clone())
    weight.tag, weight.allreduce = "x", True
    return weight


@pytest.mark.parametrize("change", [number, table_of_things, parameter_with_attributes, torch.nn.Parameter])
@pytest.mark.parametrize("file", [LM, CODEC])
def test_tensors_with_attributes_are_the_tensors(change, file, checkpoint_copy, model):
    folder = checkpoint_copy(AUDIOCRAFT)
    package = contents(file)
    tagged = OrderedDict((name, change(weight)) for name, weight in package["best_state"].items())
    torch.save({**package, "best_state": tagged}, folder / file)
    assert same(load_model(folder), model(AUDIOCRAFT))


def test_tensors_with_attributes_are_read_in_the_layout_of_hugging_face_too(checkpoint_copy, model):
    folder = checkpoint_copy("hf-text")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(
        OrderedDict((name, table_of_things(weight)) for name, weight in weights.items()), folder / "pytorch_model.bin"
    )
    assert same(load_model(folder), model("hf-text"))


def zeros(table):
    return {name: torch.zeros_like(weight) for name, weight in table.items()}


CONTAINERS = {
    "best state": lambda w, worse: {"best_state": w, "model": worse},
    "best state of a solver": lambda w, worse: {"best_state": {"model": w}, "model": worse, "optimizer": {"state": {}}},
    "fsdp": lambda w, worse: {"best_state": {}, "fsdp_best_state": {"model": w}, "model": worse, "history": [{"a": 1}]},
    "fsdp beside an older best state": lambda w, worse: {
        "best_state": {"model": worse},
        "fsdp_best_state": {"model": w},
    },
    "unvalidated": lambda w, worse: {"best_state": {}, "fsdp_best_state": {}, "model": w, "history": []},
    "unvalidated fsdp": lambda w, worse: {"best_state": {"model": {}}, "fsdp_best_state": {"model": {}}, "model": w},
    "model only": lambda w, worse: {"model": w},
    "lightning": lambda w, worse: {
        "state_dict": prefixed(w, "model."),
        "epoch": 3,
        "loops": {},
        "optimizer_states": [],
    },
    "lightning, deeper": lambda w, worse: {"state_dict": prefixed(w, "net.lm."), "pytorch-lightning_version": "2.3.0"},
    "lightning with a metric": lambda w, worse: {"state_dict": prefixed(w, "lm.") | {"lm._extra_state": None}},
    "compiled": lambda w, worse: {"best_state": prefixed(w, "_orig_mod.")},
    "compiled inside": lambda w, worse: {
        "best_state": {name.replace("transformer.", "transformer._orig_mod."): weight for name, weight in w.items()}
    },
    "ddp": lambda w, worse: {"best_state": prefixed(w, "module.")},
    "lightning, ddp, compiled": lambda w, worse: {"state_dict": prefixed(w, "model.module._orig_mod.")},
    "fsdp's names": lambda w, worse: {
        "model": {name.replace("layers.", "layers._fsdp_wrapped_module."): weight for name, weight in w.items()}
    },
    "deepspeed": lambda w, worse: {"module": w, "ds_config": {"a": 1}, "global_steps": 3},
    "a default dictionary": lambda w, worse: {"best_state": defaultdict(dict, w)},
}


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize("file", [LM, CODEC])
def test_the_best_weights_of_a_trainer_s_file_are_found(kind, file, checkpoint_copy, model):
    folder, package = checkpoint_copy(AUDIOCRAFT), contents(file)
    weights = package.pop("best_state")
    torch.save({**package, **CONTAINERS[kind](weights, zeros(weights))}, folder / file)
    assert same(load_model(folder), model(AUDIOCRAFT))


def test_the_settings_may_be_among_lightning_s_hyper_parameters(checkpoint_copy, model):
    folder, package = checkpoint_copy("audiocraft-stereo"), contents(name="audiocraft-stereo")
    inner = {"hyper_parameters": {"xp.cfg": package["xp.cfg"], "lr": 1e-4}, "epoch": 1}
    torch.save({**inner, "state_dict": prefixed(package["best_state"], "model.")}, folder / LM)
    assert load_model(folder).config.delays == model("audiocraft-stereo").config.delays
    assert same(load_model(folder), model("audiocraft-stereo"))


def test_a_codec_beside_the_language_model_is_left_to_its_own_file(checkpoint_copy, model):
    folder, package, codec = checkpoint_copy(AUDIOCRAFT), contents(), contents(CODEC)
    both = prefixed(package.pop("best_state"), "lm.") | prefixed(codec["best_state"], "compression_model.")
    torch.save({**package, "state_dict": both}, folder / LM)
    assert same(load_model(folder), model(AUDIOCRAFT))


@pytest.mark.parametrize("prefix", ["", "model.", "_orig_mod.", "module.", "model._orig_mod."])
@pytest.mark.parametrize("how", ["safetensors", "pickled", "lightning"])
def test_wrapped_names_of_the_layout_of_hugging_face_are_unwrapped(prefix, how, checkpoint_copy, model):
    folder = checkpoint_copy("hf-text")
    weights = prefixed(load_file(folder / "model.safetensors"), prefix)
    if how == "safetensors":
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        (folder / "model.safetensors").unlink()
        torch.save(weights if how == "pickled" else {"state_dict": weights, "epoch": 1}, folder / "pytorch_model.bin")
    assert same(load_model(folder), model("hf-text"))


def test_one_tensor_under_two_wrapped_names_is_refused(checkpoint_copy):
    folder, package = checkpoint_copy(AUDIOCRAFT), contents()
    weights = package["best_state"]
    torch.save({**package, "best_state": weights | {"module.out_norm.weight": weights["out_norm.weight"]}}, folder / LM)
    with pytest.raises(ValueError, match=r"'out_norm.weight' is stored under two names; save the model again"):
        load_model(folder)


@pytest.mark.parametrize("package", [{}, {"best_state": {}}, {"best_state": {}, "fsdp_best_state": {}, "history": []}])
def test_a_file_without_weights_is_said_to_have_none(package, checkpoint_copy):
    folder = checkpoint_copy(AUDIOCRAFT)
    torch.save({"xp.cfg": contents()["xp.cfg"], **package}, folder / LM)
    with pytest.raises(ValueError, match=r"state_dict.bin holds no weights: fsdp_best_state, best_state, state_dict"):
        load_model(folder)


@pytest.fixture(scope="module")
def process_group(tmp_path_factory):
    import torch.distributed as dist

    store = tmp_path_factory.mktemp("store") / "store"
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def as_dtensor(weight):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    return distribute_tensor(weight, init_device_mesh("cpu", (1,)), [Shard(0)])


def as_sharded(weight):
    from torch.distributed._shard.sharded_tensor import Shard, ShardedTensor

    shard = Shard.from_tensor_and_offsets(weight.clone(), [0] * weight.dim(), 0)
    return ShardedTensor._init_from_local_shards([shard], *weight.shape)


@pytest.mark.parametrize("share", [as_dtensor, as_sharded])
def test_tensors_of_one_device_are_whole_and_shares_of_several_are_refused(
    share, process_group, checkpoint_copy, model
):
    folder, package = checkpoint_copy(AUDIOCRAFT), contents()
    weights = {name: share(weight) for name, weight in package["best_state"].items()}
    torch.save({**package, "best_state": {}, "fsdp_best_state": {"model": weights}}, folder / LM)
    assert same(load_model(folder), model(AUDIOCRAFT))
    name = "out_norm.weight"
    if share is as_dtensor:
        weights[name]._local_tensor = weights[name]._local_tensor[:5].clone()
    else:
        weights[name].local_shards()[0].tensor = weights[name].local_shards()[0].tensor[:5].clone()
    torch.save({**package, "best_state": {}, "fsdp_best_state": {"model": weights}}, folder / LM)
    with pytest.raises(
        ValueError, match=r"'out_norm.weight' is one device's share of a tensor; gather the full weights"
    ):
        load_model(folder)


def state_of_trainers(weights, prefix):
    """Tensors that callbacks, averages and metrics add to a module's own state."""
    average = {f"ema_model.module.{name}": torch.zeros_like(weight) for name, weight in weights.items()}
    dotless = {f"model_ema.{name.replace('.', '')}": torch.zeros_like(weight) for name, weight in weights.items()}
    parent = prefix.rpartition(".")[0].rpartition(".")[0]
    others = {
        "ema_model.n_averaged": torch.tensor(7),
        "model_ema.decay": torch.tensor(0.999),
        "val_metrics.accuracy.total": torch.tensor(12),
        "train_loss.mean_value": torch.tensor(1.5),
        "criterion.weight": torch.ones(64),
    }
    return {**prefixed({**average, **dotless, **others}, f"{parent}." if parent else "")}


@pytest.mark.parametrize("prefix", ["model.", "", "lightning.model."])
def test_state_that_a_trainer_keeps_beside_the_model_is_left_out_and_told(prefix, checkpoint_copy, model, caplog):
    folder, package = checkpoint_copy(AUDIOCRAFT), contents()
    weights = package["best_state"]
    state = {**state_of_trainers(weights, prefix), **prefixed(weights, prefix)}
    outer = {"state_dict": state, "epoch": 3, "callbacks": {"EMA": {"state": weights}}, "xp.cfg": package["xp.cfg"]}
    torch.save(outer, folder / LM)
    with caplog.at_level("INFO", "musicgen"):
        assert same(load_model(folder), model(AUDIOCRAFT))
    (told,) = [record.getMessage() for record in caplog.records if "Left out" in record.getMessage()]
    assert f"beside the model: {2 * len(weights) + 5}, first " in told


@pytest.mark.parametrize(
    "name",
    [
        "model.adapter.weight",
        "projector.weight",
        "model.transformer.layers.0.loss.weight",
        "condition_provider.conditioners.genre.embed.weight",
        "lossless.weight",
    ],
)
def test_a_tensor_that_could_be_the_model_s_is_never_left_out(name, checkpoint_copy):
    folder, package = checkpoint_copy(AUDIOCRAFT), contents()
    state = {**prefixed(package["best_state"], "model."), name: torch.ones(3)}
    torch.save({"state_dict": state, "xp.cfg": package["xp.cfg"]}, folder / LM)
    with pytest.raises(ValueError, match=f"1 unknown tensors, first {name.removeprefix('model.')}"):
        load_model(folder)


def test_a_tensor_that_only_a_trainer_s_average_has_is_missing(checkpoint_copy):
    folder, package = checkpoint_copy(AUDIOCRAFT), contents()
    weights = dict(package["best_state"])
    state = prefixed(weights, "ema.")
    del weights["out_norm.weight"]
    torch.save({"state_dict": {**prefixed(weights, "model."), **state}, "xp.cfg": package["xp.cfg"]}, folder / LM)
    with pytest.raises(ValueError, match=r"1 missing tensors, first out_norm.weight"):
        load_model(folder)


def test_an_average_alone_is_the_model_and_two_models_are_refused(checkpoint_copy, model):
    folder, package = checkpoint_copy(AUDIOCRAFT), contents()
    weights = package["best_state"]
    torch.save({"state_dict": prefixed(weights, "ema."), "xp.cfg": package["xp.cfg"]}, folder / LM)
    assert same(load_model(folder), model(AUDIOCRAFT))
    both = {**prefixed(weights, "first."), **prefixed(weights, "second.")}
    torch.save({"state_dict": both, "xp.cfg": package["xp.cfg"]}, folder / LM)
    with pytest.raises(ValueError, match="holds several models, under 'first' and 'second'; save one of them alone"):
        load_model(folder)
