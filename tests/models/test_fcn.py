import pytest
import torch
from torch.nn import functional

from bonepipe.models.fcn import Upsampling, fcn


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_upsampling_starts_as_bilinear_interpolation(factor, size):
    torch.manual_seed(0)
    scores = torch.randn(2, 4, *size)
    expected = functional.interpolate(scores, scale_factor=factor, mode="bilinear", align_corners=False)
    torch.testing.assert_close(Upsampling(4, factor)(scores), expected, rtol=1e-5, atol=1e-5)


def test_fcn8s_starts_as_fcn32s_enlarged_step_by_step():
    torch.manual_seed(0)
    model = fcn(3, stride=8, width=4).eval().network
    images = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        maps, _ = model.encoder(images)
        scores = model.score(model.fully(maps[-1]))
        for factor in (2, 2, 8):
            scores = functional.interpolate(scores, scale_factor=factor, mode="bilinear")
        torch.testing.assert_close(model(images), scores, rtol=1e-4, atol=1e-5)


def test_skips_bring_in_the_third_and_fourth_pooling():
    torch.manual_seed(0)
    model = fcn(3, stride=8, width=4).eval().network
    images = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        maps, _ = model.encoder(images)
        for skip, (depth, stride) in zip(model.skips, [(3, 16), (2, 8)], strict=True):
            plain = model(images)
            torch.nn.init.normal_(skip.weight)
            added = skip(maps[depth])
            for factor in (2, 8) if stride == 16 else (8,):
                added = functional.interpolate(added, scale_factor=factor, mode="bilinear")
            torch.testing.assert_close(model(images), plain + added, rtol=1e-3, atol=1e-4)
