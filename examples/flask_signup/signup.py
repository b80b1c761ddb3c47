"""Sign-ups with Flask and SQLAlchemy: a user and the job that welcomes them are one commit."""

import functools
import time

from flask import Flask, jsonify, request
from flask.typing import ResponseReturnValue
from sqlalchemy import Engine, create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from holdfast import Context, Holdfast

app = Flask(__name__)
hf = Holdfast()


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str]


class Mail(Base):
    """What was sent. Nothing here forbids a second one; Holdfast does."""

    __tablename__ = "mails"
    id: Mapped[int] = mapped_column(primary_key=True)
    user_id: Mapped[int]
    text: Mapped[str]


def new_session() -> Session:
    return Session(engine())


@functools.cache
def engine() -> Engine:
    """The ledger's own database, so that one transaction holds both."""
    return create_engine(hf.database.dsn.replace("postgresql:", "postgresql+psycopg:", 1))


@app.cli.command("init")
def init() -> None:
    """Make the tables: flask --app signup init"""
    Base.metadata.create_all(engine())


@app.post("/signup")
def sign_up() -> ResponseReturnValue:
    with new_session() as session, session.begin():
        user = User(email=request.form["email"])
        session.add(user)
        session.flush()
        welcome.options(conn=session).enqueue_sync(user.id)
        return jsonify(id=user.id), 201


@hf.job(queue="mail", max_attempts=10)
def welcome(ctx: Context, user_id: int) -> None:
    time.sleep(0.2)  # writing to somebody takes a while
    with new_session() as session, session.begin():
        user = session.get_one(User, user_id)
        session.add(Mail(user_id=user.id, text=f"Welcome, {user.email}!"))
        ctx.complete_sync(session)  # what was written and the job's end: one commit, or none


@hf.periodic("0 8 * * *", tz="Europe/Berlin")
@hf.job(queue="mail")
def morning_numbers(ctx: Context) -> int:
    with new_session() as session:
        users = session.scalar(select(func.count(User.id))) or 0
    ctx.log.info("%s users this morning", users)
    return users
