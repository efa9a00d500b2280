"""scikit-learn's own checks."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import sklearn
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_estimator,
    check_param_validation,
)
from sklearn.utils.fixes import parse_version

from skectonas import ECToNASClassifier

EXPECTED_FAILURES = dict.fromkeys(
    [
        "check_sample_weight_equivalence_on_dense_data",
        "check_sample_weight_equivalence_on_sparse_data",
    ],
    "a weight of two is not a row that is there twice: the batches and the validation split "
    "are drawn by rows",
)


def quick(**settings: Any) -> ECToNASClassifier:
    return ECToNASClassifier(budget=30, **settings)


@pytest.mark.filterwarnings("default")  # scikit-learn skips some checks with a warning
def test_check_estimator() -> None:
    results = check_estimator(quick(), expected_failed_checks=EXPECTED_FAILURES, on_fail=None)
    outcome = defaultdict(list)  # by the status that scikit-learn gives a check
    for result in results:
        outcome[result["status"]].append((result["check_name"], result["exception"]))
    assert outcome["failed"] == []
    assert len(outcome["passed"]) > 50
    # Strict: a check that is expected to fail and passes does not belong in the list.
    assert {name for name, _ in outcome["xfail"]} == set(EXPECTED_FAILURES)


def test_checks_that_are_not_run_by_themselves() -> None:
    check_param_validation("ECToNASClassifier", quick())
    check_dataframe_column_names_consistency("ECToNASClassifier", quick())


def test_a_scikit_learn_that_is_supported() -> None:
    assert parse_version(sklearn.__version__) >= parse_version("1.7")
