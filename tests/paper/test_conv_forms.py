"""Every fast form of a convolution against PyTorch's own: forward, gradients, and what a checkpoint holds."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vmil.nets import conv_forms
from vmil.nets.conv import ImageDecoder, ImageEncoder, as_transposed
from vmil.nets.conv_forms import (
    PatchConv2d,
    PatchConvTranspose2d,
    SplitConvTranspose2d,
    SubpixelConvTranspose2d,
    add_patches,
    applies,
    applies_in_bf16,
    patches,
)

CHANNELS_LAST = torch.channels_last
FORMS = [
    (PatchConv2d, nn.Conv2d, (6, 5, 4, 2), 6),
    (PatchConv2d, nn.Conv2d, (3, 4, 4, 2), 9),  # the last row and column are in no window
    (PatchConvTranspose2d, nn.ConvTranspose2d, (6, 4, 5, 2), 5),
    (PatchConvTranspose2d, nn.ConvTranspose2d, (3, 2, 6, 2), 4),
    (SubpixelConvTranspose2d, nn.ConvTranspose2d, (5, 3, 6, 2), 7),
    (SubpixelConvTranspose2d, nn.ConvTranspose2d, (2, 1, 4, 2), 3),
    (SplitConvTranspose2d, nn.ConvTranspose2d, (4, 3, 6, 2), 5),
]


@pytest.mark.parametrize("memory", [CHANNELS_LAST, torch.contiguous_format])
@pytest.mark.parametrize(("form", "plain", "shape", "side"), FORMS)
def test_a_form_is_the_layer_it_inherits(
    form: type[nn.Module], plain: type[nn.Module], shape: tuple[int, ...], side: int, memory: torch.memory_format
) -> None:
    torch.manual_seed(0)
    fast, slow = (kind(*shape).to(memory_format=memory) for kind in (form, plain))
    slow.load_state_dict(fast.state_dict())
    inputs = [torch.randn(3, shape[0], side, side).to(memory_format=memory).requires_grad_() for _ in range(2)]
    with torch.no_grad():
        inputs[1].copy_(inputs[0])
    outputs = [layer(given) for layer, given in zip((fast, slow), inputs, strict=True)]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(outputs[1])
    for output in outputs:
        (output * weight).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-4, atol=1e-5)
    for one, other in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("form", "plain", "shape", "side"), FORMS)
def test_in_bf16_a_form_is_as_near_to_fp32_as_the_layer_it_inherits(
    form: type[nn.Module], plain: type[nn.Module], shape: tuple[int, ...], side: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Output and gradients within 2 % of the largest entry, and no further off than twice what PyTorch's own is."""
    monkeypatch.setattr(conv_forms, "has_amx", lambda: False)
    torch.manual_seed(0)
    fast, slow = form(*shape), plain(*shape)
    slow.load_state_dict(fast.state_dict())
    given = torch.randn(3, shape[0], side, side).bfloat16().float()
    weight = torch.randn_like(slow(given))

    def results(layer: nn.Module, half: bool) -> list[Tensor]:
        inputs = given.to(torch.bfloat16 if half else torch.float32).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=half):
            output = layer(inputs)
        assert output.dtype == inputs.dtype
        grads = torch.autograd.grad((output.float() * weight).sum(), [inputs, *layer.parameters()])
        return [output.detach().float(), *(grad.float() for grad in grads)]

    for exact, own, theirs in zip(results(slow, False), results(fast, True), results(slow, True), strict=True):
        off, allowed = float((own - exact).abs().max()), float((theirs - exact).abs().max())
        assert off <= max(2 * allowed, 5e-3 * float(exact.abs().max()))
        assert off <= 2e-2 * float(exact.abs().max())


