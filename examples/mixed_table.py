"""
A raw data frame in a pipeline and a grid search
================================================

Numbers, categories, booleans and missing values go into the estimator as they are; around it is
what scikit-learn has.

The table is made up, by a rule that is written below, because scikit-learn ships none with
categories; :doc:`adult` runs on a real one.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn import config_context
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import get_scorer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from skectonas import ECToNASClassifier

# %%
# Used cars: which of them fail their inspection? Some ages are not known, nor some fuels.


def used_cars(n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.Series]:
    """Draw cars, and whether they fail."""
    age = rng.gamma(3, 3, n).round(1)
    mileage = (age * rng.normal(13_000, 3_000, n).clip(3_000)).round(-2)
    fuel = rng.choice(["petrol", "diesel", "electric"], n, p=[0.5, 0.35, 0.15])
    serviced = rng.random(n) < 0.6
    wear = mileage / 60_000 * np.where(fuel == "electric", 0.5, 1) + age / 15
    fails = rng.random(n) < 1 / (1 + np.exp(-2 * (wear - 2.6 - 1.2 * serviced)))
    cars = pd.DataFrame(
        {
            "age": np.where(rng.random(n) < 0.1, np.nan, age),
            "mileage": mileage,
            "fuel": np.where(rng.random(n) < 0.05, None, fuel),
            "serviced": serviced,
            "region": pd.Categorical(rng.choice(["north", "south", "west"], n)),
        }
    )
    return cars, pd.Series(np.where(fails, "fails", "passes"), name="inspection")


X, y = used_cars(1_500, np.random.default_rng(0))
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
X.head()

# %%
# A pipeline
# ----------
# A step in front of the network adds a column; the frame stays a frame.


def with_mileage_per_year(cars: pd.DataFrame) -> pd.DataFrame:
    """Return the cars with one more column."""
    return cars.assign(per_year=cars["mileage"] / cars["age"].clip(lower=0.5))


pipeline = Pipeline(
    [
        ("features", FunctionTransformer(with_mileage_per_year)),
        ("net", ECToNASClassifier(budget=60, random_state=0)),
    ]
)
pipeline.fit(X_train, y_train)
print(f"{pipeline[-1].best_topology_}, test accuracy {pipeline.score(X_test, y_test):.3f}")

# %%
# Five columns and the added one became more pixels than that: a category is a pixel for each of
# its values, and so is whether a value is missing.

print(pipeline[-1].encoder_.feature_names_out_)

# %%
# A grid search
# -------------
# ``alpha`` and ``start`` are parameters like those of any estimator.

grid = GridSearchCV(
    pipeline,
    {"net__alpha": [0.5, 1.0], "net__start": ["small_ffnn", "medium_ffnn"]},
    cv=3,
)
grid.fit(X_train, y_train)
columns = ["param_net__alpha", "param_net__start", "mean_test_score", "mean_fit_time"]
print(pd.DataFrame(grid.cv_results_)[columns].round(3).to_string(index=False))

# %%
# On a table, gradient boosting is what to try first, and what to compare with. The rule behind
# these cars is smooth, which suits a network.

boosting = HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)
kinds = {"fuel": "category"}
boosting.fit(X_train.astype(kinds), y_train)
print(f"grid search:       test accuracy {grid.score(X_test, y_test):.3f}")
print(f"gradient boosting: test accuracy {boosting.score(X_test.astype(kinds), y_test):.3f}")

# %%
# Weights
# -------
# A failure that is overlooked may cost more than a car that is looked at twice. With metadata
# routing on, each step says whether it wants ``sample_weight``, and so does the scorer; the
# grid search then hands the weights to all who do.

weights = np.where(y_train == "fails", 5.0, 1.0)
with config_context(enable_metadata_routing=True):
    net = ECToNASClassifier(budget=60, random_state=0).set_fit_request(sample_weight=True)
    scorer = get_scorer("accuracy").set_score_request(sample_weight=True)
    weighted = GridSearchCV(
        Pipeline([*pipeline.steps[:-1], ("net", net)]),
        {"net__alpha": [0.5, 1.0]},
        scoring=scorer,
        cv=3,
    )
    weighted.fit(X_train, y_train, sample_weight=weights)

for name, model in {"without": grid, "with": weighted}.items():
    flagged = model.predict(X_test) == "fails"
    found = flagged[y_test == "fails"].mean()
    print(f"{name} weights: {found:.0%} of the failures found, {flagged.mean():.0%} of cars")
