"""A network that reads wafer maps as they are: its input encoding is part of it."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waferlab.config import ModelConfig
from waferlab.data.batches import turned
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.students import Compact
from waferlab.wafer import ENCODINGS, STATES, dihedral_indices


class Classifier(nn.Module):
    """Die states in, one logit per class out.

    Attributes:
        config: what the network was built from.
        classes: names of the logits.
        size: (H, W) of the maps.
    """

    table: Tensor

    def __init__(
        self, config: ModelConfig, classes: tuple[str, ...], size: tuple[int, int], path: str = "model"
    ) -> None:
        super().__init__()
        self.config, self.classes, self.size = config, classes, size
        table = torch.from_numpy(ENCODINGS[config.encoding])
        self.register_buffer("table", table, persistent=False)
        given = {"in_channels": table.shape[1], "num_classes": len(classes), "size": size}
        self.net: nn.Module = config.build(path, **given, **_pretrained(config, path))

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B, C) of maps (B, H, W) uint8."""
        logits: Tensor = self.net(self.encode(maps))
        return logits

    def encode(self, maps: Tensor) -> Tensor:
        """Channels (B, channels, H, W) float of maps (B, H, W) uint8; in channels-last memory order."""
        pixels = self.table.index_select(0, maps.flatten().int())
        return pixels.view(*maps.shape, -1).permute(0, 3, 1, 2)

    def predict(self, maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bits (N, C) uint8, 1 where a defect is present, of maps (N, H, W) uint8.

        Raises:
            WaferlabError: maps of another size or type, or with states other than 0, 1 and 2.
        """
        require_maps(maps, self.size)
        return (predict_logits(self, maps).numpy() > 0).astype(np.uint8)

    def fused(self) -> "Classifier":
        """The same function in fewer weights, where the network knows how; otherwise the classifier itself."""
        if not isinstance(self.net, Compact):
            return self
        net = self.net.fuse()
        fused = Classifier(self.config.model_copy(update=net.arguments), self.classes, self.size)
        fused.net = net
        return fused

    @property
    def parameters_count(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters())


def require_maps(maps: NDArray[np.uint8], size: tuple[int, int]) -> None:
    """Refuse what a model for maps of this size can't read.

    Raises:
        WaferlabError: maps of another size or type, or with states other than 0, 1 and 2.
    """
    if maps.dtype != np.uint8 or maps.shape[1:] != size or (maps.size and maps.max() >= STATES):
        raise WaferlabError(
            f"this model reads maps (N, {size[0]}, {size[1]}) uint8 of 0 no die, 1 pass, 2 fail, "
            f"not {maps.shape} {maps.dtype}" + (f" up to {maps.max()}" if maps.size else "")
        )


def _pretrained(config: ModelConfig, path: str) -> dict[str, str | None]:
    if "pretrained" in config.signature():
        return {"pretrained": None if config.weights == "none" else config.weights}
    if config.weights != "none":
        raise ConfigError(
            f"{path}.weights={config.weights}: {config.target} has no pretrained weights; use a model file"
        )
    return {}


def predict_logits(
    model: nn.Module,
    maps: NDArray[np.uint8] | Tensor,
    batch_size: int = 512,
    precision: str = "32-true",
    average_views: bool = False,
) -> Tensor:
    """Logits (N, C) float32 on the CPU of maps (N, H, W) uint8; the model is left in evaluation mode.

    Args:
        average_views: test-time augmentation: the mean of the logits over all dihedral views.
    """
    return view_logits(model, maps, average_views, batch_size, precision).mean(0)


@torch.inference_mode()
def view_logits(
    model: nn.Module,
    maps: NDArray[np.uint8] | Tensor,
    every_view: bool = True,
    batch_size: int = 256,
    precision: str = "32-true",
    advance: Callable[[int], None] = lambda _: None,
) -> Tensor:
    """Logits (V, N, C) float32 on the CPU of every dihedral view of maps (N, H, W) uint8.

    Each view is an input of its own, as no network here is equivariant. The model is left in evaluation mode.

    Args:
        every_view: False for the maps as they are: V is 1.
        advance: called with the number of maps that each step was about, for showing progress.
    """
    model.eval()
    device, maps = next(model.parameters()).device, torch.as_tensor(maps)
    views = torch.from_numpy(dihedral_indices(maps.shape[1], maps.shape[2])[: None if every_view else 1]).to(device)
    logits: list[Tensor] = []
    with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
        for part in torch.split(maps, batch_size):
            shown = [turned(part.to(device), view.expand(len(part), -1)) for view in views]
            logits.append(torch.stack([model(maps).float().cpu() for maps in shown]))
            advance(len(part))
    return torch.cat(logits, 1)
