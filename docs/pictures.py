"""Draw the pictures of the documentation: of a search on handwritten digits, and of the house.

python docs/pictures.py [--folder FOLDER] [--budget EPOCHS]
"""

from __future__ import annotations

import argparse
import ast
from graphlib import TopologicalSorter
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from sklearn.datasets import load_digits

import skectonas
from skectonas import ECToNASClassifier
from skectonas.displays import (
    EvolutionDisplay,
    LineageDisplay,
    ParetoDisplay,
    TopologyDisplay,
)
from skectonas.displays.style import marks_of, words
from skectonas.topology import starting_topology


def brackets(history: pd.DataFrame, generation: int) -> Figure:
    """Draw who met whom in the brackets of a generation, and who stayed in."""
    rows = history[(history["generation"] == generation) & history["won"].notna()]
    rounds = list(dict.fromkeys(zip(rows["phase"], rows["round"], strict=True)))
    marks = marks_of(rows["morphism"])
    # One line for each candidate, those of a morphism and of a bracket side by side.
    first = rows.drop_duplicates("candidate")
    first = first.assign(order=first["morphism"].map(list(marks).index))
    first = first.sort_values(["order", "bracket"])
    line = {candidate: -i for i, candidate in enumerate(first["candidate"])}
    figure, ax = plt.subplots(figsize=(8, 0.26 * len(line) + 0.95), layout="constrained")
    for (phase, round_, _), met in rows.groupby(["phase", "round", "bracket"]):
        x = rounds.index((phase, round_))
        goal = line[met.loc[met["won"], "candidate"].item()]
        for row in met.itertuples():
            y, colour = line[row.candidate], marks[row.morphism].colour
            ax.plot([x, x + 0.6], [y, y], color=colour, linewidth=3 if row.won else 1.2)
            if row.won:
                ax.plot([x + 0.6, x + 1], [y, y], color=colour, linewidth=3)
            else:
                ax.plot([x + 0.6, x + 0.8], [y, goal], color=colour, linewidth=1, linestyle=":")
        if (phase, round_) == rounds[-1]:
            ax.plot(x + 1.05, goal, "k>", markersize=7)
    for name, own in first.groupby("morphism"):
        places = own["candidate"].map(line)
        ax.text(-0.12, places.mean(), words(name), ha="right", va="center")
    ax.set_xlim(-1.4, len(rounds) + 0.2)
    labels = [f"{phase}\nround {round_ + 1}" for phase, round_ in rounds]
    ax.set_xticks([i + 0.45 for i in range(len(rounds))], labels)
    ax.xaxis.tick_top()
    ax.tick_params(length=0, labelsize="small")
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
    return figure


def imports_of_rooms() -> dict[str, set[str]]:
    """Return which modules and packages at the top of skectonas each of them imports."""
    root = Path(skectonas.__file__).parent
    rooms: dict[str, set[str]] = {}
    for path in root.rglob("*.py"):
        room = path.relative_to(root).with_suffix("").parts[0]
        sources = [
            node.module.split(".")
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module is not None
        ]
        used = {source[1] for source in sources if source[0] == "skectonas" and source[1:]}
        rooms.setdefault(room, set()).update(used - {room})
    return rooms


def house() -> Figure:
    """Draw the rooms of the package on their floors; arrows lead to what a room imports."""
    rooms = imports_of_rooms()
    del rooms["__init__"]
    floor: dict[str, int] = {}
    below: dict[str, set[str]] = {}
    for room in TopologicalSorter(rooms).static_order():
        floor[room] = 1 + max((floor[used] for used in rooms[room]), default=-1)
        below[room] = rooms[room].union(*(below[used] for used in rooms[room]))
    floors = [sorted(r for r in rooms if floor[r] == i) for i in range(max(floor.values()) + 1)]
    figure, ax = plt.subplots(figsize=(8, 0.75 * len(floors)), layout="constrained")
    place = {
        room: ((i + 0.5) / len(row), level)
        for level, row in enumerate(floors)
        for i, room in enumerate(row)
    }
    for room, (x, y) in place.items():
        is_package = not (Path(skectonas.__file__).parent / f"{room}.py").exists()
        ax.text(
            *(x, y, f"{room}/" if is_package else room),
            ha="center",
            va="center",
            weight="bold" if is_package else "normal",
            bbox={"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "0.4"},
        )
        # What is imported by way of another room needs no arrow of its own.
        for used in rooms[room] - set().union(*(below[other] for other in rooms[room])):
            end = place[used]
            ax.annotate(
                *("", (end[0], end[1] + 0.22), (x, y - 0.22)),
                zorder=1,
                arrowprops={"arrowstyle": "->", "color": "0.5", "shrinkA": 0, "shrinkB": 0},
            )
    ax.set(xlim=(0, 1), ylim=(-0.5, len(floors) - 0.5))
    ax.set_axis_off()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "images")
    parser.add_argument("--budget", type=float, default=600)
    arguments = parser.parse_args()
    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "skectonas"  # the same file every time
    digits = load_digits()
    clf = ECToNASClassifier(budget=arguments.budget, random_state=1)
    clf.fit(digits.images, digits.target)
    generation = clf.history_.query("phase == 'phase 2' and round == 1")["generation"].max()
    names = ["small_ffnn", "medium_ffnn", "small_cnn", "medium_cnn"]
    starts = {name: starting_topology(name, (28, 28, 1), 10) for name in names}
    figures = {
        "house": house(),
        "evolution": EvolutionDisplay.from_estimator(clf).figure_,
        "lineage": LineageDisplay.from_estimator(clf).figure_,
        "pareto": ParetoDisplay.from_estimator(clf).figure_,
        "topology": TopologyDisplay.from_estimator(clf).figure_,
        "starts": TopologyDisplay(starts).plot().figure_,
        "brackets": brackets(clf.history_, generation),
    }
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(arguments.folder / f"{name}.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
