"""LoRA fine-tuning: a job file in, an adapter and an outcome file out; resumes after any crash.

Two sides that share nothing but files. The caller's: `ladder` chooses the rung, `attempt` prepares
a job, starts its processes and verifies the adapter (`prepare`, `launch`, `failures`, `verify`).
The training processes': `entry` loads the `model`, makes batches (`batching`), trains (`trainer`)
and writes `checkpoints`.

The invariant: an adapter was written whole by a training that took all of its steps.
"""
