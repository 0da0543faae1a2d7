import secrets

from runner.gateway.flight import Reply
from runner.gateway.requests import Asked
from runner.gateway.store import Store
from runner.records.answers import Failed, Request, Sent

NOT_FOUND = 404


async def not_on_record(store: Store, asked: Asked, attempt: str, sample: str) -> Reply:
    """Answer a request that the record has no answer for, and note that it was made.

    The note is the pair of lines of a request that was sent and failed.
    """
    text = "no answer on record"
    key = asked.key
    if not store.describes(key):
        await store.write(
            Request(
                key=key,
                route=asked.route,
                method=asked.method,
                path=asked.path,
                body=asked.content,
            )
        )
    sent = Sent(id=secrets.token_hex(8), key=key, attempt=attempt, sample=sample, model=asked.model)
    await store.write(sent)
    await store.write(Failed(id=sent.id, status=NOT_FOUND, billed=False, reason=text))
    return Reply.final(NOT_FOUND, text, "not_on_record")
