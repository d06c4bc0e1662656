"""LoRA fine-tuning: a job file in, an adapter and an outcome file out, however often it dies.

`finetune` prepares, starts and checks; `entry` is the program that DeepSpeed starts once a device.
They share nothing but files. The invariant: what is called an adapter was written whole by a
training that took all of its steps.
"""
