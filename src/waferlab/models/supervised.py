"""A classifier of defects as a detector: what a fab has that knows labels of some patterns."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, softplus

from waferlab.models.classifier import Classifier, require_maps
from waferlab.models.students import Compact
from waferlab.wafer import NO_DIE


class SupervisedDetector:
    """A wafer is as abnormal as its classifier is sure that it has any defect.

    The score is -log P(no defect), with the defects taken for independent. A die's score is the same of its place alone
    (class activation maps: Zhou et al., CVPR 2016), where the network ends in pooling and one linear layer.
    """

    def __init__(self, classifier: Classifier) -> None:
        self.classifier = classifier

    @torch.inference_mode()
    def predict(self, maps: NDArray[np.uint8]) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
        """Die maps (N, H, W), or None where the network has none, and scores (N,), of maps (N, H, W) uint8.

        Raises:
            WaferlabError: maps of another size or type, or with states other than 0, 1 and 2.
        """
        require_maps(maps, self.classifier.size)
        model = self.classifier.eval()
        device, places, scores = next(model.parameters()).device, [], []
        for batch in torch.split(torch.from_numpy(maps).to(device), 256):
            pixels = model.encode(batch)
            scores.append(softplus(model.net(pixels)).sum(1))
            at_places = class_activations(model.net, pixels)
            if at_places is not None:
                enlarged = interpolate(softplus(at_places).sum(1, keepdim=True), batch.shape[1:], mode="bilinear")
                places.append(torch.where(batch != NO_DIE, enlarged[:, 0], 0))
        return torch.cat(places).cpu().numpy() if places else None, torch.cat(scores).cpu().numpy()


def class_activations(net: nn.Module, pixels: Tensor) -> Tensor | None:
    """(B, C, h, w) logits of each place of pixels (B, channels, H, W), or None where the network has no such places.

    The network is in evaluation mode.
    """
    network: Any = net
    if isinstance(net, Compact):
        mean, highest = network.classify.weight.chunk(2, 1)  # a place is both the mean and the maximum of itself
        return _at_places(net.features(pixels), mean + highest, network.classify.bias)
    head = network.get_classifier() if hasattr(network, "get_classifier") else None
    if not isinstance(head, nn.Linear):
        return None
    features = network.forward_features(pixels)
    if features.ndim != 4 or features.shape[1] != head.in_features:
        return None
    found = _at_places(features, head.weight, head.bias)
    is_all = torch.allclose(found.mean((2, 3)), network.forward_head(features), rtol=1e-3, atol=1e-3)
    return found if is_all else None  # something else stands before the linear layer


def _at_places(features: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    logits: Tensor = torch.einsum("bfhw,cf->bchw", features, weight) + bias[:, None, None]
    return logits
