"""Whether a PromQL expression names only metrics and labels that exist, by holdfast.core.metrics."""

import re

from holdfast.core.metrics import ALL, Type

_NAME = re.compile(r"\bholdfast_[a-zA-Z0-9_]+")
_SELECTOR = re.compile(r"\b(holdfast_[a-zA-Z0-9_]+)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right)\s*\(([^)]*)\)")

#: What is queried of each metric, with its labels.
SHOWN: dict[str, frozenset[str]] = {}
for each in ALL:
    labels = frozenset(each.labels)
    SHOWN[each.shown_name] = labels
    if each.type is Type.HISTOGRAM:
        SHOWN[f"{each.name}_bucket"] = labels | {"le"}
        SHOWN[f"{each.name}_sum"] = SHOWN[f"{each.name}_count"] = labels

#: Labels that Prometheus itself gives.
OF_TARGETS = frozenset({"instance", "job"})


def problems(expression: str) -> list[str]:
    """What an expression names that does not exist.

    >>> problems("sum by (queue) (holdfast_jobs)"), problems("holdfast_jbos > 0")
    ([], ['no metric holdfast_jbos'])
    """
    names = set(_NAME.findall(expression))
    found = [f"no metric {name}" for name in sorted(names - set(SHOWN))]
    for name, inside in _SELECTOR.findall(expression):
        wrong = set(_LABEL.findall(inside)) - SHOWN.get(name, frozenset()) - OF_TARGETS
        found += [f"no label {label} of {name}" for label in sorted(wrong)]
    known = OF_TARGETS.union(*(SHOWN.get(name, frozenset()) for name in names))
    for inside in _GROUPING.findall(expression):
        wrong = {label.strip() for label in inside.split(",") if label.strip()} - known
        found += [f"no label {label} of any metric of it" for label in sorted(wrong)]
    return found
