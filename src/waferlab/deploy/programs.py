"""Models as ExecuTorch programs, for machines with little memory, and what such programs answer."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool
from executorch.runtime import Runtime
from numpy.typing import NDArray
from torch import Tensor
from torch.fx import GraphModule
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from waferlab.data.batches import at_most
from waferlab.deploy.answers import AT_ONCE, Answer, Outputs
from waferlab.edge.card import KEY, Card
from waferlab.models.anomaly_model import AnomalyModel
from waferlab.models.classifier import Classifier
from waferlab.models.graph import graph_of, outputs_of, quiet


def _sorted(values: Tensor, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    return values.topk(values.shape[dim], dim, largest=descending)


#: What the runtime has no kernel for, by what it has one for.
_KERNELS: Final = {torch.ops.aten.sort.default: _sorted}


class _Quantizer(XNNPACKQuantizer):  # type: ignore[misc]
    """Of what is computed in float: maps are bytes until they are encoded."""

    def annotate(self, model: GraphModule) -> GraphModule:
        annotated: GraphModule = super().annotate(model)
        for node in annotated.graph.nodes:
            if getattr(node.meta.get("val"), "dtype", None) == torch.uint8:
                node.meta.pop(Q_ANNOTATION_KEY, None)
        return annotated


#: In bytes, of the parts of a program: the usual 128 would be a third of a small one.
_ALIGNMENT: Final = 16


@torch.no_grad()
def as_program(
    model: Classifier | AnomalyModel, shape: Sequence[int], card: Card, maps: NDArray[np.uint8] | None = None
) -> bytes:
    """A program that XNNPACK runs, for up to `AT_ONCE` maps at once; fewer where these are large.

    Its outputs are those of `graph_of`, in that order. Its method ``waferlab`` gives the card: (M,) uint8 of JSON.

    Args:
        shape: of a map, (H, W), or of an image, (H, W, C).
        maps: (N, H, W) uint8, or images, within whose values it is quantised to int8; None for fp32.
    """
    graph: torch.nn.Module = graph_of(model, decided=False)
    for norm in graph.modules():
        if isinstance(norm, torch.nn.BatchNorm2d) and not norm.affine:  # of several, XNNPACK's passes take one's scales
            norm.weight, norm.bias = (torch.nn.Parameter(make(norm.num_features)) for make in (torch.ones, torch.zeros))
    most = torch.zeros(at_most(AT_ONCE, model.size), *shape, dtype=torch.uint8)
    dynamic = ({0: torch.export.Dim("wafers", min=1, max=len(most))},)
    text = torch.frombuffer(bytearray(card.text(), "utf-8"), dtype=torch.uint8)
    quantizer = _Quantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    with quiet():
        if maps is not None:
            graph = prepare_pt2e(torch.export.export(graph, (most,), dynamic_shapes=dynamic).module(), quantizer)
            for start in range(0, len(maps), len(most)):
                graph(torch.as_tensor(maps[start : start + len(most)]))
            graph = convert_pt2e(graph)
        lowered = to_edge_transform_and_lower(
            torch.export.export(graph, (most,), dynamic_shapes=dynamic).run_decompositions(_KERNELS),
            partitioner=[XnnpackPartitioner()], constant_methods={KEY: text},
        )  # fmt: skip
        return bytes(lowered.to_executorch(ExecutorchBackendConfig(segment_alignment=_ALIGNMENT)).buffer)


def program_answers(content: bytes, model: Classifier | AnomalyModel) -> Answer:
    """What a program of this content, made of this model, answers, in one thread."""
    names = outputs_of(model, decided=False)
    with quiet():  # the runtime tells of processors that it doesn't know
        _unsafe_reset_threadpool(1)
        program = Runtime.get().load_program(content)
        method = program.load_method("forward")
    method.program = program  # which it reads, but doesn't keep alive

    def answer(maps: NDArray[np.uint8]) -> Outputs:
        found = method.execute([torch.from_numpy(maps)])
        return {name: each.numpy() for name, each in zip(names, found, strict=True)}

    return answer
