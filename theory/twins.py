"""Running a module without leaving a trace on it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def twin(module: nn.Module) -> nn.Module:
    """Copy a module, sharing its parameters and nothing else that a run could change."""
    shared: dict[int, Any] = {id(p): p for p in module.parameters()}
    try:
        return copy.deepcopy(module, shared)
    except Exception:  # whatever a user's attribute raises when copied: read the original
        return module


@contextmanager
def differentiable() -> Iterator[None]:
    """Record gradients, whatever the caller switched off around the call."""
    with torch.inference_mode(False), torch.enable_grad():
        yield
