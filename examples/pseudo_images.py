"""
Tables as pseudo-images
=======================

Every column of a table becomes a pixel, so that networks for images can be used on it. A
convolution looks at neighbouring pixels; ``column_order="correlation"`` places correlated
columns side by side.

This example needs matplotlib: ``pip install "skectonas[plot]"``.
"""

from __future__ import annotations

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import minmax_scale

from skectonas import ECToNASClassifier, PseudoImageTransformer

X, y = load_breast_cancer(return_X_y=True, as_frame=True)
scaled = pd.DataFrame(minmax_scale(X), columns=X.columns)

# %%
# Three orders
# ------------
# 30 measurements fit into 6×6 pixels; the remaining pixels are zero. The top row shows the mean
# image of one class, the bottom row that of the other.

figure, axes = plt.subplots(2, 3, figsize=(7.5, 5.2), layout="constrained")
for column, order in zip(axes.T, ["given", "shuffled", "correlation"], strict=True):
    transformer = PseudoImageTransformer(order=order, random_state=0).fit(scaled)
    images = transformer.transform(scaled)
    for ax, label, name in zip(column, [0, 1], ["malignant", "benign"], strict=True):
        ax.imshow(images[y == label].mean(0)[:, :, 0], cmap="viridis", vmin=0, vmax=0.6)
        ax.set(xticks=[], yticks=[], xlabel=name)
    column[0].set_title(order)
plt.show()

# %%
# Which column went where
# -----------------------

names = transformer.get_feature_names_out().reshape(transformer.image_shape_[:2])
for row in names[:3]:
    print(" | ".join(row))

# %%
# Inside the estimator
# --------------------
# `ECToNASClassifier` scales and lays out tables by itself. You only need the transformer if you
# want to use the images for something else.

clf = ECToNASClassifier(
    budget=60, start="large_cnn", column_order="correlation", random_state=0
).fit(X, y)
print(f"images of {clf.image_shape_}, {clf.best_topology_}")
