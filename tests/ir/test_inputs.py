"""Numbers that torch would complain of: read-only arrays, and arrays that run backwards."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nets import mlp


def test_read_only_and_backward_arrays_are_copied_and_stay_as_they_are():
    net = mlp(3, 4, 1)
    x = np.random.default_rng(0).normal(size=(6, 3))
    said = net(x).numpy()
    for held in (x.copy(), pd.DataFrame(x).to_numpy()):
        held.flags.writeable = False  # a warning of torch is an error here
        assert np.array_equal(net(held).numpy(), said) and not held.flags.writeable
        assert np.array_equal(net(held[::-1]).numpy(), said[::-1])
    assert np.array_equal(net(pd.DataFrame(x)).numpy(), said)
