"""Who is measured: a task in an environment, asked again and again by a worker process of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Timer
from typing import Any

ROOT = Path(__file__).parents[1]
_HERE = Path(__file__).parent


class NotRun(Exception):
    """Say in one line why something was not measured."""


class OutOfTime(Exception):
    """Say that the time for all rows has passed."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Be the packages that a contestant runs with.

    Attributes:
        requirements: File of what is installed, beside this one; None for the benchmark's own.
        pythons: Minor versions of Python 3 that it can be made with; any if empty.
        constrained: True to install within constraints.txt.
    """

    requirements: str | None = None
    pythons: tuple[int, ...] = ()
    constrained: bool = False

    def python(self, folder: Path, make: bool) -> Path:
        """Return its interpreter; the environment is made where it is missing.

        Args:
            folder: Where environments are kept.
            make: False refuses to make one.

        Raises:
            NotRun: If it is missing and cannot be made.
        """
        if self.requirements is None:
            return Path(sys.executable)
        file = _HERE / self.requirements
        text = file.read_bytes() if file.exists() else b""
        home = folder / f"{file.stem}-{hashlib.sha256(text).hexdigest()[:8]}"
        found, finished = home / "bin" / "python", home / "finished"
        if finished.exists():
            return found
        if not make:
            raise NotRun(f"the environment of benchmarks/{file.name} is not made at this size")
        print(f"  making an environment of benchmarks/{file.name} in {home}", flush=True)
        within = ["--constraint", str(ROOT / "constraints.txt")] if self.constrained else []
        shutil.rmtree(home, ignore_errors=True)
        for step in (
            [self._base(), "-m", "venv", str(home)],
            [str(found), "-m", "pip", "install", "-q", *within, "--requirement", str(file)],
        ):
            done = subprocess.run(step, capture_output=True, text=True, env=_outside())
            if done.returncode:
                said = [line for line in done.stderr.splitlines() if "ERROR" in line]
                last = said[-1] if said else f"exit code {done.returncode}"
                raise NotRun(f"benchmarks/{file.name} cannot be installed: {last.strip()}")
        finished.touch()
        return found

    def _base(self) -> str:
        if not self.pythons or sys.version_info.minor in self.pythons:
            return sys.executable
        names = [f"python3.{minor}" for minor in self.pythons]
        found = next(filter(None, map(shutil.which, names)), None)
        if found is None:
            raise NotRun(f"benchmarks/{self.requirements} needs one of {', '.join(names)}")
        return found


def _outside() -> dict[str, str]:
    """Return the environment variables without those that speak of this environment's packages."""
    own = ("PYTHONPATH", "VIRTUAL_ENV", "PIP_CONSTRAINT")
    return {k: v for k, v in os.environ.items() if k not in own}


OWN = Environment()
NEURAL_TANGENTS = Environment("neural_tangents.txt", pythons=(11, 12, 10, 9))
BACKPACK = Environment("backpack.txt", constrained=True)


@dataclass(frozen=True, slots=True)
class Contestant:
    """Be something to measure.

    Attributes:
        name: What a table calls it.
        task: "module:function" below ``benchmarks``.
        sizes: Its arguments.
        environment: What it runs with.
    """

    name: str
    task: str
    sizes: Mapping[str, Any]
    environment: Environment = OWN

    @property
    def asked(self) -> dict[str, Any]:
        """Return what determines its measurement, for JSON."""
        return {"name": self.name, "task": self.task, "sizes": dict(self.sizes)}


@dataclass(slots=True)
class Result:
    """Be what was measured of a contestant.

    Attributes:
        name: Its name.
        runs: Wall and CPU seconds of every run that counts.
        first: All that is known of its first run at full size, memory too.
        versions: Of the packages it ran with.
        not_run: Why it was not measured, if it was not.
    """

    name: str
    runs: list[dict[str, float]] = field(default_factory=list)
    first: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    not_run: str | None = None


