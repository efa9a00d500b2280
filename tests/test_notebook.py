"""What a notebook shows of an estimator."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
from helpers import quick
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skectonas import ECToNASClassifier
from skectonas.displays.notebook import beside

VOID = {"br", "hr", "img", "input", "meta", "link", "path"}


class Checker(HTMLParser):
    """Collects the text, and checks that every element is closed in the right place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def texts_of(html: str) -> list[str]:
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    return [text.strip() for text in checker.texts if text.strip()]


def test_what_was_found_is_shown(fitted: ECToNASClassifier) -> None:
    texts = texts_of(fitted._repr_html_())
    facts = {
        "Topology": str(fitted.best_topology_),
        "Parameters": f"{fitted.n_parameters_:,}",
        "Validation score (accuracy)": f"{fitted.validation_score_:.4f}",
        "Candidates": str(fitted.history_["candidate"].nunique()),
        "Epochs spent": f"{fitted.history_['epochs'].sum():.1f}",
    }
    # scikit-learn may show a table of the fitted attributes before it.
    begin = len(texts) - 1 - texts[::-1].index("Topology")
    shown = texts[begin : begin + 2 * len(facts)]
    assert dict(zip(shown[::2], shown[1::2], strict=True)) == facts
    for layer in fitted.best_topology_.layers:
        assert layer.name in texts
    assert fitted._repr_mimebundle_()["text/html"].count("Validation score") == 1


def test_the_diagram_is_still_there(fitted: ECToNASClassifier) -> None:
    html = fitted._repr_html_()
    for part in ("sk-top-container", "sk-toggleable", "learning_rate", ">Fitted<"):
        assert part in html


def test_before_fit_the_diagram_is_all() -> None:
    html = quick()._repr_html_()
    texts_of(html)
    assert "Not fitted" in html
    assert "Validation score" not in html


def test_the_score_is_named_that_it_was_fitted_with(digits: Any) -> None:
    def score(estimator: Any, X: Any, y: Any) -> float:
        return float((estimator.predict(X) == y).mean())

    clf = quick(2, scoring=score).fit(*digits)
    clf.scoring = "neg_log_loss"
    assert "Validation score (score)<" in clf._repr_html_()


def test_others_that_hold_it_are_shown(digits: Any) -> None:
    X, y = digits
    X = X.reshape(len(X), -1)
    pipeline = make_pipeline(StandardScaler(), quick(2))
    grid = GridSearchCV(pipeline, {"ectonasclassifier__alpha": [0.5, 1.0]}, cv=2)
    for estimator in (pipeline, grid):
        for each in (estimator, estimator.fit(X, y)):
            html = each._repr_html_()
            assert "ECToNASClassifier" in html
            assert "Validation score" not in html  # scikit-learn's diagram alone


def test_only_as_a_diagram(fitted: ECToNASClassifier) -> None:
    with config_context(display="text"):
        assert not hasattr(fitted, "_repr_html_")
        assert set(fitted._repr_mimebundle_()) == {"text/plain"}


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "a & b", 'x" onload="y', "1 > 0"]
)
def test_text_stays_text(text: str) -> None:
    html = beside("<p>diagram</p>", {text: text}, pd.DataFrame({"layer": [text]}))
    assert texts_of(html) == ["diagram", text, text, "Layers", "layer", text]
