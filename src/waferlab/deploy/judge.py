"""An exported model on a test part: what a study's table says of it."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from waferlab.data.dataset import Wafers
from waferlab.deploy.answers import Outputs, if_turned, in_batches
from waferlab.deploy.check import measured, one_thread
from waferlab.deploy.formats import FORMATS, Name, Source
from waferlab.deploy.peak import PEAK, tells_its_peak
from waferlab.edge.card import Card
from waferlab.metrics.multilabel import headline_metrics
from waferlab.metrics.ranking import Ranked
from waferlab.metrics.single_label import by_class, confusion

#: What a file is judged by, of its test part: shares, from 0 to 1.
SHARES: Final = ("exact_match", "accuracy", "macro_f1", "image/auroc")
#: A process that does nothing but predict; it says how much memory it took, in KiB.
_ALONE = f"""{PEAK}
import sys

import numpy as np

from waferlab.edge.model import OnnxModel

model = OnnxModel(Path(sys.argv[1]))
model.answer(np.zeros((64, *model.card.size), np.uint8))
print(peak())
"""


def judged(content: bytes, name: Name, source: Source, test: Wafers) -> dict[str, float]:
    """Metrics of an exported model, and what it costs in one thread.

    Returns:
        ``exact_match`` and ``macro_f1``, or ``accuracy`` and ``macro_f1`` where there is one class, or ``image/auroc``
        of scores; ``turned``, the first of them of the same wafers turned; ``parameters`` of the original, ``bytes`` of
        the file, ``maps_per_second``, ``milliseconds`` for one map, and of an ONNX file ``megabytes`` (1e6 bytes) that
        a process takes that only predicts, on Linux.

    Args:
        content: of the file.
        name: of its format.
        source: what it was made of.
        test: maps that neither the model nor a choice of models has seen.
    """
    answer = FORMATS[name].answers(content, source)
    with one_thread():
        found = in_batches(answer, test.maps)
        turned = _metrics(in_batches(if_turned(answer), test.maps), source.card, test)
        costs = measured(name, len(content), answer, found, found, source.card, test)
    values = _metrics(found, source.card, test) | {
        "parameters": sum(each.numel() for each in source.model.parameters()),
        "bytes": costs.bytes,
        "maps_per_second": costs.maps_per_second,
        "milliseconds": costs.milliseconds,
    }
    values |= {"turned": next(turned[share] for share in SHARES if share in turned)} if turned else {}
    if FORMATS[name].suffix == FORMATS["onnx"].suffix and tells_its_peak():
        values["megabytes"] = _memory(content)
    return values


def _metrics(found: Outputs, card: Card, test: Wafers) -> dict[str, float]:
    if card.kind == "patterns":
        values = headline_metrics(found["logits"], test.labels)
    elif card.kind == "class":
        answers, true = found["bits"].argmax(1), test.labels.argmax(1)
        _, _, f1 = by_class(confusion(answers, true, len(card.classes)))
        values = {"accuracy": float(np.mean(answers == true)), "macro_f1": float(np.nanmean(f1))}
    else:
        ranked = Ranked.of(found["score"][test.is_abnormal], found["score"][~test.is_abnormal])
        values = {"image/auroc": ranked.auroc()} if ranked.is_defined else {}
    return {key: value for key, value in values.items() if np.isfinite(value)}


def _memory(content: bytes) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        file.write_bytes(content)
        done = subprocess.run([sys.executable, "-c", _ALONE, file], capture_output=True, text=True, check=True)
    return int(done.stdout) * 1024 / 1e6
