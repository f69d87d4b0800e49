"""A FastAPI app whose users have quotas; a proxy or a login says who they are.

It prints:

alice 200 Rivers flow to the sea.
alice 200 Rivers flow to the sea.
alice 429 QuotaExceeded, again in 30 minutes
bob 429 BudgetExceeded
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import httpx
import openai
from fastapi import FastAPI

from budgetware import Rate, connect
from budgetware_integrations.asgi import BudgetMiddleware
from budgetware_integrations.openai import wrap


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
    async with connect() as service:  # connect("budgetware.toml") has the users in a file
        for user in ("alice", "bob"):
            service.define_principal(user, quotas={"requests": Rate(2, "hour")})
        yield


app = FastAPI(lifespan=lifespan)
each = {"requests": 1}  # a dimension of its own: "calls" would count the calls of models with it
app.add_middleware(BudgetMiddleware, principal="x-user", amounts=each, limits={"tokens": 1_000})


@app.get("/ask")
async def ask(question: str, most: int = 100) -> dict[str, str | None]:
    async with wrap(openai.AsyncOpenAI()) as model:
        reply = await model.chat.completions.create(
            model="gpt-5-nano",
            messages=[{"role": "user", "content": question}],
            max_completion_tokens=most,
        )
    return {"answer": reply.choices[0].message.content}


async def main() -> None:
    local = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
    async with app.router.lifespan_context(app), local as client:
        for user, most in (("alice", 100), ("alice", 100), ("alice", 100), ("bob", 50_000)):
            answer = await client.get(f"/ask?question=Why&most={most}", headers={"x-user": user})
            found, later = answer.json(), answer.headers.get("retry-after")
            shown = found["answer"] if answer.is_success else found["error"]["type"]
            wait = f", again in {int(later) / 60:.0f} minutes" if later else ""
            print(f"{user} {answer.status_code} {shown}{wait}")


if __name__ == "__main__":
    anyio.run(main)
