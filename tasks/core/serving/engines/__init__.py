"""What computes the answers: one small class an engine, and the processes that they start.

base, registry            what an engine is, and the engines by name; fastchat, transformers, vllm
own                       what is common to the two whose process is this project's
vllm_process, inside_vllm what becomes vLLM's server, and the gate in it until the proof
process, loaded           in the child: load, prove, open the port, end
server, request, places, hang_up, completion, text
                          the engine protocol (protocol.md) over any `generator.Generator`
fastchat_process, fastchat_generator
transformers_process, batching, choosing, sampling, cache_room
                          the two generators; they alone and `forward`, `scores` import torch
"""
