"""Whether new units and channels should be chosen by the gradients that they would have.

    python benchmarks/growth.py

"random" is the search as it is: new units have random incoming weights, and outgoing weights
of zero. "chosen" draws eight times as many, and keeps those whose outgoing weights have the
largest gradients on a batch of training rows, in the spirit of GradMax and Firefly. Each run is
a row of ``results/growth.csv``. The rows are those of `recipe.py`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import recipe
import torch
from torch.nn.functional import cross_entropy

from skectonas import ConvCell, Dense, ECToNASClassifier, fitting
from skectonas.morphisms import MORPHISMS, AddCell, AddChannels, AddUnits
from skectonas.morphisms.base import (
    by_input,
    cell_weights,
    reader_of_cell,
    reader_of_dense,
    restore_shape,
)
from skectonas.network import build
from skectonas.topology import ALL_POOLINGS, dense_name

MANY = 8
LABELS: list[torch.Tensor] = []


def chosen(
    weights: Any, wide: Any, reader: str, own: list[str], n_old: int, n_new: int, images: Any
) -> Any:
    """Return the weights with the old inputs of a reader, and the best of the new ones."""
    labels = LABELS[-1]
    network = build(wide, weights).float().train()
    loss = cross_entropy(network(images[: len(labels)]), labels)
    [gradient] = torch.autograd.grad(loss, [dict(network.named_parameters())[reader]])
    n_wide = n_old + MANY * (n_new - n_old)
    sizes = by_input(gradient, n_wide)[:, n_old:].square().sum((0, 2))
    best = sizes.topk(n_new - n_old).indices.sort().values
    kept = torch.cat([torch.arange(n_old), n_old + best])
    changed = {name: weights[name][kept] for name in own}
    value = weights[reader]
    changed[reader] = restore_shape(by_input(value, n_wide)[:, kept], value).contiguous()
    return {**weights, **changed}


class ChosenUnits(AddUnits):
    def carry(self, weights: Any, old: Any, new: Any, site: int, context: Any) -> Any:
        n_old, n_new = old.dense[site].units, new.dense[site].units
        dense = list(new.dense)
        dense[site] = Dense(n_old + MANY * (n_new - n_old))
        wide = replace(new, dense=tuple(dense))
        more = super().carry(weights, old, wide, site, context)
        own = [f"{dense_name(site)}.{kind}" for kind in ("weight", "bias")]
        reader = reader_of_dense(new, site)
        return chosen(more, wide, reader, own, n_old, n_new, context.images)


class ChosenChannels(AddChannels):
    def carry(self, weights: Any, old: Any, new: Any, site: int, context: Any) -> Any:
        n_old, n_new = old.cells[site].channels, new.cells[site].channels
        cells = list(new.cells)
        cells[site] = ConvCell(n_old + MANY * (n_new - n_old), cells[site].pooling)
        wide = replace(new, cells=tuple(cells))
        more = super().carry(weights, old, wide, site, context)
        own, reader = cell_weights(more, site), reader_of_cell(new, site)
        return chosen(more, wide, reader, own, n_old, n_new, context.images)


INSTEAD = {
    "add_units": ChosenUnits(),
    "add_channels": ChosenChannels(),
    "add_cell": AddCell(extra=(15,), poolings=ALL_POOLINGS),
}
searches_of = fitting._searches


def with_labels(estimator: Any, data: Any, *others: Any) -> Any:
    """Note the classes of the training rows that morphisms look at."""
    LABELS.append(data.train.labels[: len(data.calibration)])
    return searches_of(estimator, data, *others)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", nargs="*", default=["digits", "numbers"])
    parser.add_argument("--starts", nargs="*", default=["auto", "small_ffnn"])
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--budget", type=float, default=300)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path, rows = arguments.out / "growth.csv", []
    ways = {"random": "all", "chosen": [INSTEAD.get(m.name, m) for m in MORPHISMS]}
    for name in arguments.data:
        for seed in range(arguments.seeds):
            X, y, X_test, y_test = recipe.load(name, seed, None)
            for start in arguments.starts:
                for way, morphisms in ways.items():
                    params = {"start": start, "morphisms": morphisms, "random_state": seed}
                    clf, began = (
                        ECToNASClassifier(budget=arguments.budget, **params),
                        time.process_time(),
                    )
                    with mock.patch.object(fitting, "_searches", with_labels):
                        clf.fit(X, y)
                    row = {"data": name, "start": start, "units": way, "seed": seed}
                    row["accuracy"] = round(clf.score(X_test, y_test), 4)
                    row["n_parameters"] = clf.n_parameters_
                    row["cpu_seconds"] = round(time.process_time() - began, 1)
                    rows.append(row)
                    print(row, flush=True)
                    pd.DataFrame(rows).to_csv(path, index=False)
    table = pd.DataFrame(rows).pivot_table("accuracy", ["data", "start", "seed"], "units")
    gains = (table["chosen"] - table["random"]).groupby(["data", "start"])
    print(pd.DataFrame({"gain": gains.mean(), "standard error": gains.sem()}).round(4))


if __name__ == "__main__":
    main()
