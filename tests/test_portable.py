"""The module that leaves the estimator: it gives what the estimator predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import census, examples, quick, rows_of_all_kinds
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skectonas import Dense, ECToNASClassifier, Topology
from skectonas.export.portable import PortableNetwork
from skectonas.inputs.encoder import InputEncoder
from skectonas.network import weights_of
from skectonas.surroundings import one_thread

KINDS = rows_of_all_kinds()


def logits_of(module: torch.nn.Module, X: Any) -> np.ndarray:
    with torch.no_grad(), one_thread():
        return module(torch.from_numpy(X)).numpy()


def probabilities_of(module: torch.nn.Module, X: Any) -> np.ndarray:
    return torch.from_numpy(logits_of(module, X)).softmax(1).numpy()


@pytest.mark.parametrize("kind", KINDS)
def test_it_gives_what_the_estimator_predicts(kind: str) -> None:
    X, y, settings = KINDS[kind]
    clf = quick(11, **settings).fit(X, y)
    expected = clf.predict_proba(X)
    module = clf.to_torch()
    assert not module.training
    np.testing.assert_allclose(probabilities_of(module, X), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(probabilities_of(module.double(), X), expected)


@pytest.mark.parametrize("kind", ["table", "shuffled table"])
def test_a_table_may_be_encoded_before(kind: str) -> None:
    X, y, settings = KINDS[kind]
    clf = quick(11, **settings).fit(X, y)
    module = clf.to_torch()
    encoded = logits_of(module, clf.encoder_.transform(X))
    np.testing.assert_array_equal(encoded, logits_of(module, X))


def test_a_frame_is_encoded_before() -> None:
    X, y = census()
    clf = quick(11, start="medium_cnn").fit(X, y)
    found = probabilities_of(clf.to_torch().double(), clf.encoder_.transform(X))
    np.testing.assert_array_equal(found, clf.predict_proba(X))


def test_an_axis_for_one_channel_may_be_there_or_not(digits: Any) -> None:
    X, y = digits
    for seen, later in ((X, X[..., None]), (X[..., None], X)):
        module = quick(11).fit(seen, y).to_torch()
        np.testing.assert_array_equal(logits_of(module, later), logits_of(module, seen))


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ("colours", (5, 3, 6, 5)),  # channels first
        ("colours", (5, 90)),
        ("colours", (5, 6, 5)),
        ("flat images", (5, 8, 8)),
        ("table", (5, 8)),
        ("table", (5, 3, 3)),
        ("table", (7,)),
    ],
)
def test_rows_of_another_shape_are_refused(kind: str, wrong: tuple[int, ...]) -> None:
    X, _, settings = KINDS[kind]
    encoder = InputEncoder(settings.get("image_shape")).fit(X)
    module = PortableNetwork(Topology(encoder.image_shape_, [], [], 3), encoder)
    assert module(torch.from_numpy(X[:5])).shape == (5, 3)
    with pytest.raises(ValueError, match=r"X: expected shape .*'n'"):
        module(torch.zeros(wrong))


def test_arrays_and_frames_are_refused(digits: Any) -> None:
    X, y = digits
    frame, rich = census()
    advice = r"from_numpy\(X\) for an array, .*encoder_\.transform\(X\)\) for a data frame"
    for rows, labels in ((X, y), (frame, rich)):
        module = quick(11).fit(rows, labels).to_torch()
        kind = type(rows).__name__
        with pytest.raises(TypeError, match=rf"X must be a tensor, .* {kind}: .*{advice}"):
            module(rows)
    with pytest.raises(
        ValueError, match=r"\(200, 9\): encoder_\.transform makes it of a frame"
    ):
        module(torch.zeros(200, 9))


def test_no_rows_give_no_logits() -> None:
    for X, _, _ in KINDS.values():
        encoder = InputEncoder().fit(X)
        network = PortableNetwork(Topology(encoder.image_shape_, [], [Dense(2)], 3), encoder)
        assert network(torch.from_numpy(X[:0])).shape == (0, 3)


@given(
    hnp.arrays(
        st.sampled_from([np.float64, np.float32, np.int64, np.uint8, np.float16]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=3),
    ).filter(lambda X: np.isfinite(X).all() and float(np.abs(X).max()) <= 1e150),
    st.sampled_from(["given", "shuffled", "correlation"]),
    st.sampled_from(["quantile", "piecewise", "minmax"]),
)
@examples(60)
def test_the_scaling_is_that_of_the_encoder(
    X: np.ndarray, column_order: str, column_scaling: Any
) -> None:
    encoder = InputEncoder(None, column_order, column_scaling, random_state=0).fit(X)
    module = PortableNetwork(Topology(encoder.image_shape_, [], [], 2), encoder)
    expected = encoder.scaling_.apply(encoder.transform(X))
    for cast in ("half", "float", "double"):  # the module's dtype is not that of the scaling
        scaled = getattr(module, cast)().scaling(torch.from_numpy(X), torch.float64)
        np.testing.assert_array_equal(scaled.numpy(), expected)


TABLES = hnp.arrays(
    st.sampled_from([np.float64, np.float32, np.float16]),
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=8),
    elements=st.one_of(
        st.sampled_from([np.nan, 0.0, 1.0, -2.5]),
        st.floats(width=16, allow_infinity=False),
    ),
)


@given(
    TABLES,
    st.data(),
    st.sampled_from(["given", "shuffled", "correlation"]),
    st.sampled_from(["quantile", "piecewise", "minmax"]),
)
@examples(100)
def test_tables_with_gaps_are_scaled_bit_for_bit(
    X: np.ndarray, data: st.DataObject, column_order: str, column_scaling: Any
) -> None:
    encoder = InputEncoder(None, column_order, column_scaling, random_state=0).fit(X)
    module = PortableNetwork(Topology(encoder.image_shape_, [], [], 2), encoder)
    elements = st.one_of(st.just(np.nan), st.floats(-1e4, 1e4, width=16))
    shape = (3, X.shape[1])
    for rows in (X, data.draw(hnp.arrays(X.dtype, shape, elements=elements))):
        expected = encoder.transform(rows).astype(np.float64)
        assert np.isfinite(expected).all()
        for cast in ("half", "float", "double"):
            found = getattr(module, cast)().scaling(torch.from_numpy(rows), torch.float64)
            np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("column_scaling", ["quantile", "piecewise", "minmax"])
def test_large_tables_with_gaps_are_scaled_bit_for_bit(column_scaling: Any) -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate(
        [rng.normal(size=(500, 4)) * 10.0 ** np.arange(-3, 5, 2), rng.integers(0, 3, (500, 3))],
        axis=1,
    )
    X = np.where(rng.random(X.shape) < [0, 0.1, 0.9, 0, 0.3, 0, 0], np.nan, X)
    encoder = InputEncoder(column_scaling=column_scaling).fit(X)
    module = PortableNetwork(Topology(encoder.image_shape_, [], [], 2), encoder)
    later = np.where(rng.random(X.shape) < 0.2, np.nan, 3 * X)
    for rows in (X, later):
        found = module.scaling(torch.from_numpy(rows), torch.float64)
        np.testing.assert_array_equal(found, encoder.transform(rows).astype(np.float64))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(6, 5, 3), (6, 5), (90,)])
def test_every_channel_of_images_is_scaled_bit_for_bit(
    dtype: Any, shape: tuple[int, ...]
) -> None:
    channels = np.array([20, 120, 255])[: 1 if shape == (6, 5) else 3]
    X = np.random.default_rng(0).integers(0, channels, (40, 6, 5, len(channels)))
    X = (X.reshape(40, *shape) + (channels[0] if len(shape) == 2 else 0)).astype(dtype)
    X = X if dtype in (np.uint8, np.int64) else X / dtype(7)
    encoder = InputEncoder((6, 5, 3) if len(shape) == 1 else None).fit(X)
    module = PortableNetwork(Topology(encoder.image_shape_, [], [], 2), encoder)
    expected = encoder.scaling_.apply(encoder.transform(X))
    for cast in ("half", "float", "double"):
        found = getattr(module, cast)().scaling(torch.from_numpy(X), torch.float64)
        np.testing.assert_array_equal(found, expected)


def test_it_is_a_copy(digits: Any) -> None:
    X, y = digits
    clf = quick(11).fit(X, y)
    expected = clf.predict_proba(X)
    module = clf.to_torch()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_weights_are_given_or_drawn(fitted: ECToNASClassifier, digits: Any) -> None:
    topology, encoder = fitted.best_topology_, fitted.encoder_
    weights = weights_of(fitted.network_)
    before = torch.get_rng_state()
    given = PortableNetwork(topology.to_dict(), encoder, weights)
    assert torch.equal(torch.get_rng_state(), before)
    names = {f"network.{name}" for name in weights}
    found = {name for name in given.state_dict() if not name.endswith("num_batches_tracked")}
    assert found == names
    with torch.random.fork_rng():
        drawn = PortableNetwork(topology, encoder).state_dict()
    assert not any(
        torch.equal(drawn[f"network.{n}"], weights[n]) for n in weights if "dense" in n
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["8-bit images", "digits", "table"])
def test_it_computes_where_it_is_moved_to(kind: str) -> None:
    X, y, settings = KINDS[kind]
    clf = quick(11, device="cpu", **settings).fit(X, y)
    found = clf.to_torch().double().cuda()(torch.from_numpy(X).cuda()).softmax(1)
    assert found.device.type == "cuda"
    np.testing.assert_allclose(found.detach().cpu(), clf.predict_proba(X), rtol=0, atol=1e-12)


def test_an_estimator_that_is_not_fitted_has_no_network() -> None:
    with pytest.raises(ValueError, match="not fitted"):
        quick().to_torch()
