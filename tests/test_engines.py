"""What every engine promises of every kind of network, against torch in float32."""

from collections.abc import Callable

import pytest
import torch

from nststab.engines import Engine
from nststab.engines.torch_engine import TorchEngine
from nststab.networks.transformation import KINDS, NetworkConfig, TransformationNetwork

ENGINES: dict[str, tuple[Callable[[TransformationNetwork], Engine], float]] = {  # with the least PSNR in dB
    "torch": (TorchEngine, 90.0),
    "torch, bfloat16": (lambda network: TorchEngine(network, precision="bfloat16"), 30.0),
}
STYLES = ("the_great_wave@512", "mosaic@512", "mosaic@1024")


def network(kind: str, recurrent: bool = False, styles: tuple[str, ...] = ()) -> TransformationNetwork:
    torch.manual_seed(0)
    made = TransformationNetwork(NetworkConfig(recurrent, (4, 6, 8), 2, 16, kind, styles))  # type: ignore[arg-type]
    with torch.no_grad():
        for name, value in made.named_parameters():
            if "normalization" in name:
                value.add_(0.3 * torch.randn(value.shape))
    return made.eval()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("styles", [(), STYLES])
def test_it_draws_what_the_network_does_at_any_size(
    engine: str, kind: str, recurrent: bool, styles: tuple[str, ...]
) -> None:
    model = network(kind, recurrent, styles)
    build, least = ENGINES[engine]
    run = build(model)
    assert run.is_recurrent == recurrent
    style = torch.tensor([[0.5, 0.0, 0.5]]) if styles else None
    for height, width in ((32, 40), (33, 47), (5, 70), (1, 1)):
        frame = torch.rand(1, 3, height, width)
        previous = exact = None
        for _ in range(2):
            made = run(frame, previous, style)
            with torch.no_grad():
                exact = model(frame, exact if recurrent else None, style)
            previous = made if recurrent else None
            assert (made.shape, made.dtype) == (frame.shape, torch.float32)
            assert 0 <= made.min() <= made.max() <= 1
            assert -10 * torch.log10((made - exact).square().mean() + 1e-12) > least


@pytest.mark.parametrize("kind", KINDS)
def test_a_style_is_its_row_and_a_mixture_lies_between(kind: str) -> None:
    """The network with only a style's row draws the same; rows are mixed before they normalise."""
    model, frame = network(kind, styles=STYLES), torch.rand(1, 3, 24, 24)
    alone = network(kind)
    for number in range(len(STYLES)):
        state = {
            name: value[number : number + 1] if "normalization" in name else value
            for name, value in model.state_dict().items()
        }
        alone.load_state_dict(state)
        torch.testing.assert_close(model(frame, style=torch.eye(3)[number : number + 1]), alone(frame))
    half = {name: value[:2].mean(0) if "normalization" in name else value for name, value in model.state_dict().items()}
    alone.load_state_dict(half)  # a row without its style's dimension, as older checkpoints have it
    torch.testing.assert_close(model(frame, style=torch.tensor([[0.5, 0.5, 0]])), alone(frame))
    with pytest.raises(ValueError, match=r"expected weights of styles \(1, 3\), got none"):
        model(frame)
    with pytest.raises(ValueError, match=r"expected weights of styles \(1, 3\), got \(1, 2\)"):
        model(frame, style=torch.ones(1, 2))
