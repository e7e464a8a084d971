"""Seeds at once, shared folders, stopped and killed runs, and what the lists of runs say."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from reluctant.reports import claims
from reluctant.reports.claims import claimed
from reluctant.reports.exhibits import Exhibit
from reluctant.reports.experiment import Experiment, Profile, RunFailed, as_json
from reluctant.reports.grids import chosen
from reluctant.reports.records import Record, Store
from reluctant.reports.runner import collect, run
from reluctant.reports.surveys import State, survey
from reluctant.reports.workplace import OutOfTime, Workplace
from reluctant.theory.errors import InputError


@dataclass(frozen=True)
class Setting:
    width: int
    protocol: str = "paper"
    seed: int = 0


class Groups(Experiment[Setting]):
    name = "groups"
    title = "Groups"
    at_once = True
    calls: ClassVar[list[tuple[int, ...]]] = []
    fault: ClassVar[Exception | None] = None

    def grid(self, profile: Profile) -> tuple[Setting, ...]:
        return tuple(
            Setting(w, p, s) for w in (1, 2) for p in ("paper", "modern") for s in range(3)
        )

    def run(self, config: Setting) -> Mapping[str, Any]:
        if config == Setting(2, "modern", 1):
            raise RunFailed("the loss became nan in epoch 3")
        return {"square": config.width**2}

    def run_all(
        self, configs: Sequence[Setting], place: Workplace
    ) -> Sequence[Mapping[str, Any] | RunFailed]:
        self.calls.append(tuple(config.seed for config in configs))
        assert place.folder is not None
        place.folder.mkdir(exist_ok=True)
        (place.folder / "epoch").write_text("3")
        if self.fault is not None:
            raise self.fault
        return super().run_all(configs, place)

    def draw(self, records: Sequence[Record]) -> tuple[Exhibit, ...]:
        return ()


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    Groups.calls.clear()
    monkeypatch.setattr(Groups, "fault", None)


def test_an_accelerator_takes_the_seeds_of_a_configuration_at_once(tmp_path: Path) -> None:
    found = run(Groups(), "quick", Store(tmp_path), device="elsewhere")
    assert Groups.calls == [(0, 1, 2)] * 4
    assert (found.ran, len(found.records)) == (12, 11)
    assert [gap.reason for gap in found.gaps] == ["run failed: the loss became nan in epoch 3"]
    assert found.records[0].hardware["device"] == "elsewhere"
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".json"}


def test_a_processor_takes_them_one_by_one(tmp_path: Path) -> None:
    run(Groups(), "quick", Store(tmp_path))
    assert sorted(Groups.calls) == sorted([(0,), (1,), (2,)] * 4)


def test_seeds_and_protocol_are_chosen(tmp_path: Path) -> None:
    found = run(Groups(), "quick", Store(tmp_path), seeds=1, protocol="modern")
    assert [(r.config["width"], r.config["protocol"], r.seed) for r in found.records] == [
        (1, "modern", 0),
        (2, "modern", 0),
    ]
    run(Groups(), "quick", Store(tmp_path), seeds=5, protocol="modern", device="elsewhere")
    assert Groups.calls[-2:] == [(1, 2, 3, 4)] * 2
    # more seeds than the profile has are shown all the same, after the others
    seen = [r.seed for r in collect(Groups(), "quick", Store(tmp_path), protocol="modern").records]
    assert seen == [0, 1, 2, 0, 2, 3, 4, 3, 4]
    with pytest.raises(
        InputError, match="no protocol 'new' under the profile quick; there is paper, m"
    ):
        chosen(Groups(), "quick", protocol="new")
    with pytest.raises(InputError, match="at least one seed, not 0"):
        chosen(Groups(), "quick", seeds=0)


def test_what_cannot_be_chosen_is_said() -> None:
    @dataclass(frozen=True)
    class Plain:
        width: int

    class Still(Groups):
        def grid(self, profile: Profile) -> tuple[Any, ...]:
            return (Plain(1),)

    with pytest.raises(InputError, match="groups has nothing to seed; leave --seeds out"):
        chosen(Still(), "quick", seeds=2)
    with pytest.raises(InputError, match=r"no protocol 'paper' .*; leave --protocol out"):
        chosen(Still(), "quick", protocol="paper")


def test_a_group_goes_on_as_it_was_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Groups, "fault", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(Groups(), "quick", store, protocol="paper", device="elsewhere")
    assert Groups.calls == [(0, 1, 2)]
    (kept,) = tmp_path.glob("groups/*/epoch")
    assert kept.parent.name.endswith(".0-1-2")
    run(Groups(), "quick", store, protocol="paper", seeds=5, device="elsewhere")
    assert Groups.calls[1:] == [(0, 1, 2), (3, 4), (0, 1, 2, 3, 4)]
    assert not list(tmp_path.glob("groups/*/"))


def test_a_kill_between_two_records_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, write, written = Store(tmp_path), Store.write, []

    def killed(self: Store, record: Record) -> Path:
        if written:
            raise KeyboardInterrupt
        written.append(write(self, record))
        return written[0]

    with monkeypatch.context() as patched:
        patched.setattr(Store, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run(Groups(), "quick", store, protocol="paper", device="elsewhere")
    before = written[0].stat().st_mtime_ns
    found = run(Groups(), "quick", store, protocol="paper", device="elsewhere")
    assert Groups.calls == [(0, 1, 2)] * 3
    assert (found.ran, len(found.records)) == (5, 6)
    assert written[0].stat().st_mtime_ns == before


def test_what_a_kill_left_behind_is_cleared(tmp_path: Path) -> None:
    store = Store(tmp_path)
    run(Groups(), "quick", store, protocol="paper", device="elsewhere")
    name = Groups().code_digest()[:8]
    for base in {path.name.split("-")[0] for path in tmp_path.glob("groups/*.json")}:
        (tmp_path / "groups" / f"{base}-{name}.0-1-2").mkdir()  # of no configuration: stays
    count = len(list(tmp_path.glob("groups/*/")))
    run(Groups(), "quick", store, protocol="paper", device="elsewhere")
    assert len(list(tmp_path.glob("groups/*/"))) == count


def test_time_that_is_up_ends_a_run_and_the_next_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    found = run(Groups(), "quick", store, device="elsewhere", seconds=-1.0)
    assert not Groups.calls and not found.records
    assert {gap.reason for gap in found.gaps} == {
        "the time was up before it was done; the same command goes on from there"
    }
    with monkeypatch.context() as patched:
        patched.setattr(Groups, "fault", OutOfTime("late"))
        found = run(Groups(), "quick", store, device="elsewhere", protocol="paper")
    assert {gap.reason.partition(";")[0] for gap in found.gaps} == {
        "the time was up before it was done"
    }
    assert len(list(tmp_path.glob("groups/*/epoch"))) == 2
    assert run(Groups(), "quick", store, device="elsewhere", protocol="paper").ran == 6


def test_a_place_says_how_far_it_is_and_when_to_stop() -> None:
    heard: list[float] = []
    Workplace(deadline=0.0, progress=heard.append).reached(1.0)
    with pytest.raises(OutOfTime):
        Workplace(deadline=0.0, progress=heard.append).reached(0.5)
    Workplace(progress=heard.append).reached(0.25)
    assert heard == [1.0, 0.5, 0.25]


def test_a_claim_is_had_by_one(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "record.json"
    with claimed(path, wait=False) as mine:
        assert mine
        with claimed(path, wait=False) as other:
            assert not other
    with claimed(path, wait=True) as mine:
        assert mine
    assert not list(path.parent.iterdir())


@pytest.mark.skipif(claims.fcntl is None, reason="no locks of files on this system")
def test_a_claim_on_a_file_that_is_gone_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, whole = claims.fcntl.flock, []

    def late(handle: Any, how: int) -> None:
        if not whole:  # its owner removes it, and another process makes one of the same name
            (tmp_path / "record.lock").unlink()
            (tmp_path / "record.lock").touch()
        whole.append(handle)
        lock(handle, how)

    monkeypatch.setattr(claims.fcntl, "flock", late)
    with claimed(tmp_path / "record.json", wait=False) as mine:
        assert mine and len(whole) == 2
        assert os.path.samestat((tmp_path / "record.lock").stat(), os.fstat(whole[1].fileno()))


@pytest.mark.skipif(claims.fcntl is None, reason="no locks of files on this system")
def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    script = tmp_path / "shared.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from dataclasses import dataclass
            from pathlib import Path
            from reluctant.reports.experiment import Experiment
            from reluctant.reports.records import Store
            from reluctant.reports.runner import run

            @dataclass(frozen=True)
            class Setting:
                width: int

            class Slow(Experiment):
                name, title = "slow", "Slow"
                def grid(self, profile): return tuple(Setting(w) for w in range(8))
                def run(self, config):
                    mine = Path(sys.argv[1]) / f"{config.width}-{sys.argv[2]}"
                    mine.touch()
                    while len({p.name[-1] for p in mine.parent.iterdir()}) < 2:
                        time.sleep(0.01)  # until both processes have begun something
                    return {"width": config.width}
                def draw(self, records): return ()
                def code_digest(self): return "0" * 16

            found = run(Slow(), "smoke", Store(Path(sys.argv[1]).parent / "records"))
            print(found.ran, len(found.records))
            """
        )
    )
    (tmp_path / "log").mkdir()
    arguments = [sys.executable, str(script), str(tmp_path / "log")]
    both = [
        subprocess.Popen([*arguments, name], stdout=subprocess.PIPE, text=True) for name in "ab"
    ]
    said = [process.communicate(timeout=120)[0].split() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(path.name[0] for path in (tmp_path / "log").iterdir()) == list("01234567")
    assert sum(int(ran) for ran, _ in said) == 8 and min(int(ran) for ran, _ in said) > 0
    assert [count for _, count in said] == ["8", "8"]  # each waits for what the other has


def test_a_survey_tells_what_is_done_and_what_the_rest_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    nothing = survey(Groups(), "quick", store)
    assert (nothing.count(State.MISSING), nothing.taken, nothing.to_come) == (12, 0.0, None)

    class Costly(Groups):
        def cost(self, config: Setting) -> float:
            return float(config.width)

    times = iter(range(0, 1000, 3))
    run(Costly(), "quick", store, seeds=1, protocol="paper", clock=lambda: float(next(times)))
    with monkeypatch.context() as patched:
        patched.setattr(Groups, "fault", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run(Costly(), "quick", store, seeds=2, protocol="paper")
    run(Costly(), "quick", store, seeds=2, protocol="modern")
    code, plain = Costly().code_digest(), as_json(Setting(2, "paper", 2))
    digest = replace(Record("groups", "quick", plain, None, code)).digest
    with claimed(store.path("groups", digest, code), wait=False):
        found = survey(Costly(), "quick", store)
    assert [found.count(state) for state in State] == [5, 1, 1, 1, 4]
    states = {(e.config["width"], e.config["protocol"], e.config["seed"]): e for e in found.lines}
    assert states[2, "paper", 2].state is State.UNDER_WAY
    assert states[1, "paper", 1].state is State.BEGUN
    assert states[2, "modern", 1].words == "the loss became nan in epoch 3"
    assert math.isclose(found.taken, sum(e.seconds or 0 for e in found.lines if e.state == "done"))
    done = [e for e in found.lines if e.state is State.DONE]
    rate = found.taken / sum(e.config["width"] for e in done)
    left = [e for e in found.lines if e.state in (State.MISSING, State.BEGUN, State.UNDER_WAY)]
    assert found.to_come == pytest.approx(rate * sum(e.config["width"] for e in left))
