"""Convolutions of stride 2 in the form that a processor computes fastest; each equals PyTorch's own.

They serve CPUs, where the library's kernels for few channels, or for small maps, reach a third of the rate of a matrix
product. Elsewhere, as on CUDA, the layers are what they inherit.
Weights keep PyTorch's names and shapes, so a checkpoint fits either form.
Letters: N pictures, H × W map, I channels in, O channels out, K kernel.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from vmil.system.machine import has_amx

STRIDE = 2


def applies(tensor: Tensor) -> bool:
    """Whether the forms here are the faster ones for this input."""
    plain = tensor.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return tensor.device.type == "cpu" and plain and not torch.compiler.is_compiling()


def applies_in_bf16(tensor: Tensor) -> bool:
    """Whether the forms take this input because it is in bfloat16, under autocast or not."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.bfloat16 and not torch.compiler.is_compiling()


def patches(maps: Tensor, kernel: int) -> Tensor:
    """The K × K windows at stride 2 of contiguous (N, H, W, C), one to a row: (N · H' · W', K · K · C), a copy."""
    count, height, width, channels = maps.shape
    rows, columns = (height - kernel) // STRIDE + 1, (width - kernel) // STRIDE + 1
    n, h, w, c = maps.stride()
    windows = maps.as_strided(
        (count, rows, columns, kernel, kernel, channels), (n, STRIDE * h, STRIDE * w, h, w, c), maps.storage_offset()
    )
    return windows.reshape(count * rows * columns, kernel * kernel * channels)


def add_patches(maps: Tensor, windows: Tensor, kernel: int) -> Tensor:
    """Adds rows as `patches` gives them back to where they came from in contiguous `maps` (N, H, W, C), in place."""
    count, height, width, channels = maps.shape
    rows, columns = (height - kernel) // STRIDE + 1, (width - kernel) // STRIDE + 1
    parts = windows.view(count, rows, columns, kernel, kernel * channels)
    for i in range(kernel):
        lines = maps[:, i : i + STRIDE * rows : STRIDE]
        for j in range(0, kernel, STRIDE):  # two neighbours lie side by side in memory, in map and window alike
            wide = min(STRIDE, kernel - j) * channels
            shape = (count, rows, columns, wide)
            stride = (lines.stride(0), lines.stride(1), STRIDE * channels, 1)
            pixels = lines.as_strided(shape, stride, lines.storage_offset() + j * channels)
            pixels.add_(parts[..., i, j * channels : j * channels + wide])
    return maps


