"""Kernels of whole data sets, block by block into a file that numpy maps into memory.

While it grows the kernel stands beside its place as ``K.npy.part``, with a journal of the blocks that
are done. A run that is interrupted goes on where it was; ``K.npy`` is there when it is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reluctant.theory.blocks import MEMORY, Law, Normalisation, make_law
from reluctant.theory.costs import kernel_work
from reluctant.theory.errors import InputError
from reluctant.theory.finite import is_finite
from reluctant.theory.network import PathNetwork
from reluctant.theory.recording import network_at
from reluctant.theory.structure import outputs_share_a_kernel
from reluctant.theory.tasks import finished
from reluctant.theory.variances import Variance
from reluctant.theory.verdicts import write_whole

try:
    import fcntl
except ImportError:  # not a POSIX system: two processes may then write the same file
    fcntl = None  # type: ignore[assignment]

Which = Literal["npk", "nngp", "ntk"]
Progress = Callable[[str, int, int], None]
_BLOCK_BYTES = 1 << 26  # of the file; what a kill can lose, and what a worker sends


@dataclass(frozen=True, slots=True)
class JobCost:
    """Say what a kernel takes, before it is computed.

    Attributes:
        pairs: Pairs of examples; of a symmetric kernel each once.
        multiply_adds: Estimate, all pairs together.
        bytes: Size of the file.
        blocks: Number of blocks.
    """

    pairs: int
    multiply_adds: float
    bytes: int
    blocks: int

    def __str__(self) -> str:
        return (
            f"{self.pairs:,} pairs, about {self.multiply_adds:.1e} multiply-adds, "
            f"{self.bytes / 1e9:.3g} GB on disk, {self.blocks} blocks"
        )


@dataclass(frozen=True, slots=True, eq=False)
class KernelJob:
    r"""Be a kernel to be computed, small enough to travel.

    Attributes:
        module: Network.
        x: First inputs, shape (n, \*input).
        y: Second inputs, shape (m, \*input); None for the symmetric kernel of x.
        law: "npk" for H, "nngp" or "ntk" for the laws of the outputs and of the tangents.
        variance: σ² of the laws.
        normalise: As for :func:`reluctant.npk`, which alone takes it.
        sources: False leaves out the paths from sources.
        output: Output coordinate; None where all outputs share a kernel.
        dtype: Type in which is computed and written.
        memory: Bytes that may be used beside the blocks.
        block: Most rows of a block; as many as make 64 MiB of the file if None.
    """

    module: nn.Module
    x: Tensor
    y: Tensor | None = None
    law: Which = "npk"
    variance: Variance = 1.0
    normalise: Normalisation = "none"
    sources: bool = True
    output: int | None = None
    dtype: torch.dtype = torch.float32
    memory: int = MEMORY
    block: int | None = None
    _made: list[tuple[Law, int]] = field(default_factory=list, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        names = self.__dataclass_fields__.keys() - {"_made"}
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_made", [])

    @property
    def net(self) -> PathNetwork:
        """Return the network, read at the first examples."""
        return network_at(self.module, self.x)

    def made(self) -> tuple[Law, int]:
        """Return the law, and the number of outputs that each of its kernels stands for."""
        if not self._made:
            self._made.append(self._make())
        return self._made[0]

    def _make(self) -> tuple[Law, int]:
        if self.law not in get_args(Which):
            raise InputError(
                f"the law must be one of {', '.join(get_args(Which))}, got {self.law!r}"
            )
        if self.law != "npk" and self.normalise != "none":
            raise InputError(
                "only the kernel itself is normalised; give the law a variance instead"
            )
        net = self.net
        shared = outputs_share_a_kernel(net)
        per_pair = self.dtype.itemsize * (
            1 if shared or self.output is not None else net.output_size
        )
        made = make_law(
            net,
            self.x,
            self.y,
            variance=1.0 if self.law == "npk" else self.variance,
            sources=self.sources,
            output=self.output,
            tangent=self.law == "ntk",
            normalise=self.normalise,
            dtype=self.dtype,
            memory=self.memory,
            block=self.block or max(1, int((_BLOCK_BYTES / per_pair) ** 0.5)),
        )
        is_trace = self.law == "ntk" and self.output is None and shared
        return made, net.output_size if is_trace else 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the kernel: (n, m), or (n, m, outputs) where the outputs' differ."""
        n, m, outputs = self.made()[0].shape
        return (n, m) if outputs == 1 or self.law == "ntk" else (n, m, outputs)

    @property
    def cost(self) -> JobCost:
        """Return what it takes."""
        law, _ = self.made()
        n, m, _ = law.shape
        pairs = n * m if self.y is not None else n * (n + 1) // 2
        work = pairs * kernel_work(self.net) * (2 if self.law == "ntk" else 1)
        size = int(torch.Size(self.shape).numel()) * self.dtype.itemsize
        return JobCost(pairs, work, size, len(law.blocks()))

    @property
    def identity(self) -> str:
        """Return a digest of all that the numbers depend on."""
        from reluctant import __version__

        digest = hashlib.sha256()
        law, _ = self.made()
        facts = [
            __version__,
            torch.__version__,
            type(self.module).__qualname__,
            self.law,
            self.variance,
            self.normalise,
            self.sources,
            self.output,
            self.dtype,
            self.x.device.type,
            law.left.size,
            law.right.size,
            law.tile,
        ]
        digest.update(repr(facts).encode())
        held = self.module.state_dict()
        tensors = {"x": self.x, "y": self.y, **{f"module.{name}": held[name] for name in held}}
        for name, t in tensors.items():
            if isinstance(t, Tensor):
                digest.update(f"{name} {tuple(t.shape)} {t.dtype}".encode())
                digest.update(t.detach().cpu().contiguous().view(torch.uint8).numpy().data)
        return digest.hexdigest()


