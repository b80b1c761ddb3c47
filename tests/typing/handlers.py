"""What a type checker must make of the public surface. Checked by test_types.py, never run.

Each line that ends in an ignored error must be refused with that code, and no other line may be.
"""

from typing import assert_type
from uuid import UUID

from holdfast import Context, Holdfast, Job

hf = Holdfast()


@hf.job(queue="mail")
async def send_mail(to: str, *, copies: int = 1) -> dict[str, int]:
    return {to: copies}


@hf.job()
def count(words: list[str]) -> int:
    return len(words)


@hf.job()
async def with_context(ctx: Context, to: str) -> float:
    await ctx.progress({"to": to})
    return 0.5


@hf.job()
def plain_with_context(ctx: Context, n: int) -> bytes:
    return ctx.kind.encode() * n


@hf.job()
async def nothing() -> None: ...


@hf.job(unique="to", limit=2, limit_by=("to", "copies"), group_by=lambda to: to.lower())
async def with_keys(to: str, copies: int = 1) -> int:
    return copies


@hf.periodic("*/5 * * * *", tz="Europe/Berlin", arguments={"words": []})
@hf.job(queue="often", rescue="dead", isolation="process")
def often(words: list[str]) -> int:
    return len(words)


@hf.periodic("*/5 * * * *")
async def alone(ctx: Context) -> bool:
    return ctx.cancelled


async def results() -> None:
    assert_type(await send_mail.enqueue("ann"), Job[dict[str, int]])
    assert_type(await (await send_mail.enqueue("ann", copies=2)).result(), dict[str, int])
    assert_type(await (await count.enqueue(["a"])).result(timeout=1), int)
    assert_type(await (await with_context.enqueue("ann")).result(), float)
    assert_type(await (await plain_with_context.enqueue(3)).result(), bytes)
    assert_type(await (await nothing.enqueue()).result(), None)
    assert_type(count.enqueue_sync(["a"]), Job[int])
    assert_type(count.enqueue_sync(["a"]).result_sync(timeout=1), int)
    assert_type(await with_keys.options(conn=object()).enqueue("ann", 2), Job[int])
    assert_type(await with_keys.handle(UUID(int=7)).result(), int)
    assert_type(await often.enqueue(["a"]), Job[int])
    assert_type(await alone.enqueue(), Job[bool])
    plain_with_context(n=3)
    assert_type(await (await send_mail.options(delay=5, priority=1).enqueue("ann")).result(), dict[str, int])


async def mistakes(job: Job[int]) -> None:
    await send_mail.enqueue(to=3)  # type: ignore[arg-type]
    await send_mail.enqueue()  # type: ignore[call-arg]
    await send_mail.enqueue("ann", 2)  # type: ignore[call-arg]
    await send_mail.enqueue("ann", cc="bob")  # type: ignore[call-arg]
    await count.enqueue("ann")  # type: ignore[arg-type]
    await with_context.enqueue("ann", "bob")  # type: ignore[call-arg]
    send_mail.enqueue_sync(3)  # type: ignore[arg-type]
    send_mail.prepare(3)  # type: ignore[arg-type]
    send_mail.options(delay="soon")  # type: ignore[arg-type]
    send_mail.options(later=1)  # type: ignore[call-arg]
    text: str = await job.result()  # type: ignore[assignment]
    print(text)
    hf.job(max_attempts="3")  # type: ignore[arg-type]
    hf.job(rescue="drop")  # type: ignore[arg-type]
    hf.job(isolation="fork")  # type: ignore[arg-type]
    await often.enqueue([3])  # type: ignore[list-item]
    await alone.enqueue(3)  # type: ignore[call-arg]
    with_keys.enqueue_sync(to=None)  # type: ignore[arg-type]
    hf.periodic(300)  # type: ignore[arg-type]
    plain_with_context(n="3")  # type: ignore[arg-type]
    send_mail(3)  # type: ignore[arg-type]
