"""The bytes that LoRA training needs on each GPU and on the host, term by term.

Covers transformers + PEFT + DeepSpeed (ZeRO 0, 2, 3, with and without offload to the host, 16-bit
or NF4 weights) on one machine with one process per GPU, or on the CPU. Not covered: offload to
NVMe, tensor or pipeline parallelism, full fine-tuning. Most terms are arithmetic on the shape and
close to what is measured; the terms called an allowance are measured constants instead.

`reduce_bucket_size` is taken as hidden², which is what transformers fills in for "auto", and
`stage3_max_live_parameters` as DeepSpeed's default: a configuration that sets them otherwise
needs a different amount. Reading the weights takes no host memory worth counting: they come from
mapped pages, which the kernel may take back, straight onto the GPU, a few tensors at a time.
"""

from dataclasses import dataclass

from tasks.core.planning.activations import kept_bytes, lora_targets, working_bytes
from tasks.core.planning.shape import DTYPE_BYTES, LINEAR_NAMES, ModelShape
from tasks.core.recipe import Finetune, Lora
from tasks.core.units import GB

MAX_LIVE_PARAMETERS = 10**9
SCALE_BITS = 0.127
NF4_BITS = 4 + SCALE_BITS


@dataclass(frozen=True)
class Term:
    """One part of a memory need, in bytes, and the source of the number."""

    name: str
    bytes: int
    why: str


@dataclass(frozen=True)
class TrainingMemory:
    """What each GPU needs (empty on the CPU), and what the host needs for all processes."""

    gpu: tuple[Term, ...]
    host: tuple[Term, ...]

    @property
    def gpu_bytes(self) -> int:
        """The need of one GPU."""
        return sum(term.bytes for term in self.gpu)

    @property
    def host_bytes(self) -> int:
        """The need of the host, all processes together."""
        return sum(term.bytes for term in self.host)


def training_memory(shape: ModelShape, finetune: Finetune) -> TrainingMemory:
    """Return every term of a training run's memory.

    Raises RecipeError when LoRA targets a module that the shape does not have.
    """
    device = _device_terms(shape, finetune)
    host = [Term("processes", process_bytes(finetune), "allowance: Python, torch and their data")]
    if finetune.device == "cpu":
        count = finetune.processes
        host += [Term(term.name, term.bytes * count, term.why) for term in device]
        return TrainingMemory((), _without_zeros(host))
    n_lora = lora_params(shape, finetune.lora)
    if _parameters_offloaded(finetune):
        held = weight_bytes(shape, finetune) * finetune.processes
        host.append(Term("weights", held, "ZeRO-Infinity, arXiv:2104.07857"))
        rounded = 0 if not finetune.pin_memory else pinned_weight_bytes(shape, finetune) - held
        host.append(Term("pinning", rounded, "page-locked pieces, rounded up to powers of two"))
    if finetune.offload != "none":
        states = n_lora * (12 + 4)
        host.append(Term("optimizer", states, "fp32 weights, two moments, gradients"))
    runtime = Term("CUDA", runtime_bytes(finetune), "allowance: context, kernels, NCCL")
    return TrainingMemory(_without_zeros([*device, runtime]), _without_zeros(host))


def lora_params(shape: ModelShape, lora: Lora) -> int:
    """Return r * (in + out) summed over every adapted module (arXiv:2106.09685, section 4.1)."""
    widths = (shape.linear(name) for name in lora_targets(lora))
    return shape.layers * sum(lora.r * (width_in + width_out) for width_in, width_out in widths)


def weight_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return one process's part of the frozen weights, wherever they are held.

    ZeRO-3 divides the weights between the processes (arXiv:1910.02054, section 5); every other
    stage gives each process all of them. NF4 with double quantization takes 4 + 0.127 bits a
    weight (QLoRA, arXiv:2305.14314, section 3) of the decoder layers' linear modules; embedding,
    output projection and norms keep the training type. ZeRO-3 does not divide the 0.127 bits: they
    are not parameters.
    """
    share = finetune.processes if finetune.zero_stage == 3 else 1
    scales = shape.layer_linear_params * SCALE_BITS / 8 if finetune.quantization == "4bit" else 0
    return int(_parameter_bytes(shape, finetune) // share + scales)


def _parameter_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return the size of all frozen parameters together, packed if in 4 bits."""
    width, linear = DTYPE_BYTES[finetune.precision], shape.layer_linear_params
    if finetune.quantization == "none":
        return shape.total_params * width
    return linear * 4 // 8 + (shape.total_params - linear) * width


