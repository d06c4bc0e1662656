"""What the preflight says of deployments on the GPUs that a recipe computes on."""

import pytest

from tasks.core.files.locks import locked
from tasks.core.machine import devices
from tasks.core.machine.gpus import parse_gpus
from tasks.core.machine.hardware import GpuUse, Hardware
from tasks.core.planning.plan import plan_recipe
from tasks.core.planning.shape import known_shape
from tasks.core.preflight.checks import gpus_short_of_room
from tasks.core.recipe import KAWAN_USAHA
from tasks.core.units import GIB


@pytest.mark.parametrize(("free_gib", "refused"), [(70, 0), (28, 1), (5, 2)])
def test_each_stage_that_does_not_fit_beside_a_deployment_is_said(
    monkeypatch: pytest.MonkeyPatch, free_gib: int, refused: int
) -> None:
    gpu = GpuUse("GPU-plan", "NVIDIA H100", 80 * GIB, free_gib * GIB, ())
    monkeypatch.setattr(devices, "read_gpu_use", lambda: (gpu,))
    shape = known_shape(str(KAWAN_USAHA.base.repo))
    assert shape is not None
    here = Hardware(256 * GIB, 256 * GIB, 999 * GIB, 16, parse_gpus("1xH100"))
    found = plan_recipe(KAWAN_USAHA, here, shape)
    assert list(gpus_short_of_room(KAWAN_USAHA, found)) == []
    with locked(devices.lock_directory() / "GPU-plan.serving", "deployment demo", shared=True):
        said = list(gpus_short_of_room(KAWAN_USAHA, found))
    assert len(said) == refused
    assert all("deployment demo" in str(busy) for busy in said)
