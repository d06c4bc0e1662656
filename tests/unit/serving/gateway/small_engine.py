"""A small real engine: a LLaMA on the CPU that speaks the engine protocol, and can misbehave.

    python -m tests.unit.serving.gateway.small_engine MODEL_DIRECTORY PORT

POST /test/misbehave {"how": ..., "times": n} makes the next n requests go wrong; GET /test/state
tells what is being computed now, and the requests that came.
"""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from transformers import AutoTokenizer, LlamaForCausalLM

TOKEN_S = 0.01
CONTEXT = 2048


class SmallEngine:
    def __init__(self, directory: Path) -> None:
        self.model = LlamaForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.running = 0
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.misbehaviour: list[str] = []
        self.pace_s = TOKEN_S

    @torch.inference_mode()
    def next_token(self, ids: list[int], body: dict[str, Any]) -> tuple[int, torch.Tensor]:
        """The whole text again for each token: slow, and plainly right."""
        logprobs = torch.log_softmax(self.model(torch.tensor([ids])).logits[0, -1].float(), -1)
        if body["temperature"] == 0:
            return int(logprobs.argmax()), logprobs
        generator = torch.Generator()
        generator.manual_seed(body["seed"]) if "seed" in body else generator.seed()
        chances = (logprobs / body["temperature"]).softmax(-1)
        return int(torch.multinomial(chances, 1, generator=generator)), logprobs

    async def events(self, body: dict[str, Any], how: str | None) -> AsyncIterator[str]:
        self.running += 1
        try:
            async for event in self._events(body, how):
                yield event
        finally:
            self.running -= 1

    async def _events(self, body: dict[str, Any], how: str | None) -> AsyncIterator[str]:
        prompt, new = list(body["prompt"]), []
        text, reason = "", None
        ends = {self.tokenizer.eos_token_id, *body["stop_token_ids"]}
        while reason is None:
            await asyncio.sleep(self.pace_s)
            if new:
                await self._go_wrong(how)
            if how == "error-in-stream" and new:
                yield event({"error": {"message": "out of memory", "type": "x", "code": 1}})
                return
            if how == "end-in-stream" and new:
                return
            token, logprobs = self.next_token(prompt + new, body)
            if token in ends:
                reason = "stop"
            else:
                new.append(token)
                reason = "length" if len(new) == body["max_tokens"] else None
            whole = self.tokenizer.decode(new, skip_special_tokens=True)
            for stop in body["stop"]:
                if stop in whole:
                    whole, reason = whole[: whole.index(stop)], "stop"
            begun = (stop[:end] for stop in body["stop"] for end in range(1, len(stop)))
            if reason is None and whole.endswith(("\ufffd", *begun)):
                whole = text  # held back until it is known what it is
            choice = {"index": 0, "text": whole[len(text) :], "finish_reason": reason}
            if "logprobs" in body and token not in ends:
                choice["logprobs"] = self.logprobs(token, logprobs, body["logprobs"], len(text))
            if "prompt_logprobs" in body and len(new) <= 1:
                choice["prompt_logprobs"] = self.prompt_logprobs(prompt)
            text = whole
            yield event({"object": "text_completion", "choices": [choice]})
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(new)}
        yield event({"choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    async def whole(self, body: dict[str, Any]) -> dict[str, Any]:
        """An answer with the prompt's log-probabilities, as vLLM gives them: in one piece."""
        *choices, usage = [
            json.loads(event.removeprefix("data: "))
            async for event in self.events(body, None)
            if "[DONE]" not in event
        ]
        said = [choice for event in choices for choice in event["choices"]]
        text = "".join(choice["text"] for choice in said)
        measured = {"prompt_logprobs": self.prompt_logprobs(body["prompt"])}
        return {"choices": [{**said[-1], "text": text, **measured}], "usage": usage["usage"]}

    async def _go_wrong(self, how: str | None) -> None:
        if how == "die-in-stream":
            os._exit(9)
        if how == "hang-in-stream":
            await asyncio.sleep(3600)

    def logprobs(self, token: int, found: torch.Tensor, top: int, offset: int) -> dict[str, Any]:
        best = found.topk(top)
        names = [self.name(int(index)) for index in best.indices]
        return {
            "tokens": [self.name(token)],
            "token_logprobs": [float(found[token])],
            "top_logprobs": [dict(zip(names, best.values.tolist(), strict=True))],
            "text_offset": [offset],
        }

    @torch.inference_mode()
    def prompt_logprobs(self, ids: list[int]) -> list[dict[str, Any] | None]:
        said = torch.log_softmax(self.model(torch.tensor([ids])).logits[0].float(), -1)
        pairs = zip(ids[1:], said, strict=False)
        return [None, *({str(token): {"logprob": float(at[token])}} for token, at in pairs)]

    def name(self, token: int) -> str:
        return self.tokenizer.convert_ids_to_tokens(token) or f"<{token}>"

    @torch.inference_mode()
    def embedding(self, ids: list[int]) -> list[float]:
        hidden = self.model.model(torch.tensor([ids])).last_hidden_state[0]
        return hidden.mean(0).tolist()


def event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"


def error(status: int, message: str) -> JSONResponse:
    body = {"error": {"message": message, "type": "x", "code": status}}
    return JSONResponse(body, status_code=status)


def small_app(directory: Path) -> FastAPI:
    engine, app = SmallEngine(directory), FastAPI()

    @app.post("/v1/completions")
    async def complete(request: Request) -> Response:
        body = await request.json()
        engine.asked.append(body)
        engine.headers.append(dict(request.headers))
        how = engine.misbehaviour.pop(0) if engine.misbehaviour else None
        if how == "hang":
            await asyncio.sleep(3600)
        if how == "die":
            os._exit(9)
        if how in ("429", "503", "500", "400"):
            return error(int(how), f"as told: {how}")
        if len(body["prompt"]) + body["max_tokens"] > CONTEXT:
            return error(400, "longer than the context")
        if "stream" not in body:
            return JSONResponse(await engine.whole(body))
        return StreamingResponse(engine.events(body, how), media_type="text/event-stream")

    @app.post("/v1/embeddings")
    async def embed(request: Request) -> dict[str, Any]:
        texts = (await request.json())["input"]
        count = sum(map(len, texts))
        found = [
            {"object": "embedding", "index": index, "embedding": engine.embedding(ids)}
            for index, ids in enumerate(texts)
        ]
        usage = {"prompt_tokens": count, "total_tokens": count}
        return {"object": "list", "model": "small", "data": found, "usage": usage}

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    @app.post("/test/misbehave")
    async def misbehave(request: Request) -> dict[str, str]:
        told = await request.json()
        engine.misbehaviour = [told["how"]] * told["times"] if told["how"] else []
        engine.pace_s = told.get("pace_s", TOKEN_S)
        return {}

    @app.get("/test/state")
    async def state() -> dict[str, Any]:
        seen = {"running": engine.running, "asked": engine.asked, "headers": engine.headers}
        engine.asked, engine.headers = [], []
        return seen

    return app


if __name__ == "__main__":
    torch.set_num_threads(1)
    uvicorn.run(small_app(Path(sys.argv[1])), port=int(sys.argv[2]), log_level="warning")
