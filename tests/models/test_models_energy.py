"""The energy of a whole network beside a measured one. Nothing was fitted to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tilewright.compiler.frontend.sources import load
from tilewright.compiler.ir import Module
from tilewright.compiler.pipeline import compile_module
from tilewright.targets import load_target
from tilewright.targets.simulator import FIDELITIES, simulate

MEASURED_PJ = 2.2e9  # ResNet-18, 2.2 mJ an inference on the Neural Engine of an M5 Pro (sbryngelson/ANEForge)
BAND = 2  # another chip, and what of the memory the measurement takes in is not said


@pytest.fixture(scope="module")
def resnet18() -> Module:
    program = load(f"{Path(__file__).parent / 'resnet18_model.py'}:resnet18", weights=False)
    compile_module(program.module, load_target("m4"), ("ane",), "soc")
    return program.module


@pytest.mark.parametrize("fidelity", FIDELITIES)
def test_resnet18_is_of_the_order_that_was_measured(resnet18: Module, fidelity: str) -> None:
    energy = simulate(resnet18, load_target("m4"), fidelity).energy
    assert energy is not None and energy.total_pj is not None
    assert MEASURED_PJ / BAND < energy.total_pj < MEASURED_PJ * BAND
    assert energy.parts["mac"] == pytest.approx(0.365 * 1.814e9, rel=0.01)  # of 1.814 GMAC


def test_resnet18_on_the_chip_that_was_measured() -> None:
    program = load(f"{Path(__file__).parent / 'resnet18_model.py'}:resnet18", weights=False)
    compile_module(program.module, load_target("m5pro"), ("ane",), "soc")
    energy = simulate(program.module, load_target("m5pro")).energy
    assert energy is not None and energy.total_pj is not None
    assert energy.total_pj == pytest.approx(MEASURED_PJ, rel=0.25)


def test_a_parameter_that_is_set_scales_its_part_alone(resnet18: Module) -> None:
    m4 = load_target("m4")
    twice = m4.override("ane.energy.mac.f16", "0.73pJ/MAC")
    before, after = (simulate(resnet18, target, "analytic").energy for target in (m4, twice))
    assert before is not None and after is not None
    assert after.parts["mac"] == pytest.approx(2 * before.parts["mac"], rel=1e-6)
    assert after.parts | {"mac": 0} == before.parts | {"mac": 0}
