"""Medians and quantiles against numpy's own."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qosflow_airflow.core.quantiles import median_of_rows, quantiles
from qosflow_airflow.core.transfer import FloatArray

numbers = st.floats(-1e9, 1e9) | st.just(np.nan)
probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=4)


@given(arrays(np.float64, array_shapes(min_dims=1, max_dims=1, max_side=40), elements=numbers), probabilities)
def test_quantiles_are_the_numbers_of_numpy(values: FloatArray, asked: list[float]) -> None:
    assert np.array_equal(quantiles(values, asked), np.quantile(values, asked), equal_nan=True)


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=numbers))
def test_medians_are_the_numbers_of_numpy(values: FloatArray) -> None:
    assert np.array_equal(median_of_rows(values), np.median(values, axis=1), equal_nan=True)
