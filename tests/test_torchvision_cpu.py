import subprocess
import sys

import pytest
import torch

needs_cpu_build = pytest.mark.skipif(bool(torch.version.cuda), reason="torch is a CUDA build: nothing to mend")

WORKER = """
import sys
from multiprocessing import get_context

def work(queue):
    import divaug, torchvision
    from torchvision.transforms import v2
    queue.put(torchvision.__version__ + v2.CenterCrop(2).__class__.__name__)

if __name__ == "__main__":
    context = get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(queue.get(timeout=100))
    process.join()
    assert process.exitcode == 0
"""


def python(script, *arguments):
    return subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)


@needs_cpu_build
def test_torchvision_and_timm_import_in_the_main_process():
    done = python(
        "import divaug, sys, torch; assert 'torchvision' not in sys.modules\n"
        "import torchvision, timm; from torchvision.models import resnet18\n"
        "assert not [f for f in sys.meta_path if type(f).__name__ == '_TorchvisionFinder']\n"
        "print(timm.create_model('resnet18', num_classes=2).eval()(torch.zeros(1, 3, 32, 32)).shape)"
    )
    assert done.stdout.strip() == "torch.Size([1, 2])", done.stderr


@needs_cpu_build
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_torchvision_imports_in_worker_processes(method, tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    done = subprocess.run([sys.executable, str(script), method], capture_output=True, text=True, check=False)
    assert done.stdout.strip().endswith("CenterCrop"), done.stderr


@needs_cpu_build
def test_the_compiled_operators_fail_with_torchvisions_own_message():
    done = python("import divaug, torch, torchvision; torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)")
    assert done.returncode == 1 and "custom C++ ops" in done.stderr


def test_a_healthy_install_is_left_alone(tmp_path, monkeypatch):
    from divaug import _torchvision_cpu

    (tmp_path / "version.py").write_text("__version__ = '0.28.0+cpu'\n")
    (tmp_path / "_meta_registrations.py").write_text('@register_fake("torchvision::nms")\n')
    before = list(_torchvision_cpu._libraries)
    _torchvision_cpu._declare_missing_operators(tmp_path)
    _torchvision_cpu._declare_missing_operators(tmp_path / "moved")  # another layout: torchvision speaks for itself
    assert _torchvision_cpu._libraries == before
