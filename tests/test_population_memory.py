"""A round that does not fit in the memory is trained in parts, to the same bits."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import examples, not_if_brief, quick
from hypothesis import given
from hypothesis import strategies as st
from populations import KEY, MIXED, SGD, assert_same_bits, networks, scorer_for, training_data

from skectonas import Dense, Topology
from skectonas.candidate import Candidate
from skectonas.inputs.mapped import MappedImages
from skectonas.population import FusedTrainer
from skectonas.population import trainer as trainers
from skectonas.population.groups.group_training import TrainingSetup
from skectonas.population.groups.grouping import Group
from skectonas.population.groups.ways import Planned, Way
from skectonas.population.memory import free
from skectonas.population.memory.needs import Need, Needs, bytes_of
from skectonas.population.memory.parts import Part, parts_that_fit, smaller_parts
from skectonas.population.native.library import choose_engine
from skectonas.population.native.training import COPIES
from skectonas.training.data import Rows, TrainingData
from skectonas.training.plain import resolve_optimizer

CPU = torch.device("cpu")
SHAPE = (6, 6, 1)
LACK = "There is not enough memory to train"

# --- what is free ----------------------------------------------------------------------------


def system(root: Path, files: dict[str, str]) -> Path:
    """Write files as the system shows them."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 9000 kB\nMemFree: 10 kB\nMemAvailable: 5000 kB\n"}
V2 = {
    **MEMINFO,
    "proc/self/cgroup": "0::/batch/job\n",
    "sys/fs/cgroup/batch/job/memory.max": "max\n",
    "sys/fs/cgroup/batch/job/memory.current": "700000\n",
    "sys/fs/cgroup/batch/memory.max": "1000000\n",
    "sys/fs/cgroup/batch/memory.current": "800000\n",
    "sys/fs/cgroup/batch/memory.stat": "anon 1\ninactive_file 50000\nactive_file 7\n",
}
V1 = {
    **MEMINFO,
    "proc/self/cgroup": "9:cpu,cpuacct:/x\n4:memory:/somewhere/else\n0::/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000\n",
    "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000\n",
    "sys/fs/cgroup/memory/memory.stat": "inactive_file 9\nactive_file 9\n"
    "total_inactive_file 500000\ntotal_active_file 60\n",
}


@pytest.mark.skipif(sys.platform != "linux", reason="files of Linux")
@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        (MEMINFO, 5000 * 1024),
        (V2, 250_007),
        (V2 | {"sys/fs/cgroup/batch/job/memory.max": "700001\n"}, 1),
        (V2 | {"sys/fs/cgroup/batch/memory.current": "2000000\n"}, 0),
        (V2 | {"sys/fs/cgroup/batch/memory.max": "max\n"}, 5000 * 1024),
        (V1, 2_500_060),
        (V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2**63 - 4096}"}, 5000 * 1024),
    ],
)
def test_what_linux_says(files: dict[str, str], expected: int | None, tmp_path: Path) -> None:
    found = free.free_bytes(CPU, system(tmp_path, files))
    assert found == (None if expected is None else int(free.USED_SHARE * expected))


@pytest.mark.skipif(sys.platform != "linux", reason="files of Linux")
def test_this_machine_says_something() -> None:
    found = free.free_bytes(CPU)
    assert found is not None
    assert 2**20 < found < 2**50


def test_elsewhere_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert free.free_bytes(CPU) is None
    free.give_back(CPU)


# --- parts -----------------------------------------------------------------------------------


