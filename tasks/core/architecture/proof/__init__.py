"""The proof that an edit is alive: the model is loaded again in a fresh process and compared.

edit_proof     asks for the proof and returns it as a value
fresh_process  a request to a process that loads models, and its answer
entry          that process: observes three models and makes every check
observe        the unedited model, stock LLaMA edited in memory, the edited model, seen alike
observation    what was observed, and one check of it
whole_model    a whole model: loaded, and asked for log-probabilities
module_probe   an edited module alone, on an input that makes its edit visible
"""