def test_which_numbers_the_forms_are_for() -> None:
    assert applies(torch.zeros(1))
    assert not applies(torch.zeros(1, dtype=torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not applies(torch.zeros(1))
    assert applies_in_bf16(torch.zeros(1, dtype=torch.bfloat16))
    assert not applies_in_bf16(torch.zeros(1))


@pytest.mark.parametrize(("half", "amx", "takes"), [(False, True, True), (True, False, True), (True, True, False)])
def test_with_amx_small_transposed_maps_in_bf16_are_pytorchs(
    half: bool, amx: bool, takes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conv_forms, "has_amx", lambda: amx)
    maps = torch.zeros(1, 2, 3, 3, dtype=torch.bfloat16 if half else torch.float32)
    assert PatchConvTranspose2d(2, 2, kernel_size=5, stride=2).takes(maps) is takes


def test_windows_by_hand() -> None:
    maps = torch.arange(32.0).view(1, 4, 4, 2)  # pixel (i, j) holds 8i + 2j and the number after it
    rows = patches(maps, kernel=3)
    assert rows.tolist() == [[float(8 * i + 2 * j + c) for i in range(3) for j in range(3) for c in range(2)]]
    canvas = torch.zeros(1, 5, 5, 1)
    add_patches(canvas, torch.ones(4, 9), kernel=3)  # four windows, which share a row and a column in the middle
    assert canvas[0, :, :, 0].tolist() == [
        [1.0, 1.0, 2.0, 1.0, 1.0],
        [1.0, 1.0, 2.0, 1.0, 1.0],
        [2.0, 2.0, 4.0, 2.0, 2.0],
        [1.0, 1.0, 2.0, 1.0, 1.0],
        [1.0, 1.0, 2.0, 1.0, 1.0],
    ]


def plain_encoder(net: ImageEncoder, image: Tensor, act: nn.Module) -> Tensor:
    maps = image.permute(0, 3, 1, 2).contiguous()
    for layer in net.layers:
        maps = F.conv2d(maps, layer.weight, layer.bias, stride=2) if isinstance(layer, nn.Conv2d) else act(maps)
    return maps.permute(0, 2, 3, 1).flatten(1)


def plain_decoder(net: ImageDecoder, feat: Tensor, act: nn.Module) -> Tensor:
    maps = F.conv_transpose2d(net.project(feat)[:, :, None, None], as_transposed(net.first.weight), net.first_bias)
    for layer in net.rest:
        transposed = isinstance(layer, nn.ConvTranspose2d)
        maps = F.conv_transpose2d(maps, layer.weight, layer.bias, stride=2) if transposed else act(maps)
    return maps.permute(0, 2, 3, 1)


@pytest.mark.parametrize("act", ["elu", "silu"])
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 1e-4), (True, 3e-2)])
def test_whole_nets_are_the_plain_ones(act: str, bf16: bool, tolerance: float) -> None:
    """Gradients too; relative to the largest entry, 1e-4 in fp32 and 3e-2 under bf16 autocast."""
    torch.manual_seed(0)
    encoder, decoder = ImageEncoder(4, act), ImageDecoder(7, 4, act)  # type: ignore[arg-type]
    plain_act = {"elu": nn.ELU(), "silu": nn.SiLU()}[act]
    image, feat = torch.rand(3, 64, 64, 3) - 0.5, torch.randn(3, 7, requires_grad=True)
    weights = [*encoder.parameters(), *decoder.parameters(), feat]

    def run(fast: bool) -> list[Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16 and fast):
            code = encoder(image) if fast else plain_encoder(encoder, image, plain_act)
            seen = decoder(feat) if fast else plain_decoder(decoder, feat, plain_act)
        loss = code.float().square().sum() + (seen.float() - image).square().sum()
        return [code.detach().float(), seen.detach().float(), *torch.autograd.grad(loss, weights)]

    for one, other in zip(run(True), run(False), strict=True):
        assert float((one - other).abs().max()) <= tolerance * float(other.abs().max())


def test_checkpoints_of_the_plain_layers_fit() -> None:
    names = {f"layers.{2 * i}.{part}" for i in range(4) for part in ("weight", "bias")}
    assert set(ImageEncoder(2, "elu").state_dict()) == names
    shapes = {name: tuple(value.shape) for name, value in ImageDecoder(7, 2, "elu").state_dict().items()}
    assert shapes["rest.1.weight"] == (8, 4, 5, 5)
    assert shapes["rest.5.weight"] == (2, 3, 6, 6)
