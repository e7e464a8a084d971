"""Modules of several inputs or outputs, seen as modules of one tensor each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from reluctant.theory.errors import InputError
from reluctant.theory.inputs import check_example

T = TypeVar("T")
Inputs = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class OneTensor(nn.Module):
    r"""Take all inputs of a module side by side in one tensor, and return one of its outputs.

    Args:
        network: Module.
        shapes: Shape of one example of each input, by position or by name; None if there is one.
        output: Position or name of the output; None if the module returns a tensor.
    """

    def __init__(
        self,
        network: nn.Module,
        shapes: Sequence[tuple[int, ...]] | Mapping[str, tuple[int, ...]] | None,
        output: int | str | None,
    ) -> None:
        """Keep what is needed to take the one tensor apart."""
        super().__init__()
        self.network, self.shapes, self.output = network, shapes, output
        self.train(network.training)

    def forward(self, x: Tensor) -> Tensor:
        r"""Return the chosen output, (n, \*output).

        Args:
            x: (n, \*input) if there is one input, else (n, sum of the sizes of the inputs).
        """
        if self.shapes is None:
            return _chosen(self.network(x), self.output)
        named = isinstance(self.shapes, Mapping)
        shapes = self.shapes if isinstance(self.shapes, Mapping) else _numbered(self.shapes)
        pieces = x.split([math.prod(shape) for shape in shapes.values()], dim=1)
        parts = {
            name: piece.reshape(x.shape[0], *shape)
            for (name, shape), piece in zip(shapes.items(), pieces, strict=True)
        }
        result = self.network(**parts) if named else self.network(*parts.values())
        return _chosen(result, self.output)


def one_tensor(
    module: nn.Module, example: Inputs, output: int | str | None = None
) -> tuple[nn.Module, Tensor]:
    r"""Return a module of one input and one output tensor, and the example that goes with it.

    Args:
        module: Module with any number of tensor arguments, that returns a tensor, a tuple, a
            mapping or an object of tensors.
        example: A tensor, a sequence of positional arguments, or a mapping of named ones; each of
            shape (n, \*input) with the same n, type and device.
        output: Which of several outputs: a position, a key or the name of an attribute.

    Returns:
        The module itself and the tensor, if there is one of each. Else a module that holds it, its
        parameters under ``network.``, and the inputs flattened side by side, (n, sizes added).

    Raises:
        InputError: If an input is no batch of finite floating-point numbers, or they differ in the
            number of examples, in type or in device.

    Example:
        >>> class Sum(nn.Module):
        ...     def forward(self, x, y):
        ...         return {"sum": torch.relu(x) + y}
        >>> module, x = one_tensor(Sum(), (torch.ones(1, 2), torch.ones(1, 2)), output="sum")
        >>> x.shape, module(x)
        (torch.Size([1, 4]), tensor([[2., 2.]]))
    """
    if isinstance(example, Tensor):
        return (module if output is None else OneTensor(module, None, output)), example
    shapes, x = _side_by_side(example)
    return OneTensor(module, shapes, output), x


def joined(example: Inputs) -> Tensor:
    """Return inputs side by side in one tensor; one tensor stays as it is.

    Args:
        example: As for :func:`one_tensor`.
    """
    return example if isinstance(example, Tensor) else _side_by_side(example)[1]


def _side_by_side(
    example: Sequence[Tensor] | Mapping[str, Tensor],
) -> tuple[Sequence[tuple[int, ...]] | Mapping[str, tuple[int, ...]], Tensor]:
    if not isinstance(example, Mapping | list | tuple) or not example:
        raise InputError(
            "inputs must be a tensor, a sequence of tensors or a mapping of names to tensors, got "
            f"{type(example).__name__ if not isinstance(example, list | tuple | dict) else 'none'}"
        )
    named = example if isinstance(example, Mapping) else _numbered(example)
    for name, part in named.items():
        check_example(part, f"input {name}")
    first = next(iter(named.values()))
    for name, part in named.items():
        for what, mine, other in (
            ("examples", part.shape[0], first.shape[0]),
            ("type", part.dtype, first.dtype),
            ("device", part.device, first.device),
        ):
            if mine != other:
                raise InputError(f"input {name} differs in {what} from the first: {mine}, {other}")
    shapes = {name: tuple(part.shape[1:]) for name, part in named.items()}
    x = torch.cat([part.flatten(1) for part in named.values()], dim=1)
    return (shapes if isinstance(example, Mapping) else list(shapes.values())), x


def _numbered(parts: Sequence[T]) -> dict[str, T]:
    return {str(position): part for position, part in enumerate(parts)}


def _chosen(result: Any, output: int | str | None) -> Tensor:
    """Return one of the outputs of a module."""
    if output is None:
        found = result
    elif isinstance(result, Mapping) and output in result:
        found = result[output]
    elif isinstance(output, str) and hasattr(result, output):
        found = getattr(result, output)
    elif isinstance(output, int) and isinstance(result, list | tuple):
        if not -len(result) <= output < len(result):
            raise InputError(f"there is no output {output}: the module returns {len(result)}")
        found = result[output]
    else:
        raise InputError(f"there is no output {output!r}; {_choices(result)}")
    if not isinstance(found, Tensor):
        raise InputError(f"the module returns a {type(found).__name__}; {_choices(found)}")
    return found


def _choices(result: Any) -> str:
    if isinstance(result, Mapping):
        return f"choose one by its key: {', '.join(map(repr, result))}"
    if isinstance(result, list | tuple):
        return f"choose one by its position, 0 to {len(result) - 1}"
    return f"it returns a {type(result).__name__}"
