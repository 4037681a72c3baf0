"""Weights of few bits, in training: a network learns with its weights rounded as an export will round them.

Source: Jacob et al., arXiv 1712.05877 (training with rounded weights), and Bengio et al., arXiv 1308.3432 (the gradient
passes a rounding as if there were none).
"""

from torch import Tensor, nn
from torch.nn.utils import parametrize

#: Layers whose weights are rounded.
_LAYERS = (nn.Conv2d, nn.Linear)


class Rounded(nn.Module):
    """Weights (rows, …) rounded to whole multiples of a step, of which each row has its own.

    A row's largest weight comes to ``2^(bits - 1) - 1`` steps. As each row has its own step, factors of rows don't
    matter: a batch norm may be folded into the weights afterwards.

    Args:
        bits: of each weight, 2 to 8.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        if not 2 <= bits <= 8:
            raise ValueError(f"weight_bits={bits} is 2 to 8")
        self.most = 2 ** (bits - 1) - 1

    def forward(self, weights: Tensor) -> Tensor:
        """The weights rounded; their gradient is that of the given ones."""
        given = weights.detach()
        step = given.abs().amax(tuple(range(1, given.ndim)), keepdim=True).clamp_min(1e-30) / self.most
        rounded: Tensor = weights + ((given / step).round() * step - given)
        return rounded


def round_weights(network: nn.Module, bits: int) -> None:
    """From now on the network computes with the rounded weights of its convolutions and linear layers."""
    for layer in _layers(network):
        parametrize.register_parametrization(layer, "weight", Rounded(bits))


def keep_rounded(network: nn.Module) -> None:
    """The rounded weights are the network's own from now on."""
    for layer in _layers(network):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def _layers(network: nn.Module) -> list[nn.Module]:
    return [layer for layer in network.modules() if isinstance(layer, _LAYERS)]
