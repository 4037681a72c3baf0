"""What an exported model says of itself: little, all of it read again, and nothing else believed."""

import pytest

from waferlab.edge.card import Card
from waferlab.errors import WaferlabError

CARDS = (
    Card("patterns", (52, 52), ("Center", "Donut")),
    Card("class", (24, 30), ("Normal", "Defect"), states=256, resize="area", normal=0, threshold=-1.5, run="a1"),
    Card("anomaly", (52, 52), threshold=0.25, die_threshold=3.0, version="0.1.0"),
)


@pytest.mark.parametrize("card", CARDS, ids=lambda card: card.kind)
def test_is_read_as_it_was_written(card: Card) -> None:
    assert Card.of(card.text(), "here") == card


def test_says_nothing_that_is_as_usual() -> None:
    assert Card("anomaly", (5, 6)).text() == '{"kind":"anomaly","size":[5,6]}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "here is no model that `waferlab export` has made"),
        ("{", "here says of itself what this version can't read"),
        ("[1]", "here says of itself what this version can't read"),
        ('{"kind":"patterns"}', "can't read: 'size'"),
        ('{"kind":"patterns","size":[1]}', "can't read"),
        ('{"kind":"patterns","size":[1,2],"hue":3}', "can't read"),
        ('{"kind":"weather","size":[1,2]}', "is for 'weather'"),
        ('{"kind":"anomaly","size":[0,2]}', "what can't be"),
        ('{"kind":"anomaly","size":[1,2],"views":0}', "what can't be"),
        ('{"kind":"anomaly","size":[1,2.5]}', "what can't be"),
        ('{"kind":"anomaly","size":[1,2],"threshold":NaN}', "what can't be"),
        ('{"kind":"patterns","size":[1,2],"classes":["A","A"]}', "what can't be"),
        ('{"kind":"class","size":[1,2],"classes":["A","B"],"normal":true}', "what can't be"),
        ('{"kind":"anomaly","size":[1,2],"views":"8"}', "what can't be"),
        ('{"kind":"anomaly","size":[1,2],"resize":"stretch"}', "what can't be"),
        ('{"kind":"anomaly","size":[1,2],"classes":["A"]}', "what can't be"),
        ('{"kind":"patterns","size":[1,2]}', "what can't be"),
        ('{"kind":"patterns","size":[1,2],"classes":[1]}', "what can't be"),
        ('{"kind":"class","size":[1,2],"classes":["A"],"normal":1}', "what can't be"),
        ('{"kind":"class","size":[1,2],"classes":["A"],"states":7}', "what can't be"),
    ],
)
def test_says_what_is_wrong_with_another(text: str | None, said: str) -> None:
    with pytest.raises(WaferlabError, match=said.replace("(", "\\(")):
        Card.of(text, "here")
