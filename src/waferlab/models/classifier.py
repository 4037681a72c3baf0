"""A network that reads wafer maps as they are: its input encoding is part of it."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from waferlab.config import ModelConfig
from waferlab.data.batches import at_most, turned
from waferlab.data.single_label import NORMAL
from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.decision import Decision
from waferlab.models.students import Compact
from waferlab.wafer import ENCODINGS, STATES, dihedral_indices


class Classifier(nn.Module):
    """Die states, or pixels, in, one logit per class out.

    Attributes:
        config: what the network was built from.
        classes: names of the logits.
        size: (H, W) of the maps.
        decision: how one class follows from the logits; None where each class is present or not by itself.
    """

    table: Tensor

    def __init__(
        self, config: ModelConfig, classes: tuple[str, ...], size: tuple[int, int], path: str = "model"
    ) -> None:
        super().__init__()
        self.config, self.classes, self.size = config, classes, size
        self.decision: Decision | None = None
        table = torch.from_numpy(ENCODINGS[config.encoding])
        self.register_buffer("table", table, persistent=False)
        given = {"in_channels": table.shape[1], "num_classes": len(classes), "size": size}
        self.net: nn.Module = config.build(path, **given, **_pretrained(config, path))

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B, C) of maps (B, H, W) uint8, or of images (B, H, W, 1 or 3)."""
        logits: Tensor = self.net(self.encode(maps))
        return logits

    def encode(self, maps: Tensor) -> Tensor:
        """Channels (B, channels, H, W) float of maps (B, H, W) uint8, or of images (B, H, W, 1 or 3)."""
        if maps.ndim == 4 and maps.shape[-1] == 1:
            maps = maps.squeeze(-1)
        if maps.ndim == 4:
            channels = zip(self.table.T, maps.unbind(-1), strict=True)
            found = [values.index_select(0, each.flatten().int()).view(each.shape) for values, each in channels]
            pixels = torch.stack(found, -1)
        else:
            pixels = self.table.index_select(0, maps.flatten().int()).view(*maps.shape, self.table.shape[1])
        return pixels.permute(0, 3, 1, 2)

    def predict(self, maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Bits (N, C) uint8 of maps (N, H, W) uint8: 1 where a defect is present, or where the one class is this one.

        Raises:
            WaferlabError: maps of another size or type, or with states other than 0, 1 and 2.
        """
        return self.answer(maps)[0]

    def answer(self, maps: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Bits (N, C), as `predict` gives them, and probabilities (N, C) float32.

        Raises:
            WaferlabError: maps of another size or type, or with states other than 0, 1 and 2.
        """
        require_maps(maps, self.size, len(self.table))
        if self.decision is None:
            plain = predict_logits(self, maps)
            return (plain > 0).numpy().astype(np.uint8), plain.sigmoid().numpy()
        logits = self.decision.logits(view_logits(self, maps, self.decision.all_views).numpy())
        bits = np.eye(len(self.classes), dtype=np.uint8)[self.decision.classes(logits)]
        return bits, self.decision.probabilities(logits)

    @property
    def normal(self) -> int | None:
        """The class without a defect, where classes are exclusive and one is."""
        return self.classes.index(NORMAL) if NORMAL in self.classes else None

    def fused(self) -> "Classifier":
        """The same function in fewer weights, where the network knows how; otherwise the classifier itself."""
        if not isinstance(self.net, Compact):
            return self
        net = self.net.fuse()
        fused = Classifier(self.config.model_copy(update=net.arguments), self.classes, self.size)
        fused.net, fused.decision = net, self.decision
        return fused

    @property
    def parameters_count(self) -> int:
        """Number of trained parameters."""
        return sum(p.numel() for p in self.parameters())


def require_maps(maps: NDArray[np.uint8], size: tuple[int, int], states: int = STATES) -> None:
    """Refuse what a model for maps of this size can't read.

    Raises:
        WaferlabError: maps of another size or type, or with states other than 0, 1 and 2.
    """
    shapes = [size] if states == STATES else [size, (*size, 1), (*size, 3)]
    is_read = maps.dtype == np.uint8 and maps.shape[1:] in shapes
    highest = int(maps.max(initial=0)) if is_read and states == STATES else 0  # images have any bytes
    if not is_read or highest >= states:
        what = "maps" if states == STATES else "images"
        raise WaferlabError(
            f"this model reads {what} (N, {size[0]}, {size[1]}) uint8"
            f"{' of 0 no die, 1 pass, 2 fail' if states == STATES else ''}, "
            f"not {maps.shape} {maps.dtype}" + (f" up to {highest}" if highest else "")
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
    device = next(model.parameters()).device
    views = torch.from_numpy(dihedral_indices(maps.shape[1], maps.shape[2])[: None if every_view else 1]).to(device)
    logits: list[Tensor] = []
    with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
        batch_size = at_most(batch_size, (maps.shape[1], maps.shape[2]))
        for start in range(0, max(1, len(maps)), batch_size):
            part = torch.as_tensor(maps[start : start + batch_size])  # of maps on the disk, no more than this
            shown = [turned(part.to(device), view.expand(len(part), -1)) for view in views]
            logits.append(torch.stack([model(maps).float().cpu() for maps in shown]))
            advance(len(part))
    return torch.cat(logits, 1)