def compute_block(job: KernelJob, i: int, j: int) -> tuple[int, int, NDArray[Any]]:
    """Return where a block begins, and the block.

    Raises:
        InputError: If an entry exceeds the largest number of the type.
    """
    law, outputs = job.made()
    n, m, kernels = law.shape
    rows, columns = min(law.left.size, n - i), min(law.right.size, m - j)
    block = torch.zeros(rows, columns, kernels, dtype=job.dtype, device=job.x.device)
    law.block(i, j, block)
    if job.law == "ntk":
        block = block.sum(2, keepdim=True) * outputs
    if not is_finite(block):
        raise InputError(
            f"the kernel exceeds the largest {str(job.dtype).removeprefix('torch.')}; normalise it, "
            "take a law with a small variance, or ask for float64"
        )
    found: NDArray[Any] = block.reshape(rows, columns, *job.shape[2:]).cpu().numpy()
    return i, j, found


def write_kernel(
    job: KernelJob,
    path: str | os.PathLike[str],
    *,
    workers: int = 1,
    scheduler: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> NDArray[Any]:
    """Compute a kernel block by block into a ``.npy`` file.

    Only the upper half of a symmetric kernel is computed. The numbers do not depend on the number
    of threads, processes and machines, of one kind of device.

    Args:
        job: What to compute.
        path: File to write. ``path.part`` and ``path.journal`` stand beside it until it is whole,
            and ``path.json`` says what it holds.
        workers: Number of processes; one computes with several threads.
        scheduler: Address of a Dask scheduler whose workers compute the blocks.
        overwrite: True replaces another kernel that is there.
        progress: Told what is done, pairs done, and pairs in all.

    Returns:
        The kernel, mapped from the file, read-only, shape ``job.shape``.

    Raises:
        InputError: If another kernel is there, another process writes it, the disk is full, or the
            arguments do not fit the network.

    Cost:
        :attr:`KernelJob.cost` says it.
    """
    path = Path(path)
    if path.suffix != ".npy":
        raise InputError(f"the kernel is written as .npy, got {path}")
    identity = job.identity
    described = Path(f"{path}.json")
    if path.exists() and not overwrite:
        if not _is_of(described, identity):
            raise InputError(
                f"{path} is there and holds something else; choose another file, or overwrite it"
            )
        return _opened(path)
    law, _ = job.made()
    cost = job.cost
    with _journal(path, identity, job) as (journal, done):
        part = Path(f"{path}.part")
        kernel = _mapped(part, job, new=not done)
        left = [place for place in law.blocks() if place not in done]
        counted = [sum(_pairs(law, job, *place) for place in done)]

        def say() -> None:
            if progress is not None:
                progress(
                    f"{path.name}: {len(done)} of {cost.blocks} blocks", counted[0], cost.pairs
                )

        say()
        for i, j, block in _blocks(job, left, workers, scheduler):
            rows, columns = block.shape[:2]
            kernel[i : i + rows, j : j + columns] = block
            if job.y is None and i != j:
                kernel[j : j + columns, i : i + rows] = block.swapaxes(0, 1)
            kernel.flush()
            journal.write(f"{i} {j}\n")
            journal.flush()
            os.fsync(journal.fileno())
            done.add((i, j))
            counted[0] += _pairs(law, job, i, j)
            say()
        del kernel
        path.unlink(missing_ok=True)  # never beside the description of another kernel
        _describe(described, job, identity)
        os.replace(part, path)
    return _opened(path)


def _blocks(
    job: KernelJob, places: list[tuple[int, int]], workers: int, scheduler: str | None
) -> Iterator[tuple[int, int, NDArray[Any]]]:
    if scheduler is None and workers == 1:  # threads share what is read of the examples
        return (compute_block(job, *place) for place in places)
    return finished(compute_block, places, workers, shared=(job,), scheduler=scheduler)


def _pairs(law: Law, job: KernelJob, i: int, j: int) -> int:
    n, m, _ = law.shape
    rows, columns = min(law.left.size, n - i), min(law.right.size, m - j)
    return rows * (rows + 1) // 2 if job.y is None and i == j else rows * columns


def _mapped(part: Path, job: KernelJob, *, new: bool) -> np.memmap[Any, np.dtype[Any]]:
    kind = np.dtype(str(job.dtype).removeprefix("torch."))
    if new:
        needed = int(torch.Size(job.shape).numel()) * kind.itemsize
        free = shutil.disk_usage(part.parent).free
        if needed > free:
            raise InputError(
                f"the kernel takes {needed / 1e9:.3g} GB, and {part.parent} has {free / 1e9:.3g} GB "
                "left; choose another folder, or float32"
            )
        return np.lib.format.open_memmap(part, mode="w+", dtype=kind, shape=job.shape)
    return np.lib.format.open_memmap(part, mode="r+")


@contextmanager
def _journal(
    path: Path, identity: str, job: KernelJob
) -> Iterator[tuple[IO[str], set[tuple[int, int]]]]:
    """Hold the journal of a kernel, with the blocks that are done; it goes when the kernel is whole."""
    place = Path(f"{path}.journal")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        journal = place.open("a+", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path} cannot be written ({error.strerror}); choose another folder"
        ) from error
    with journal:
        if fcntl is not None:
            try:
                fcntl.flock(journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise InputError(f"another process is writing {path}") from error
        journal.seek(0)
        text = journal.read()
        whole = text[: text.rfind("\n") + 1]  # a last line without its end was cut off
        head, *lines = whole.splitlines() or [""]
        done: set[tuple[int, int]] = set()
        if head == identity and _is_part(Path(f"{path}.part"), job):
            journal.truncate(len(whole))  # all in ASCII
            done = {(int(i), int(j)) for i, j in (line.split() for line in lines)}
        else:
            journal.truncate(0)
            journal.write(f"{identity}\n")
            journal.flush()
        yield journal, done
    place.unlink()


def _is_part(part: Path, job: KernelJob) -> bool:
    try:
        held = np.lib.format.open_memmap(part, mode="r")
    except (OSError, ValueError):
        return False
    return held.shape == job.shape and str(held.dtype) == str(job.dtype).removeprefix("torch.")


def _is_of(described: Path, identity: str) -> bool:
    try:
        held = json.loads(described.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(held, dict) and held.get("identity") == identity


def _describe(described: Path, job: KernelJob, identity: str) -> None:
    from reluctant import __version__

    variance = dict(job.variance) if isinstance(job.variance, Mapping) else float(job.variance)
    facts = {
        "identity": identity,
        "network": type(job.module).__qualname__,
        "law": job.law,
        "variance": None if job.law == "npk" else variance,
        "normalise": job.normalise,
        "sources": job.sources,
        "output": job.output,
        "shape": job.shape,
        "dtype": str(job.dtype).removeprefix("torch."),
        "device": str(job.x.device),
        "reluctant": __version__,
        "torch": torch.__version__,
    }
    write_whole(described, json.dumps(facts, indent=1))


def _opened(path: Path) -> NDArray[Any]:
    found: NDArray[Any] = np.load(path, mmap_mode="r")
    return found
