"""Load the library of an installed wheel, without the package, which needs torch.

python .ci/load_library.py
"""

from __future__ import annotations

import ctypes
import sysconfig
from pathlib import Path

[path] = Path(sysconfig.get_path("platlib")).glob("skectonas/population/native/_native.*")
library = ctypes.CDLL(str(path))
library.skectonas_variants.restype = ctypes.c_char_p
print(path.name, library.skectonas_variants().decode())
