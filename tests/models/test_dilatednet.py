import pytest
import torch

from bonepipe.models.dilatednet import CONTEXTS, context_module, dilatednet


def test_the_basic_context_module_starts_as_the_identity_of_what_is_positive():
    module = context_module(5, CONTEXTS["basic"])
    scores = torch.randn(2, 5, 24, 20)
    with torch.inference_mode():
        torch.testing.assert_close(module(scores), scores.relu(), rtol=0, atol=0)


def test_the_large_context_module_starts_near_the_identity():
    torch.manual_seed(0)
    module = context_module(5, CONTEXTS["large"])
    scores = torch.rand(2, 5, 24, 20)
    with torch.inference_mode():
        torch.testing.assert_close(module(scores), scores, rtol=0, atol=0.05)


def test_the_basic_context_module_has_64_parameters_a_pair_of_classes():
    """Section 3 of the paper: about 64 C^2; the biases are the rest."""
    weights = [p for p in context_module(29, CONTEXTS["basic"]).parameters() if p.dim() == 4]
    assert sum(w.numel() for w in weights) == 64 * 29**2


@pytest.mark.parametrize("layers", range(1, 9))
def test_the_context_modules_receptive_fields_are_those_of_table_1(layers):
    """The gradient of one output reaches as far as the table says, when every weight counts."""
    width = [3, 5, 9, 17, 33, 65, 67, 67][layers - 1]
    module = context_module(1, CONTEXTS["basic"])[: 2 * layers - 1]
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    scores = torch.ones(1, 1, 81, 81, requires_grad=True)
    module(scores)[0, 0, 40, 40].backward()
    rows, columns = scores.grad[0, 0].nonzero(as_tuple=True)
    assert rows.max() - rows.min() + 1 == columns.max() - columns.min() + 1 == width


def test_an_untrained_context_module_changes_nothing():
    torch.manual_seed(0)
    plain = dilatednet(5, width=4, context="none").eval()
    with_context = dilatednet(5, width=4, context="basic").eval()
    images = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        missing = with_context.load_state_dict(
            {k: v for k, v in plain.state_dict().items() if "score.bias" not in k}, strict=False
        )
        assert all("context" in key or "score.bias" in key for key in missing.missing_keys)
        torch.testing.assert_close(with_context(images), plain(images), rtol=1e-4, atol=1e-4)


def test_the_front_end_keeps_an_eighth_of_the_resolution():
    maps, _ = dilatednet(5, width=4).network.encoder(torch.randn(1, 1, 64, 48))
    assert [tuple(m.shape[-2:]) for m in maps] == [(32, 24), (16, 12), (8, 6), (8, 6), (8, 6)]
