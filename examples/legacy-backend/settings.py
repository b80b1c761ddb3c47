"""Where the backend's database, queue and render service are."""

import os
from typing import Any
from urllib.parse import urlsplit

import boto3
import psycopg

DATABASE_URL = os.environ["DATABASE_URL"]
QUEUE_URL = os.environ["SQS_QUEUE_URL"]
RENDERER = os.environ.get("RENDERER_URL", "http://127.0.0.1:8499")


def connect() -> "psycopg.Connection[tuple[Any, ...]]":
    return psycopg.connect(DATABASE_URL, autocommit=True)


def sqs() -> Any:
    parts = urlsplit(QUEUE_URL)
    local = {} if parts.scheme == "https" else {"endpoint_url": f"{parts.scheme}://{parts.netloc}"}
    return boto3.client("sqs", **local)
