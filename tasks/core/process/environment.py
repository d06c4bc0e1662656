"""The environment of child processes: one rule for secrets, from which each caller asks exceptions.

A model directory can contain Python code, and every stage that loads it runs that code: the proof
of an edit, training, evaluation, serving, the check of what was published. No such process needs a
token, a key or a password, and nobody knows all their names. So the rule lists what is passed on,
not what is held back. A child that needs a secret says which one; one that does the same work as
this process, such as the worker that runs whole recipes, asks for EVERYTHING, and a contract lists
those. The rule covers the environment only: a process of the same user can still read that user's
files.
"""

import os
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from tasks.core.home import PROJECT

EXTRA_VARIABLE = "KAWAN_USAHA_CHILD_ENVIRONMENT"
"""Names of further variables that processes need on this machine, separated by commas."""

EVERYTHING = "*"
"""Asks for all variables, secrets included: for a child that does the work of this process."""

NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HF_ENDPOINT"),
)
"""What a process also needs to reach the network. A proxy's address can contain a password."""

_COMPUTING = (
    # The user and the system.
    *("PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR", "LANG", "LC_*", "XDG_CACHE_HOME"),
    # Python, compilers, libraries.
    *("PYTHON*", "VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH"),
    *("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CPATH", "C_INCLUDE_PATH"),
    *("CPLUS_INCLUDE_PATH", "MAX_JOBS"),
    # Devices, arithmetic, and communication between processes.
    *("CUDA_*", "NVIDIA_*", "ROCM_*", "ROCR_*", "HIP_*", "HSA_*"),
    *("OMP_*", "MKL_*", "KMP_*", "GOMP_*", "OPENBLAS_*", "NUMEXPR_*", "MALLOC_*"),
    *("TORCH_*", "TORCHINDUCTOR_*", "PYTORCH_*", "TRITON_*", "DS_*", "DEEPSPEED_*", "BNB_*"),
    *("NCCL_*", "GLOO_*", "UCX_*", "FI_*", "IBV_*"),
    # Caches and behaviour of the libraries that load models.
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_HUB_DISABLE_*", "HF_MODULES_CACHE"),
    *("HF_DATASETS_*", "TRANSFORMERS_*", "TOKENIZERS_PARALLELISM", "TQDM_*", "DO_NOT_TRACK"),
)
_LIKE_A_SECRET = ("*TOKEN", "*TOKENS", "*_KEY", "*SECRET*", "*PASSWORD*", "*CREDENTIAL*")
"""Not passed on, even if a pattern above matches."""

NO_LOGIN = {"HF_TOKEN_PATH": os.devnull, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
"""Hides the token that `hf auth login` stored in HF_HOME, and keeps it from being sent."""

BESIDE_OTHERS = {"GOMP_SPINCOUNT": "1000"}
"""A thread that waits for others spins for some microseconds, then leaves its core to other work.

The number is libgomp's own for more threads than cores. By default a thread spins 300 times as
long, which slows down whoever shares its core; sleeping at once (`OMP_WAIT_POLICY=PASSIVE`) slows
down a process that is alone. docs/benchmarks.md has the figures.
"""

SUPERVISED = {
    "PYTHONPATH": str(PROJECT),
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""What supervisord sets for each program of a deployment, beside its own environment."""


def child_environment(
    environ: Mapping[str, str], *more: str, but: Iterable[str] = ()
) -> dict[str, str]:
    """Return the part of environ that a child process gets: by default no secret.

    more names what this kind of process also needs, secrets included, and but what it must not have
    in any case; `*` in a name stands for any characters. What the variable EXTRA names is passed on
    too. A setting of environ for waiting threads is kept, by whichever variable.
    """
    asked = (
        *more,
        *filter(None, (name.strip() for name in environ.get(EXTRA_VARIABLE, "").split(","))),
    )
    withheld = tuple(but)
    passed_on = {
        name: value
        for name, value in environ.items()
        if not _matches(name, withheld)
        and (
            _matches(name, asked)
            or (_matches(name, _COMPUTING) and not _matches(name, _LIKE_A_SECRET))
        )
    }
    if EVERYTHING in more:
        return passed_on
    waiting = {} if "OMP_WAIT_POLICY" in passed_on else BESIDE_OTHERS
    return {**waiting, **passed_on, **NO_LOGIN}


def path_with_programs_of(python: Path, environ: Mapping[str, str]) -> str:
    """Return a PATH on which the programs beside this Python are found first."""
    return os.pathsep.join([str(python.parent), environ.get("PATH", os.defpath)])


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
