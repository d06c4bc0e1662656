"""What would help where training does not fit as asked, and why it cannot go without ZeRO-3.

Each piece of advice is computed for the machine at hand: what it names does fit.
"""

from tasks.core.machine.gpus import known_card, known_cards
from tasks.core.machine.hardware import Hardware
from tasks.core.planning.rung_fit import RungFit, fit_ladder
from tasks.core.planning.rungs import global_batch_size
from tasks.core.planning.shape import ModelShape
from tasks.core.recipe import Finetune
from tasks.core.units import GIB, readable

SHORTEST_TALK_TOKENS = 512


def why_not_replicated(shape: ModelShape, finetune: Finetune, hardware: Hardware) -> str | None:
    """Return why training without ZeRO-3 cannot work here, if that is so."""
    weights = shape.weight_bytes(finetune.precision)
    smallest = min(hardware.gpus, key=lambda gpu: gpu.memory_bytes, default=None)
    if finetune.device == "cpu" or smallest is None or weights <= smallest.memory_bytes:
        return None
    room = readable(smallest.memory_bytes)
    return (
        f"Without ZeRO-3 every GPU holds a whole copy of the weights: {readable(weights)} in "
        f"{finetune.precision}, more than the {room} of {smallest.name}, "
        "whatever the batch size. This is how the original fine-tune (13B with LoRA on two 24 GB "
        "cards) ran out of memory."
    )


def training_remedies(
    shape: ModelShape,
    finetune: Finetune,
    hardware: Hardware,
    ladder: tuple[RungFit, ...],
    first: RungFit | None,
) -> tuple[str, ...]:
    """Return what to change, nothing when the first rung fits; first is the first that does."""
    if first is not None and first.number == 1:
        return ()
    return tuple(
        advice
        for advice in (
            _more_processes(shape, finetune, hardware, first),
            None if first else _larger_gpu(ladder, finetune),
            None if first else _more_host(ladder, hardware),
            None if first else _shorter(shape, finetune, hardware),
        )
        if advice
    )


def _more_processes(
    shape: ModelShape, finetune: Finetune, hardware: Hardware, first: RungFit | None
) -> str | None:
    """Return how to use the GPUs that the recipe leaves idle, if the ladder is better for it."""
    count, samples = len(hardware.gpus), global_batch_size(finetune)
    a_round = count * finetune.micro_batch_size
    if finetune.device == "cpu" or count <= finetune.processes or samples % a_round:
        return None
    accumulation = samples // a_round
    wider = finetune.model_copy(
        update={"processes": count, "gradient_accumulation_steps": accumulation, "zero_stage": 3}
    )
    fits = fit_ladder(shape, wider, hardware)
    better = next((fit for fit in fits if fit.fits), None)
    if better is None or (first is not None and better.number >= first.number):
        return None
    return (
        f"Use all {count} GPUs: finetune.processes: {count}, zero_stage: 3, "
        f"gradient_accumulation_steps: {accumulation} (the same global batch of {samples}) fits "
        f"on rung {better.number} ({better.rung.name}) with {readable(better.gpu_bytes)} a GPU."
    )


def _larger_gpu(ladder: tuple[RungFit, ...], finetune: Finetune) -> str | None:
    """Return the smallest card that takes a rung which the host can feed."""
    needs = [fit.gpu_bytes for fit in ladder if fit.host_fits]
    if finetune.device == "cpu" or not needs:
        return None
    need = min(needs)
    cards = (card for name in known_cards() if (card := known_card(name)))
    enough = [card for card in cards if card.memory_bytes >= need]
    such = f", such as {min(enough, key=lambda card: card.memory_bytes).name}" if enough else ""
    return f"GPUs of at least {-(-need // GIB)} GiB, {finetune.processes} of them{such}."


def _more_host(ladder: tuple[RungFit, ...], hardware: Hardware) -> str | None:
    needs = [fit.host_bytes for fit in ladder if fit.gpu_fits and not fit.host_fits]
    if not needs:
        return None
    return f"{readable(min(needs))} of host memory in place of {readable(hardware.memory_bytes)}."


def _shorter(shape: ModelShape, finetune: Finetune, hardware: Hardware) -> str | None:
    half = finetune.max_length_tokens // 2
    if half < SHORTEST_TALK_TOKENS:
        return None
    shorter = finetune.model_copy(update={"max_length_tokens": half})
    if not any(fit.fits for fit in fit_ladder(shape, shorter, hardware)):
        return None
    return f"finetune.max_length_tokens: {half}, which cuts longer conversations."
