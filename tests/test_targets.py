"""What a user names on the command line: found, built, loaded, or refused in one line."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from reluctant import checkpoints, datasets, targets
from reluctant.theory.errors import InputError

State = Mapping[str, Any]
SOURCE = """
import torch
from torch import nn

class Net(nn.Sequential):
    def __init__(self, width=3):
        super().__init__(nn.Linear(2, width), nn.ReLU(), nn.Linear(width, 1))

def make(): return Net(5)
def needs(width): return Net(width)
def broken(): raise KeyError("weights")
def wrong(): return 7
def leaves(): raise SystemExit(3)
ready = Net(4)
class Zoo:
    small = Net
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_net.py").write_text(SOURCE)
    (tmp_path / "broken_syntax.py").write_text("def f(:")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_net", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "width"),
    [
        ("my_net:Net", 3),
        ("my_net:make", 5),
        ("my_net:ready", 4),
        ("my_net:Zoo.small", 3),
        ("my_net.py:make", 5),
        ("./my_net.py:make", 5),
    ],
)
def test_a_factory_is_a_function_a_class_or_a_module(here: Path, target: str, width: int) -> None:
    module = targets.make_module(target)
    assert isinstance(module, nn.Sequential)
    assert module[0].out_features == width
    del sys.modules["my_net"]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("my_net", "named PACKAGE.MODULE:FACTORY or path/to/file.py:FACTORY, got 'my_net'"),
        ("my_net:Nett", "my_net has no 'Nett'; its networks are Net, ready"),
        ("other.py:Net", "there is no file other.py"),
        ("no_such_module:Net", "raised ModuleNotFoundError: .*; name a file as path/to/file.py"),
        ("./my_net:Net", r"ends in \.py; name .* or \./my_net\.py:FACTORY"),
        ("broken_syntax.py:Net", r"raised SyntaxError: .*broken_syntax\.py, line 1"),
        ("my_net:leaves", r"raised SystemExit \(my_net.py:13\): 3; put what runs on its own under"),
        ("my_net:broken", r"raised KeyError \(my_net.py:11\): 'weights'"),
        ("my_net:needs", "give a factory that needs no arguments"),
        ("my_net:wrong", "gave a int, expected a torch.nn.Module"),
    ],
)
def test_what_is_no_network_is_refused_in_one_line(here: Path, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        targets.make_module(target)
    assert "\n" not in str(caught.value)
    sys.modules.pop("my_net", None)


def test_the_seed_decides_the_weights_and_torch_s_generator_is_put_back(here: Path) -> None:
    before = torch.random.get_rng_state()
    first, second, other = (targets.make_module("my_net:Net", seed) for seed in (1, 1, 2))
    sys.modules.pop("my_net", None)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(weight(first), weight(second))
    assert not torch.equal(weight(first), weight(other))


def weight(module: nn.Module) -> torch.Tensor:
    return next(module.parameters())


def wrapped(prefix: str) -> Callable[[State], State]:
    return lambda state: {prefix + name: value for name, value in state.items()}


CHECKPOINTS: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": [1]}},
    "data parallel": wrapped("module."),
    "compiled": wrapped("_orig_mod."),
    "both": lambda state: {"net": wrapped("_orig_mod.module.")(state)},
    "both the other way": wrapped("module._orig_mod."),
}


NOTES = {
    "state_dict": ["the weights are those under 'state_dict' in weights.pt"],
    "model": ["the weights are those under 'model' in weights.pt"],
    "data parallel": ["all names in weights.pt begin with 'module.', which is left out"],
    "compiled": ["all names in weights.pt begin with '_orig_mod.', which is left out"],
    "both": ["under 'net' in", "begin with '_orig_mod.module.', which is left out"],
    "both the other way": ["begin with 'module._orig_mod.', which is left out"],
}


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_weights_come_back_from_checkpoints(tmp_path: Path, kind: str) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save(CHECKPOINTS[kind](source.state_dict()), tmp_path / "weights.pt")
    notes = checkpoints.load_weights(target, tmp_path / "weights.pt")
    assert torch.equal(source.weight, target.weight)
    expected = NOTES.get(kind, [])
    assert len(notes) == len(expected)
    assert all(words in note for words, note in zip(expected, notes, strict=True))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # torch.compile's own
