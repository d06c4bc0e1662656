"""What a model directory promises about its edit.

For a process that serves: `model.kawan_usaha_report()` travels with the model and needs none of
this package, so a server asks its own model before it takes traffic and compares the answer with
`expected_report(directory)`, which is plain JSON and can be passed as a file.
"""

from pathlib import Path

from pydantic import JsonValue

from tasks.core.architecture.directory import open_model, rope_parameters_of


def expected_report(model: Path) -> dict[str, JsonValue] | None:
    """Return the parts that kawan_usaha_report() must equal; None for a plain LLaMA.

    They are the function that each layer computes, the RoPE parameters, and `alive`: that the
    loaded modules really compute both. The same in every precision and on every device.
    """
    directory = open_model(model)
    if not directory.edited:
        return None
    return {
        "model_type": directory.config.model_type,
        "activations": list(directory.activations),
        "rope": rope_parameters_of(directory.config),
        "alive": True,
    }
