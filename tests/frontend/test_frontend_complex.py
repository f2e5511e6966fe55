"""Complex numbers as pairs of real ones: rotary positions, arithmetic, aliasing, Fourier transforms; at two levels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from frontend_check import imported, op_names, relative_error, same_as_eager, tensor
from tilewright.compiler.dialects import tile
from tilewright.compiler.frontend.eager import example_inputs, run_eager
from tilewright.compiler.frontend.errors import ExportFailed
from tilewright.compiler.frontend.sources import Loaded
from tilewright.compiler.interpret import run_soc
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target

X = tensor(2, 8, 6)
Z = torch.complex(tensor(2, 8, 6), tensor(2, 8, 6, seed=1))
W = torch.complex(tensor(1, 3, 2, 2), tensor(1, 3, 2, 2, seed=1))
SIGNAL = tensor(2, 70)


def both_levels(loaded: Loaded) -> None:
    same_as_eager(loaded, 2e-5)
    arrays, expected = example_inputs(loaded), run_eager(loaded)
    compile_module(loaded.module, load_target("m4"), ("ane", "gpu", "cpu"), "soc")
    for got, wanted in zip(run_soc(loaded.module, arrays), expected, strict=True):
        assert got.dtype == wanted.dtype
        assert relative_error(got, wanted) < 1e-4


class Rotary(torch.nn.Module):
    """Positions as Llama's first code has them: a buffer of unit numbers, times pairs of neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("turns", torch.polar(torch.ones(8, 3), tensor(8, 3)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * self.turns).flatten(2).type_as(x)


