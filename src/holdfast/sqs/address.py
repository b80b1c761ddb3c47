"""What the host of a queue's URL says: the region, where it is one of AWS's, and whether it must be asked itself."""

import re

#: Ordinary, FIPS, dual-stack and VPC endpoints; and the names of old, which queues made then still tell.
_AWS = re.compile(r"(vpce-[\w-]+\.)?sqs(-fips)?\.(?P<region>[\w-]+)\.(vpce\.)?(amazonaws\.com(\.cn)?|api\.aws)")
_ORDINARY = re.compile(r"sqs\.[\w-]+\.amazonaws\.com(\.cn)?")
_OLD = re.compile(r"((?P<region>[\w-]+)\.)?queue\.amazonaws\.com(\.cn)?")


def region_of(host: str) -> str | None:
    """The region of AWS that a host names.

    >>> region_of("sqs.eu-west-1.amazonaws.com"), region_of("eu-west-1.queue.amazonaws.com"), region_of("localhost")
    ('eu-west-1', 'eu-west-1', None)
    """
    if found := _AWS.fullmatch(host):
        return found["region"]
    found = _OLD.fullmatch(host)
    return (found["region"] or "us-east-1") if found else None


def is_sdk_s(host: str) -> bool:
    """Whether the SDK finds it by its region: what is not, such as a VPC endpoint, is connected to as it stands.

    >>> is_sdk_s("sqs.eu-west-1.amazonaws.com"), is_sdk_s("vpce-1.sqs.eu-west-1.vpce.amazonaws.com")
    (True, False)
    """
    return bool(_ORDINARY.fullmatch(host) or _OLD.fullmatch(host))
