"""The API, described (OpenAPI 3.1): what FastAPI knows of the routes, and what is so for all of them.

Whatever is refused is answered as a problem (RFC 9457), also where FastAPI would describe answers of its own.
"""

from typing import Any

from holdfast.web.problems import MEDIA_TYPE

_PROBLEM = {
    "type": "object",
    "title": "Problem",
    "description": "What went wrong, and what to do (RFC 9457). Some have further members.",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["in", "pointer", "detail"],
                "properties": {name: {"type": "string"} for name in ("in", "pointer", "detail")},
            },
        },
    },
}
_REFUSED = {
    "description": "refused: a problem",
    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
_KEY = {"type": "http", "scheme": "bearer", "description": "An API key, hf_..., or a token of the issuer that is set."}
#: What FastAPI adds for answers that are never given here.
_UNUSED = ("HTTPValidationError", "ValidationError")
_OPEN = ("/livez", "/readyz", "/startupz", "/api/health")


def describe(generated: dict[str, Any]) -> dict[str, Any]:
    """The description, from the one that was generated."""
    for path, methods in generated["paths"].items():
        for operation in methods.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = _REFUSED
            operation["security"] = [{"key": []}, {}] if path in _OPEN else [{"key": []}]
    components = generated.setdefault("components", {})
    schemas = {name: each for name, each in components.get("schemas", {}).items() if name not in _UNUSED}
    components["schemas"] = {**schemas, "Problem": _PROBLEM}
    components["securitySchemes"] = {"key": _KEY}
    return generated
