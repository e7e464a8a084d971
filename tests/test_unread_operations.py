"""What may be linear and is not read is not called nonlinear, and the message says what to write."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import reluctant as rl


class Net(nn.Module):
    def __init__(self, forward: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.put_together = nn.Parameter(torch.ones(3, 3)), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.put_together(x @ self.weight, self.weight)


@pytest.mark.parametrize(
    ("forward", "operation", "remedy"),
    [
        (lambda h, w: torch.einsum("bi,io->bo", h, w), "aten.einsum.default", "linear, matmul"),
        (lambda h, w: h[:, torch.tensor([2, 0])], "aten.index.Tensor", "index_select"),
    ],
)
def test_what_is_not_read_says_what_to_write(
    forward: Callable[[Tensor, Tensor], Tensor], operation: str, remedy: str
) -> None:
    with pytest.raises(rl.UnsupportedOperation, match=remedy) as caught:
        rl.trace(Net(forward), torch.ones(2, 3))
    assert caught.value.operation == operation
    assert caught.value.where.startswith("test_unread_operations.py:")
    assert "neither linear" not in str(caught.value)
