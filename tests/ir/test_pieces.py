"""A gate unit by unit: its tables broadcast against one another from the branch axis on."""

from __future__ import annotations

import pytest
import torch

from gatewise.ir.kinds import Pieces


@pytest.mark.parametrize("high", [3.0, 2.5])
def test_jumps_where_knots_vary_by_unit_and_slopes_do_not(high):
    knots = torch.tensor([[0.0, -1.0, 2.0], [1.0, 1.0, 3.0]])
    offsets = torch.tensor([[0.0, -1.0, 2.0], [0.0, 0.0, 0.0], [1.0, 1.0, high]])
    clip = Pieces(knots, torch.tensor([0.0, 1.0, 0.0]), offsets, (False, False))
    assert clip.jumps == (high != 3.0)
    z = torch.tensor([[-5.0, 0.5, 9.0]])
    assert clip(z).tolist() == [[0.0, 0.5, high]]
