"""May this role do what Holdfast does, and may strangers not?"""

from collections.abc import Mapping, Sequence

from holdfast.core.findings import Finding, Verdict
from holdfast.postgres.examine import RowSecurity, missing_grants, row_security, server_facts
from holdfast.services.checks.deployment import Deployment

NAMES: Mapping[str, str] = {"access.grants": "access", "access.rows": "access", "access.strangers": "access"}
_COMPONENT = "access"


async def check_access(deployment: Deployment) -> list[Finding]:
    """Grants on every table and function, row-level security, and what Supabase's public roles can see."""
    role = (await deployment.ledger.one(server_facts())).role
    statements = await deployment.ledger.call(missing_grants())
    rows = await deployment.ledger.call(row_security())
    return [_grants(role, statements), _rows(role, _named(rows, "hidden")), _strangers(_named(rows, "exposed"))]


def _named(rows: Sequence[RowSecurity], what: str) -> list[str]:
    return [row.name for row in rows if row.what == what]


def _grants(role: str, statements: Sequence[str]) -> Finding:
    id, code = "access.grants", "all tables and functions of the schema holdfast"
    if not statements:
        return Finding(id, _COMPONENT, Verdict.PASS, f"{role} may use all of it", code)
    fix = "as the schema's owner: " + "; ".join(statements[:3])
    more = f"; and {len(statements) - 3} more (--json lists them)" if len(statements) > 3 else ""
    found = f"{role} lacks {len(statements)} grant{'s' * (len(statements) != 1)}"
    return Finding(id, _COMPONENT, Verdict.FAIL, found, code, fix + more, repair=tuple(statements))


def _rows(role: str, hidden: Sequence[str]) -> Finding:
    id, code = "access.rows", "row-level security with a policy for holdfast_app"
    if not hidden:
        return Finding(id, _COMPONENT, Verdict.PASS, f"{role} sees every row", code)
    found = f"row-level security hides {', '.join(hidden[:5])} from {role}: it would see no job at all"
    return Finding(id, _COMPONENT, Verdict.FAIL, found, code, f'as the schema\'s owner: GRANT holdfast_app TO "{role}"')


def _strangers(roles: Sequence[str]) -> Finding:
    id, code = "access.strangers", "nothing for PUBLIC, anon and authenticated"
    if not roles:
        return Finding(id, _COMPONENT, Verdict.PASS, "no role of strangers can look in", code)
    statement = f"REVOKE USAGE ON SCHEMA holdfast FROM {', '.join(roles)}"
    found = f"{', '.join(roles)} can look into the schema holdfast"
    return Finding(id, _COMPONENT, Verdict.FAIL, found, code, statement, repair=(statement,))
