"""What a user names on the command line: found, built, loaded, or refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_model
from torch import nn

from reluctant import targets
from reluctant.theory.errors import InputError

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
ready = Net(4)
class Zoo:
    small = Net
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my_net.py").write_text(SOURCE)
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
        ("no_such_module:Net", "no_such_module raised ModuleNotFoundError"),
        ("my_net:broken", r"raised KeyError \(my_net.py:11\): 'weights'"),
        ("my_net:needs", "called without arguments, so give one that needs none"),
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


@pytest.mark.parametrize("kind", ["safetensors", "pt", "nested.pt"])
def test_weights_come_back(tmp_path: Path, kind: str) -> None:
    source, target = nn.Linear(2, 3), nn.Linear(2, 3)
    path = tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_model(source, str(path))
    else:
        state = source.state_dict()
        torch.save({"state_dict": state, "epoch": 3} if "nested" in kind else state, path)
    targets.load_weights(target, path)
    assert torch.equal(source.weight, target.weight)


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_of_another_network_are_refused(tmp_path: Path, kind: str) -> None:
    source, path = nn.Linear(2, 4), tmp_path / f"weights.{kind}"
    if kind == "safetensors":
        save_model(source, str(path))
    else:
        torch.save(source.state_dict(), path)
    with pytest.raises(InputError, match=r"cannot put the weights of .* into Linear"):
        targets.load_weights(nn.Linear(2, 3), path)


def test_weights_that_are_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "whole.pt"
    torch.save(nn.Linear(2, 3), path)
    with pytest.raises(InputError, match="cannot put the weights"):
        targets.load_weights(nn.Linear(2, 3), path)


def test_missing_files_are_the_system_s_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        targets.load_weights(nn.Linear(2, 3), tmp_path / "none.pt")
    with pytest.raises(FileNotFoundError):
        targets.load_weights(nn.Linear(2, 3), tmp_path / "none.safetensors")
    with pytest.raises(FileNotFoundError):
        targets.load_inputs(tmp_path / "none.npz")


def test_inputs_are_x_or_the_only_array(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.ones((4, 2)), y=np.zeros(4))
    assert targets.load_inputs(path).shape == (4, 2)
    np.savez(path, images=np.ones((5, 2)))
    assert targets.load_inputs(path).shape == (5, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": np.ones((4, 2)), "b": np.ones(4)}, "holds a, b; call the inputs 'x'"),
        ({"x": np.ones((4, 2), dtype=np.uint8)}, "inputs of type uint8"),
        ({"x": np.ones((0, 2))}, r"shape \(0, 2\); expected \(n, ...\) with n >= 1"),
        ({"x": np.ones(4)}, r"shape \(4,\)"),
        ({"x": np.array([["a", None]], dtype=object)}, "no .npz file of plain arrays"),
    ],
)
def test_other_data_are_refused(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message):
        targets.load_inputs(path)


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
