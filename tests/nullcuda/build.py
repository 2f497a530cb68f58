"""Builds the null device for the installed torch: a library that stands in for CUDA's, without a GPU."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import torch

HERE = Path(__file__).parent
SITE = Path(sysconfig.get_paths()["purelib"])
LIBRARIES = ("c10_cuda", "torch_cuda", "torch_python", "torch_cuda_linalg", "caffe2_nvrtc")
CUDA_NAME = re.compile(r"(__)?cuda[A-Z]|cublas|cudnn|cu[A-Z](?!FT)(?!File)")
HEADERS = [
    *SITE.glob("nvidia/cu*/include"),
    SITE / "nvidia/cuda_runtime/include",
    SITE / "triton/backends/nvidia/include",
]
DEFINES = """
#define __device_builtin__
#define __cudart_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __specialization_static
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __align__(n) __attribute__((aligned(n)))
#define __host__
#define CUDARTAPI
#define CUDART_CB
"""
"""What CUDA's headers of types need of `crt/host_defines.h`, which some wheels lack."""


def missing() -> str:
    """What the null device needs and this machine lacks; empty where it can be built."""
    if torch.version.cuda is None:
        return "this torch is no CUDA build"
    absent = [tool for tool in ("gcc", "nm") if shutil.which(tool) is None]
    if absent:
        return f"{' and '.join(absent)} not installed"
    return "" if _headers() else "no CUDA headers beside torch"


def _headers() -> Path | None:
    return next((folder for folder in HEADERS if (folder / "driver_types.h").is_file()), None)


def undefined(library: Path) -> set[str]:
    """The symbols of CUDA that a library wants from others."""
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", library], capture_output=True, text=True, check=True
    ).stdout
    names = {line.split()[-1].partition("@")[0] for line in listed.splitlines()}
    return {name for name in names if CUDA_NAME.match(name)}


def defined(object_file: Path) -> set[str]:
    listed = subprocess.run(["nm", "--defined-only", object_file], capture_output=True, text=True, check=True).stdout
    return {line.split()[-1] for line in listed.splitlines()}


def build(folder: Path) -> dict[str, str]:
    """Builds into a folder; returns the environment in which a process sees the null device."""
    (folder / "crt").mkdir(parents=True)
    (folder / "crt" / "host_defines.h").write_text(DEFINES)
    major, minor = str(torch.version.cuda).split(".")[:2]
    version = f"-DCUDA_VERSION_BUILT={int(major) * 1000 + int(minor) * 10}"
    compile_ = ["gcc", "-c", "-fPIC", "-O1", "-w", version, f"-I{folder}", f"-I{_headers()}"]
    subprocess.run([*compile_, HERE / "device.c", "-o", folder / "device.o"], check=True)
    libraries = [Path(torch.__file__).parent / "lib" / f"lib{name}.so" for name in LIBRARIES]
    wanted = set().union(*(undefined(library) for library in libraries if library.is_file()))
    stubs = sorted(wanted - defined(folder / "device.o"))
    (folder / "stubs.c").write_text("".join(f"int {name}(void) {{ return 0; }}\n" for name in stubs))
    device = folder / "libnullcuda.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", folder / "device.o", folder / "stubs.c", "-o", device], check=True)
    (folder / "empty.c").write_text("")
    driver = ["-Wl,-soname,libcuda.so.1", "-Wl,--no-as-needed", f"-L{folder}", "-lnullcuda"]
    subprocess.run(["gcc", "-shared", folder / "empty.c", *driver, "-o", folder / "libcuda.so.1"], check=True)
    return {"LD_PRELOAD": str(device), "LD_LIBRARY_PATH": str(folder), "NULLCUDA": str(device)}
