"""Networks that draw normal wafers: what they leave over, who learns from what, and maps of any size."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from waferlab.models.normality import Drawing, Gan, Vae
from waferlab.models.normality.autoencoders import as_pixels, left_over, surprise
from waferlab.wafer import FAIL, NO_DIE, PASS

SIZE = (12, 14)
Make = Callable[[tuple[int, int]], Drawing]
MAKES: dict[str, Make] = {
    "vae": partial(Vae, latent=3, width=2),
    "gan": partial(Gan, latent=3, width=2),
    "discriminator": partial(Gan, latent=3, width=2, score="discriminator"),
}


@pytest.fixture(params=MAKES, ids=MAKES)
def make(request: pytest.FixtureRequest) -> Make:
    torch.manual_seed(0)
    return MAKES[request.param]


def wafers(count: int = 16, size: tuple[int, int] = SIZE) -> Tensor:
    """Maps whose upper half fails, without a die in the first column."""
    maps = torch.full((count, *size), PASS, dtype=torch.uint8)
    maps[:, : size[0] // 2] = FAIL
    maps[:, :, 0] = NO_DIE
    return maps


def gradients(model: Gan, part: nn.Module, loss: Callable[[Tensor], Tensor] | None = None) -> list[Tensor]:
    """Of one part's parameters, by the model's loss or another one of the same wafers, with the same dice."""
    model.zero_grad()
    torch.manual_seed(7)
    (loss or model.loss)(wafers()).backward()
    return [torch.zeros_like(each) if each.grad is None else each.grad.clone() for each in part.parameters()]


def alike(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.allclose(*pair, atol=1e-7) for pair in zip(one, other, strict=True))


class TestSurprise:
    def test_is_minus_log_of_the_probability_of_what_each_die_does(self) -> None:
        maps = torch.tensor([[[NO_DIE, PASS, FAIL]]], dtype=torch.uint8)
        likely = torch.full((1, 1, 3), math.log(0.75 / 0.25))
        expected = torch.tensor([[[0, -math.log(0.25), -math.log(0.75)]]])
        assert torch.allclose(surprise(likely, as_pixels(maps)), expected)


class TestWhatIsLeftOver:
    def test_of_a_die_by_itself_is_how_far_its_state_is_from_the_drawn_probability(self) -> None:
        maps = torch.tensor([[[NO_DIE, PASS, FAIL]]], dtype=torch.uint8)
        likely = torch.full((1, 1, 3), math.log(0.75 / 0.25))
        assert torch.allclose(left_over(likely, as_pixels(maps), sigma=0), torch.tensor([[[0, 0.75, 0.25]]]))

    def test_of_a_patch_that_fails_is_more_than_of_as_many_scattered_fails(self) -> None:
        maps = torch.full((2, 12, 12), PASS, dtype=torch.uint8)
        maps[0, 4:8, 4:8] = FAIL
        maps[1, ::3, ::3] = FAIL
        assert (maps[0] == FAIL).sum() == (maps[1] == FAIL).sum()
        drawn = torch.full(maps.shape, math.log(1 / 8))  # a probability of 1/9: the share of both
        patch, scattered = left_over(drawn, as_pixels(maps), sigma=1).amax((1, 2))
        assert patch > 4 * scattered
        assert surprise(drawn, as_pixels(maps)).sum((1, 2)).diff() == 0

    @pytest.mark.parametrize("name", ["vae", "gan"])
    def test_is_that_of_each_die_and_0_where_there_is_none(self, name: str) -> None:
        model, maps = MAKES[name](SIZE).eval(), wafers()
        found = model(maps)
        assert model.knows_dies
        assert (found[maps == NO_DIE] == 0).all()
        assert (found[maps != NO_DIE] > 0).all()
        assert found.max() <= 1

    def test_by_a_discriminator_is_one_number_a_wafer(self) -> None:
        model = MAKES["discriminator"](SIZE).eval()
        assert not model.knows_dies
        assert model(wafers(5)).shape == (5,)
        assert (model(wafers(5)) > 0).all()


class TestAnyOfThem:
    def test_answers_the_same_whatever_the_dice_and_the_other_wafers(self, make: Make) -> None:
        model, maps = make(SIZE).eval(), torch.randint(0, 3, (6, *SIZE), dtype=torch.uint8)
        found = model(maps)
        assert torch.allclose(torch.cat([model(maps[:1]), model(maps[1:])]), found, atol=1e-6)

    @pytest.mark.parametrize("size", [(25, 27), (26, 26), (9, 11)])
    def test_draws_maps_of_odd_sizes(self, size: tuple[int, int], make: Make) -> None:
        model, maps = make(size), torch.randint(0, 3, (4, *size), dtype=torch.uint8)
        assert model.loss(maps).isfinite()
        found = model.eval()(maps)
        assert found.shape == (maps.shape if model.knows_dies else (4,))

    def test_learns(self, make: Make) -> None:
        model, maps = make(SIZE), wafers()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)

        def surprised() -> float:
            pixels = as_pixels(maps)
            return float(surprise(model.decoder(model.code(pixels)), pixels).sum().detach())

        before = surprised()
        for _ in range(25):
            optimizer.zero_grad()
            model.loss(maps).backward()
            optimizer.step()
        assert surprised() < before / 2

    def test_computes_in_half_precision_and_counts_in_full(self, make: Make) -> None:
        model, maps = make(SIZE), wafers()
        with torch.autocast("cpu", torch.bfloat16):
            loss, found = model.loss(maps), model.eval()(maps)
        assert loss.dtype == found.dtype == torch.float32
        assert loss.isfinite()
        loss.backward()
        assert all(each.grad is None or each.grad.isfinite().all() for each in model.parameters())

    def test_takes_wafers_without_a_die(self, make: Make) -> None:
        model, maps = make(SIZE), torch.zeros(3, *SIZE, dtype=torch.uint8)
        assert model.loss(maps).isfinite()
        assert model.eval()(maps).isfinite().all()

    @pytest.mark.parametrize("kind", [Vae, Gan])
    def test_refuses_maps_of_which_nothing_would_be_left(self, kind: type[Drawing]) -> None:
        with pytest.raises(ValueError, match="8x20 dies are too small"):
            kind((8, 20))

    @pytest.mark.parametrize("wrong", [{"latent": 0}, {"width": 0}])
    @pytest.mark.parametrize("kind", [Vae, Gan])
    def test_refuses_networks_of_nothing(self, kind: type[Drawing], wrong: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="at least 1 each"):
            kind(SIZE, **({"latent": 2, "width": 2} | wrong))

    @pytest.mark.parametrize("sigma", [-1, 4])
    @pytest.mark.parametrize("kind", [Vae, Gan])
    def test_refuses_neighbourhoods_beyond_a_map(self, kind: type[Drawing], sigma: int) -> None:
        with pytest.raises(ValueError, match=f"sigma={sigma} dies"):
            kind(SIZE, sigma=sigma)


class TestVae:
    def test_codes_come_nearer_to_a_normal_distribution_the_more_that_counts(self) -> None:
        apart = []
        for beta in (0.0, 10.0):
            torch.manual_seed(0)
            model, maps = Vae(SIZE, latent=3, width=2, beta=beta), wafers()
            optimizer = torch.optim.Adam(model.parameters(), 1e-2)
            for _ in range(25):
                optimizer.zero_grad()
                model.loss(maps).backward()
                optimizer.step()
            mean, log_variance = model.encoder(as_pixels(maps)).chunk(2, 1)
            apart.append(float((mean.square() + log_variance.exp() - 1 - log_variance).mean().detach()))
        assert apart[1] < apart[0] / 2

    def test_refuses_a_negative_weight(self) -> None:
        with pytest.raises(ValueError, match="beta=-1 is a weight"):
            Vae(SIZE, beta=-1)


class TestGan:
    @pytest.fixture
    def model(self) -> Gan:
        torch.manual_seed(0)
        return Gan(SIZE, latent=3, width=2)

    def test_the_discriminator_learns_only_to_tell_wafers_from_drawings(self, model: Gan) -> None:
        found = []
        for adversarial in (0.0, 5.0):
            model.adversarial = adversarial
            found.append(gradients(model, model.discriminator))
        assert alike(*found)
        assert any(each.abs().max() > 0 for each in found[0])

    def test_without_its_opinion_decoder_and_encoder_learn_from_reconstruction_alone(self, model: Gan) -> None:
        def reconstruction(maps: Tensor) -> Tensor:
            pixels = as_pixels(maps)
            return surprise(model.decoder(model.code(pixels)), pixels).sum() / pixels[:, 0].sum()

        model.adversarial = 0
        for part in (model.decoder, model.encoder):
            assert alike(gradients(model, part), gradients(model, part, reconstruction))

    def test_the_opinion_reaches_the_decoder_and_not_the_encoder(self, model: Gan) -> None:
        without, with_it = [], []
        for adversarial, found in ((0.0, without), (5.0, with_it)):
            model.adversarial = adversarial
            found += [gradients(model, part) for part in (model.decoder, model.encoder)]
        assert not alike(without[0], with_it[0])
        assert alike(without[1], with_it[1])

    def test_refuses_a_negative_weight(self) -> None:
        with pytest.raises(ValueError, match="adversarial=-1 is a weight"):
            Gan(SIZE, adversarial=-1)
