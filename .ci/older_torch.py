"""Put an older release of torch into this environment, without the libraries of CUDA.

python .ci/older_torch.py 2.7.1

For Linux the package index has CUDA builds only of older releases, which want gigabytes of
libraries to be imported. A machine without a GPU calls nothing of them but what asks for a
device, so empty libraries with the names that torch looks for will do. They are made here, by
gcc; where the build of torch is one for the CPU, there is nothing to make.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from collections import defaultdict
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

NO_DEVICE = 100
"""What a function of CUDA returns where there is no device: cudaErrorNoDevice."""


def install(release: str) -> None:
    """Replace torch, whatever the constraints of this environment say, and nothing else."""
    outside = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", f"torch=={release}"]
    subprocess.run(command, env=outside, check=True)


def said(*command: object) -> str:
    """Return what a command prints."""
    return subprocess.run(
        [str(part) for part in command], check=True, capture_output=True, text=True
    ).stdout


def stand_in(folder: Path) -> None:
    """Make the libraries of CUDA that those in a folder need and do not find there."""
    needed: set[str] = set()
    functions: dict[str, list[str]] = defaultdict(list)
    for library in folder.glob("lib*.so*"):
        needed |= set(re.findall(r"\[(lib(?:cu|nccl|nv).*)\]", said("readelf", "-d", library)))
        symbols = re.findall(r" U (_*(?:cu|nccl|nv)\w+)@?(\S*)", said("nm", "-D", library))
        for name, version in symbols:
            functions[version] = sorted({*functions[version], name})
    missing = sorted(needed - {path.name for path in folder.iterdir()})
    with TemporaryDirectory() as scratch:
        code, script = Path(scratch, "code.c"), Path(scratch, "versions")
        for name in missing:
            # What has no version may be in any of them: the first has it.
            stem = name.split(".")[0]
            own = {v: names for v, names in functions.items() if v.split(".")[0] == stem}
            plain = functions[""] if name == missing[0] else []
            every = [*plain, *chain.from_iterable(own.values())]
            code.write_text("\n".join(f"int {f}(void) {{return {NO_DEVICE};}}" for f in every))
            versions = (f"{v} {{global: {'; '.join(names)};}};" for v, names in own.items())
            script.write_text("\n".join(versions))
            options = [f"-Wl,-soname,{name}"]
            options += [f"-Wl,--version-script={script}"] if own else []
            command = ["gcc", "-w", "-fno-builtin", "-shared", "-fPIC", code, *options]
            said(*command, "-o", folder / name)


if __name__ == "__main__":
    install(sys.argv[1])
    if sys.platform == "linux":
        stand_in(Path(sysconfig.get_path("purelib"), "torch", "lib"))
