"""A gateway that answers what a test says, word by word: OpenAI's API, and no model behind it.

    python scripted.py PORT

POST /test/answers [{"text": ..., "status": ..., "retry_after": ..., "pace_s": ...}, ...] makes the
next answers, the last one again and again; GET /test/state tells what was asked, and what runs.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

MODEL_NAME = "Kawan-Usaha"


class Script:
    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = [{"text": "baik"}]
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.running = 0

    async def chunks(self, answer: dict[str, Any]) -> AsyncIterator[str]:
        self.running += 1
        try:
            for word in answer["text"].split(" "):
                await asyncio.sleep(answer.get("pace_s", 0))
                yield _event({"content": f"{word} "}, None)
            if answer.get("breaks"):
                yield 'data: {"error": {"message": "out of memory", "code": "x"}}\n\n'
                return
            yield _event({}, answer.get("ends", "stop"))
            yield "data: [DONE]\n\n"
        finally:
            self.running -= 1


def _event(delta: dict[str, Any], reason: str | None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {
        **{"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL_NAME},
        "choices": [choice],
    }
    return f"data: {json.dumps(chunk)}\n\n"


def scripted_app() -> FastAPI:
    script, app = Script(), FastAPI()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        model = {"id": MODEL_NAME, "object": "model", "created": 1, "owned_by": "x", "build": "b7"}
        return {"object": "list", "data": [model]}

    @app.post("/v1/token_check")
    async def token_check() -> dict[str, Any]:
        return {"prompts": [{"fits": True, "tokenCount": 1, "contextLength": 2048}]}

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        script.asked.append(await request.json())
        script.headers.append(dict(request.headers))
        answer = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
        if status := answer.get("status"):
            error = {"message": answer["text"], "type": "x", "code": answer.get("code")}
            after = {"Retry-After": answer["retry_after"]} if "retry_after" in answer else {}
            return JSONResponse({"error": error, "code": 1}, status, after)
        return StreamingResponse(script.chunks(answer), media_type="text/event-stream")

    @app.post("/test/answers")
    async def answers(request: Request) -> dict[str, str]:
        script.answers = await request.json()
        return {}

    @app.get("/test/state")
    async def state() -> dict[str, Any]:
        seen = {"running": script.running, "asked": script.asked, "headers": script.headers}
        script.asked, script.headers = [], []
        return seen

    return app


if __name__ == "__main__":
    uvicorn.run(scripted_app(), port=int(sys.argv[1]), log_level="warning")
