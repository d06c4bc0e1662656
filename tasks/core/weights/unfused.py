"""What LoRA adapters may use and fuse cannot: the reason of each, and the way out.

A feature that is not listed is refused all the same, by its name.
"""

from dataclasses import dataclass

WITH_PEFT = "Fuse it with PEFT's merge_and_unload."
ELSEWHERE = f"{WITH_PEFT[:-1]}, or train a plain LoRA adapter."
CONVERT = (
    "Fuse it, with init_lora_weights set to true, into the changed base if that was saved; or save "
    "it as a plain LoRA adapter: PEFT's save_pretrained with path_initial_model_for_weight_"
    "conversion, the adapter as it was before its training."
)
_SERVE = "Serve the model with the adapter beside it, or train a plain LoRA adapter."


@dataclass(frozen=True)
class Reason:
    """Why a feature is not fused, and what to do instead."""

    cause: str
    remedy: str = ELSEWHERE


_FEATURES = {
    "lora_bias": Reason("B has biases, which the model's layers need not have"),
    "trainable_token_indices": Reason("single rows of the embedding were trained"),
    "layer_replication": Reason("the adapter is for more layers than the model has"),
    "use_qalora": Reason("A is for groups of inputs of a quantized model"),
    "use_bdlora": Reason("A or B is block-diagonal"),
    "megatron_config": Reason("the layers are Megatron's, divided between GPUs"),
    "kasa_config": Reason("the smallest singular values of the base were cut off first"),
    "ensure_weight_tying": Reason("both ends of the model share one update"),
    "alora_invocation_tokens": Reason("the update acts after its invocation alone", _SERVE),
    "arrow_config": Reason("a router chooses among adapters for each token", _SERVE),
    "target_parameters": Reason("PEFT has neither DoRA nor PiSSA nor OLoRA for parameters"),
}
_STARTS = {
    "corda": Reason("what was taken off the base depends on calibration data", CONVERT),
    "lora_ga": Reason("what was taken off the base depends on gradients", CONVERT),
    "loftq": Reason("the base was quantized first, and the rest was put into A and B", CONVERT),
    "pissa_niter": Reason("what was taken off the base was drawn at random", CONVERT),
}
_UNKNOWN = Reason("how it would be fused is not known here")


def why(feature: str, value: object) -> Reason:
    """Return why a field of adapter_config.json with this value is refused."""
    if feature != "init_lora_weights":
        return _FEATURES.get(feature, _UNKNOWN)
    start = str(value).lower()
    return next((why for name, why in _STARTS.items() if start.startswith(name)), _UNKNOWN)
