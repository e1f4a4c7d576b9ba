"""What the arm's way of moving says of the world it is in: the last observations to a few numbers (implicit system
identification; Yu et al., "Preparing for the unknown", 2017; Kumar et al., "RMA", 2021).

The numbers are learned with the policy, and besides by what they must be able to say in training, where it is known:
the parameters of the draw (delay, friction, mass …). That head is not in the policy's outputs.
"""

from torch import Tensor, nn

CONTEXT = 16
"""Numbers."""


class DrawEncoder(nn.Module):
    """Changes over the last observations (B, size) to (B, `CONTEXT`), and from there to `drawn` parameters."""

    def __init__(self, size: int, drawn: int, width: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(size, width), nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, CONTEXT), nn.Tanh()
        )
        self.parameters_head = nn.Linear(CONTEXT, drawn)

    def forward(self, changes: Tensor) -> Tensor:
        found: Tensor = self.layers(changes)
        return found

    def drawn(self, context: Tensor) -> Tensor:
        """(B, drawn): the draw's parameters, -1 … 1 over their ranges."""
        found: Tensor = self.parameters_head(context)
        return found
