"""Images and a table, both shipped with scikit-learn: a minute on a laptop."""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from story import tell

from skectonas import ECToNASClassifier


def main() -> None:
    print("Handwritten digits, 8x8 pixels, from a network with a single dense layer")
    digits = load_digits()
    X_train, X_test, y_train, y_test = train_test_split(
        digits.images, digits.target, stratify=digits.target, random_state=0
    )
    clf = ECToNASClassifier(budget=300, random_state=0).fit(X_train, y_train)
    tell(clf, X_test, y_test)

    print("Breast cancer, a data frame of 30 measurements, with a liking for small networks")
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    clf = ECToNASClassifier(alpha=0.5, budget=200, random_state=0).fit(X_train, y_train)
    tell(clf, X_test, y_test)


if __name__ == "__main__":
    main()
