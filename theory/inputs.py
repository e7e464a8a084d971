"""What can be read: examples, modules and first runs that are refused in one line if they cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from reluctant.theory.errors import InputError, ReluctantError
from reluctant.theory.finite import is_finite
from reluctant.theory.places import first_line, user_frame

_TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_example(example: object, what: str = "the example") -> None:
    """Raise unless inputs are a batch of finite floating-point numbers.

    Args:
        example: Inputs.
        what: What to call them.

    Raises:
        InputError: Says what came instead, and what to do.
    """
    if not isinstance(example, Tensor):
        several = isinstance(example, Sequence | Mapping) and not isinstance(example, str)
        remedy = "; make one of several inputs with one_tensor(module, example)" if several else ""
        raise InputError(f"{what} must be a torch.Tensor, got {type(example).__name__}{remedy}")
    if not example.is_floating_point():
        raise InputError(
            f"{what} must be floating point, got {example.dtype}; convert it, for instance with .double()"
        )
    if example.dtype not in _TYPES:
        raise InputError(
            f"{what} is {example.dtype}, in which torch cannot compute; convert it, for instance with .float()"
        )
    if example.is_nested:
        raise InputError(
            f"{what} is a nested tensor; make examples of one shape, for instance with to_padded_tensor(0.0)"
        )
    if example.layout != torch.strided:
        raise InputError(
            f"{what} has the layout {example.layout}; make it dense, for instance with .to_dense()"
        )
    if example.ndim == 0 or example.shape[0] == 0:
        raise InputError(
            f"{what} has shape {tuple(example.shape)}; it needs a batch axis with at least one example"
        )
    if example.is_meta:
        raise InputError(
            f"{what} is on the meta device, which holds no numbers; make it on the cpu or a gpu"
        )
    if not is_finite(example):
        bad = ~torch.isfinite(example).reshape(len(example), -1)
        first = int(bad.any(1).to(torch.uint8).argmax())
        raise InputError(
            f"{what} holds NaN or infinite values, first in row {first}; remove or replace them"
        )


def require_module(module: object) -> None:
    """Raise unless an argument is a module.

    Raises:
        InputError: Says what came instead, and what to do.
    """
    if isinstance(module, type):
        raise InputError(
            f"expected a torch.nn.Module, got the class {module.__name__}; make one of it first"
        )
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        remedy = "; pass its module, net.module" if kind == "PathNetwork" else ""
        raise InputError(f"expected a torch.nn.Module, got {kind}{remedy}")


def check_module(module: nn.Module, example: Tensor) -> None:
    """Raise unless a module's tensors have values, and the example's type and device.

    Raises:
        InputError: Names the first parameter, buffer or batch norm that is in the way, or autocast.
    """
    require_module(module)
    kind = example.device.type
    if torch.is_autocast_enabled(kind) and example.dtype != torch.float64:
        raise InputError(
            f"torch.autocast is on, so that the module computes in {torch.get_autocast_dtype(kind)} "
            f"and not in the example's {example.dtype}; call from outside of the autocast block"
        )
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError("a ScriptModule cannot be exported; pass the original nn.Module")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise InputError(
                f"{name} is not initialised yet; run the lazily built module once on an example"
            )
        if tensor.is_floating_point() and tensor.dtype != example.dtype:
            raise InputError(
                f"{name} is {tensor.dtype} but the example is {example.dtype}; "
                f"convert one, for instance with module.to({example.dtype})"
            )
        if tensor.is_meta:
            raise InputError(
                f"{name} is on the meta device and has no values; build the module on the cpu, or "
                "call module.to_empty(device='cpu') and load its weights"
            )
        if tensor.device != example.device:
            raise InputError(
                f"{name} is on {tensor.device} but the example is on {example.device}; move one of them"
            )
    for name, parameter in module.named_parameters():
        if not is_finite(parameter):
            raise InputError(
                f"{name} holds NaN or infinite values; a path network needs finite weights: "
                "reload or re-initialise the module"
            )
    for name, part in module.named_modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and (
            part.training or part.running_mean is None
        ):
            kind = type(part).__name__
            raise InputError(
                f"{f'{name} ({kind})' if name else kind} is a batch norm in training mode, where the "
                "output depends on the whole batch; call module.eval() (and keep running statistics)"
            )


def run_once(module: nn.Module, example: Tensor) -> Tensor:
    """Run a module without gradients, and put its buffers back.

    Raises:
        InputError: If it fails, or returns anything but one finite tensor with one row an example.
    """
    buffers = [(b, b.clone()) for b in module.buffers()]
    try:
        with torch.no_grad():
            output = module(example.clone())
    except ReluctantError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(
            f"{user_frame(error)}the module fails on an example of shape {tuple(example.shape)}: "
            f"{first_line(error)} Give a batch of the shape that it takes, or mend the module"
        ) from error
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
    if not isinstance(output, Tensor):
        raise InputError(
            f"the module returns a {type(output).__name__}; choose one tensor with "
            "one_tensor(module, example, output=...)"
        )
    if output.ndim == 0 or output.shape[0] != example.shape[0]:
        raise InputError(
            f"the module maps shape {tuple(example.shape)} to {tuple(output.shape)}; "
            "its first axis must count the same examples"
        )
    if output.numel() == 0:
        raise InputError(
            f"the module returns a tensor of shape {tuple(output.shape)}, which has no entries; "
            "give every layer at least one unit"
        )
    if not is_finite(output):
        broken = [name for name, buffer in module.named_buffers() if not is_finite(buffer)]
        cause = (
            f"the buffer {broken[0]} holds NaN or infinite values: reload it"
            if broken
            else f"it overflows {str(output.dtype).removeprefix('torch.')} or divides by 0: scale inputs or "
            "weights down, or use float64"
        )
        raise InputError(f"the module's output on the example is not finite; {cause}")
    return output
