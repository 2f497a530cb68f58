"""The device of trials, found without torch where there is no GPU."""

import subprocess
import sys

import pytest

from fcdd_sweep.config.errors import InputError
from fcdd_sweep.planning.checks import Machine
from fcdd_sweep.sweep import trial_device
from fcdd_sweep.sweep.trial_device import auto_device_note, check_device, runs_on_cpu, visible_gpus


def test_a_machine_without_gpu_and_driver_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from fcdd_sweep.planning.checks import Machine\n"
        "from fcdd_sweep.sweep import trial_device as device\n"
        "del sys.modules['torch']\n"
        "device.this_machine, device._DRIVERS = lambda: Machine(2, False), ('libnone.so.1',)\n"
        "device.check_device('auto'); device.check_device('cpu')\n"
        "assert device.runs_on_cpu('auto') and device.runs_on_cpu('cpu')\n"
        "print(device.auto_device_note(one_process=False))\n"
        "assert 'torch' not in sys.modules\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "trials run on the CPU: this machine has no GPU\n", result.stderr


@pytest.mark.parametrize(("gpu", "drivers"), [(True, ()), (False, ("libc.so.6",))])
def test_where_there_may_be_a_gpu_torch_decides(monkeypatch, gpu, drivers):
    monkeypatch.setattr(trial_device, "this_machine", lambda: Machine(2, gpu))
    monkeypatch.setattr(trial_device, "_DRIVERS", drivers)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("fcdd_sweep.training.device.device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    assert not runs_on_cpu("auto") and runs_on_cpu("cpu")
    assert (visible_gpus("auto"), visible_gpus("cpu")) == (3, 0)
    assert auto_device_note(one_process=True) == "trials run on a GPU: NVIDIA H200"
    assert auto_device_note(one_process=False) == ""


def test_a_device_that_is_asked_for_and_missing_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(InputError, match="found 'cuda', which torch does not see"):
        check_device("cuda")
