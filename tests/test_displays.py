"""The pictures: what is drawn is what the tables say, and it can be read."""

from __future__ import annotations

import io
import runpy
import sys
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import as_table, examples, quick
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from test_pareto import noisy
from test_search import FakeTrainer, run

from skectonas import ConvCell, Dense, ECToNASClassifier, Topology
from skectonas.displays import (
    EvolutionDisplay,
    LineageDisplay,
    ParetoDisplay,
    TopologyDisplay,
)
from skectonas.displays.blocks import SHORTER, THIN, blocks_of, largest_scale, needed
from skectonas.displays.style import MARKS, OTHERS, marks_of, spread
from skectonas.morphisms import MORPHISMS, AddUnits
from skectonas.search import standings

plt = pytest.importorskip("matplotlib.pyplot")
plt.switch_backend("Agg")

DISPLAYS = [EvolutionDisplay, LineageDisplay, ParetoDisplay, TopologyDisplay]
OF_TABLES = DISPLAYS[:3]


@pytest.fixture(autouse=True)
def _no_figure_stays() -> Iterator[None]:
    yield
    plt.close("all")


@cache
def tables(budget: float = 300, seed: int = 0, **settings: Any) -> dict[str, pd.DataFrame]:
    """Return history and lineage of a search that trains nothing."""
    trainer = FakeTrainer(noisy(50))
    outcome, history, _, _ = run(budget, trainer, seed=seed, **settings)
    lineage = pd.DataFrame(
        {
            "generation": candidate.generation,
            "candidate": candidate.id,
            "morphism": candidate.morphism,
            "topology": str(candidate.topology),
            "n_parameters": candidate.n_parameters,
            "epochs_total": candidate.n_steps / 7,
            "validation_score": candidate.score,
        }
        for candidate in outcome.lineage
    )
    return {"history": history, "lineage": lineage}


@pytest.fixture(scope="module")
def found() -> dict[str, pd.DataFrame]:
    return tables(600)


