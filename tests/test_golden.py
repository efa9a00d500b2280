"""Files and pickles written earlier in this format are read, and predict the same."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden.make import table
from sklearn.datasets import load_digits
from sklearn.exceptions import InconsistentVersionWarning

import skectonas.estimators
from skectonas import ECToNASClassifier, PseudoImageTransformer

GOLDEN = Path(__file__).parent / "golden"


def rows_of(name: str) -> Any:
    return load_digits().images[:20].astype(np.uint8) if name == "images" else table()


@pytest.mark.parametrize("name", ["images", "table"])
@pytest.mark.parametrize("kind", ["safetensors", "pickle"])
def test_what_was_written_is_read(name: str, kind: str) -> None:
    path = GOLDEN / f"{name}.{kind}"
    if kind == "pickle":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            clf = pickle.loads(path.read_bytes())
    else:
        # Some parameters are younger than the files.
        with pytest.warns(UserWarning, match="holds no value for the parameters .*time_limit"):
            clf = ECToNASClassifier.load(path)
    expected = np.load(GOLDEN / f"{name}.npy")
    np.testing.assert_allclose(clf.predict_proba(rows_of(name)), expected, rtol=1e-9)
    assert clf.budget == 12
    assert clf.lineage_["validation_score"].iloc[-1] == clf.validation_score_
    candidate = clf.pareto_front_["candidate"].iloc[0]
    assert (
        clf.with_candidate(candidate).n_parameters_ == clf.pareto_front_["n_parameters"].min()
    )


@pytest.mark.parametrize("estimator", [ECToNASClassifier(), PseudoImageTransformer()])
def test_another_version_is_told(monkeypatch: pytest.MonkeyPatch, estimator: Any) -> None:
    written = pickle.dumps(estimator)
    assert vars(pickle.loads(written)) == vars(estimator)
    monkeypatch.setattr(skectonas.estimators, "__version__", "99.0")
    told = r"0\.1.* of skectonas .* 99\.0 of"
    with pytest.warns(InconsistentVersionWarning, match=told) as warned:
        pickle.loads(written)
    assert warned[0].filename == __file__


def test_pickles_hold_nothing_private_of_others() -> None:
    for name in ("images", "table"):
        written = (GOLDEN / f"{name}.pickle").read_bytes()
        assert not any(
            other in written for other in (b"sklearn", b"skrub", b"torch", b"pandas")
        )
