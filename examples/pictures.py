"""The pictures of a search on handwritten digits, as PNG files in a folder of your choice."""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
from sklearn.datasets import load_digits

from skectonas import ECToNASClassifier
from skectonas.displays import (
    EvolutionDisplay,
    LineageDisplay,
    ParetoDisplay,
    TopologyDisplay,
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go; made if need be")
    parser.add_argument("--budget", type=float, default=200)
    parser.add_argument("--alpha", type=float, default=1.0)
    parser.add_argument("--dpi", type=float, default=150)
    arguments = parser.parse_args()
    matplotlib.use("Agg")  # files, no windows
    digits = load_digits()
    clf = ECToNASClassifier(
        arguments.alpha, arguments.budget, keep_candidates="pareto", random_state=0
    ).fit(digits.images, digits.target)

    arguments.folder.mkdir(parents=True, exist_ok=True)
    for display in (EvolutionDisplay, LineageDisplay, ParetoDisplay, TopologyDisplay):
        path = arguments.folder / f"{display.__name__.removesuffix('Display').lower()}.png"
        display.from_estimator(clf).figure_.savefig(path, dpi=arguments.dpi)
        print(path)

    print(clf.summary().to_string(index=False))
    print("\nCandidates that no other beats:")
    print(clf.pareto_front_.to_string(index=False))
    smallest = clf.with_candidate(clf.pareto_front_["candidate"].iloc[0])
    print(f"\nThe smallest of them instead of the winner: {smallest.best_topology_}")


if __name__ == "__main__":
    main()
