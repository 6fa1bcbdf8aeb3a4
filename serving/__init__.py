"""The live endpoint: retrieves, adapts to the user, ranks, explores and logs what it showed."""

import os

# One request is too small to share between threads, and on a busy machine a BLAS that tries is many times
# slower. The libraries read these once, when numpy is first imported.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
