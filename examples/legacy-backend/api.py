"""The backend's API: an export is a row, and a message that says which."""

import json

from fastapi import FastAPI, HTTPException
from settings import QUEUE_URL, connect, sqs

app = FastAPI()
client = sqs()


@app.post("/exports", status_code=202)
def order_export(pages: int = 3) -> dict[str, int]:
    with connect() as conn:
        found = conn.execute("INSERT INTO public.exports (pages) VALUES (%s) RETURNING id", (pages,)).fetchone()
    assert found is not None
    client.send_message(QueueUrl=QUEUE_URL, MessageBody=json.dumps({"export": found[0]}))
    return {"id": found[0]}


@app.get("/exports/{id}")
def show_export(id: int) -> dict[str, str | int]:
    with connect() as conn:
        found = conn.execute("SELECT status, pages_done FROM public.exports WHERE id = %s", (id,)).fetchone()
    if found is None:
        raise HTTPException(404)
    return {"status": found[0], "pages_done": found[1]}