class Global(torch.nn.Module):
    """A filter of GFNet: the image's spectrum times a weight of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(tensor(14, 8, 6, 2) * 0.1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spectrum = torch.fft.rfft2(x, dim=(1, 2), norm="ortho") * torch.view_as_complex(self.weight)
        return torch.fft.irfft2(spectrum, s=(14, 14), dim=(1, 2), norm="ortho")


class State(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", Z.clone())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self.state.mul_(z)
        return self.state.abs()


def spectral_convolution(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """As Fourier neural operators have it: the low frequencies through a matrix for each."""
    low = torch.fft.rfft2(x)
    mixed = torch.zeros(2, 3, 8, 4, dtype=torch.cfloat)
    mixed[:, :, :2, :2] = torch.einsum("bixy,ioxy->boxy", low[:, None, :2, :2], w)
    return torch.fft.irfft2(mixed, s=(8, 6))


def writes(z: torch.Tensor) -> Any:
    """Through every kind of view, before and after others are taken."""
    z = z.clone()
    z[:, 1:3] *= 2j
    z.real.add_(1)
    pairs = torch.view_as_real(z)
    flat = pairs.flatten(1)
    z.imag.mul_(3)
    pairs[..., 1] += 1
    turned = z.mT
    turned.mul_(z.mT.conj())
    turned.transpose_(0, 1)
    return z, pairs, flat, turned, torch.view_as_real(turned)


def writes_inputs(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    z.mul_(2j)
    x.add_(z.real)
    return z.sum()


CASES: dict[str, tuple[Any, tuple[torch.Tensor, ...]]] = {
    "rotary": (Rotary(), (X,)),
    "global_filter": (Global(), (tensor(2, 14, 14, 6),)),
    "spectral_convolution": (spectral_convolution, (X, W)),
    "parts": (lambda z: (z.real, z.imag, z.abs(), z.angle(), z.conj(), z.mH, torch.view_as_real(z)), (Z,)),
    "arithmetic": (
        lambda z, x: (z + x, 1 - z, z * (2 + 1j), z / x, 1 / z, z / (z + 1), z / 2j, z.conj() * z, z**2, z**-1, z**0.5),
        (Z, X),
    ),
    "functions": (lambda z, x: (z.exp(), z.log(), z.sgn(), torch.exp(-1j * x) * 2j, torch.polar(x.abs(), x)), (Z, X)),
    "products": (
        lambda z, x: (
            z @ z.mH,
            z @ x.mT.to(z.dtype),
            torch.einsum("bij,bkj->bik", z, z),
            torch.outer(z[0, 0], z[0, 1]),
        ),
        (Z, X),
    ),
    "movement": (
        lambda z, x: (
            z.flip(1),
            z.roll(2, 2),
            torch.cat([z, z.conj()]),
            torch.where(x > 0, z, 1j),
            z[:, [1, 0]],
            z.mean(),
        ),
        (Z, X),
    ),
    "equality": (lambda z: (z == z.conj(), z != 1, z.to(torch.complex128)), (Z,)),
    "writes": (writes, (Z[:, :6],)),
    "writes_inputs": (writes_inputs, (Z, X)),
    "state": (State(), (Z,)),
    "transforms": (
        lambda x, z: (torch.fft.fft(x), torch.fft.ifft(z, norm="ortho"), torch.fft.rfft2(x), torch.fft.hfft(z)),
        (X, Z),
    ),
    "long_transforms": (
        lambda x: (torch.fft.rfft(x).abs(), torch.fft.irfft(torch.fft.rfft(x)), torch.fft.fft(x, dim=0).real),
        (tensor(3, 1100),),
    ),
    "prime_transform": (lambda x: torch.fft.rfft(x).abs(), (tensor(2, 521),)),
    "shifts": (lambda x: torch.fft.ifftshift(torch.fft.fftshift(torch.fft.fftn(x)) * 2), (X,)),
    "stft": (
        lambda x, w: (torch.stft(x, 16, 5, window=w, return_complex=True).abs(), torch.stft(x, 8, return_complex=True)),
        (SIGNAL, torch.hann_window(16)),
    ),
    "istft": (
        lambda x, w: torch.istft(torch.stft(x, 16, 5, window=w, return_complex=True), 16, 5, window=w, length=70),
        (SIGNAL, torch.hamming_window(16)),
    ),
}


@pytest.mark.filterwarnings("ignore:.*rectangular window")
@pytest.mark.parametrize("name", CASES)
def test_complex_numbers_at_graph_and_soc_level(name: str) -> None:
    function, inputs = CASES[name]
    both_levels(imported(function, *inputs))


def test_what_says_more_of_complex_numbers_takes_real_ones_too() -> None:
    same_as_eager(
        imported(lambda x: (x.sgn(), torch.conj_physical(x), torch.ops.aten._conj_physical(x), x.conj().mH), X)
    )


def test_rotary_positions_cost_what_their_real_form_costs() -> None:
    """Six operations a pair of numbers, and one join; the turns are stored as pairs, and nothing is made complex."""
    loaded = imported(Rotary(), X)
    names = op_names(loaded.module)
    assert [names.count(n) for n in ("mul", "add", "sub", "concat")] == [4, 1, 1, 1]
    assert {k: tuple(v.shape) for k, v in loaded.module.parameters.items()} == {"turns": (8, 3, 2)}


def test_waves_are_made_when_the_program_is_loaded() -> None:
    """What runs is matrix products: of 14 points by 8 frequencies, twice as cosines and sines."""
    loaded = imported(lambda x: torch.fft.rfft(x).real, tensor(3, 14))
    compile_module(loaded.module, load_target("m4"), (), "tile")
    labels = [str(op.attributes["label"]) for op in loaded.module.main.body if isinstance(op, tile.Loop)]
    assert "matmul" in labels and not {"cos", "sin", "mod", "mul"} & set(labels)


def test_transforms_that_torch_lacks_in_f16_are_told() -> None:
    with pytest.raises(ExportFailed, match="--dtype f32 keeps weights and inputs in f32"):
        imported(lambda x: torch.fft.rfft(x).abs(), X, dtype="f16")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda z: z.tanh(), "aten.tanh.default: complex numbers"),
        (lambda z: torch.linalg.eigvals(z[:, :6]), "aten.linalg_eig"),
        (lambda z: torch.fft.fft(z, n=8209), "a Fourier transform of 8209 points, which is prime"),
    ],
)
def test_what_complex_numbers_cannot_do_is_told(function: Callable[..., Any], told: str) -> None:
    with pytest.raises(Exception, match=told):
        imported(function, Z)
