"""Ensembles: the mean of several networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reluctant.theory.errors import InputError


class Ensemble(nn.Module):
    r"""Average the outputs of networks, trained apart or together.

    .. math:: f(x) = \frac{1}{m} \sum_{k=1}^{m} f_k(x)

    Outputs are averaged before any softmax, so that the whole is one more network of paths; what
    dlgn averages is not stated.

    Args:
        members: At least one network of the same input and the same number of outputs. They are
            held, not copied.

    Raises:
        InputError: If there is none.

    Source:
        dlgn, table III (16 times C1GAP).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        """Check the arguments and make the parts."""
        if not members:
            raise InputError("an ensemble needs a network, but members is empty")
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mean of the outputs, (n, outputs)."""
        return torch.stack([member(x) for member in self.members]).mean(0)