def subpixel(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The transposed convolution of stride 2 as a dense one to four pixels at once, contiguous (N, H, W, O).

    Output pixel (2i + a, 2j + b) sums x[i − p, j − q] · w[2p + a, 2q + b]: for each of the four parities (a, b) a
    convolution with a kernel of half the size (Shi et al. 2016, "Is the deconvolution layer the same as a
    convolutional layer?"). Where K is odd, a row and a column of zeros are added to it, and cut off the result.
    """
    odd = weight.shape[-1] % STRIDE
    even = F.pad(weight, (0, odd, 0, odd))
    dense = rearrange(even, "i o (p a) (q b) -> (a b o) i p q", a=STRIDE, b=STRIDE).flip(2, 3)
    padding = dense.shape[-1] - 1
    dense = dense.contiguous(memory_format=torch.channels_last)
    quads = F.conv2d(maps, dense, bias.repeat(STRIDE * STRIDE), padding=padding)
    pixels = rearrange(quads, "n (a b o) h w -> n (h a) (w b) o", a=STRIDE, b=STRIDE)
    return pixels[:, : pixels.shape[1] - odd, : pixels.shape[2] - odd].contiguous()


def _matrix(weight: Tensor) -> Tensor:
    """A kernel (A, B, K, K) as (A, K · K · B); a view where the weight is channels_last."""
    return rearrange(weight, "a b p q -> a (p q b)")


def _kernel(matrix: Tensor, like: Tensor) -> Tensor:
    """Back to (A, B, K, K)."""
    return rearrange(matrix, "a (p q b) -> a b p q", p=like.shape[2], q=like.shape[3])


def _last(maps: Tensor) -> Tensor:
    """(N, C, H, W) → (N, H, W, C); no copy where the maps are channels_last."""
    return maps.permute(0, 2, 3, 1).contiguous()


def _second(maps: Tensor) -> Tensor:
    """Back, in channels_last; a tensor in its own right, so that an activation may overwrite it."""
    return maps.permute(0, 3, 1, 2).detach()


class _PatchConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        maps, kernel = _last(input), weight.shape[-1]
        rows, columns = (maps.shape[1] - kernel) // STRIDE + 1, (maps.shape[2] - kernel) // STRIDE + 1
        windows = patches(maps, kernel)
        ctx.save_for_backward(windows, weight)
        ctx.shape = maps.shape
        return _second(torch.addmm(bias, windows, _matrix(weight).t()).view(len(maps), rows, columns, -1))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        windows, weight = ctx.saved_tensors
        flat = _last(grad).flatten(0, 2)
        maps = kernel = bias = None
        if ctx.needs_input_grad[0]:
            maps = _second(add_patches(flat.new_zeros(ctx.shape), flat @ _matrix(weight), weight.shape[-1]))
        if ctx.needs_input_grad[1]:
            kernel = _kernel(flat.t() @ windows, weight)
        if ctx.needs_input_grad[2]:
            bias = flat.sum(0)
        return maps, kernel, bias


class _PatchConvTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        maps, kernel = _last(input), weight.shape[-1]
        ctx.save_for_backward(maps, weight)
        if maps.dtype == torch.bfloat16:  # in which adding up is slow, and rounds every sum
            return _second(subpixel(input, weight, bias))
        count, height, width, _ = maps.shape
        grown = (count, STRIDE * (height - 1) + kernel, STRIDE * (width - 1) + kernel, len(bias))
        canvas = bias.expand(grown).contiguous()
        return _second(add_patches(canvas, maps.flatten(0, 2) @ _matrix(weight), kernel))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        grad = _last(grad)
        windows = patches(grad, weight.shape[-1])
        below = kernel = bias = None
        if ctx.needs_input_grad[0]:
            below = _second((windows @ _matrix(weight).t()).view(maps.shape))
        if ctx.needs_input_grad[1]:
            kernel = _kernel(maps.flatten(0, 2).t() @ windows, weight)
        if ctx.needs_input_grad[2]:
            bias = grad.sum((0, 1, 2))
        return below, kernel, bias


class _SplitConvTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return F.conv_transpose2d(maps, weight, bias, STRIDE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        return _transposed_gradients(grad, maps, weight, ctx.needs_input_grad)


class _SubpixelConvTranspose(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(maps, weight)
        return _second(subpixel(maps, weight, bias))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        return _transposed_gradients(grad, maps, weight, ctx.needs_input_grad)


def _transposed_gradients(
    grad: Tensor, maps: Tensor, weight: Tensor, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """Of a transposed convolution's input, kernel and bias; PyTorch's own takes twice as long for all three at once."""
    stride, none = [STRIDE, STRIDE], [0, 0]
    below, kernel, _ = torch.ops.aten.convolution_backward(
        grad, maps, weight, None, stride, none, [1, 1], True, none, 1, [*needed[:2], False]
    )
    return below, kernel, _last(grad).sum((0, 1, 2)) if needed[2] else None


class PatchConv2d(nn.Conv2d):
    """`Conv2d` of stride 2 as one matrix product over patches: for small maps of many channels."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, I, H, W) → (N, O, H', W')."""
        if self.bias is None or not (applies(input) or applies_in_bf16(input)):
            return super().forward(input)
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        maps: Tensor = _PatchConv.apply(input, weight, bias)  # type: ignore[no-untyped-call]
        return maps


class _ConvTransposeForm(nn.ConvTranspose2d):
    """`ConvTranspose2d` of stride 2, computed by an autograd function of (maps, weight, bias) where that is faster."""

    function: type[torch.autograd.Function]

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, I, H, W) → (N, O, 2(H−1)+K, 2(W−1)+K)."""
        if self.bias is None or output_size is not None or not self.takes(input):
            return super().forward(input, output_size)
        weight, bias = self.weight.to(input.dtype), self.bias.to(input.dtype)
        maps: Tensor = self.function.apply(input, weight, bias)  # type: ignore[no-untyped-call]
        return maps

    def takes(self, input: Tensor) -> bool:
        """Whether the function is the faster one for this input."""
        return applies(input) or applies_in_bf16(input)


class PatchConvTranspose2d(_ConvTransposeForm):
    """As one matrix product whose patches are added up: for small maps.

    In bfloat16 as a dense convolution, whose gradients are taken by patches: without AMX that takes a third of the
    time of PyTorch's own.
    """

    function = _PatchConvTranspose

    def takes(self, input: Tensor) -> bool:
        """As above, but in bfloat16 only without AMX."""
        return applies(input) or (applies_in_bf16(input) and not has_amx())


class SplitConvTranspose2d(_ConvTransposeForm):
    """As PyTorch does it, but for its bias's gradient, which is taken apart from the others."""

    function = _SplitConvTranspose


class SubpixelConvTranspose2d(_ConvTransposeForm):
    """As a dense convolution to four pixels at once (`subpixel`): for few outputs and an even kernel.

    Its gradients are taken in the transposed form, which is fast there.
    """

    function = _SubpixelConvTranspose