@dataclass(slots=True)
class Worker:
    """Be a worker process.

    Attributes:
        process: The process.
        log: File with what it printed.
    """

    process: subprocess.Popen[str]
    log: Path

    def ask(self, question: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return its answer.

        Raises:
            NotRun: If it answers with an error, dies, or takes too long and is killed.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        timer = Timer(max(seconds, 1.0), self.process.kill)
        start = time.monotonic()
        timer.start()
        try:
            print(json.dumps(question), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            code = self.process.wait()
            if time.monotonic() - start >= seconds:
                raise NotRun(f"took more than {seconds:.0f} s")
            said = self.log.read_text(errors="replace").strip().splitlines() or [""]
            raise NotRun(f"its process ended with code {code}: {said[-1]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise NotRun(answer["error"])
        return answer


@dataclass(slots=True)
class Stable:
    """Keep the workers of a run, one an environment.

    Attributes:
        folder: Where environments and logs are.
        makes: True to make missing environments.
        ends: When all has to be done, on the monotonic clock.
        limit: Seconds that one question may take.
    """

    folder: Path
    makes: bool
    ends: float
    limit: float = 600.0
    _workers: dict[tuple[Environment, int], Worker] = field(default_factory=dict)

    def worker(self, environment: Environment, number: int = 0) -> Worker:
        """Return the worker of an environment; others with other numbers."""
        key = environment, number
        known = self._workers.get(key)
        if known is None or known.process.poll() is not None:
            python = environment.python(self.folder / "environments", self.makes)
            log = self.folder / f"worker-{len(self._workers)}.log"
            own = environment.requirements is None
            with log.open("w") as sink:
                process = subprocess.Popen(
                    [str(python), "-m", "benchmarks.worker"],
                    cwd=ROOT,
                    env=_inside() if own else _outside(),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=sink,
                    text=True,
                )
            known = self._workers[key] = Worker(process, log)
        return known

    def ask(self, worker: Worker, question: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a worker, which has as long as there is time and no longer than the limit.

        Raises:
            NotRun: As :meth:`Worker.ask` does.
            OutOfTime: If there is no time left.
        """
        left = self.ends - time.monotonic()
        try:
            return worker.ask(question, min(left, self.limit))
        except NotRun:
            if time.monotonic() >= self.ends:
                raise OutOfTime from None
            raise

    def close(self, *, isolated: bool = False) -> None:
        """End the workers, or those with a number above 0."""
        for key in [key for key in self._workers if key[1] or not isolated]:
            worker = self._workers.pop(key)
            worker.process.kill()
            worker.process.wait()
            for pipe in (worker.process.stdin, worker.process.stdout):
                assert pipe is not None
                with suppress(BrokenPipeError):  # an unread question goes with its process
                    pipe.close()


def _inside() -> dict[str, str]:
    """Return the environment variables, with relative paths to packages made absolute."""
    paths = [
        str(Path(p).resolve()) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p
    ]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


@contextmanager
def stable(folder: Path, *, makes: bool, seconds: float, limit: float = 600.0) -> Iterator[Stable]:
    """Keep workers for a while, and end them whatever happens."""
    with ExitStack() as stack:
        kept = Stable(folder, makes, time.monotonic() + seconds, limit)
        stack.callback(kept.close)
        yield kept


def alternate(
    kept: Stable,
    contestants: Sequence[Contestant],
    *,
    repetitions: int,
    uncounted: int,
    isolated: bool,
    small: Mapping[str, int],
) -> list[Result]:
    """Measure contestants in turn, forwards and backwards, so that a drift hits all alike.

    Args:
        kept: Workers.
        contestants: Who is measured.
        repetitions: Runs of each that count.
        uncounted: Runs of each before them, in which something may be compiled.
        isolated: True gives each a process of its own, which does the task at small sizes first:
            its memory is then the task's.
        small: Sizes for that.

    Raises:
        OutOfTime: If there is no time left.
    """
    results = [Result(c.name) for c in contestants]
    workers: dict[str, Worker] = {}
    for number, (contestant, result) in enumerate(zip(contestants, results, strict=True)):
        try:
            worker = kept.worker(contestant.environment, number + 1 if isolated else 0)
            if isolated:
                little = {**contestant.sizes, **small}
                kept.ask(worker, {"make": "small", "task": contestant.task, "sizes": little})
                kept.ask(worker, {"run": "small"})
                kept.ask(worker, {"drop": "small"})
            asked = {"make": result.name, "task": contestant.task, "sizes": dict(contestant.sizes)}
            result.versions = kept.ask(worker, asked)["versions"]
            workers[result.name] = worker
        except NotRun as reason:
            result.not_run = str(reason)
    for turn in range(uncounted + repetitions):
        for result in results if turn % 2 == 0 else results[::-1]:
            if result.not_run is not None:
                continue
            try:
                taken = kept.ask(workers[result.name], {"run": result.name})
            except NotRun as reason:
                result.not_run = str(reason)
                continue
            result.first = result.first or taken
            if turn >= uncounted:
                result.runs.append({k: taken[k] for k in ("wall", "cpu")})
    for name, worker in workers.items():
        if worker.process.poll() is None:
            kept.ask(worker, {"drop": name})
    kept.close(isolated=True)
    return results
