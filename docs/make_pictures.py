"""Makes the README's picture: the regions of a small network trained on two moons.

python docs/make_pictures.py        # writes docs/_static/readme.png
"""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn.datasets import make_moons

import gatewise as gw
from gatewise.show import plots

STATIC = Path(__file__).parent / "_static"


def two_moons() -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A trained 2-8-6-1 ReLU network, its data and labels; the same in every run."""
    torch.manual_seed(2)
    points, labels = make_moons(260, noise=0.12, random_state=1)
    x, y = torch.tensor(points, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64)
    net = torch.nn.Sequential(
        *(torch.nn.Linear(2, 8), torch.nn.ReLU()),
        *(torch.nn.Linear(8, 6), torch.nn.ReLU(), torch.nn.Linear(6, 1)),
    ).double()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02, weight_decay=1e-4)
    for _ in range(600):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(x)[:, 0], y)
        loss.backward()
        optimiser.step()
    return net.eval(), x, y


def main() -> None:
    net, x, y = two_moons()
    explanation = gw.explain(net, x.numpy(), target=y.int().tolist())
    figure = plots.picture(explanation, resolution=1200)
    STATIC.mkdir(exist_ok=True)
    figure.savefig(STATIC / "readme.png", dpi=200, facecolor="white", metadata={"Software": None})
    print(f"{explanation!r}\nwrote {STATIC / 'readme.png'}")


if __name__ == "__main__":
    main()
