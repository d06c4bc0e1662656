"""The durable edit: a change to the architecture that travels with the model and can be proven.

    check     is the edit possible at all, and on this model: names, layers, contradictions
    edits     what an edit is: apply_to_config, apply_to_module, prove
    probe     an edited module alone, on an input on which its edit shows
    edit      write an edited model directory that shares the weight files of its source
    proof     load it again in a fresh process and show that the edit is alive
    loaded    ask a model that is loaded in this process
    inspection  what a model directory holds, without loading its weights
    plain     the way back to a plain LLaMA, where there is one
    card      how to load the model, for its card
    remote/   the two files that travel inside the model directory

Import from the modules: this package itself imports nothing. It knows no store and no flow.
"""
