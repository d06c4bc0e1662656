"""What computes the answers: one small class an engine, and the processes that they start.

base, registry            what an engine is, and the engines by name; fastchat, transformers, vllm
own                       what the two engines share whose process is this project's
vllm_process, inside_vllm the process that becomes vLLM's server, and the gate in it
process, loaded           in the child: load, prove, open the port, end
server, request, places, hang_up, completion, text
                          the engine protocol (protocol.md) over any `generator.Generator`
fastchat_process, fastchat_generator
transformers_process, batching, choosing, sampling, cache_room
                          the two generators; only they, `forward`, `scores`, `rotary` import torch
"""
