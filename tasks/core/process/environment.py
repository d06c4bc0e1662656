"""The environment of a process that runs a model's code: what computing needs, and no secret.

A model directory can bring Python code, and every stage that loads it runs that code: the proof of
an edit, training, evaluation, serving, the look at what was published. No such process needs a
token, a key or a password, and nobody knows how all of them are called. So this is a list of what
is handed on, not of what is held back. It covers the environment only: a process of the same user
can still read that user's files.
"""

import os
from collections.abc import Mapping
from fnmatch import fnmatchcase

EXTRA = "KAWAN_USAHA_CHILD_ENVIRONMENT"
"""Names of further variables that a machine needs, with commas between them."""

NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HF_ENDPOINT"),
)
"""What a process needs besides to reach the network. A proxy's address can hold a password."""

_COMPUTING = (
    # The user and the system.
    *("PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR", "LANG", "LC_*", "XDG_CACHE_HOME"),
    # Python, compilers, libraries.
    *("PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH"),
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH"),
    *("CPLUS_INCLUDE_PATH", "MAX_JOBS"),
    # Devices, arithmetic, and the way between processes.
    *("CUDA_*", "NVIDIA_*", "ROCM_*", "ROCR_*", "HIP_*", "HSA_*"),
    *("OMP_*", "MKL_*", "KMP_*", "GOMP_*", "OPENBLAS_*", "NUMEXPR_*", "MALLOC_*"),
    *("TORCH_*", "TORCHINDUCTOR_*", "PYTORCH_*", "TRITON_*", "DS_*", "DEEPSPEED_*", "BNB_*"),
    *("NCCL_*", "GLOO_*", "UCX_*", "FI_*", "IBV_*"),
    # Caches and manners of the libraries that load models.
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_*", "HF_MODULES_CACHE"),
    *("HF_DATASETS_*", "TRANSFORMERS_*", "TOKENIZERS_PARALLELISM", "TQDM_*", "DO_NOT_TRACK"),
)
_LIKE_A_SECRET = ("*TOKEN", "*TOKENS", "*_KEY", "*SECRET*", "*PASSWORD*", "*CREDENTIAL*")
"""Not handed on under a pattern above either."""

NO_LOGIN = {"HF_TOKEN_PATH": os.devnull, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
"""The token that `hf auth login` left in HF_HOME is not found there, and not sent unasked."""

BESIDE_OTHERS = {"OMP_WAIT_POLICY": "PASSIVE"}
"""A thread that waits for the others leaves its core to whoever works there.

By default it spins: beside a busy process on each core, products in float32 on two threads then ran
at a sixth of their speed, with this at half; alone they were 5 % slower with it.
"""


def child_environment(environ: Mapping[str, str], *more: str) -> dict[str, str]:
    """Return the part of environ that a process may have which runs a model's code.

    more names what this kind of process needs besides, secrets among it; `*` stands for any
    characters. What the variable EXTRA names is handed on too. What environ says of the waiting of
    threads stays.
    """
    asked = (*more, *filter(None, (name.strip() for name in environ.get(EXTRA, "").split(","))))
    handed_on = {
        name: value
        for name, value in environ.items()
        if _matches(name, asked)
        or (_matches(name, _COMPUTING) and not _matches(name, _LIKE_A_SECRET))
    }
    return {**BESIDE_OTHERS, **handed_on, **NO_LOGIN}


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
