"""The six starting topologies of the paper (Table 6)."""

from __future__ import annotations

from skectonas.topology import ConvCell, Dense, Topology

# name: (channels of the cells, units of the dense layers)
STARTS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "small_ffnn": ((), (10,)),
    "medium_ffnn": ((), (10, 10)),
    "large_ffnn": ((), (100, 50, 10)),
    "small_cnn": ((3, 6, 9), (10,)),
    "medium_cnn": ((3, 6), (10, 10)),
    "large_cnn": ((3,), (100, 50, 10)),
}


def starting_topology(
    start: str | Topology, input_shape: tuple[int, int, int], n_classes: int
) -> Topology:
    """Return the topology that a search begins with.

    Parameters
    ----------
    start : str or Topology
        A name of the paper's Table 6 ("small", "medium" or "large", "_ffnn" or "_cnn"; the size
        is that of the parameter count, so that ``small_cnn`` has the most cells), or a
        topology.
    input_shape : tuple of int
        Height, width and channels of the images.
    n_classes : int
        Number of classes.

    Returns
    -------
    Topology

    Raises
    ------
    ValueError
        If the name is not known, or the topology does not fit the data.

    Examples
    --------
    >>> from skectonas.starts import starting_topology
    >>> print(starting_topology("medium_cnn", (28, 28, 1), 10))
    28x28x1 > conv 3 avg > conv 6 avg > dense 10 > dense 10 > 10 classes
    """
    if isinstance(start, Topology):
        for name, wanted, found in (
            ("input_shape", input_shape, start.input_shape),
            ("n_classes", n_classes, start.n_classes),
        ):
            if wanted != found:
                raise ValueError(
                    f"start is a topology with {name}={found}, but the data have {wanted}."
                )
        return start
    if not isinstance(start, str) or start not in STARTS:
        raise ValueError(f"start must be one of {list(STARTS)} or a Topology, got {start!r}.")
    channels, units = STARTS[start]
    try:
        return Topology(
            input_shape,
            tuple(ConvCell(n) for n in channels),
            tuple(Dense(n) for n in units),
            n_classes,
        )
    except ValueError as error:
        raise ValueError(f"start={start!r} does not fit the data. {error}") from error
