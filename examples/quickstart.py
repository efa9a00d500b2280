"""
From the first fit to what was found
====================================

This example uses images and a table that come with scikit-learn. It takes a few seconds.
"""

from __future__ import annotations

from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from story import tell

from skectonas import ECToNASClassifier

# %%
# Images
# ------
# The images are handwritten digits with 8×8 pixels. The search begins with a small
# convolutional network, because the data are images, and trains at most 300 epochs over all
# candidates together.

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images, digits.target, stratify=digits.target, random_state=0
)
clf = ECToNASClassifier(budget=300, random_state=0).fit(X_train, y_train)

# %%
# ``tell`` prints a summary of the fitted attributes ``lineage_``, ``history_`` and
# ``best_topology_``: where the search began, what was changed, and what won.

print("Handwritten digits")
tell(clf, X_test, y_test)

# %%
# The layers of the winner:

print(clf.summary().to_string(index=False))

# %%
# In a notebook, a fitted estimator shows the result beside scikit-learn's diagram.

clf

# %%
# A table
# -------
# The table is a data frame of 30 measurements. Each column becomes a pixel. With ``alpha=0.5``
# a smaller network may win although its score is lower.

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
clf = ECToNASClassifier(alpha=0.5, budget=200, random_state=0).fit(X_train, y_train)

print("\nBreast cancer, with a preference for small networks")
tell(clf, X_test, y_test)
