"""The compiler: every compiled module takes `njit` from here, never from numba itself.

Numba reads where its cache lies when it is imported, and the processes that are started from here shall use the one
that belongs to these sources, so that place is put into the environment first.
"""

import os

from sim2real.compiled_cache import cache_folder

os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder()))

from numba import njit as njit  # after its cache has been named
from numba import prange as prange