def topology(units: int) -> Topology:
    return Topology(SHAPE, [], [Dense(units)], 3)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[list[Planned], list[Candidate], list[Need]]:
    """Groups of up to three candidates, and what each group needs for a candidate."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=8))
    candidates = [Candidate(i, topology(i + 1), {}) for i in range(sum(sizes))]
    planned, begin = [], 0
    for size in sizes:
        members = tuple(range(begin, begin + size))
        planned.append(Planned(Way.STACKS, Group(topology(members[-1] + 1), members)))
        begin += size
    number = st.integers(0, 20)
    needs = [
        Need(
            result,
            result + draw(number),
            draw(number),
            draw(st.sampled_from([0, 3, 7])),
            draw(st.sampled_from([0, 5])),
        )
        for result in (draw(st.integers(0, 5)) for _ in candidates)
    ]
    return planned, candidates, needs


@examples(200)
@given(rounds(), st.integers(1, 5), st.integers(0, 150))
def test_parts_fit(
    case: tuple[list[Planned], list[Candidate], list[Need]], n_workers: int, limit: int
) -> None:
    planned, candidates, needs = case

    def need_of(own: Planned) -> Need:
        result, state, scratch, shared, common = zip(
            *(needs[i] for i in own.group.members), strict=True
        )
        return Need(sum(result), sum(state), sum(scratch), max(shared), max(common))

    parts, others = parts_that_fit(planned, candidates, need_of, n_workers, limit)
    if bytes_of(list(map(need_of, planned)), n_workers) <= limit:
        assert parts == [Part(planned, n_workers)]
        assert not others
        return
    trained = [own for part in parts for own in part.planned]
    members = [i for own in (*trained, *others) for i in own.group.members]
    assert sorted(members) == list(range(len(candidates)))
    left = limit
    for part in parts:
        own = [need_of(each) for each in part.planned]
        assert 1 <= part.n_workers <= n_workers
        assert bytes_of(own, part.n_workers) <= left
        left -= sum(need.result for need in own)
    for each in others:
        assert len(each.group.members) == 1
        assert bytes_of([need_of(each)], 1) > left
    # A stack is divided only if it does not fit alone.
    for stack in planned:
        assert stack in trained or bytes_of([need_of(stack)], 1) > left


@given(rounds(), st.integers(1, 3))
def test_parts_that_failed_are_divided_to_the_end(
    case: tuple[list[Planned], list[Candidate], list[Need]], n_workers: int
) -> None:
    planned, candidates, _ = case
    waiting, ends, n_tries = [Part(planned, n_workers)], [], 0
    while waiting:
        part = waiting.pop(0)
        n_tries += 1
        smaller = smaller_parts(part, candidates)
        assert part not in smaller
        waiting[:0] = smaller
        ends += [] if smaller else [part]
    assert all(end.n_workers == 1 for end in ends)
    assert [i for end in ends for [own] in [end.planned] for i in own.group.members] == list(
        range(len(candidates))
    )
    assert n_tries <= 5 * len(candidates)


# --- needs -----------------------------------------------------------------------------------


NATIVE = choose_engine()


@pytest.mark.skipif(NATIVE.library is None, reason="no native library was built")
@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (lambda X: X, 512),
        (lambda X: X.double(), 512 * 8),
        # Those of the calibration are converted.
        (lambda X: X.half(), 512 * (2 + 8) + 1024 * 8 * COPIES),
        (lambda X: X.repeat_interleave(2, 0)[::2], 512 + 1024 * COPIES),
        (lambda X: mapped(X.numpy()), 512 + 1024 * COPIES),
        # Fewer are copied at once, most of them in the validation.
        (lambda X: mapped(X.tile(300, 1).double().numpy()), (512 + 388 * COPIES) * 8 * 300),
    ],
)
def test_images_that_are_copied_count(
    images: Callable[[torch.Tensor], Any], expected: int
) -> None:
    given = images(torch.zeros(1500, 6, 6, 1, dtype=torch.uint8))
    rows = Rows(given, torch.zeros(1500, dtype=torch.int64))
    data = TrainingData(rows, rows)
    setup = TrainingSetup(data, SGD, scorer_for(training_data(SHAPE)), 1)
    start = networks(data.calibration.shape[1:], 3, [("", (4,))])
    needs = Needs(setup, 32, NATIVE, 1, in_processes=False)
    need = needs.of(Planned(Way.NATIVE, Group(start[0].topology, (0,))), start)
    assert need.common == expected * 36


def mapped(X: np.ndarray) -> MappedImages:
    return MappedImages(X, lambda X, rows: X[rows])


# --- the trainer -----------------------------------------------------------------------------


N_STEPS = [10, 5, 7, 10, 1, 10, 3, 5, 6, 10, 7, 10]  # an epoch has five


def trained(n_jobs: int = 1, optimizer: Any = SGD) -> list[Candidate]:
    data = training_data(SHAPE, weighted=True)
    trainer = FusedTrainer(data, optimizer, scorer_for(data), 2, n_jobs)
    return trainer.train(networks(SHAPE, 3, MIXED), N_STEPS, KEY)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> list[Part]:
    """Return a list that collects the parts that are trained."""
    seen: list[Part] = []
    train = FusedTrainer._train_if_it_fits

    def watched(self: Any, this: Any, part: Part) -> Any:
        seen.append(part)
        return train(self, this, part)

    monkeypatch.setattr(FusedTrainer, "_train_if_it_fits", watched)
    return seen


def limit(monkeypatch: pytest.MonkeyPatch, n_bytes: int | None) -> None:
    monkeypatch.setattr(trainers, "free_bytes", lambda device: n_bytes)


def needs_of_all(n_jobs: int, optimizer: Any) -> list[Need]:
    """Return what the groups of the round need."""
    data = training_data(SHAPE, weighted=True)
    trainer = FusedTrainer(data, optimizer, scorer_for(data), 2, n_jobs)
    candidates = networks(SHAPE, 3, MIXED)
    this = trainers._Round(candidates, N_STEPS, KEY, trainers.PLAIN_RECIPE, math.inf, 8)
    planned = trainer._plan(this, range(len(candidates)))
    return list(map(trainer._need_of(this, n_jobs), planned))


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_parts_do_not_change_bits(
    optimizer: str, n_jobs: int, monkeypatch: pytest.MonkeyPatch, parts: list[Part]
) -> None:
    spec = SGD if optimizer == "sgd" else resolve_optimizer(optimizer, 0.01)
    limit(monkeypatch, None)
    expected = trained(1, spec)
    assert len(parts) == 1
    needs = needs_of_all(n_jobs, spec)
    largest = max(bytes_of([need], n_jobs) for need in needs)
    results = sum(need.result for need in needs)
    assert bytes_of(needs, n_jobs) > largest + results
    limit(monkeypatch, largest + results)
    parts.clear()
    assert_same_bits(trained(n_jobs, spec), expected)
    assert len(parts) > 1
    assert {part.n_workers for part in parts} == {n_jobs}
    limit(monkeypatch, bytes_of(needs, n_jobs))
    parts.clear()
    assert_same_bits(trained(n_jobs, spec), expected)
    assert len(parts) == 1


def large_and_small() -> list[Candidate]:
    return networks(SHAPE, 3, [("", (4,)), ("", (60_000,)), ("2a", (5,)), ("", (50_000,))])


@pytest.mark.usefixtures("engine")
def test_what_does_not_fit_loses(monkeypatch: pytest.MonkeyPatch) -> None:
    data = training_data(SHAPE)
    trainer = FusedTrainer(data, SGD, scorer_for(data))
    given = large_and_small()
    limit(monkeypatch, 10**7)
    with pytest.warns(UserWarning, match=f"{LACK} 2 of 4 .* has 2,000,003 weights") as warned:
        found = trainer.train(given, [5] * 4, KEY)
    assert len(warned) == 1
    for i in (1, 3):
        assert found[i].weights is given[i].weights
        assert found[i].n_steps == given[i].n_steps
        [evaluation] = found[i].evaluations
        assert np.isnan(evaluation.train_loss)
        assert (found[i].loss, found[i].score) == (np.inf, -np.inf)
    small = [given[0], given[2]]
    assert_same_bits([found[0], found[2]], trainer.train(small, [5] * 2, KEY))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("none left"),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError(
            "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"
        ),
    ],
)
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_lack_of_memory_in_a_round(
    error: Exception, n_jobs: int, monkeypatch: pytest.MonkeyPatch, parts: list[Part]
) -> None:
    """Only two candidates fit at the same time, and one does not fit at all."""
    expected = trained()
    raising(monkeypatch, error, lambda tasks: len(tasks) > 2 or hopeless(tasks))
    parts.clear()
    with pytest.warns(UserWarning, match=f"{LACK} 1 of 12"):
        found = trained(n_jobs)
    assert found[6].n_steps == 0
    assert found[6].loss == np.inf
    assert_same_bits([*found[:6], *found[7:]], [*expected[:6], *expected[7:]])
    assert min(len(part.planned) for part in parts) == 1


def hopeless(tasks: Sequence[Any]) -> bool:
    return any(candidate.id == 6 for task in tasks for candidate in task.candidates)


def raising(
    monkeypatch: pytest.MonkeyPatch, error: Exception, when: Callable[[Sequence[Any]], bool]
) -> None:
    """Let the functions that train groups raise an error."""
    for name in ("_train_natively", "_train_together", "_train_alone"):
        train = getattr(trainers, name)

        def failing(shared: Any, tasks: Any, *others: Any, of: Any = train, **how: Any) -> Any:
            if when(tasks):
                raise error
            return of(shared, tasks, *others, **how)

        monkeypatch.setattr(trainers, name, failing)


def test_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, RuntimeError("something else"), lambda tasks: True)
    with pytest.raises(RuntimeError, match="something else"):
        trained()


REAL = """
    import os, resource, warnings
    import torch
    from populations import ENGINES, KEY, SGD, networks, scorer_for, training_data
    from skectonas.population import FusedTrainer
    from skectonas.population.native.library import VARIABLE

    def trained(candidates):
        data = training_data((6, 6, 1))
        trainer = FusedTrainer(data, SGD, scorer_for(data))
        return trainer.train(candidates, [5] * len(candidates), KEY)

    torch.set_num_threads(1)
    *small, large = networks((6, 6, 1), 3, [("", (4,)), ("2a", (5,)), ("", (2_000_000,))])
    expected = {}
    for engine in ENGINES[:2]:
        os.environ[VARIABLE] = engine
        expected[engine] = trained(small)
    [used] = [line for line in open("/proc/self/status") if line.startswith("VmSize")]
    most = 1024 * int(used.split()[1]) + 2**30
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for engine in expected:
        os.environ[VARIABLE] = engine
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            found = trained([*small, large])
        assert "1 of 3" in str(warned[-1].message), warned
        assert [c.n_steps for c in found] == [5, 5, 0]
        for one, other in zip(found, expected[engine]):
            assert one.evaluations == other.evaluations
            assert all(torch.equal(one.weights[n], other.weights[n]) for n in one.weights)
"""


@not_if_brief
@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_process_that_gets_no_more_memory() -> None:
    program, folder = textwrap.dedent(REAL), Path(__file__).parent
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- the search ------------------------------------------------------------------------------


def test_a_search_goes_on_without_what_does_not_fit(
    digits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(
        monkeypatch,
        MemoryError(),
        lambda tasks: any(task.topology.n_parameters > 1_500 for task in tasks),
    )
    start = Topology((8, 8, 1), [], [Dense(16)], 10)
    with pytest.warns(UserWarning, match=LACK):
        clf = quick(60, start=start).fit(*digits)
    lost = clf.history_[clf.history_.n_parameters > 1_500]
    assert len(lost)
    assert (lost.mean_loss == np.inf).all()
    assert clf.best_topology_.n_parameters <= 1_500
    assert clf.score(*digits) > 0.5


def test_a_start_that_does_not_fit(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 10)
    clf = quick(30)
    with (
        pytest.warns(UserWarning, match=LACK),
        pytest.raises(MemoryError, match="not enough memory to train the start"),
    ):
        clf.fit(*digits)
    assert not hasattr(clf, "network_")
