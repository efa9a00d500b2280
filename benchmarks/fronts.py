"""The front of a search: what each of its networks reaches on the test rows.

    python benchmarks/fronts.py digits wine [--seeds 1] [--adult adult.csv]

The data and budgets are those of `worth.py`. Each network of `pareto_front_` is a row of
``results/fronts.csv``. Only the winner had the final training. Searches of which there are rows
are not repeated.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch
import worth
from resumable import exits_when_stopped, is_known

from skectonas import ECToNASClassifier


def front(data: str, budget: float, seed: int) -> pd.DataFrame:
    """Return the networks on the front of a search, and the winner."""
    X_train, y_train, X_test, y_test = worth.DATA[data][0](seed)
    clf = ECToNASClassifier(budget=budget, keep_candidates="pareto", random_state=seed)
    clf.fit(X_train, y_train)
    winner = clf.lineage_["candidate"].iloc[-1]
    candidates = [*clf.pareto_front_["candidate"], winner]
    rows = []
    for candidate in dict.fromkeys(candidates):
        member = clf.with_candidate(candidate)
        rows.append(
            {
                "n_parameters": member.n_parameters_,
                "test_accuracy": round(member.score(X_test, y_test), 4),
                "is_winner": candidate == winner,
                "topology": str(member.best_topology_),
            }
        )
    table = pd.DataFrame(rows).sort_values("n_parameters")
    return table.assign(data=data, budget=budget, seed=seed)[
        ["data", "budget", "seed", *rows[0]]
    ]


@exits_when_stopped()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="+", choices=worth.DATA)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--adult", type=Path, help="adult.csv; without it, OpenML")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    worth.ADULT = arguments.adult
    torch.set_num_threads(1)
    path = arguments.out / "fronts.csv"
    for seed in range(arguments.seeds):
        for data in arguments.data:
            row = {"data": data, "budget": worth.DATA[data][1], "seed": seed}
            if not is_known(path, row):
                found = front(**row)
                print(found.to_string(index=False), flush=True)
                found.to_csv(path, mode="a", header=not path.exists(), index=False)


if __name__ == "__main__":
    main()
