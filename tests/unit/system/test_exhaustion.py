import pytest
import torch

from tasks.core.system.exhaustion import exhausted_memory


def test_allocation_that_torch_cannot_make_is_the_host_s_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert exhausted_memory(caught.value) == "host"


def test_error_class_of_a_gpu_is_the_device_s_memory() -> None:
    assert exhausted_memory(torch.OutOfMemoryError("Tried to allocate 2 GiB")) == "device"


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), OSError("No space left")])
def test_other_errors_are_none(error: Exception) -> None:
    assert exhausted_memory(error) is None
