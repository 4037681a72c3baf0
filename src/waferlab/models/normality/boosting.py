"""Scattering coefficients with gradient-boosted trees: a supervised rival to models of normality."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from waferlab.errors import ConfigError, WaferlabError
from waferlab.models.normality.measure import Gathering
from waferlab.wafer import FAIL, NO_DIE


class Boosting(Gathering):
    """Trees that tell abnormal wafers from normal ones by the wavelet scattering of their fails.

    The scattering transform (Bruna, Mallat 2013; kymatio) is that of the fails beyond the wafer's overall share. A
    wafer's features are mean and maximum of each coefficient, the share of fails, and the logarithm of the dies.

    The trees are kept as tensors, so that a model file has numbers only, and reading one needs no LightGBM.

    Args:
        size: (H, W) of the maps.
        scale: J of the scattering: it is invariant to shifts of up to 2^J dies.
        angles: L of the scattering.
        rounds: number of trees.
        leaves: most leaves of each.
        rate: learning rate of the boosting.
    """

    is_supervised = True
    feature: Tensor
    border: Tensor
    following: Tensor
    values: Tensor

    def __init__(
        self,
        size: tuple[int, int],
        scale: int = 3,
        angles: int = 8,
        rounds: int = 200,
        leaves: int = 31,
        rate: float = 0.1,
    ) -> None:
        super().__init__()
        if not 1 <= scale < min(size).bit_length() or angles < 1 or rounds < 1 or leaves < 2 or rate <= 0:
            raise ValueError(
                f"scale={scale}, angles={angles}, rounds={rounds}, leaves={leaves}, rate={rate}: 2^scale at most the "
                f"maps' side, leaves at least 2, all above 0"
            )
        self.size, self.scale, self.angles = size, scale, angles
        self.rounds, self.leaves, self.rate = rounds, leaves, rate
        nodes = 2 * leaves - 1
        self.register_buffer("feature", torch.empty(rounds, nodes))  # float, as all weights of a file are
        self.register_buffer("border", torch.empty(rounds, nodes))
        self.register_buffer("following", torch.empty(2, rounds, nodes))
        self.register_buffer("values", torch.empty(rounds, nodes))
        self._clear()
        self._filters: list[Any] = []  # in a list, they are none of the weights

    @property
    def knows_dies(self) -> bool:
        """It doesn't."""
        return False

    def begin(self, seed: int) -> None:
        """Forget what was taken in."""
        self.seed, self.taken = seed, list[tuple[NDArray[np.float32], NDArray[np.bool_]]]()

    def update(self, maps: Tensor, is_abnormal: Tensor) -> None:
        """Take in maps (B, H, W) uint8, and which of them are abnormal (B,) bool."""
        self.taken.append((self.features(maps).cpu().numpy(), is_abnormal.cpu().numpy()))

    def finish(self) -> None:
        """Grow the trees; both kinds of wafers count for as much."""
        from lightgbm import LGBMClassifier  # noqa: PLC0415 - trees are rarely grown

        features, is_abnormal = (np.concatenate(each) for each in zip(*self.taken, strict=True))
        self.taken.clear()
        if is_abnormal.all() or not is_abnormal.any():
            raise WaferlabError("boosted trees learn from normal and abnormal wafers, and these are of one kind only")
        self._clear()
        grown = LGBMClassifier(
            n_estimators=self.rounds, num_leaves=self.leaves, learning_rate=self.rate, class_weight="balanced",
            random_state=self.seed, deterministic=True, force_row_wise=True, n_jobs=1, verbose=-1,
        ).fit(features, is_abnormal)  # fmt: skip
        for row, tree in enumerate(grown.booster_.dump_model()["tree_info"]):
            self._take(row, tree["tree_structure"])

    def forward(self, maps: Tensor) -> Tensor:
        """-log of the probability of no defect (B,), of maps (B, H, W) uint8."""
        return softplus(self.grown(self.features(maps)))

    def require_whole(self) -> None:
        """Refuse trees that ask for features, or go on to nodes, that there are not.

        Raises:
            ConfigError: there are such trees.
        """
        orders = 1 + self.scale * self.angles + self.angles**2 * self.scale * (self.scale - 1) // 2
        for numbers, count in ((self.feature, 2 * orders + 2), (self.following, self.feature.shape[1])):
            if not ((numbers >= 0) & (numbers < count) & (numbers == numbers.floor())).all():
                raise ConfigError("its trees have numbers that none can have")

    @torch.no_grad()
    def features(self, maps: Tensor) -> Tensor:
        """(B, 2K + 2) of maps (B, H, W) uint8, K the number of scattering coefficients."""
        fails, dies = (maps == FAIL).float(), (maps != NO_DIE).float()
        count = dies.sum((1, 2)).clamp_min(1)
        share = fails.sum((1, 2)) / count
        found = self._scatter(fails - share[:, None, None] * dies).flatten(2)
        return torch.cat([found.mean(2), found.amax(2), share[:, None], count.log()[:, None]], 1)

    def grown(self, features: Tensor) -> Tensor:
        """The trees' log odds (B,) of a defect, by features (B, F)."""
        feature, border, values = self.feature.flatten().long(), self.border.flatten(), self.values.flatten()
        left, right = self.following.flatten(1).long()
        roots = torch.arange(self.rounds, device=features.device) * self.feature.shape[1]
        node = roots.expand(len(features), -1)
        for _ in range(self.leaves - 1):  # no path is longer
            is_right = features.gather(1, feature[node]) > border[node]
            after = roots + torch.where(is_right, right[node], left[node])
            if torch.equal(after, node):
                break
            node = after
        return values[node].sum(1)

    def _scatter(self, maps: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            raise RuntimeError("a scattering transform has no ONNX form")  # torch would try for a minute
        if not self._filters:
            from kymatio.scattering2d.frontend.torch_frontend import ScatteringTorch2D as Scattering  # noqa: PLC0415

            self._filters.append(Scattering(J=self.scale, shape=self.size, L=self.angles))
        found: Tensor = self._filters[0].to(maps.device)(maps.contiguous())
        return found

    def _clear(self) -> None:
        """Trees that say nothing: each a leaf."""
        self.feature.zero_()
        self.border.fill_(torch.inf)
        self.following.copy_(torch.arange(self.following.shape[2]).expand_as(self.following))
        self.values.zero_()

    def _take(self, row: int, tree: Mapping[str, Any]) -> None:
        """A tree as rows of tensors: a leaf is followed by itself."""
        waiting: list[tuple[Mapping[str, Any], int]] = [(tree, 0)]
        last = 0
        while waiting:
            node, place = waiting.pop()
            if "leaf_value" in node:
                self.values[row, place] = node["leaf_value"]
                continue
            self.feature[row, place], self.border[row, place] = node["split_feature"], _below(node["threshold"])
            for side, child in enumerate(("left_child", "right_child")):
                last += 1
                self.following[side, row, place] = last
                waiting.append((node[child], last))


def _below(border: float) -> float:
    """The greatest float32 that isn't above a border: features, float32 too, stand on the same side of both."""
    near = np.float32(border)
    return float(near if float(near) <= border else np.nextafter(near, np.float32(-np.inf)))  # compared in float64
