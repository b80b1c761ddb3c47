"""What a key can learn of itself."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from holdfast.core.access import Permission
from holdfast.web.auth import Caller, require

router = APIRouter(prefix="/api/keys", tags=["keys"])


class Self(BaseModel):
    """The caller's key, or whom their token names (without an id); all null where no key is needed."""

    id: str | None
    name: str | None
    role: str | None


@router.get("/self")
async def read(caller: Annotated[Caller, Depends(require(Permission.SELF))]) -> Self:
    """Whose key this is: to try a key, and to see what its rate limit has left in the answer's header fields."""
    key = caller.key
    if caller.holder is not None:
        return Self(id=None, name=caller.actor, role=caller.role)
    return Self(id=key.id, name=key.name, role=key.role) if key else Self(id=None, name=None, role=None)
