"""The exported graph, run again in an own loop so that its gates can be recorded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_arg

Probe = Callable[[Mapping[str, Any]], Tensor]


@dataclass(frozen=True, slots=True)
class Run:
    r"""Carry what one run of a program gave.

    Attributes:
        output: The module's output, shape (n, \*output).
        gates: One tensor a gate layer, shape (n, \*shape).
    """

    output: Tensor
    gates: list[Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """Be a graph of tensor operations at one static input shape.

    Attributes:
        graph: Graph exported from the module.
        bindings: Gives the present value of every placeholder but the data.
        data: Name of the placeholder of the data.
        output: Name of the node that is the output.
        probes: For every gate layer, the node after which it can be recorded, and how.
        example_shape: Shape of the data, batch axis included.
        dtype: Type of the data.
        device: Device of the data.
    """

    graph: fx.Graph
    bindings: Mapping[str, Callable[[], Any]]
    data: str
    output: str
    probes: Sequence[tuple[str, Probe]]
    example_shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device

    def run(self, x: Tensor) -> Run:
        """Run the program on x and record the gates, without gradients.

        Args:
            x: Data, of the example's shape, type and device.
        """
        recorded: list[Tensor | None] = [None] * len(self.probes)
        waiting: dict[str, list[int]] = {}
        for k, (name, _) in enumerate(self.probes):
            waiting.setdefault(name, []).append(k)
        last_use = {operand: node for node in self.graph.nodes for operand in node.all_input_nodes}
        values: dict[str, Any] = {}
        output: Tensor | None = None
        with torch.no_grad():
            for node in self.graph.nodes:
                if node.op == "output":
                    break
                values[node.name] = self._value(node, values, x)
                for k in waiting.get(node.name, ()):
                    recorded[k] = self.probes[k][1](values)
                if node.name == self.output:
                    output = values[node.name]
                for operand in node.all_input_nodes:
                    if last_use[operand] is node:
                        values.pop(operand.name, None)
                if output is not None and all(gates is not None for gates in recorded):
                    break
        assert output is not None and all(r is not None for r in recorded)
        return Run(output, [r for r in recorded if r is not None])

    def _value(self, node: fx.Node, values: Mapping[str, Any], x: Tensor) -> Any:
        if node.op == "placeholder":
            return x if node.name == self.data else self.bindings[node.name]()
        args, kwargs = map_arg((node.args, node.kwargs), lambda n: values[n.name])
        return node.target(*args, **kwargs)  # type: ignore[operator]
