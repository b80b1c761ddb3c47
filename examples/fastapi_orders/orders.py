"""Orders over HTTP: an order and the job that charges it are one commit, and each order is charged exactly once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from holdfast import Context, Holdfast

hf = Holdfast()
sessions = async_sessionmaker(expire_on_commit=False)


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]
    state: Mapped[str] = mapped_column(default="new")


class Charge(Base):
    """Nothing here forbids a second charge of an order; Holdfast does."""

    __tablename__ = "charges"
    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int]
    cents: Mapped[int]


@hf.job(queue="orders", max_attempts=10)
async def charge(ctx: Context, order_id: int) -> None:
    await asyncio.sleep(0.3)  # a payment provider takes its time; ctx.job_id is the idempotency key to give it
    async with sessions.begin() as session:
        order = await session.get_one(Order, order_id)
        order.state = "paid"
        session.add(Charge(order_id=order.id, cents=order.cents))
        await ctx.complete(session)  # what was written and the job's end: one commit, or none


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with hf:
        dsn = (await asyncio.to_thread(lambda: hf.database)).dsn
        engine = create_async_engine(dsn.replace("postgresql:", "postgresql+psycopg:", 1))
        sessions.configure(bind=engine)
        async with engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with hf.worker(slots=4):
            yield
        await engine.dispose()


app = FastAPI(lifespan=lifespan)


class NewOrder(BaseModel):
    cents: int = Field(gt=0)


@app.post("/orders", status_code=201)
async def place(new: NewOrder) -> dict[str, int]:
    async with sessions.begin() as session:
        order = Order(cents=new.cents)
        session.add(order)
        await session.flush()
        await charge.options(conn=session).enqueue(order.id)
    return {"id": order.id}


@app.get("/orders/{id}")
async def show(id: int) -> dict[str, int | str]:
    async with sessions() as session:
        order = await session.get(Order, id)
    if order is None:
        raise HTTPException(404, f"there is no order {id}")
    return {"id": order.id, "cents": order.cents, "state": order.state}
