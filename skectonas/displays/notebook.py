"""What a notebook shows of a fitted estimator."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import pandas as pd


def beside(diagram: str, found: Mapping[str, str], layers: pd.DataFrame) -> str:
    """Return HTML with the result of a search beside scikit-learn's diagram.

    Colours and fonts are the notebook's, whatever its theme.

    Parameters
    ----------
    diagram : str
        What scikit-learn shows of the estimator, as HTML.
    found : mapping of str to str
        Names and values, as text.
    layers : pandas.DataFrame
        The layers of the network; shown on demand.

    Returns
    -------
    str
    """
    rows = "".join(
        f'<tr><th scope="row" style="text-align: left">{escape(name)}</th>'
        f'<td style="text-align: left">{escape(value)}</td></tr>'
        for name, value in found.items()
    )
    table = layers.to_html(index=False, border=0)
    return (
        '<div style="display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1em">'
        f"<div>{diagram}</div>"
        f"<div><table><tbody>{rows}</tbody></table>"
        f"<details><summary>Layers</summary>{table}</details></div>"
        "</div>"
    )