@pytest.mark.parametrize("kind", ["plain", "data parallel"])
def test_weights_come_into_a_wrapped_network(tmp_path: Path, kind: str) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    torch.save(CHECKPOINTS[kind](source.state_dict()), tmp_path / "weights.pt")
    compiled: nn.Module = torch.compile(target)  # type: ignore[assignment]
    *_, note = checkpoints.load_weights(compiled, tmp_path / "weights.pt")
    assert torch.equal(source.weight, target.weight)
    said = "all names of the network begin with '_orig_mod.', which weights.pt leaves out"
    assert note == said


class Tied(nn.Module):
    """Name one parameter twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(2, 2, bias=False)
        self.b = nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight


def test_one_name_of_a_shared_parameter_is_enough(tmp_path: Path) -> None:
    source, target = Tied(), Tied()
    save_model(source, str(tmp_path / "weights.safetensors"))
    checkpoints.load_weights(target, tmp_path / "weights.safetensors")
    assert torch.equal(source.a.weight, target.a.weight)
    assert target.b.weight is target.a.weight


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(3, 2)}, "it has no bias; build the network"),
        (
            {"weight": torch.ones(3, 2), "bias": torch.ones(3), "more": torch.ones(1)},
            "the network has no more; build",
        ),
        (
            {f"other.{k}": torch.ones(1) for k in range(5)},
            "it has no weight, bias; the network has no other.0, other.1, other.2 and 2 more;",
        ),
        (
            {"weight": torch.ones(4, 2), "bias": torch.ones(4)},
            "weight is 4 x 2 in it and 3 x 2 in the network, bias is 4 in it and 3 in the network",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(
    tmp_path: Path, kind: str, state: dict[str, torch.Tensor], message: str
) -> None:
    path = tmp_path / f"weights.{kind}"
    save_file(state, path) if kind == "safetensors" else torch.save(state, path)
    module = nn.Linear(2, 3)
    before = module.weight.detach().clone()
    with pytest.raises(InputError, match=re.escape(message)):
        checkpoints.load_weights(module, path)
    assert torch.equal(module.weight, before)


def test_counts_of_batches_may_be_missing_and_lazy_layers_take_their_shape(tmp_path: Path) -> None:
    state = nn.BatchNorm1d(3).state_dict()
    del state["num_batches_tracked"]
    torch.save(state, tmp_path / "norm.pt")
    checkpoints.load_weights(nn.BatchNorm1d(3), tmp_path / "norm.pt")
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / "lazy.pt")
    lazy = nn.LazyLinear(3)
    checkpoints.load_weights(lazy, tmp_path / "lazy.pt")
    assert lazy.weight.shape == (3, 2)


@pytest.mark.parametrize("content", [7, [torch.ones(1)], {"epoch": 3}, {}, torch.ones(2)])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "odd.pt")
    with pytest.raises(InputError, match=r"odd\.pt holds .*; save the state dict that you mean"):
        checkpoints.load_weights(nn.Linear(2, 3), tmp_path / "odd.pt")


def test_weights_come_back_from_safetensors(tmp_path: Path) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    save_model(source, str(tmp_path / "weights.safetensors"))
    checkpoints.load_weights(target, tmp_path / "weights.safetensors")
    assert torch.equal(source.weight, target.weight)


def test_two_sets_of_weights_in_one_file_are_not_guessed_at(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    torch.save({"student": state, "teacher": state}, tmp_path / "two.pt")
    with pytest.raises(InputError, match=r"weights under .student., .teacher.; save the"):
        checkpoints.load_weights(nn.Linear(2, 3), tmp_path / "two.pt")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04hello"])
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "d.npz", "d.npy"])
def test_files_of_another_kind_are_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=name) as caught:
        if name.startswith("w"):
            checkpoints.load_weights(nn.Linear(2, 3), path)
        else:
            datasets.load_inputs(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["hello", "this is a text file\n", "# weights: 1 2 3\n"])
def test_a_text_is_called_no_saved_state_dict(tmp_path: Path, content: str) -> None:
    path = tmp_path / "junk.pt"
    path.write_text(content)
    with pytest.raises(InputError, match="is no saved state dict: write one"):
        checkpoints.load_weights(nn.Linear(2, 3), path)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_of_another_network_are_refused(tmp_path: Path, kind: str) -> None:
    source, path = nn.Linear(2, 4), tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_model(source, str(path))
    else:
        torch.save(source.state_dict(), path)
    with pytest.raises(InputError, match=r"cannot put the weights of .* into Linear"):
        checkpoints.load_weights(nn.Linear(2, 3), path)


def test_weights_that_are_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(nn.Linear(2, 3), path)
    with pytest.raises(InputError, match=r"more than tensors.*: save module\.state_dict\(\)"):
        checkpoints.load_weights(nn.Linear(2, 3), path)


def test_missing_files_are_the_system_s_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoints.load_weights(nn.Linear(2, 3), tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError):
        checkpoints.load_weights(nn.Linear(2, 3), tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError):
        datasets.load_inputs(tmp_path / "none.npz")


def test_inputs_are_x_or_the_only_array(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((4, 2)), y=np.zeros(4))
    assert datasets.load_inputs(path)[0].shape == (4, 2)
    np.savez(path, images=np.ones((5, 2)))
    assert datasets.load_inputs(path)[0].shape == (5, 2)


def test_inputs_may_be_one_bare_array(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.ones((5, 2)))
    assert datasets.load_inputs(tmp_path / "data.npy")[0].shape == (5, 2)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [("<f2", torch.float16), (">f4", torch.float32), (">f8", torch.float64), ("g", torch.float64)],
)
def test_inputs_come_in_every_type_of_floating_point(
    tmp_path: Path, kind: str, dtype: torch.dtype
) -> None:
    np.savez(tmp_path / "data.npz", x=np.asfortranarray(np.full((5, 2), 0.5, dtype=kind)))
    (inputs,) = datasets.load_inputs(tmp_path / "data.npz")
    assert inputs.dtype == dtype
    assert torch.equal(inputs, torch.full((5, 2), 0.5, dtype=dtype))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((4, 2)), "b": np.ones(4)}, "holds a, b; call the inputs 'x'"),
        ({"x": np.ones((4, 2), dtype=np.uint8)}, "inputs of type uint8"),
        ({"x": np.ones((4, 2), dtype=complex)}, "inputs of type complex128"),
        ({"x": np.array([[0.0], [np.nan]])}, "NaN or infinite values, first in row 1; remove or"),
        ({"x": np.array([[np.inf]])}, "NaN or infinite values, first in row 0"),
        ({}, "holds nothing; call the inputs 'x'"),
        ({"x": np.ones((0, 2))}, r"shape \(0, 2\); expected \(n, ...\) with n >= 1"),
        ({"x": np.ones(4)}, r"shape \(4,\)"),
        ({"x": np.array([["a", None]], dtype=object)}, "no .npz or .npy file of plain arrays"),
    ],
)
def test_other_data_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        datasets.load_inputs(path)


def test_an_example_has_the_shape_and_the_type_of_the_weights() -> None:
    module = nn.Linear(2, 3, dtype=torch.float64)
    example = targets.make_example("3,4,2", module, seed=1)
    assert (example.shape, example.dtype) == ((1, 3, 4, 2), torch.float64)
    assert torch.equal(example, targets.make_example("3x4x2", module, seed=1))


@pytest.mark.parametrize("shape", ["", "3,a", "3,0", "3,-1", "3.5"])
def test_a_shape_is_a_list_of_sizes(shape: str) -> None:
    with pytest.raises(InputError, match="--input takes the sizes of one input"):
        targets.make_example(shape, nn.Linear(2, 3))


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="there is no device 'nowhere' here"):
        targets.move(nn.Linear(2, 3), "nowhere")


@pytest.mark.parametrize("shape", ["9999999999999", "9" * 30])
def test_a_shape_that_does_not_fit_into_memory_is_refused(shape: str) -> None:
    with pytest.raises(InputError, match=f"shape {shape} does not fit into memory") as caught:
        targets.make_example(shape, nn.Linear(2, 3))
    assert "\n" not in str(caught.value)


def test_the_meta_device_is_refused() -> None:
    with pytest.raises(InputError, match="'meta' holds no numbers; --device cpu always works"):
        targets.move(nn.Linear(2, 3), "meta")
    with pytest.raises(InputError, match="weight is on the meta device and has no values; build"):
        targets.move(nn.Linear(2, 3, device="meta"), "cpu")


def test_inputs_too_large_for_the_network_s_type_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"reach 1e\+300, too large for the network's torch.float32"
    ):
        targets.like_weights(torch.tensor([[1e300]], dtype=torch.float64), nn.Linear(1, 1))