def pinned_weight_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return the page-locked host memory of offloaded weights, all processes together.

    DeepSpeed pins each process's piece of each weight separately, and torch's pinned allocator
    rounds every piece up to a power of two (`ATen/core/CachingHostAllocator.h`), which can nearly
    double it. Norms are below `stage3_param_persistence_threshold` and stay on the GPU.
    """
    width, share = DTYPE_BYTES[finetune.precision], finetune.processes
    sizes = [a * b for a, b in map(shape.linear, LINEAR_NAMES)] * shape.layers
    sizes += [size for size in (shape.embedding_params, shape.head_params) if size]
    pieces = (-(-size // share) * width for size in sizes)
    return share * sum(1 << (piece - 1).bit_length() for piece in pieces)


def adapter_state_bytes(n_params: int, finetune: Finetune) -> tuple[int, int, int]:
    """Return the bytes of n_params trained parameters on a device: weights, gradients, optimizer.

    A trained parameter has its weight and gradient in the training type, an fp32 gradient, an
    fp32 copy and Adam's two fp32 moments: DeepSpeed's own 2 + 18 bytes in 16 bits
    (`estimate_zero2_model_states_mem_needs`). ZeRO-2 divides all but the weight, ZeRO-3 also that
    (arXiv:1910.02054, section 5); offload takes the optimizer's part and the fp32 gradient.
    """
    width, share = DTYPE_BYTES[finetune.precision], finetune.processes
    held = finetune.offload == "none"
    weights = n_params * width // (share if finetune.zero_stage == 3 else 1)
    states = share if finetune.zero_stage >= 2 else 1
    gradients = n_params * (width + (4 if held else 0)) // states
    return weights, gradients, (n_params * 12 // states if held else 0)


def gathered_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return the size of the weights that ZeRO-3 holds gathered on a GPU at the same time.

    DeepSpeed gathers ahead and keeps up to `stage3_max_live_parameters`; the embedding is one
    parameter and adds its whole size, and that size again while it arrives from the host: without
    that, the plan would be 13% below the published figures of PEFT's offload example. One process
    without offload has nothing to gather.
    """
    offloaded = _parameters_offloaded(finetune)
    if finetune.zero_stage != 3 or (finetune.processes == 1 and not offloaded):
        return 0
    width = DTYPE_BYTES[finetune.precision]
    held = _parameter_bytes(shape, finetune) // width  # in 4 bits several weights share one element
    live = min(held, MAX_LIVE_PARAMETERS + shape.embedding_params)
    arriving = shape.embedding_params if offloaded else 0
    return (live + arriving) * width


def buffer_bytes(shape: ModelShape, finetune: Finetune) -> int:
    """Return DeepSpeed's gradient buckets (two in ZeRO-2) and one dequantized 4-bit weight.

    bitsandbytes writes a 4-bit weight out in the training type before it multiplies with it.
    """
    width = DTYPE_BYTES[finetune.precision]
    buckets = {0: 0, 2: 2, 3: 1}[finetune.zero_stage] * shape.hidden**2
    dequantized = shape.largest_linear_params if finetune.quantization == "4bit" else 0
    return (buckets + dequantized) * width


def runtime_bytes(finetune: Finetune) -> int:
    """Return an allowance for a CUDA process besides its tensors: 2.4 GB, 2.9 with NCCL.

    Not a formula: context, kernels, libraries' workspaces, and memory that the allocator reserves
    without using it. On an H100 (driver 580, torch 2.11) this was 2.0 to 2.4 GB for the rungs of a
    13B shape (`tests/benchmarks/bench_gpu.py`). NCCL was not measured.
    """
    return (24 if finetune.processes == 1 else 29) * GB // 10


def process_bytes(finetune: Finetune) -> int:
    """Return an allowance for a training process without weights: 3 GB with CUDA, 1 GB without.

    Not a formula. PEFT's table of LoRA runs without offload shows 2.96 to 3.8 GB of host memory;
    a CPU-only process loads no CUDA libraries.
    """
    return finetune.processes * (3 * GB if finetune.device == "cuda" else GB)


def _device_terms(shape: ModelShape, finetune: Finetune) -> tuple[Term, ...]:
    """Return the terms of one process on the device that it computes on."""
    weights = 0 if _parameters_offloaded(finetune) else weight_bytes(shape, finetune)
    adapter, gradients, optimizer = adapter_state_bytes(lora_params(shape, finetune.lora), finetune)
    gathered = gathered_bytes(shape, finetune)
    kept, working = kept_bytes(shape, finetune), working_bytes(shape, finetune)
    moving = gathered + kept + working
    terms = _without_zeros(
        [
            Term("weights", weights, "frozen; divided by ZeRO-3, a quarter in NF4"),
            Term("LoRA", adapter, "r * (in + out) a module"),
            Term("gradients", gradients, "of LoRA, in the training type and in fp32"),
            Term("optimizer", optimizer, "of LoRA: fp32 copy and Adam's moments"),
            Term("gathered", gathered, "layers that ZeRO-3 holds whole at one time"),
            Term("activations", kept, "kept for the backward pass"),
            Term("working set", working, "logits and loss in fp32, or one layer's backward"),
            Term("buffers", buffer_bytes(shape, finetune), "DeepSpeed's buckets, 4-bit scratch"),
            Term("fragmentation", moving // 20, "allowance: 5% of temporary memory"),
        ]
    )
    return (*terms, *_loading(shape, finetune, sum(term.bytes for term in terms)))


def _loading(shape: ModelShape, finetune: Finetune, trained_bytes: int) -> tuple[Term, ...]:
    """Return the extra need of 4-bit weights until ZeRO-3 has divided them."""
    if finetune.quantization == "none" or finetune.zero_stage != 3:
        return ()
    whole = weight_bytes(shape, finetune.model_copy(update={"zero_stage": 2}))
    return _without_zeros([Term("loading", whole - trained_bytes, "a whole 4-bit copy at first")])


def _parameters_offloaded(finetune: Finetune) -> bool:
    on_gpu = finetune.device == "cuda" and finetune.quantization == "none"
    return on_gpu and finetune.zero_stage == 3 and finetune.offload == "all"


def _without_zeros(terms: list[Term]) -> tuple[Term, ...]:
    return tuple(term for term in terms if term.bytes > 0)
