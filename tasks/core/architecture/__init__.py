"""The durable edit: a change to the architecture that travels with the model and can be proven.

    edits/         the kinds of edit, and whether a model can have them
    edit           writes an edited model directory that shares its source's weight files
    proof/         loads it again in a fresh process and proves that the edit is alive
    renew_edit_fingerprint, take_edit_fingerprint
                   the model's answers to a fixed prompt, taken again once its weights changed
    promise        what a loaded model must report of its edit
    inspection     what a model directory holds, without loading its weights
    directory      a LLaMA model directory, opened and checked
    module_values  what the modules of a model in this process compute
    unedited       the plain LLaMA that an edited model was made from
    card           the passage of the model card on loading the model
    remote/        the two files that travel inside the model directory

Import from the modules: this package itself imports nothing. It knows no store and no flow.
"""