def draw(figure: Any, dpi: int = 100) -> bytes:
    """Return the picture; whatever warns on the way is an error."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()


# --- all of them -----------------------------------------------------------------------------


@pytest.mark.parametrize("display", DISPLAYS)
def test_from_estimator(display: Any, fitted: ECToNASClassifier) -> None:
    drawn = display.from_estimator(fitted)
    assert isinstance(drawn, display)
    assert draw(drawn.figure_).startswith(b"\x89PNG")
    _, ax = plt.subplots(layout="constrained")
    given_ax = display.from_estimator(fitted, ax=ax)
    assert given_ax.figure_ is ax.figure
    assert getattr(given_ax, "ax_", None) is ax or given_ax.bounding_ax_ is ax
    draw(ax.figure)


@pytest.mark.parametrize("display", OF_TABLES)
@pytest.mark.parametrize("budget", [6, 11, 45, 60, 1000])
def test_short_and_long_searches(display: Any, budget: float) -> None:
    draw(display(**tables(budget)).plot().figure_)


@pytest.mark.parametrize("display", OF_TABLES)
def test_tables_may_come_from_a_file(display: Any, found: Any, tmp_path: Any) -> None:
    for name, table in found.items():
        table.to_csv(tmp_path / name, index=False)
    read = display(**{name: pd.read_csv(tmp_path / name) for name in found})
    assert draw(read.plot().figure_) == draw(display(**found).plot().figure_)


def test_starts_beside_the_lineage_may_come_from_a_file(digits: Any, tmp_path: Any) -> None:
    clf = quick(30).fit(*as_table(digits))
    starts = clf.history_["candidate"][clf.history_["parent"].isna()]
    assert not set(starts) <= set(clf.lineage_["candidate"])
    test_tables_may_come_from_a_file(
        EvolutionDisplay, {"history": clf.history_, "lineage": clf.lineage_}, tmp_path
    )


@pytest.mark.parametrize("display", DISPLAYS)
def test_what_cannot_be_drawn(display: Any, fitted: ECToNASClassifier) -> None:
    with pytest.raises(NotFittedError):
        display.from_estimator(quick())
    with pytest.raises(TypeError, match=r"got Pipeline: .* pipeline\[-1\]"):
        display.from_estimator(make_pipeline(StandardScaler(), fitted))


@pytest.mark.parametrize("display", OF_TABLES)
def test_tables_that_lack_something(display: Any, found: Any) -> None:
    for name in found:
        with pytest.raises(ValueError, match=f"{name} lacks the columns"):
            display(**found | {name: found[name].drop(columns=["n_parameters", "morphism"])})
        with pytest.raises(ValueError, match=f"{name} must be a data frame"):
            display(**found | {name: found[name][:0]})


@pytest.mark.parametrize("display", DISPLAYS)
def test_without_matplotlib(
    display: Any, fitted: ECToNASClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "skectonas\[plot\]"'):
        display.from_estimator(fitted)
    topology = fitted.best_topology_
    frames = {"history": fitted.history_, "lineage": fitted.lineage_}
    made = display(topology) if display is TopologyDisplay else display(**frames)
    with pytest.raises(ImportError, match=r"matplotlib .*; pip install \"skectonas\[plot\]\""):
        made.plot()


# --- evolution -------------------------------------------------------------------------------


def test_evolution_follows_the_lineage(found: Any) -> None:
    history, lineage = found["history"], found["lineage"]
    display = EvolutionDisplay(**found).plot()
    x, y = display.lines_[0].get_data()
    assert (np.diff(x) > 0).all()
    line = history[history["candidate"].isin(lineage["candidate"])]
    stops = line[(line["phase"] != "recovery")].sort_values("epochs_total")
    end = lineage["epochs_total"].iloc[-1]
    stops = stops[stops["epochs_total"] <= end + 1e-9]
    np.testing.assert_allclose(x, stops["epochs_total"])
    np.testing.assert_array_equal(y, stops["mean_score"])
    assert y[-1] == lineage["validation_score"].iloc[-1]
    x, y = display.lines_[1].get_data()
    assert x[0] == 0
    assert x[-1] == end
    assert list(y) == [*lineage["n_parameters"], lineage["n_parameters"].iloc[-1]]
    # A child takes over what its parent has been trained.
    np.testing.assert_allclose(x[1:-1], lineage["epochs_total"].iloc[:-1])
    assert len(display.dips_.get_xdata()) == len(stops) + len(lineage) - 1


def test_evolution_has_all_others_behind_it(found: Any) -> None:
    history, lineage = found["history"], found["lineage"]
    display = EvolutionDisplay(**found).plot()
    others = sorted(set(history["candidate"]) - set(lineage["candidate"]))
    scores, sizes = (lines.get_segments() for lines in display.candidates_)
    assert len(scores) == len(sizes) == len(others)
    for candidate, line, level in zip(others, scores, sizes, strict=True):
        rows = history[history["candidate"] == candidate]
        begin = rows["epochs_total"].iloc[0] - rows["epochs"].iloc[0]
        finite = rows[np.isfinite(rows["mean_score"]) & (rows["phase"] != "recovery")]
        parent = history[history["candidate"] == rows["parent"].iloc[0]]
        parent = parent[parent["phase"] != "final"].iloc[[-1]]
        parent = parent[np.isfinite(parent["mean_score"])]  # the last round may have failed
        birth, rest = line[: len(parent)], line[len(parent) :]
        columns = ["epochs_total", "mean_score"]
        np.testing.assert_allclose(np.reshape(birth, (-1, 2)), parent[columns].astype(float))
        np.testing.assert_array_equal(np.reshape(rest, (-1, 2)), finite[columns])
        assert (level[:, 1] == rows["n_parameters"].iloc[0]).all()
        np.testing.assert_allclose(level[0, 0], begin)


def test_evolution_names_the_changes(found: Any) -> None:
    display = EvolutionDisplay(**found).plot()
    changes = found["lineage"]["morphism"].iloc[1:]
    assert [text.get_text() for text in display.texts_] == [
        name.replace("_", " ") for name in changes
    ]
    assert [mark.get_marker() for mark in display.marks_] == [MARKS[c].shape for c in changes]
    low, high = display.axes_[0].get_xlim()
    places = [text.get_position()[0] for text in display.texts_]
    assert np.diff(places).min() >= (high - low) / 30 - 1e-9
    assert all(low <= place <= high for place in places)


def test_evolution_shows_the_lineage_within_its_frame(found: Any) -> None:
    display = EvolutionDisplay(**found, score_name="F1").plot()
    upper, lower = display.axes_
    assert upper.get_ylabel() == "F1"
    assert lower.get_ylabel() == "parameters"
    for ax, line in zip((upper, lower), display.lines_, strict=True):
        low, high = ax.get_ylim()
        assert (low < line.get_ydata()).all()
        assert (line.get_ydata() < high).all()
    assert lower.get_yscale() == "log"
    sizes = found["history"]["n_parameters"]
    assert lower.get_ylim()[0] < sizes.min() < sizes.max() < lower.get_ylim()[1]


def test_evolution_on_axes_of_ones_own(fitted: ECToNASClassifier) -> None:
    _, axes = plt.subplots(1, 2)
    display = EvolutionDisplay.from_estimator(fitted, ax=axes)
    assert list(display.axes_) == list(axes)
    assert display.bounding_ax_ is None
    assert display.axes_[0].get_ylabel() == "validation accuracy"


def test_the_axis_names_the_score_of_the_fit(digits: Any, tmp_path: Any) -> None:
    def own(estimator: Any, X: Any, y: Any) -> float:
        return float((estimator.predict(X) == y).mean())

    def label(clf: ECToNASClassifier) -> str:
        return str(EvolutionDisplay.from_estimator(clf).axes_[0].get_ylabel())

    clf = quick(3, scoring="balanced_accuracy").fit(*digits).set_params(scoring="accuracy")
    assert label(clf) == "validation balanced accuracy"
    clf.set_params(scoring=own).fit(*digits)
    with pytest.warns(UserWarning, match="parameters"):
        clf.save(tmp_path / "file")
    with pytest.warns(UserWarning, match="parameters"):
        loaded = ECToNASClassifier.load(tmp_path / "file")
    assert label(clf) == label(loaded) == "validation score"


# --- lineage ---------------------------------------------------------------------------------


def test_the_tree_has_all_candidates(found: Any) -> None:
    history = found["history"]
    display = LineageDisplay(**found).plot()
    tree = display.tree
    assert tree.index.tolist() == sorted(set(history["candidate"]))
    drawn = np.concatenate([dots.get_offsets() for dots in display.candidates_.values()])
    assert len(np.unique(drawn, axis=0)) == len(drawn) == len(tree)
    assert {tuple(point) for point in drawn} == set(
        tree[["generation", "place"]].astype(float).itertuples(index=False, name=None)
    )
    for (name, survived), dots in display.candidates_.items():
        own = tree[(tree["morphism"] == name) & (tree["survived"] == survived)]
        assert dots.get_offsets()[:, 1].tolist() == own["place"].tolist()


def test_the_tree_joins_parents_and_children(found: Any) -> None:
    display = LineageDisplay(**found).plot()
    tree = display.tree
    where = {tuple(row[1:]): row[0] for row in tree[["generation", "place"]].itertuples()}
    joined = {tuple(where[tuple(end)] for end in e) for e in display.edges_.get_segments()}
    children = found["history"].dropna(subset=["parent"])
    assert joined == set(zip(children["parent"], children["candidate"], strict=True))
    parents = tree.loc[sorted({parent for parent, _ in joined})]
    assert parents["survived"].all()
    line = found["lineage"]["candidate"]
    assert display.line_.get_ydata().tolist() == tree["place"][line].tolist()
    assert [text.get_text() for text in display.texts_] == [str(c) for c in line]


def test_survivors_of_the_tree_have_lost_no_bracket(found: Any) -> None:
    history, tree = found["history"], LineageDisplay(**found).tree
    for candidate, survived in tree["survived"].items():
        won = history["won"][history["candidate"] == candidate].dropna()
        assert survived == won.all()


def test_edges_of_the_tree_do_not_cross(found: Any) -> None:
    tree = LineageDisplay(**found).tree
    for _, generation in tree.groupby("generation"):
        parents = generation.sort_values("place")["parent"].dropna()
        assert tree["place"].reindex(parents.astype(int)).is_monotonic_increasing


# --- the front -------------------------------------------------------------------------------


@examples(15)
@given(budget=st.sampled_from([6, 45, 60, 170]), seed=st.integers(0, 9))
def test_the_front_that_is_drawn(budget: float, seed: int) -> None:
    frames = tables(budget, seed)
    display = ParetoDisplay(**frames).plot()
    plt.close(display.figure_)
    rows = standings(frames["history"], frames["lineage"])
    points = rows[["n_parameters", "mean_score"]].to_numpy(float)
    assert len(points) == frames["history"]["candidate"].nunique()
    finite = points[np.isfinite(points[:, 1])]
    beaten = [
        any(
            other[0] <= point[0] and other[1] >= point[1] and tuple(other) != tuple(point)
            for other in finite
        )
        for point in finite
    ]
    front = sorted({tuple(point) for point in finite[~np.array(beaten)]})
    assert list(zip(*display.line_.get_data(), strict=True)) == front
    below = sum(len(line.get_xdata()) for line in display.below_)
    assert len(display.points_.get_xdata()) + below == len(points)
    winner = frames["lineage"].iloc[-1]
    assert display.winner_.get_xdata().item() == winner["n_parameters"]
    assert display.winner_.get_ydata().item() == winner["validation_score"]
    assert winner["candidate"] in display.texts_


@pytest.mark.parametrize("budget", [60, 170])
def test_front_of_the_estimator(digits: Any, budget: float) -> None:
    clf = quick(budget, keep_candidates="pareto", validation_fraction=0.3).fit(*digits)
    front = clf.pareto_front_
    for candidate in [*front["candidate"], clf.lineage_["candidate"].iloc[-1]]:
        display = ParetoDisplay.from_estimator(clf.with_candidate(candidate))
        assert display.front.index.tolist() == front["candidate"].tolist()
        assert display.line_.get_ydata().tolist() == front["validation_score"].tolist()
        assert str(candidate) == display.texts_[candidate].get_text()
        assert display.ax_.get_xlabel() == "parameters"
        low, high = display.ax_.get_ylim()
        assert low < display.winner_.get_ydata().item() < high
        line = EvolutionDisplay.from_estimator(clf.with_candidate(candidate)).lines_[0]
        assert line.get_ydata()[-1] == display.winner_.get_ydata().item()


# --- networks --------------------------------------------------------------------------------


CNN = Topology((28, 20, 3), [ConvCell(30), ConvCell(60, "max")], [Dense(100), Dense(7)], 10)
TOPOLOGIES = st.builds(
    lambda shape, cells, dense, n: Topology(
        shape, [ConvCell(c) for c in cells], [Dense(u) for u in dense], n
    ),
    st.tuples(st.integers(8, 40), st.integers(8, 40), st.integers(1, 4)),
    st.lists(st.integers(1, 200), max_size=3),
    st.lists(st.integers(1, 1000), max_size=4),
    st.integers(2, 100),
)


def extent(patch: Any) -> tuple[float, float, float, float]:
    (x0, y0), (x1, y1) = patch.get_xy().min(0), patch.get_xy().max(0)
    return x0, y0, x1, y1


@examples(15)
@given(start=TOPOLOGIES, winner=TOPOLOGIES, own=st.booleans())
def test_networks_are_drawn_to_scale(start: Topology, winner: Topology, own: bool) -> None:
    ax = None if own else plt.subplots(figsize=(5, 3))[1]
    display = TopologyDisplay({"start": start, "winner": winner}).plot(ax)
    plt.close(display.figure_)
    rates = []
    for name, topology in display.topologies.items():
        shapes = [topology.input_shape, *(layer.output_shape for layer in topology.layers)]
        boxes = [extent(box) for box in display.boxes_[name]]
        assert len(boxes) == len(shapes)
        for shape, (x0, y0, x1, y1) in zip(shapes, boxes, strict=True):
            rates.append((y1 - y0) / shape[0])
            width = SHORTER * shape[2] * rates[-1] if len(shape) == 3 else 0
            assert x1 - x0 == pytest.approx(max(width, THIN))
        # They stand side by side, around one height.
        assert all(left[2] < right[0] for left, right in pairwise(boxes))
        assert f"{topology.n_parameters:,} parameters" in display.texts_[name][0].get_text()
        labels = [text.get_text() for text in display.texts_[name][3:]]
        counts = [int(label.split("\n")[2].replace(",", "")) for label in labels]
        assert counts == [layer.n_parameters for layer in topology.layers]
    np.testing.assert_allclose(rates, rates[0])
    assert display.ax_.get_aspect() == 1


@pytest.mark.parametrize("size", [None, (3, 2), (5, 3), (12, 8)])
@pytest.mark.parametrize("font", [7, 10, 16])
def test_labels_of_networks_do_not_overlap(size: Any, font: float) -> None:
    with plt.rc_context({"font.size": font}):
        small = Topology((28, 20, 3), [], [Dense(3000)], 10)
        ax = None if size is None else plt.subplots(figsize=size)[1]
        display = TopologyDisplay({"start": small, "winner": CNN}).plot(ax)
        draw(display.figure_)
    page = display.ax_.get_window_extent().padded(1)
    for name in ("start", "winner"):
        boxes = [text.get_window_extent() for text in display.texts_[name]]
        for i, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:i])
            assert page.x0 <= box.x0 < box.x1 <= page.x1
            assert page.y0 <= box.y0 < box.y1 <= page.y1
        for patch in display.boxes_[name]:
            shape = patch.get_window_extent()
            assert not any(shape.overlaps(box) for box in boxes)
    above = max(t.get_window_extent().y1 for t in display.texts_["winner"])
    assert above < min(t.get_window_extent().y0 for t in display.texts_["start"][1:])


@given(rows=st.lists(TOPOLOGIES, min_size=1, max_size=3), width=st.floats(50, 2000))
def test_the_largest_scale_fits(rows: list[Topology], width: float) -> None:
    blocks = [blocks_of(topology) for topology in rows]
    height = needed(blocks, 0)[1] + 100
    scale = largest_scale(blocks, width, height)
    wide, tall = needed(blocks, scale)
    if scale > 1e-3:
        assert wide <= width
        assert tall <= height
        wide, tall = needed(blocks, 1.01 * scale)
        assert wide > width or tall > height
    else:
        assert needed(blocks, 0.01)[0] > width


def test_network_of_the_estimator(fitted: ECToNASClassifier) -> None:
    display = TopologyDisplay.from_estimator(fitted)
    assert display.topologies["winner"] == fitted.best_topology_
    assert str(display.topologies["start"]) == fitted.lineage_["topology"].iloc[0]
    assert list(TopologyDisplay.from_estimator(fitted, start=False).topologies) == ["winner"]
    only = TopologyDisplay(fitted.best_topology_).plot()
    assert only.texts_[""][0].get_text() == f"{fitted.n_parameters_:,} parameters"


@pytest.mark.parametrize("wrong", [{}, None, "8x8x1 > 10 classes", {"a": 3}, [CNN]])
def test_what_is_no_network(wrong: Any) -> None:
    with pytest.raises(ValueError, match="topologies must be"):
        TopologyDisplay(wrong)


# --- what they share -------------------------------------------------------------------------


def test_every_change_has_a_mark_of_its_own() -> None:
    assert {morphism.name for morphism in MORPHISMS} | {"start"} == set(MARKS)
    assert len({mark.shape for mark in [*MARKS.values(), *OTHERS]}) == len(MARKS) + 5
    assert len(set(OTHERS)) == len(OTHERS)
    own = marks_of(["mine", "add_units", "yours"])
    assert own["add_units"] == MARKS["add_units"]
    assert len({own["mine"], own["yours"], own["add_units"]}) == 3


def test_changes_of_ones_own_are_drawn() -> None:
    class Mine(AddUnits):
        name = "mine"

    frames = tables(100, morphisms=(Mine(), *MORPHISMS))
    display = LineageDisplay(**frames).plot()
    assert (
        len(display.candidates_["mine", False].get_offsets())
        + len(display.candidates_["mine", True].get_offsets())
        == (display.tree["morphism"] == "mine").sum()
    )


@given(st.lists(st.floats(0, 1), max_size=12).map(sorted), st.floats(0.001, 0.5))
def test_spread(wanted: list[float], gap: float) -> None:
    places = spread(wanted, gap, 0, 1)
    assert len(places) == len(wanted)
    least = min(gap, 1 / max(len(wanted) - 1, 1))
    assert (np.diff(places) >= least - 1e-9).all()
    assert ((places >= -1e-9) & (places <= 1 + 1e-9)).all()
    if (np.diff(wanted) >= gap).all():
        np.testing.assert_allclose(places, wanted, atol=1e-9)


@pytest.mark.parametrize("high", [100, 101, 180, 350, 900, 3_000, 70_000, 8_000_000])
def test_sizes_have_ticks_that_people_read(high: int, found: Any) -> None:
    sizes = np.linspace(100, high, len(found["history"])).astype(int)
    history = found["history"].assign(n_parameters=sizes)
    display = ParetoDisplay(history=history, lineage=found["lineage"]).plot()
    draw(display.figure_)
    axis = display.ax_.xaxis
    low, top = display.ax_.get_xlim()
    ticks = [tick for tick in axis.get_majorticklocs() if low <= tick <= top]
    assert 1 <= len(ticks) <= 12
    labels = [axis.get_major_formatter()(tick, None) for tick in ticks]
    assert [float(label.replace(",", "")) for label in labels] == pytest.approx(ticks)
    boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
    boxes = [
        box for box, at in zip(boxes, axis.get_majorticklocs(), strict=True) if at in ticks
    ]
    assert not any(a.overlaps(b) for a, b in pairwise(boxes))


def pictures() -> dict[str, Any]:
    """Return what the script that draws the documents' pictures defines."""
    return runpy.run_path(str(Path(__file__).parents[1] / "docs" / "pictures.py"))


def test_the_rooms_of_the_package_are_drawn() -> None:
    figure = pictures()["house"]()
    draw(figure)
    assert {"classifier", "search/", "topology"} < {t.get_text() for t in figure.axes[0].texts}


def test_headings_of_brackets_keep_apart() -> None:
    drawn = pictures()
    met = [
        ("identity", 1, phase, round_, 0, candidate, candidate == 0)
        for phase in ("phase 1", "phase 2")
        for round_ in range(3)
        for candidate in (0, 1)
    ]
    columns = ["morphism", "generation", "phase", "round", "bracket", "candidate", "won"]
    figure = drawn["brackets"](pd.DataFrame(met, columns=columns), 1)
    draw(figure)
    labels = figure.axes[0].get_xticklabels()
    boxes = [label.get_window_extent() for label in labels]
    em = labels[0].get_fontsize() / 72 * figure.dpi
    assert len(boxes) == 6
    assert all(right.x0 - left.x1 > 2 * em for left, right in pairwise(boxes))
